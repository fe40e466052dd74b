//! Paths that break: for all, for one process only, and while the system is under load.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aether::paths::PathState;
use aether_conformance::NatsServer;
use aether_core::{AskError, FlushError, Kind, Vibrator, Wave};
use tokio::time::timeout;

use super::{LONG, heard, listener, process, until, until_in_use};
use crate::proxy::Proxy;
use crate::settling::flushed;

/// The waves that a receiver of numbered waves has heard.
#[derive(Default)]
struct Heard {
    numbers: HashSet<u64>,
    repeated: u64,
}

/// While waves flow, one process loses its cable to the first server and gets it back, so that the other one changes
/// its path by choice, twice. Each flush and each confirmed wave of that process keeps its promise, each wave arrives
/// once, and the order of each path stays. Between two paths there is none: a message on the new one may overtake the
/// last on the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_by_choice_keeps_the_order_of_each_path_and_the_word_of_each_flush() {
    let servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    let cable = Proxy::new(servers[0].port()).await.unwrap();
    let here = process(&[&urls[0], &urls[1]]).await;
    // The receiver has both servers. A third process makes them change.
    let there = process(&[&urls[0], &urls[1]]).await;
    let third = process(&[&cable.url(), &urls[1]]).await;
    let mut ear = listener(&there, "orders.*").await;
    let received = Arc::new(AtomicU64::new(0));
    let receiving = tokio::spawn({
        let received = Arc::clone(&received);
        async move {
            let (mut heard, mut next, mut disordered) = (HashSet::new(), [0; 2], 0_u64);
            while let Some(wave) = ear.receive().await {
                let number = wave.json::<u64>().unwrap();
                assert!(heard.insert(number), "{number} arrives once");
                let next = &mut next[usize::from(wave.hops())];
                disordered += u64::from(number < *next);
                *next = number + 1;
                received.fetch_add(1, Ordering::Release);
            }
            (heard.len(), disordered)
        }
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let emitting = tokio::spawn({
        let (is_over, here, received) = (Arc::clone(&is_over), here.clone(), Arc::clone(&received));
        async move {
            let (mut number, mut flushes) = (0_u64, 0);
            while !is_over.load(Ordering::Acquire) {
                for _ in 0..200 {
                    shop.emit_wave("orders.created", &number).await.unwrap();
                    number += 1;
                }
                flushed(&here).await;
                flushes += 1;
                // The server has them: they arrive without anything else happening.
                let arrived = async {
                    while received.load(Ordering::Acquire) < number {
                        tokio::task::yield_now().await;
                    }
                };
                timeout(LONG, arrived).await.expect("what was flushed arrives");
                assert_eq!(here.status().outbox.queued, 0, "a flush leaves nothing in the outbox");
            }
            (number, flushes)
        }
    });
    for _ in 0..2 {
        cable.cut().await;
        until_in_use(&here, 1).await;
        cable.mend();
        until_in_use(&here, 0).await;
    }
    is_over.store(true, Ordering::Release);
    let (emitted, flushes) = timeout(LONG, emitting).await.unwrap().unwrap();
    let paths = aether::paths::paths(&here);
    assert!(paths[0].switches == 4 && paths[0].sent > 0 && paths[1].sent > 0, "{paths:?}");
    assert_eq!(here.status().unconfirmed, 0);
    for aether in [here, third, there] {
        aether.close().await.unwrap();
    }
    let (heard, disordered) = timeout(LONG, receiving).await.unwrap().unwrap();
    assert_eq!((heard as u64, disordered), (emitted, 0), "{flushes} flushes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_path_killed_under_load_loses_nothing_beyond_the_counted_and_repeats_nothing() {
    let mut servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    let paths = [&*urls[0], &*urls[1]];
    let (here, there) = (process(&paths).await, process(&paths).await);
    let mut ear = listener(&there, "orders.*").await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let (emitted, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let emitting = tokio::spawn({
        let (emitted, is_over) = (Arc::clone(&emitted), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                let number = emitted.load(Ordering::Relaxed);
                shop.emit_wave("orders.created", &number).await.unwrap();
                emitted.store(number + 1, Ordering::Relaxed);
                if number.is_multiple_of(32) {
                    // Also on a busy machine, what comes while one path hands over to the other finds room.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            shop
        }
    });
    let receiving = tokio::spawn(async move {
        let mut heard = Heard::default();
        while let Some(wave) = ear.receive().await {
            let repeats = !heard.numbers.insert(wave.json::<u64>().unwrap());
            heard.repeated += u64::from(repeats);
        }
        (heard, ear.ledger().lost_upstream)
    });
    let grows = async |by: u64| {
        let goal = emitted.load(Ordering::Relaxed) + by;
        let grown = async {
            while emitted.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, grown).await.unwrap();
    };
    for _ in 0..2 {
        grows(5000).await;
        servers[0].kill().await.unwrap();
        until_in_use(&here, 1).await;
        grows(5000).await;
        servers[0].restart().await.unwrap();
        until_in_use(&here, 0).await;
        until(&there, |paths| paths.iter().all(|path| path.state != PathState::Broken)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let shop = timeout(LONG, emitting).await.unwrap().unwrap();
    flushed(&here).await;
    let status = here.status();
    assert_eq!(status.outbox.offered, emitted.load(Ordering::Relaxed));
    assert_eq!(
        status.outbox.lost() + status.outbox.queued,
        0,
        "what waited went by the other path: {status:?}"
    );
    drop(shop);
    here.close().await.unwrap();
    there.close().await.unwrap();
    let (heard, lost_upstream) = timeout(LONG, receiving).await.unwrap().unwrap();
    let lost = emitted.load(Ordering::Relaxed) - heard.numbers.len() as u64;
    assert_eq!(heard.repeated, 0);
    // The sender counts those that the server has not confirmed, the receiver those that died with the server after that.
    let counted = status.unconfirmed + lost_upstream;
    assert!(
        lost <= counted,
        "{lost} lost, {} unconfirmed, {lost_upstream} lost upstream",
        status.unconfirmed
    );
    let [first, second] = &aether::paths::paths(&here)[..] else { panic!("there are two paths") };
    assert!(first.sent > 0 && second.sent > 0 && first.switches == 4, "{first:?} {second:?}");
    assert_eq!(first.sent + second.sent, status.outbox.delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_is_passed_by_and_a_detour_arrives_weaker() {
    let servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    let paths = [&*urls[0], &*urls[1]];
    let (here, there) = (process(&paths).await, process(&paths).await);
    let mut ear = listener(&there, "orders.*").await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    shop.emit(Wave::from_bytes("orders.a", "direct").unwrap()).await.unwrap();
    let direct = timeout(LONG, ear.receive()).await.unwrap().unwrap();
    assert_eq!(direct.hops(), 0);
    flushed(&here).await;
    servers[0].stop().await.unwrap();
    // Some of these are handed to the client before anybody can know, and are lost.
    for number in 0..10_000 {
        shop.emit_wave("orders.a", &number).await.unwrap();
    }
    until_in_use(&here, 1).await;
    shop.emit(Wave::from_bytes("orders.a", "\"detour\"").unwrap()).await.unwrap();
    let mut count = 0;
    let detour = loop {
        let wave = timeout(LONG, ear.receive()).await.unwrap().unwrap();
        count += 1;
        if wave.text().unwrap() == "\"detour\"" {
            break wave;
        }
    };
    assert_eq!(detour.hops(), 1);
    let status = here.status();
    assert!(count - 1 + status.unconfirmed >= 10_000, "{count} heard, {status:?}");
    servers[0].resume().unwrap();
    until_in_use(&here, 0).await;
    until(&there, |paths| paths.iter().all(|path| path.state != PathState::Broken)).await;
    shop.emit(Wave::from_bytes("orders.a", "\"direct again\"").unwrap()).await.unwrap();
    assert_eq!(heard(&mut ear).await, "\"direct again\"", "nothing arrives late");
    flushed(&here).await;
    assert!(ear.try_receive().is_err(), "nothing arrives twice");
    here.close().await.unwrap();
    there.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_one_process_has_lost_is_used_by_nobody_until_it_is_back() {
    let servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    let cable = Proxy::new(servers[0].port()).await.unwrap();
    let here = process(&[&urls[0], &urls[1]]).await;
    let there = process(&[&cable.url(), &urls[1]]).await;
    let mut ear = listener(&there, "orders.*").await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    shop.emit_wave("orders.a", &1).await.unwrap();
    assert_eq!(heard(&mut ear).await, "1");
    cable.cut().await;
    // The path of this process is connected all the time. It hears from the other one that its path does not.
    until_in_use(&here, 1).await;
    let paths = aether::paths::paths(&here);
    assert_eq!((paths[0].state, paths[0].cut_off), (PathState::Ready, 1));
    shop.emit_wave("orders.a", &2).await.unwrap();
    assert_eq!(heard(&mut ear).await, "2");
    cable.mend();
    until_in_use(&here, 0).await;
    until_in_use(&there, 0).await;
    shop.emit_wave("orders.a", &3).await.unwrap();
    assert_eq!(heard(&mut ear).await, "3");
    assert_eq!(here.status().unconfirmed, 0);
    here.close().await.unwrap();
    there.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_path_waves_wait_and_then_go_by_the_first_that_is_back() {
    let mut servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    // The receiver is in the same process: another one may be back later than the waves.
    let here = process(&[&urls[0], &urls[1]]).await;
    let mut ear = listener(&here, "orders.*").await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let mut connection = here.connection();
    for server in &mut servers {
        server.kill().await.unwrap();
    }
    let down = timeout(LONG, async { while connection.changed().await.unwrap().connected {} });
    down.await.unwrap();
    for number in 0..100 {
        shop.emit_wave("orders.a", &number).await.unwrap();
    }
    match here.flush().await {
        Err(FlushError::Unconfirmed { waves: 100, .. }) => {}
        other => panic!("{other:?}"),
    }
    servers[1].restart().await.unwrap();
    for number in 0..100 {
        assert_eq!(heard(&mut ear).await, number.to_string());
    }
    flushed(&here).await;
    assert_eq!(aether::paths::paths(&here)[1].sent, 100);
    here.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_was_on_its_way_fails_soon_and_the_next_goes_by_the_other_path() {
    let mut servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    let paths = [&*urls[0], &*urls[1]];
    let (here, there) = (process(&paths).await, process(&paths).await);
    let mut stock = listener(&there, "stock.*").await;
    let shop = Vibrator::create("shop", &here).await.unwrap().emitter();
    let question = || Wave::builder("stock.count").kind(Kind::Query).text("lamps?").build().unwrap();
    let asked = tokio::spawn({
        let (shop, question) = (shop.clone(), question());
        async move { shop.ask_within(question, 4 * LONG).await }
    });
    let first = timeout(LONG, stock.receive()).await.unwrap().unwrap();
    servers[0].kill().await.unwrap();
    match timeout(LONG, asked).await.unwrap().unwrap() {
        Err(error @ AskError::Client(_)) => assert!(error.is_transient()),
        other => panic!("{other:?}"),
    }
    drop(first);
    let answering = tokio::spawn(async move {
        let question = stock.receive().await.unwrap();
        question.reply(&7).await.unwrap();
        stock
    });
    assert_eq!(shop.ask_within(question(), LONG).await.unwrap().text().unwrap(), "7");
    drop(answering.await.unwrap());
    here.close().await.unwrap();
    there.close().await.unwrap();
}
