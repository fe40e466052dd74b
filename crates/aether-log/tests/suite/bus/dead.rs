//! Redelivery, and waves that are given up.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_core::Vibrator;
use aether_log::{ConsumerOptions, DeadError};
use futures_util::FutureExt as _;

use crate::bus::stage::{billing, connect, open, receive, text, wave};

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_fails_comes_again_and_becomes_a_dead_letter_that_survives() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        shop.emit(wave(7, 0.9)).await.unwrap();
        let options = ConsumerOptions::default().max_attempts(NonZeroU32::new(3).unwrap());
        let options = options.pauses(Duration::ZERO, Duration::ZERO);
        let consumer = log.consumer("billing", "orders.>", options).unwrap();
        for attempt in 1..=3 {
            let delivery = receive(&consumer).await;
            assert_eq!((text(&delivery), delivery.attempt()), ("7".to_owned(), attempt));
            delivery.nack(&format!("no ink at attempt {attempt}"));
        }
        // Giving up happens while the next wave is waited for, which is weaker and so comes later.
        shop.emit(wave(8, 0.1)).await.unwrap();
        assert_eq!(text(&receive(&consumer).await), "8");
    }
    let log = open(folder.path());
    let consumer = billing(&log);
    let numbers = log.dead().numbers();
    let letter = log.dead().show(numbers[0]).unwrap();
    assert_eq!((letter.consumer.as_str(), letter.attempts, letter.stored.position), ("billing", 3, 1));
    assert_eq!(letter.stored.wave.text().unwrap(), "7");
    let errors: Vec<_> = letter.failed.iter().map(|attempt| attempt.error.as_str()).collect();
    assert_eq!(errors, ["no ink at attempt 1", "no ink at attempt 2", "no ink at attempt 3"]);
    assert!(letter.failed.windows(2).all(|pair| pair[0].micros <= pair[1].micros));
    let ledger = consumer.ledger();
    assert!(ledger.dead == 1 && ledger.adds_up(), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_removed_after_its_replay_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(wave(7, 0.9)).await.unwrap();
    let once =
        ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let consumer = log.consumer("billing", "orders.>", once).unwrap();
    receive(&consumer).await.nack("no ink");
    // Giving up happens while the next wave is waited for.
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { receive(&consumer).await }
    });
    shop.emit(wave(8, 0.5)).await.unwrap();
    let next = waiting.await.unwrap();
    assert_eq!(text(&next), "8");
    next.ack().await.unwrap();
    let numbers = log.dead().numbers();
    assert_eq!((numbers.len(), consumer.ledger().dead), (1, 1));
    // A bus that is closed takes no wave, so the letter stays.
    let closed = connect(&log).await;
    let emitter = closed.emitter("operator").unwrap();
    closed.close().await.unwrap();
    let refused = log.dead().replay(numbers[0], &emitter).await;
    assert!(matches!(refused, Err(DeadError::Emit { .. })));
    assert_eq!(log.dead().numbers(), numbers);
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let sent = log.dead().replay(numbers[0], &shop).await.unwrap();
    assert_eq!(sent.receipt.stored.unwrap().position.get(), 3, "the replay is stored again");
    assert_eq!(live.receive().await.unwrap().text().unwrap(), "7");
    assert!(log.dead().is_empty());
    assert!(matches!(log.dead().replay(numbers[0], &shop).await, Err(DeadError::Unknown { .. })));
    let again = receive(&consumer).await;
    assert_eq!((text(&again), again.attempt()), ("7".to_owned(), 1));
    again.ack().await.unwrap();
    drop((consumer, live, shop, emitter, aether, closed, log));
    assert!(open(folder.path()).dead().is_empty(), "also after opening again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_the_identity_and_is_no_copy() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let receipt = shop.emit(wave(7, 0.9)).await.unwrap();
    let once =
        ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let consumer = log.consumer("billing", "orders.>", once).unwrap();
    // A bus that stores nothing, and the log alone.
    let plain = aether_core::Aether::local().emitter("operator").unwrap();
    for round in 1..=3_u32 {
        let delivery = receive(&consumer).await;
        assert_eq!((text(&delivery), delivery.wave().id()), ("7".to_owned(), shop.id_of(&receipt)));
        assert_eq!((delivery.wave().attempts(), delivery.attempt()), (round, 1));
        delivery.nack("no ink");
        shop.emit(wave(8, 0.1)).await.unwrap();
        receive(&consumer).await.ack().await.unwrap();
        let number = log.dead().numbers()[0];
        let position = match round {
            1 => {
                let sent = log.dead().replay(number, &shop).await.unwrap();
                assert_eq!(sent.wave, shop.id_of(&receipt), "the result names it");
                sent.receipt.stored.unwrap().position.get()
            }
            2 => log.dead().store_again(number).await.unwrap(),
            _ => {
                assert!(log.dead().replay(number, &plain).await.unwrap().receipt.stored.is_none());
                log.extent().last
            }
        };
        assert_eq!((position, log.dead().len()), (u64::from(round) * 2 + 1, 0));
    }
    receive(&consumer).await.ack().await.unwrap();
    let number = log.dead().keep("saga", &wave(9, 0.9), &[]).await.unwrap();
    assert!(matches!(log.dead().store_again(number).await, Err(DeadError::OfNoLog { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_stored_is_no_dead_letter_of_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let command =
        |channel: &str| aether_core::Wave::builder(channel).kind(aether_core::Kind::Command).build();
    shop.emit(command("orders.pay").unwrap()).await.unwrap();
    shop.emit_all((0..3).map(|_| command("orders.pay").unwrap())).await.unwrap();
    shop.emit_confirmed(command("orders.pay").unwrap()).await.unwrap();
    assert_eq!(aether.dead_letters().list().len(), 0, "consumers of the log hear it");
    shop.emit(command("other.pay").unwrap()).await.unwrap();
    assert_eq!(aether.dead_letters().list().len(), 1, "nobody hears this one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_two_replay_at_once_is_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let number = log.dead().keep("shop", &wave(7, 0.9), &[]).await.unwrap();
    // Each waits until the wave is stored.
    let (first, second) = tokio::join!(log.dead().replay(number, &shop), log.dead().replay(number, &shop));
    assert!(matches!((&first, &second), (Ok(_), Err(DeadError::Unknown { .. }))), "{first:?} {second:?}");
    assert_eq!((log.extent().last, log.dead().len()), (1, 0));
    // A replay that is given up leaves the letter to others.
    let number = loop {
        let number = log.dead().keep("shop", &wave(8, 0.9), &[]).await.unwrap();
        // On a busy machine the disk may be quicker than the test, and the letter is gone then.
        if log.dead().replay(number, &shop).now_or_never().is_none() {
            break number;
        }
    };
    log.dead().replay(number, &shop).await.unwrap();
    assert!(log.dead().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_gone_take_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let size = || {
        let files = std::fs::read_dir(folder.path().join("dead")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let large = || {
        let wave = aether_core::Wave::builder("orders.created").bytes(vec![7; 300_000]);
        wave.build().unwrap()
    };
    let log = open(folder.path());
    let first = log.dead().keep("shop", &wave(1, 0.5), &[]).await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..20 {
        numbers.push(log.dead().keep("shop", &large(), &[]).await.unwrap());
    }
    assert!(size() > 6_000_000);
    for number in &numbers {
        log.dead().drop_letter(*number).await.unwrap();
    }
    drop(log);
    // The first one is kept, so they go when the log is opened.
    let log = open(folder.path());
    assert_eq!(log.dead().numbers(), [first]);
    assert!(size() < 1_500_000, "{}", size());
    assert_eq!(log.dead().show(first).unwrap().stored.wave.text().unwrap(), "1");
    for _ in 0..20 {
        let number = log.dead().keep("shop", &large(), &[]).await.unwrap();
        log.dead().drop_letter(number).await.unwrap();
    }
    log.dead().drop_letter(first).await.unwrap();
    assert!(size() < 1_500_000, "without one that stays they go at once: {}", size());
}
