//! A source that floods a vibrator makes its own waves wait and loses its own, not the waves of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::settling::flushed;

const PATIENCE: Duration = Duration::from_secs(120);
/// Half of them do not fit into the inbox.
const FLOOD: u64 = 130_000;
const MAX_WAVES: usize = 65_536;
const HONEST: usize = 50;
/// What is served before the sources take turns: a prefetch, and as many as are always served in order.
const IN_ORDER: usize = 64;

fn question(text: &str) -> Wave {
    Wave::builder("time").amplitude(1.0).text(text).build().unwrap()
}

/// A vibrator, as services have them, on which a flood of questions has arrived that nobody answers.
async fn flooded(server: &NatsServer, there: &Aether) -> Vibrator {
    let ear = Vibrator::builder("ear").inbox(InboxOptions::interactive()).create(there).await.unwrap();
    ear.resonate_on("time").await.unwrap();
    // A client repeats what it has overheard of a question, under its own sequence of answers.
    let attacker = async_nats::connect(server.url()).await.unwrap();
    let mut overheard = attacker.subscribe("aether-ask.time").await.unwrap();
    attacker.flush().await.unwrap();
    let asker = aether::connect(&server.url()).await.unwrap();
    let flood = Vibrator::create("flood", &asker).await.unwrap();
    let asking = tokio::spawn(async move { flood.ask_within(question("?"), PATIENCE).await });
    let frame = timeout(PATIENCE, overheard.next()).await.unwrap().unwrap().payload;
    drop(overheard);
    for sent in 2..=FLOOD {
        attacker.publish_with_reply("aether-ask.time", "_INBOX.nobody.cares", frame.clone()).await.unwrap();
        // The receiver follows, so that the server does not cut it off.
        if sent.is_multiple_of(1000) || sent == FLOOD {
            while ear.ledger().offered + 10_000.min(FLOOD - sent) < sent {
                attacker.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    }
    asking.abort();
    let ledger = ear.ledger();
    assert_eq!((ledger.queued, ledger.lost()), (MAX_WAVES as u64, FLOOD - MAX_WAVES as u64), "{ledger:?}");
    ear
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_delays_and_evicts_no_question_of_others() {
    let server = NatsServer::start().await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let mut ear = flooded(&server, &there).await;
    let mut honest = JoinSet::new();
    for number in 0..HONEST {
        let here = aether::connect(&server.url()).await.unwrap();
        honest.spawn(async move {
            let shop = Vibrator::create("shop", &here).await.unwrap();
            shop.ask_within(question(&number.to_string()), PATIENCE).await.unwrap()
        });
    }
    let arrived = async {
        while ear.ledger().offered < FLOOD + HONEST as u64 {
            flushed(&there).await;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("the honest questions arrive");
    let mut served = 0;
    while !honest.is_empty() {
        let question = timeout(PATIENCE, ear.receive()).await.unwrap().unwrap();
        served += 1;
        assert!(served <= IN_ORDER + 2 * HONEST, "the honest questions wait behind the flood");
        if question.text().unwrap() != "?" {
            question.reply_bytes("noon").await.unwrap();
            let answered = timeout(PATIENCE, honest.join_next()).await.unwrap().unwrap();
            assert_eq!(answered.unwrap().text().unwrap(), "noon");
        }
    }
    let ledger = ear.ledger();
    assert_eq!(
        ledger.lost(),
        FLOOD + HONEST as u64 - MAX_WAVES as u64,
        "only the flood was shed: {ledger:?}"
    );
    assert!(ledger.adds_up(), "{ledger:?}");
}

#[tokio::test]
async fn a_source_that_waits_for_room_takes_turns_with_one_that_has_many_waves_waiting() {
    const MOST: usize = 100;
    let aether = Aether::local();
    let inbox = InboxOptions::interactive().max_waves(MOST).when_full(WhenFull::Wait { patience: PATIENCE });
    let mut ear = Vibrator::builder("ear").inbox(inbox).create(&aether).await.unwrap();
    ear.resonate_on("time").await.unwrap();
    let (begun, mut emitting) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for (name, waves, so_far) in [("flood", 1000, 1000), ("shop", 5, 1005)] {
        let vibrator = Arc::new(Vibrator::create(name, &aether).await.unwrap());
        for _ in 0..waves {
            let (vibrator, begun) = (Arc::clone(&vibrator), Arc::clone(&begun));
            emitting.spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                vibrator.emit_bytes("time", "?").await.unwrap();
            });
        }
        // On one thread a task that has begun runs until it waits for room.
        while begun.load(Ordering::Relaxed) < so_far {
            tokio::task::yield_now().await;
        }
    }
    let mut last_of_shop = 0;
    for received in 1..=1005 {
        let wave = timeout(PATIENCE, ear.receive()).await.unwrap().unwrap();
        if wave.source().name() == "shop" {
            last_of_shop = received;
        }
    }
    assert!(last_of_shop <= MOST + 32 + 2 * 5 + MOST, "the fifth wave of the shop was number {last_of_shop}");
}
