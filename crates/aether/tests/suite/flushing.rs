//! Flushing and closing over a NATS server that is busy, slow or stuck: what they wait for, and what they count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{FlushError, InboxOptions, Kind, Vibrator, Wave, WhenFull, echo::EchoLedger};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::settling::flushed;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flush_ends_although_others_keep_emitting() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let emitter = Vibrator::create("emitter", &aether).await.unwrap().emitter();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut emitting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (emitter, is_over) = (emitter.clone(), Arc::clone(&is_over));
        emitting.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                emitter.emit_bytes("busy", "x").await.unwrap();
            }
        });
    }
    let mut least = u64::MAX;
    for _ in 0..20 {
        emitter.emit_bytes("mine", "x").await.unwrap();
        let before = aether.status().outbox.delivered;
        timeout(PATIENCE, flushed(&aether)).await.expect("in time");
        least = least.min(aether.status().outbox.delivered - before);
    }
    // The wave waits behind 2048 at most, and two markers behind the 4096 that may be in flight. On a busy machine many
    // times that may leave before the waiting task is woken, but not each time.
    assert!(least < 1_000_000, "{least} waves left before one was flushed");
    is_over.store(true, Ordering::Relaxed);
    emitting.join_all().await;
}

#[tokio::test]
async fn waves_unconfirmed_by_a_stuck_server_are_counted_at_the_close() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let emitter = Vibrator::create("emitter", &aether).await.unwrap().emitter();
    emitter.emit_bytes("before", "x").await.unwrap();
    flushed(&aether).await;
    server.stop().await.unwrap();
    for _ in 0..5 {
        emitter.emit_bytes("stuck", "x").await.unwrap();
    }
    let closed = aether.close().await;
    server.resume().unwrap();
    assert!(matches!(closed, Err(FlushError::Unconfirmed { waves: 5, .. })), "{closed:?}");
    let status = aether.status();
    let left = status.outbox.delivered + status.outbox.shed_closed;
    assert_eq!((left, status.outbox.queued), (1 + 5, 0));
    assert_eq!(status.unconfirmed + status.outbox.shed_closed, 5, "{status:?}");
}

#[tokio::test]
async fn last_waves_without_a_receiver_are_dead_letters_at_the_close() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let emitter = Vibrator::create("emitter", &aether).await.unwrap().emitter();
    let command = || Wave::builder("jobs").kind(Kind::Command).text("x").build().unwrap();
    emitter.emit(command()).await.unwrap();
    flushed(&aether).await;
    // While the reflector pauses after the first report.
    emitter.emit(command()).await.unwrap();
    aether.close().await.unwrap();
    assert_eq!(aether.echo_ledger(), {
        let mut ledger = EchoLedger::default();
        (ledger.reflected, ledger.buried) = (2, 2);
        ledger
    });
    assert_eq!(aether.dead_letters().counts().kept, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_receiver_closes_although_others_overload_it() {
    let server = NatsServer::start().await.unwrap();
    let (here, there) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let shed = Arc::new(Notify::new());
    let options = InboxOptions::interactive().max_waves(1).when_full(WhenFull::Shed).on_shed({
        let shed = Arc::clone(&shed);
        move |_, _| {
            shed.notify_one();
            // Slower than any sender.
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    let ear = Vibrator::builder("ear").inbox(options).create(&there).await.unwrap();
    ear.resonate_on("flood").await.unwrap();
    let emitter = Vibrator::create("emitter", &here).await.unwrap().emitter();
    let is_over = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let is_over = Arc::clone(&is_over);
        async move {
            while !is_over.load(Ordering::Relaxed) {
                // Commands are not batched.
                let wave = Wave::builder("flood").kind(Kind::Command).build().unwrap();
                emitter.emit(wave).await.unwrap();
            }
        }
    });
    shed.notified().await;
    let closed = timeout(PATIENCE, there.close()).await;
    is_over.store(true, Ordering::Relaxed);
    flood.await.unwrap();
    closed.expect("in time").unwrap();
    assert!(ear.ledger().adds_up() && ear.ledger().shed_full > 0);
}
