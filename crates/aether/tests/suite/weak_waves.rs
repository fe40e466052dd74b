//! Room for strong waves after only weak ones have arrived: in inboxes whose emitters wait, and in the outbox.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether_conformance::NatsServer;
use aether_core::{Aether, EmitError, InboxOptions, Vibrator, Wave};
use futures::FutureExt;

use crate::settling::flushed;

/// A limit for steps that take milliseconds on an idle machine. No test waits for it to expire.
const LONG: Duration = Duration::from_secs(60);

fn wave(amplitude: f32, bytes: usize) -> Wave {
    Wave::builder("a").amplitude(amplitude).never_decays().bytes(vec![0; bytes]).build().unwrap()
}

/// Emits identical waves until there is no room for another. Returns how many had room.
fn fill(emitter: &Vibrator, amplitude: f32, bytes: usize) -> u64 {
    for taken in 0.. {
        match emitter.try_emit(wave(amplitude, bytes)) {
            Ok(_) => {}
            Err(EmitError::Full { .. }) => return taken,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

/// Checks that both ways of emitting accept strong waves immediately.
fn takes_strong_ones_at_once(emitter: &Vibrator, bytes: usize) {
    emitter.try_emit(wave(1.0, bytes)).unwrap();
    emitter.emit(wave(1.0, bytes)).now_or_never().expect("there is room").unwrap();
    assert!(matches!(emitter.try_emit(wave(0.01, bytes)), Err(EmitError::Full { .. })));
}

#[tokio::test]
async fn an_inbox_full_of_weak_waves_takes_a_strong_one_at_once() {
    for (amplitude, bytes, max_waves) in
        [(0.01, 0, 65_536), (0.41, 0, 65_536), (0.01, 1 << 20, 65_536), (0.1, 0, 16)]
    {
        let aether = aether::builder().connect().await.unwrap();
        let inbox = InboxOptions::default().max_waves(max_waves);
        let ear = Vibrator::builder("ear").inbox(inbox).create(&aether).await.unwrap();
        ear.resonate_on("a").await.unwrap();
        let emitter = Vibrator::create("emitter", &aether).await.unwrap();
        let taken = fill(&emitter, amplitude, bytes);
        if bytes == 0 {
            assert_eq!(taken, 7 * max_waves as u64 / 8);
        }
        takes_strong_ones_at_once(&emitter, bytes);
        let ledger = ear.ledger();
        assert_eq!((ledger.queued, ledger.lost()), (taken + 2, 0), "{ledger:?}");
    }
}

#[tokio::test]
async fn equal_waves_of_normal_amplitude_or_more_use_all_of_an_inbox() {
    for amplitude in [0.5, 1.0] {
        let aether = Aether::local();
        let ear = Vibrator::create("ear", &aether).await.unwrap();
        ear.resonate_on("a").await.unwrap();
        let emitter = Vibrator::create("emitter", &aether).await.unwrap();
        assert_eq!(fill(&emitter, amplitude, 0), 65_536);
    }
}

#[tokio::test]
async fn an_outbox_full_of_weak_waves_takes_a_strong_one_at_once_while_the_server_is_away() {
    let mut server = NatsServer::start().await.unwrap();
    let outbox = InboxOptions::default().max_waves(800);
    let aether = aether::builder()
        .url(server.url())
        .options(NatsOptions::default().outbox(outbox))
        .connect()
        .await
        .unwrap();
    let emitter = Vibrator::create("emitter", &aether).await.unwrap();
    let mut connection = aether.connection();
    server.kill().await.unwrap();
    // The report of the connection may also arrive late.
    let broken = async { while connection.changed().await.unwrap().connected {} };
    tokio::time::timeout(LONG, broken).await.unwrap();
    assert_eq!(fill(&emitter, 0.01, 0), 700);
    takes_strong_ones_at_once(&emitter, 0);
    let outbox = aether.status().outbox;
    assert_eq!((outbox.queued, outbox.lost()), (702, 0), "{outbox:?}");
    server.restart().await.unwrap();
    let back = async {
        while !aether.status().connected {
            connection.changed().await.unwrap();
        }
        flushed(&aether).await;
    };
    tokio::time::timeout(LONG, back).await.unwrap();
    let outbox = aether.status().outbox;
    assert_eq!((outbox.delivered, outbox.lost()), (702, 0), "{outbox:?}");
}
