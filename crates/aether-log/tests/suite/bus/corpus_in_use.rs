//! Logs that earlier versions wrote and that were in use for a while: several segments, of which the first were dropped and
//! others rewritten, a consumer with failures, letters of which one is gone, and snapshots.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use aether_core::{Durability, Pattern, Wave};
use aether_files::corpus;
use aether_log::store::{Retention, StoreOptions};
use aether_log::{Consumer, ConsumerOptions, Log, LogBuilder, LogItem, verify};

use crate::bus::stage::{connect, receive, text};

/// Below it is a folder for each version.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/bus/in_use");
/// The number of waves; each tenth is a state.
const WAVES: u64 = 120;
/// The number of waves that each consumer has done.
const DONE: u64 = 20;

fn log(folder: &Path) -> LogBuilder {
    let mut rules = Retention::default();
    rules.max_records = Some(80);
    let options = StoreOptions::default().segment_bytes(4096).unwrap().retention(rules);
    Log::builder(folder).channels(">", Durability::Stored).unwrap().options(options)
}

fn wave(number: u64) -> Wave {
    let wave = match number % 10 {
        0 => Wave::builder("state.lamp").key("17"),
        _ => Wave::builder("orders.created").metadata("tenant", "b\u{fc}ro"),
    };
    wave.amplitude(0.5).text(format!("{number} of many orders")).build().unwrap()
}

/// A failed wave of `billing` waits for an hour; one of `audit` is given up.
fn consumers(log: &Log) -> (Consumer, Consumer) {
    let consumer = |name: &str, attempts, pause| {
        let options = ConsumerOptions::default().pauses(pause, pause);
        let options = options.max_attempts(NonZeroU32::new(attempts).unwrap());
        log.consumer(name, "orders.>", options).unwrap()
    };
    (consumer("billing", 2, Duration::from_secs(3600)), consumer("audit", 1, Duration::ZERO))
}

#[tokio::main(flavor = "current_thread")]
async fn write(folder: &Path) {
    let log = log(folder).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 1..=WAVES {
        shop.emit(wave(number)).await.unwrap();
    }
    assert!(log.compact(&Pattern::new("state.*").unwrap()).unwrap().removed > 0);
    let (billing, audit) = consumers(&log);
    for number in 1..=DONE {
        // Each fifth wave fails once for one of them, and is given up by the other.
        for (consumer, fails) in [(&billing, number % 5 == 0), (&audit, number % 10 == 0)] {
            let delivery = receive(consumer).await;
            if fails { delivery.nack("no ink") } else { delivery.ack().await.unwrap() }
        }
    }
    // A wave is given up when the next one is asked for.
    receive(&audit).await.ack().await.unwrap();
    let letters = log.dead().numbers();
    assert_eq!(letters.len(), 2);
    log.dead().drop_letter(letters[0]).await.unwrap();
    let first = log.extent().first;
    log.snapshot("stock", first, b"before").unwrap();
    log.snapshot("stock", first + 10, b"stock").unwrap();
    log.snapshot("till", first + 20, b"till").unwrap();
    aether.close().await.unwrap();
}

#[test]
fn a_log_in_use_of_each_version_is_read() {
    for (version, folder) in corpus::copies(FOLDER, write).unwrap() {
        read(&version, folder.path());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn read(version: &str, folder: &Path) {
    let verified = verify(folder, |_| {}).unwrap();
    assert!(verified.damaged.is_empty() && verified.torn.is_none(), "{version}: {verified:?}");
    assert!(verified.segments > 3, "{version}: {verified:?}");
    let log = log(folder).open().unwrap();
    let first = log.extent().first;
    assert!(first > 1 && log.extent().last == WAVES, "{version}: {:?}", log.extent());
    let (mut reader, mut orders, mut states) = (log.read_from(0), Vec::new(), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{version}: {item:?}") };
        let expected = wave(stored.position);
        assert_eq!((stored.wave.channel(), stored.wave.key()), (expected.channel(), expected.key()));
        assert_eq!((stored.wave.payload(), stored.wave.signal()), (expected.payload(), expected.signal()));
        assert!(stored.wave.metadata().iter().eq(expected.metadata().iter()), "{version}");
        if stored.position % 10 == 0 { &mut states } else { &mut orders }.push(stored.position);
    }
    assert_eq!(orders, (first..=WAVES).filter(|number| number % 10 != 0).collect::<Vec<_>>(), "{version}");
    assert!(states.len() < 4 && states.last() == Some(&WAVES), "{version}: {states:?}");

    let letters = log.dead().numbers();
    assert_eq!(letters.len(), 1, "{version}");
    let letter = log.dead().show(letters[0]).unwrap();
    assert_eq!((letter.consumer.as_str(), letter.attempts), ("audit", 1), "{version}");
    assert_eq!(letter.stored.position, orders[DONE as usize - 1], "{version}");
    assert_eq!(letter.failed[0].error, "no ink", "{version}");

    for (name, position, bytes) in [("stock", first + 10, "stock"), ("till", first + 20, "till")] {
        let snapshot = log.recover(name).unwrap().0.unwrap();
        assert_eq!((snapshot.position, snapshot.bytes.as_slice()), (position, bytes.as_bytes()), "{version}");
    }

    let (billing, audit) = consumers(&log);
    for index in [5, 10, 15, 20] {
        let delivery = receive(&billing).await;
        assert_eq!(delivery.attempt(), 2, "{version}: the failure was noted");
        assert_eq!(text(&delivery), wave(orders[index - 1]).text().unwrap(), "{version}");
        delivery.ack().await.unwrap();
    }
    for (consumer, done) in [(billing, DONE), (audit, DONE + 1)] {
        let delivery = receive(&consumer).await;
        let next = wave(orders[done as usize]);
        assert_eq!(text(&delivery), next.text().unwrap(), "{version}: all before it was handled");
        delivery.ack().await.unwrap();
        assert_eq!(consumer.ledger().acknowledged + consumer.ledger().dead, done + 1, "{version}");
        assert!(consumer.ledger().adds_up(), "{version}: {:?}", consumer.ledger());
    }
}
