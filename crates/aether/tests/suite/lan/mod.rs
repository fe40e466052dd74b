//! The medium of a local network: the conformance suite ([`conforming`]), and what is particular to it.
//!
//! Each site has endpoints of its own and no multicast, so that tests do not find each other.

mod besieged;
mod bridging;
mod certificates;
mod conforming;
mod diverting;
#[cfg(target_os = "linux")]
mod groups;
mod hanging;
#[cfg(target_os = "linux")]
mod hostile;
mod line;
mod losing;
#[cfg(target_os = "linux")]
mod machine;
mod meeting;
#[cfg(target_os = "linux")]
mod namespaces;
mod pretending;
mod rotation;
#[cfg(target_os = "linux")]
mod stopping;
#[cfg(target_os = "linux")]
mod stranger;

use std::time::Duration;

use aether::lan::{LanError, LanOptions, LanPingError, LanRouter, LanView};
use aether::seal::SealKeys;
use aether_core::{Aether, AskError, FlushError, InboxOptions, JoinError, Vibrator, Wave, WhenFull};
use futures::future::join_all;
use tokio::time::timeout;

use crate::settling::flushed;

const SECRET: &str = "a secret of these tests";
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Nobody has gone who was silent for less than this, as a process on a busy machine may be.
const STAYS: Duration = Duration::from_secs(600);

/// Options of processes that end by themselves, and that a busy machine may hold up.
fn patient() -> LanOptions {
    let outbox = InboxOptions::default().when_full(WhenFull::Wait { patience: LONG });
    LanOptions::default().gone_after(STAYS).outbox(outbox)
}

/// A port that nobody else gets.
fn free_port() -> u16 {
    aether_conformance::free_port().unwrap()
}

/// The address of a process that listens on the first port and connects to the others.
fn address(port: u16, others: &[u16]) -> String {
    let peers: String = others.iter().map(|other| format!("&peer=127.0.0.1:{other}")).collect();
    format!("lan:?multicast=off&listen=127.0.0.1:{port}{peers}")
}

/// Connects a process, which knows the others and is known to them.
async fn peer(port: u16, others: &[u16], secret: &str) -> Aether {
    let view = LanView::default();
    let options = patient().secret(secret).view(&view);
    let aether = aether::builder().url(address(port, others)).options(options).connect().await.unwrap();
    met(&aether, &view, others.len()).await;
    aether
}

/// Waits until a process knows this number of others, and is known to them. Connecting waits for that, too, but no
/// longer than 2 s.
async fn met(aether: &Aether, view: &LanView, others: usize) {
    until(view, LONG, |view| view.peers().len() >= others).await;
    // A flush waits until all know what it hears.
    flushed(aether).await;
}

async fn vibrator(name: &str, aether: &Aether) -> Vibrator {
    Vibrator::builder(name).create(aether).await.unwrap()
}

/// Waits until something holds of what a process sees.
async fn until(view: &LanView, within: Duration, holds: impl Fn(&LanView) -> bool) {
    let mut changes = view.changes().unwrap();
    let seeing = async {
        while !holds(view) {
            changes.changed().await.unwrap();
        }
    };
    timeout(within, seeing).await.expect("it happens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_it_does_not_start_unless_that_is_allowed() {
    let url = address(free_port(), &[]);
    let refused = aether::connect(&url).await.unwrap_err();
    assert!(matches!(refused.of_medium(), Some(LanError::NoSecret)), "{refused:?}");
    let short = LanOptions::default().secret("short");
    let refused = aether::builder().url(&*url).options(short).connect().await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused.of_medium(), Some(LanError::ShortSecret { .. })), "{refused:?}");
    let insecure = aether::connect(&format!("{url}&insecure")).await.unwrap();
    insecure.close().await.unwrap();
}

/// It is connected, hears nothing, and learns nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_another_secret_is_neither_heard_nor_told_anything() {
    let ports = [free_port(), free_port(), free_port()];
    let here = peer(ports[0], &[], SECRET).await;
    let there = peer(ports[1], &ports[..1], SECRET).await;
    let view = LanView::default();
    let options = patient().secret("another secret altogether").view(&view);
    let url = address(ports[2], &ports[..2]);
    let stranger = aether::builder().url(url).options(options).connect().await.unwrap();
    // On a busy machine connecting may end before all are seen.
    let seen = async {
        loop {
            let seen = view.surroundings().await.unwrap();
            if (seen.peers, seen.same_secret, seen.other_secret) == (2, 1, 2) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, seen).await.expect("it sees both");
    assert!(view.peers().is_empty());

    let mut ears = [vibrator("ear", &there).await, vibrator("spy", &stranger).await];
    for ear in &mut ears {
        ear.resonate_on(">").await.unwrap();
    }
    let (emitter, intruder) = (vibrator("emitter", &here).await, vibrator("intruder", &stranger).await);
    intruder.emit(Wave::builder("orders").text("forged").build().unwrap()).await.unwrap();
    flushed(&stranger).await;
    emitter.emit(Wave::builder("orders").text("real").build().unwrap()).await.unwrap();
    flushed(&here).await;
    let [ear, spy] = &mut ears;
    let heard = timeout(LONG, ear.receive()).await.unwrap().unwrap();
    assert_eq!((heard.text().unwrap(), ear.ledger().offered), ("real", 1));
    // The intruder's own process hears it.
    let heard = timeout(LONG, spy.receive()).await.unwrap().unwrap();
    assert_eq!((heard.text().unwrap(), spy.ledger().offered), ("forged", 1));
    assert_eq!(here.status().refused() + there.status().refused(), 0, "nothing reaches another realm");
}

/// Each of them knows all that were there before it as soon as it has connected, whatever Zenoh answers first. Those
/// who are seen are waited for, for 2 s: one that has not connected sooner goes on without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_by_a_router_knows_those_who_are_there() {
    let port = free_port();
    let router = LanRouter::open(&address(port, &[])).await.unwrap();
    let (mut connected, keys) = (Vec::new(), SealKeys::generate().unwrap());
    for before in 0..10 {
        let view = LanView::default();
        let options = patient().keys(keys.clone()).view(&view);
        let url = format!("lan:?router=127.0.0.1:{port}");
        let began = tokio::time::Instant::now();
        let aether = aether::builder().url(url).options(options).connect().await.unwrap();
        if began.elapsed() >= Duration::from_secs(2) {
            until(&view, LONG, |view| view.peers().len() >= before).await;
        }
        assert_eq!(view.peers().len(), before);
        for _ in 0..20 {
            let seen = view.surroundings().await.unwrap();
            assert_eq!((seen.routers, seen.same_secret), (1, before + 1), "{seen:?}");
        }
        connected.push(aether);
    }
    for aether in connected {
        aether.close().await.unwrap();
    }
    router.close().await;
}

/// On the thread of the test, what Zenoh waits for would take the place of what the test waits for beside it.
#[tokio::test(flavor = "current_thread")]
async fn routers_come_and_go_and_hold_up_nothing_on_the_thread_that_opens_them() {
    let (ping, mut pings) = tokio::sync::mpsc::channel::<()>(1);
    let (pong, mut pongs) = tokio::sync::mpsc::channel::<()>(1);
    let answering = tokio::spawn(async move {
        while pings.recv().await.is_some() {
            pong.send(()).await.unwrap();
        }
    });
    let routing = join_all((0..4).map(|_| async {
        let router = LanRouter::open(&address(free_port(), &[])).await.unwrap();
        assert_eq!(router.connected().await, (0, 0));
        router.close().await;
        // And one that is only dropped.
        drop(LanRouter::open(&address(free_port(), &[])).await.unwrap());
    }));
    let asking = async {
        for _ in 0..1000 {
            ping.send(()).await.unwrap();
            pongs.recv().await.unwrap();
        }
        drop(ping);
    };
    timeout(3 * LONG, async { tokio::join!(routing, asking) }).await.expect("all are woken");
    answering.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_leaves_is_gone_at_once_and_questions_to_it_fail() {
    let ports = [free_port(), free_port()];
    let here = peer(ports[0], &[], SECRET).await;
    let there = peer(ports[1], &ports[..1], SECRET).await;
    let mut oracle = vibrator("oracle", &there).await;
    oracle.resonate_on("ask").await.unwrap();
    let asker = vibrator("asker", &here).await;
    let question = || Wave::builder("ask").text("?").build().unwrap();
    let (answer, ()) = tokio::join!(asker.ask_within(question(), LONG), async {
        let question = oracle.receive().await.unwrap();
        question.reply(&7).await.unwrap();
    });
    assert_eq!(answer.unwrap().json::<u8>().unwrap(), 7);
    there.close().await.unwrap();
    // Long before it would have gone for its silence.
    let asked = timeout(LONG, async {
        // The farewell is on its way.
        loop {
            match asker.ask_within(question(), Duration::from_millis(100)).await {
                Err(AskError::TimedOut { .. }) => {}
                asked => return asked,
            }
        }
    });
    let asked = asked.await.unwrap();
    assert!(matches!(asked, Err(AskError::NoResonator { .. })), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_measures_a_peer_and_says_why_there_is_no_answer() {
    let ports = [free_port(), free_port()];
    let there = peer(ports[0], &[], SECRET).await;
    let view = LanView::default();
    assert_eq!(view.ping(8, LONG).await, Err(LanPingError::NotConnected));
    let options = patient().secret(SECRET).view(&view);
    let url = address(ports[1], &ports[..1]);
    let here = aether::builder().url(url).options(options).connect().await.unwrap();
    met(&here, &view, 1).await;
    let [known] = &view.peers()[..] else { panic!("one peer: {view:?}") };
    let node = known.node;
    // At once: each answer belongs to its ping.
    for pong in join_all((0..8).map(|_| view.ping(node, LONG))).await {
        let pong = pong.unwrap();
        let half = i64::try_from(pong.round_trip.as_micros() / 2).unwrap();
        // The clock is the same one. A millisecond for one that is being adjusted.
        assert!(pong.round_trip > Duration::ZERO && pong.clock_ahead_micros.abs() <= half + 1000, "{pong:?}");
    }
    assert!(view.peers()[0].round_trip.is_some());
    // No answer comes in no time.
    let lost = Err(LanPingError::Lost { within: Duration::ZERO });
    assert_eq!(view.ping(node, Duration::ZERO).await, lost);
    assert_eq!(view.ping(node ^ 8, LONG).await, Err(LanPingError::NotThere));
    there.close().await.unwrap();
    until(&view, LONG, |view| view.peers().is_empty()).await;
    assert_eq!(view.ping(node, LONG).await, Err(LanPingError::NotThere));
    here.close().await.unwrap();
}
