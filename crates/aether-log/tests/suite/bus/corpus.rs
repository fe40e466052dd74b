//! Logs that earlier versions wrote: the waves, a consumer's position, a dead letter and a snapshot.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use aether_core::{Kind, Wave};
use aether_files::corpus;
use aether_log::{ConsumerOptions, LogItem, verify};

use crate::bus::stage::{connect, open, receive, text};

const STATE: &[u8] = b"stock after two orders";

fn order(number: u64) -> Wave {
    let order = Wave::builder("orders.created").kind(Kind::Command).key("17").metadata("tenant", "b\u{fc}ro");
    // Weaker than the one before, so that they are handled in this order.
    order.amplitude(0.9 - number as f32 / 10.0).text(number.to_string()).build().unwrap()
}

/// Three orders, of which the first is handled, the second is given up and the third is left.
#[tokio::main(flavor = "current_thread")]
async fn write(folder: &Path) {
    let log = open(folder);
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let once =
        ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let consumer = log.consumer("billing", "orders.>", once).unwrap();
    for number in 1..=3 {
        shop.emit(order(number)).await.unwrap();
        let delivery = receive(&consumer).await;
        match number {
            1 => delivery.ack().await.unwrap(),
            2 => delivery.nack("no ink"),
            _ => drop(delivery),
        }
    }
    log.snapshot("stock", 1, b"stock after an order").unwrap();
    log.snapshot("stock", 2, STATE).unwrap();
    aether.close().await.unwrap();
}

#[test]
fn a_log_of_each_version_is_read() {
    for (version, folder) in corpus::copies(env!("CARGO_MANIFEST_DIR"), write).unwrap() {
        read(&version, folder.path());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn read(version: &str, folder: &Path) {
    let verified = verify(folder, |_| {}).unwrap();
    assert!(verified.damaged.is_empty(), "{version}: {verified:?}");
    let log = open(folder);
    let mut reader = log.read_from(0);
    for number in 1..=3 {
        let Some(LogItem::Wave(stored)) = reader.next_item().unwrap() else { panic!("{version}: {number}") };
        let (wave, expected) = (&stored.wave, order(number));
        assert_eq!((stored.position, wave.source().name()), (number, "shop"), "{version}");
        assert_eq!(
            (wave.channel(), wave.kind(), wave.key()),
            (expected.channel(), Kind::Command, Some("17"))
        );
        assert_eq!((wave.payload(), wave.signal()), (expected.payload(), expected.signal()), "{version}");
        assert!(wave.metadata().iter().eq(expected.metadata().iter()), "{version}: {:?}", wave.metadata());
    }
    assert!(reader.next_item().unwrap().is_none(), "{version}");

    let numbers = log.dead().numbers();
    let letter = log.dead().show(numbers[0]).unwrap();
    assert_eq!((numbers.len(), letter.consumer.as_str(), letter.stored.position), (1, "billing", 2));
    assert_eq!((letter.stored.wave.text().unwrap(), letter.failed[0].error.as_str()), ("2", "no ink"));

    let (snapshot, mut since) = log.recover("stock").unwrap();
    assert_eq!(snapshot.map(|found| (found.position, found.bytes)), Some((2, STATE.to_vec())), "{version}");
    assert!(matches!(since.next_item().unwrap(), Some(LogItem::Wave(stored)) if stored.position == 3));

    let consumer = log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap();
    let next = receive(&consumer).await;
    assert_eq!(text(&next), "3", "{version}: only the last one was left");
    next.ack().await.unwrap();
    let ledger = consumer.ledger();
    assert!(ledger.adds_up(), "{version}: {ledger:?}");
}
