//! Pauses over a NATS server: full receivers ask senders to pause. The tests also cover forged pauses and failures.

use std::future::Future;
use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, ShedReason, Vibrator, Wave, WhenFull};
use aether_link::wire::{Sender, encode_at};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::settling::{flushed, patient};

const PATIENCE: Duration = Duration::from_secs(60);
/// For receivers whose waves nobody takes.
const FOR_EVER: Duration = Duration::from_secs(3600);
const NOTICES: &str = "aether-ask._aether.flow";

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

async fn connect(server: &NatsServer) -> Aether {
    aether::builder().url(server.url()).options(patient()).connect().await.unwrap()
}

async fn receiver(aether: &Aether, pattern: &str, waves: usize, patience: Duration) -> Vibrator {
    let inbox = InboxOptions::default().max_waves(waves).when_full(WhenFull::Wait { patience });
    let receiver = Vibrator::builder("receiver").inbox(inbox).create(aether).await.unwrap();
    receiver.resonate_on(pattern).await.unwrap();
    receiver
}

async fn next(receiver: &mut Vibrator) -> Wave {
    within("the next wave", receiver.receive()).await.expect("a wave")
}

/// A forged pause.
fn pause(id: u64, pattern: &str, level: u8, lease_ms: u64) -> Bytes {
    let payload = format!(r#"{{"id":{id},"pattern":"{pattern}","level":{level},"lease_ms":{lease_ms}}}"#);
    let wave = Wave::from_bytes("any", payload).unwrap();
    let sender = Sender { node: 7, sent_micros: 1_700_000_000_000_000 };
    encode_at(sender, None, None, &[wave], Instant::now()).unwrap()
}

/// A sender, and a client that forges pauses.
struct Scene {
    _server: NatsServer,
    here: Aether,
    shop: Vibrator,
    forger: async_nats::Client,
}

impl Scene {
    /// Creates a scene and a receiver that has room for everything.
    async fn new() -> (Self, Vibrator) {
        let server = NatsServer::start().await.unwrap();
        let here = connect(&server).await;
        let there = connect(&server).await;
        let shop = Vibrator::create("shop", &here).await.unwrap();
        let mut ear = Vibrator::create("ear", &there).await.unwrap();
        ear.resonate_on(">").await.unwrap();
        let forger = async_nats::connect(server.url()).await.unwrap();
        let scene = Self { _server: server, here, shop, forger };
        // A client that has not sent anything does not receive pauses.
        scene.shop.emit_bytes("first", "x").await.unwrap();
        next(&mut ear).await;
        (scene, ear)
    }

    /// Returns once these notices have reached the sender.
    async fn publish(&self, notices: impl IntoIterator<Item = Bytes>) {
        for notice in notices {
            self.forger.publish(NOTICES, notice).await.unwrap();
        }
        self.forger.flush().await.unwrap();
        within("a flush", flushed(&self.here)).await;
    }

    /// Requests a pause at a level and renews it until the future completes.
    async fn while_paused<T>(&self, level: u8, during: impl Future<Output = T>) -> T {
        let notice = pause(1, "held.*", level, 1000);
        self.publish([notice.clone()]).await;
        let forger = self.forger.clone();
        let renewing = tokio::spawn(async move {
            loop {
                forger.publish(NOTICES, notice.clone()).await.unwrap();
                forger.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let done = within("the work during the pause", during).await;
        renewing.abort();
        done
    }

    /// The same. `None` if the pause has ended meanwhile, because a busy machine was late to renew it.
    async fn paused<T>(&self, level: u8, during: impl Future<Output = T>) -> Option<T> {
        let before = self.here.status().pauses;
        let done = self.while_paused(level, during).await;
        // If the pause has ended, this begins another one, which is counted.
        self.publish([pause(1, "held.*", level, 1000)]).await;
        (self.here.status().pauses == before + 1).then_some(done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_slower_pauses_its_senders_and_has_them_resume() {
    const WAVES: u64 = 50_000;
    let server = NatsServer::start().await.unwrap();
    let here = connect(&server).await;
    let there = aether::connect(&server.url()).await.unwrap();
    assert!(here.promises().back_pressure);
    let mut slow = receiver(&there, "burst", 256, FOR_EVER).await;
    let emitter = Vibrator::create("emitter", &here).await.unwrap();
    let emitting = tokio::spawn(async move {
        for count in 0..WAVES {
            emitter.emit_bytes("burst", count.to_string()).await.unwrap();
        }
        emitter
    });
    for count in 0..WAVES {
        assert_eq!(next(&mut slow).await.text().unwrap(), count.to_string());
    }
    let _emitter = emitting.await.unwrap();
    let ledger = slow.ledger();
    assert_eq!((ledger.offered, ledger.delivered), (WAVES, WAVES), "{ledger:?}");
    within("a flush", flushed(&here)).await;
    let status = here.status();
    assert!(status.pauses > 0 && status.held == 0 && status.outbox.lost() == 0, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_of_other_channels_pass_those_that_are_held_and_a_pause_that_is_not_renewed_ends() {
    let (scene, mut ear) = Scene::new().await;
    let free = loop {
        let first = scene.paused(0, async {
            for count in 0..3000 {
                scene.shop.emit_bytes("held.a", format!("{count}")).await.unwrap();
            }
            scene.shop.emit_bytes("free", "x").await.unwrap();
            next(&mut ear).await
        });
        if let Some(first) = first.await {
            break first;
        }
        for _ in 0..3000 {
            next(&mut ear).await;
        }
    };
    assert_eq!(free.channel().as_str(), "free");
    for count in 0..3000 {
        assert_eq!(next(&mut ear).await.text().unwrap(), format!("{count}"), "in order");
    }
    within("a flush", flushed(&scene.here)).await;
    assert_eq!(scene.here.status().held, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_waits_while_pauses_are_renewed_and_a_close_does_not() {
    let (scene, mut ear) = Scene::new().await;
    scene.shop.emit_bytes("held.a", "before").await.unwrap();
    next(&mut ear).await;
    // Longer than a flush waits while nothing moves.
    let waiting = loop {
        let waiting = scene.paused(0, async {
            scene.shop.emit_bytes("held.a", "x").await.unwrap();
            timeout(Duration::from_secs(3), scene.here.flush()).await
        });
        if let Some(waiting) = waiting.await {
            break waiting;
        }
        next(&mut ear).await;
    };
    assert!(waiting.is_err(), "nothing has been sent, and the flush is still waiting");
    within("a flush after the pause", flushed(&scene.here)).await;
    let closed = scene.while_paused(0, async {
        scene.shop.emit_bytes("held.a", "y").await.unwrap();
        scene.here.close().await
    });
    closed.await.unwrap();
    for text in ["x", "y"] {
        assert_eq!(next(&mut ear).await.text().unwrap(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_waves_pass_a_pause_for_weaker_ones() {
    let (scene, mut ear) = Scene::new().await;
    let strong = Wave::builder("held.a").amplitude(1.0).text("strong").build().unwrap();
    let weak = Wave::builder("held.a").amplitude(0.1).text("weak").build().unwrap();
    let first = loop {
        // Half of the full strength is four levels weaker.
        let first = scene.paused(4, async {
            scene.shop.emit(weak.clone()).await.unwrap();
            scene.shop.emit(strong.clone()).await.unwrap();
            next(&mut ear).await
        });
        if let Some(first) = first.await {
            break first;
        }
        next(&mut ear).await;
    };
    assert_eq!(first.text().unwrap(), "strong");
    assert_eq!(next(&mut ear).await.text().unwrap(), "weak");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_pauses_are_bounded_and_malformed_ones_change_nothing() {
    let (scene, mut ear) = Scene::new().await;
    let endless = (0..10_000).map(|id| pause(id, "held.*", 0, u64::MAX));
    let began = Instant::now();
    let malformed = ["", "no frame", "\u{0}"].map(Bytes::from).into_iter().chain([pause(1, "a..b", 0, 1)]);
    scene.publish(endless.chain(malformed)).await;
    scene.shop.emit_bytes("held.a", "x").await.unwrap();
    assert_eq!(next(&mut ear).await.text().unwrap(), "x", "the maximum lease is one second");
    let pauses = scene.here.status().pauses;
    // Each lasts for a second, so a slow machine takes more in the end, and never more at once.
    let most = 256 * (1 + began.elapsed().as_secs());
    assert!((1..=most).contains(&pauses), "{pauses} of {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_cut_off_while_it_pauses_holds_nobody() {
    const WAVES: u64 = 20_000;
    let server = NatsServer::start().await.unwrap();
    let proxy = Proxy::new(server.port()).await.unwrap();
    let here = connect(&server).await;
    let there = aether::connect(&proxy.url()).await.unwrap();
    let mut stuck = receiver(&there, "burst", 16, FOR_EVER).await;
    let emitter = Vibrator::create("emitter", &here).await.unwrap();
    let emit = async {
        for count in 0..WAVES {
            emitter.emit_bytes("burst", count.to_string()).await.unwrap();
        }
    };
    let cut = async {
        next(&mut stuck).await;
        proxy.cut().await;
    };
    within("emitting", async { tokio::join!(emit, cut) }).await;
    within("a flush", flushed(&here)).await;
    assert_eq!(here.status().outbox.lost(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_sends_that_knows_no_pauses_waits_for_room() {
    const MESSAGES: u64 = 50_000;
    let server = NatsServer::start().await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let mut slow = receiver(&there, "plain", 256, FOR_EVER).await;
    let foreign = async_nats::connect(server.url()).await.unwrap();
    for count in 0..MESSAGES {
        foreign.publish("aether.plain", count.to_string().into()).await.unwrap();
    }
    foreign.flush().await.unwrap();
    for count in 0..MESSAGES {
        assert_eq!(next(&mut slow).await.text().unwrap(), count.to_string());
    }
    let ledger = slow.ledger();
    assert_eq!((ledger.offered, ledger.delivered), (MESSAGES, MESSAGES), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_room_is_bounded_and_what_is_more_is_shed_and_counted() {
    const MESSAGES: usize = 120;
    let server = NatsServer::start().await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let (report, mut losses) = mpsc::unbounded_channel();
    let inbox = InboxOptions::default()
        .max_waves(4)
        .when_full(WhenFull::Wait { patience: FOR_EVER })
        .on_shed(move |_, reason| {
            let _ = report.send(reason);
        });
    let stuck = Vibrator::builder("stuck").inbox(inbox).create(&there).await.unwrap();
    stuck.resonate_on("large").await.unwrap();
    let foreign = async_nats::connect(server.url()).await.unwrap();
    let large = Bytes::from(vec![b'x'; 900_000]);
    for _ in 0..MESSAGES {
        foreign.publish("aether.large", large.clone()).await.unwrap();
    }
    foreign.flush().await.unwrap();
    // At most 64 MiB are queued.
    for _ in 0..MESSAGES - 4 - (64 << 20) / large.len() - 1 {
        assert_eq!(within("a loss", losses.recv()).await, Some(ShedReason::Full));
    }
    assert!(stuck.ledger().adds_up());
}
