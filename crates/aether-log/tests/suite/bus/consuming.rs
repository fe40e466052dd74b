//! Deliveries, acknowledgements and positions.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use aether_core::{Durability, Pattern, Wave};
use aether_log::store::{Retention, StoreOptions};
use aether_log::{ConsumeError, ConsumerOptions, Delivery, Log, ResonateDurable, Start};

use crate::bus::stage::{billing, connect, files, open, receive, text, texts, wave};

#[tokio::test(flavor = "multi_thread")]
async fn positions_survive_restarts_and_acknowledgements_out_of_order() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        for number in 0..50 {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
        let consumer = billing(&log);
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(receive(&consumer).await);
        }
        for delivery in open {
            // Each third is handled; the others are still open when the process ends.
            if delivery.position() % 3 == 0 {
                delivery.ack().await.unwrap();
            }
        }
    }
    let log = open(folder.path());
    let consumer = billing(&log);
    let ledger = consumer.ledger();
    assert_eq!((ledger.acknowledged, ledger.stored), (16, 16), "{ledger:?}");
    let mut again = Vec::new();
    for _ in 0..34 {
        let delivery = receive(&consumer).await;
        assert_eq!(delivery.attempt(), 2, "dropping it was a failed attempt, which is kept");
        again.push(delivery.position());
        delivery.ack().await.unwrap();
    }
    assert_eq!(again, (1..=50).filter(|position| position % 3 != 0).collect::<Vec<_>>());
    let ledger = consumer.ledger();
    assert_eq!((ledger.stored, ledger.acknowledged), (50, 50));
    assert!(ledger.adds_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_acknowledgements_are_kept_in_snapshots_and_the_journal_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let count = 40_000_u64;
    {
        let log = open(folder.path());
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        let emits = (0..count).map(|number| {
            let note = Wave::builder("notes.taken").text(number.to_string()).build().unwrap();
            shop.emit(note)
        });
        futures_util::future::try_join_all(emits).await.unwrap();
        let consumer = log.consumer("notes", "notes.>", ConsumerOptions::default()).unwrap();
        for number in 0..count {
            let delivery = receive(&consumer).await;
            // One wave is left behind, so all others are behind the floor.
            if number == 10 {
                std::mem::drop(delivery)
            } else {
                delivery.ack().await.unwrap()
            }
            if number == count / 2 {
                assert!(consumer.ledger().adds_up());
            }
        }
    }
    let journal = folder.path().join("consumers/notes");
    let bytes: u64 = fs::read_dir(journal).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 5 << 20, "{bytes}");
    let log = open(folder.path());
    let consumer = log.consumer("notes", "notes.>", ConsumerOptions::default()).unwrap();
    let delivery = receive(&consumer).await;
    assert!(delivery.attempt() <= 2);
    delivery.ack().await.unwrap();
    let ledger = consumer.ledger();
    assert_eq!((ledger.stored, ledger.acknowledged), (count, count), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_that_are_acknowledged_together_are_one_record_of_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 0..100 {
        let note = Wave::builder("notes.taken").text(number.to_string()).build().unwrap();
        shop.emit(note).await.unwrap();
    }
    let consumer = log.consumer("notes", "notes.>", ConsumerOptions::default()).unwrap();
    let mut open_ones = Vec::new();
    for _ in 0..100 {
        open_ones.push(receive(&consumer).await);
    }
    let files = files(&folder.path().join("consumers/notes"));
    let journal = files.iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
    let before = fs::read(journal).unwrap().len();
    Delivery::ack_all(open_ones).await.unwrap();
    assert_eq!((consumer.ledger().acknowledged, consumer.ledger().in_flight), (100, 0));
    drop((log, aether, shop, consumer));
    let mut written = fs::read(journal).unwrap();
    assert!((100..300).contains(&(written.len() - before)), "{} after {before}", written.len());
    let acknowledged = || {
        let log = open(folder.path());
        log.consumer("notes", "notes.>", ConsumerOptions::default()).unwrap().ledger().acknowledged
    };
    assert_eq!(acknowledged(), 100);
    *written.last_mut().unwrap() ^= 1;
    fs::write(journal, &written).unwrap();
    assert_eq!(acknowledged(), 0, "the record is not whole: all of them are delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_one_name_share_the_waves() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let consumer = aether.resonate_durable("orders.>", "billing").unwrap();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let delivery = receive(&consumer).await;
                    let number = text(&delivery);
                    delivery.ack().await.unwrap();
                    if number == "end" {
                        return mine;
                    }
                    mine.push(number);
                }
            })
        })
        .collect();
    for number in 0..400 {
        shop.emit(Wave::builder("orders.created").amplitude(0.9).text(number.to_string()).build().unwrap())
            .await
            .unwrap();
    }
    for _ in 0..4 {
        // Weaker, so it is delivered last.
        shop.emit(Wave::builder("orders.created").amplitude(0.1).text("end").build().unwrap()).await.unwrap();
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 400);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 400, "each wave went to one of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strong_wave_overtakes_a_backlog_of_weak_ones_within_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let note = |number: u64, amplitude| {
        shop.emit(Wave::builder("notes.taken").amplitude(amplitude).text(number.to_string()).build().unwrap())
    };
    futures_util::future::try_join_all((0..30_000).map(|number| note(number, 0.2))).await.unwrap();
    note(30_000, 0.9).await.unwrap();
    let consumer = log.consumer("notes", "notes.>", ConsumerOptions::default()).unwrap();
    let strong = receive(&consumer).await;
    assert_eq!(text(&strong), "30000");
    strong.ack().await.unwrap();
    assert_eq!(text(&receive(&consumer).await), "0");
    // Also one that is emitted while the backlog is worked off.
    note(30_001, 0.9).await.unwrap();
    assert_eq!(text(&receive(&consumer).await), "30001");
    let small = ConsumerOptions::default().window(NonZeroUsize::new(10).unwrap());
    let consumer = log.consumer("small", "notes.>", small).unwrap();
    assert_eq!(text(&receive(&consumer).await), "0", "beyond the window nothing is overtaken");
    assert!(consumer.ledger().adds_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_pattern_and_a_new_consumer_begins_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 0..10 {
        shop.emit(wave(number, 0.5)).await.unwrap();
    }
    let from = |name, start| log.consumer(name, "orders.>", ConsumerOptions::default().start(start)).unwrap();
    assert_eq!(text(&receive(&from("third", Start::Position(4))).await), "3");
    let new = from("new", Start::New);
    shop.emit(wave(10, 0.5)).await.unwrap();
    assert_eq!(text(&receive(&new).await), "10");
    let other = || log.consumer("new", "orders.created", ConsumerOptions::default());
    assert!(matches!(other(), Err(ConsumeError::OtherPattern { .. })));
    drop(new);
    assert!(matches!(other(), Err(ConsumeError::OtherPattern { .. })), "also when it is not open");
    for name in ["", "../billing", "a b", &"x".repeat(65)] {
        let refused = log.consumer(name, "orders.>", ConsumerOptions::default());
        assert!(matches!(refused, Err(ConsumeError::Name { .. })), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_that_the_log_drops_before_they_are_acknowledged_count_as_expired() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = Retention::default();
    rules.max_records = Some(10);
    let options = StoreOptions::default().segment_bytes(4096).unwrap().retention(rules);
    let log = Log::builder(folder.path()).channels("orders.>", Durability::Stored).unwrap();
    let log = log.options(options).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let emit = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
    };
    emit(0..5).await;
    let consumer = billing(&log);
    let deliveries = [receive(&consumer).await, receive(&consumer).await];
    // The contents of a wave that failed are not held: it is read again.
    deliveries.into_iter().for_each(|delivery| delivery.nack("later"));
    emit(5..400).await;
    assert!(log.extent().first > 300, "{:?}", log.extent());
    loop {
        let delivery = receive(&consumer).await;
        let number = text(&delivery);
        assert!(consumer.ledger().adds_up());
        delivery.ack().await.unwrap();
        if number == "399" {
            break;
        }
    }
    let ledger = consumer.ledger();
    assert!(ledger.adds_up() && ledger.waiting + ledger.in_flight == 0, "{ledger:?}");
    assert_eq!(ledger.expired, 2, "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_the_last_wave_of_each_key_and_expiry_removes_a_pattern() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::default().segment_bytes(4096).unwrap();
    let log = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().options(options);
    let log = log.open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 0..200_u64 {
        let wave = Wave::builder("state.lamp").key(&format!("lamp-{}", number % 5)).text(number.to_string());
        shop.emit(wave.build().unwrap()).await.unwrap();
        shop.emit(Wave::builder("notes").text("note").build().unwrap()).await.unwrap();
    }
    let done = log.compact(&Pattern::new("state.*").unwrap()).unwrap();
    assert!(done.removed > 150, "{done:?}");
    let rest = texts(&log);
    assert_eq!(rest.iter().filter(|text| *text == "note").count(), 200, "others stay");
    for number in 195..200 {
        assert!(rest.contains(&number.to_string()), "the last wave of each key stays");
    }
    let done = log.expire(&Pattern::new("notes").unwrap(), SystemTime::now()).unwrap();
    assert!(done.removed > 150, "{done:?}");
    assert!(texts(&log).iter().filter(|text| *text == "note").count() < 50);
}
