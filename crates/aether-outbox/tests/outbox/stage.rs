//! A store, a log and a bus, for the tests of this folder.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use aether_core::{Aether, Durability, Wave};
use aether_log::store::StoreOptions;
use aether_log::{Consumer, ConsumerOptions, Log, LogItem};
use aether_outbox::{Backend, Redb, Store};

pub(crate) fn open(folder: &Path) -> Store<Redb> {
    Store::builder("shop").open(folder.join("shop.redb")).unwrap()
}

#[cfg(feature = "sqlite")]
pub(crate) fn open_sqlite(folder: &Path) -> Store<aether_outbox::Sqlite> {
    Store::builder("shop").open_sqlite(folder.join("shop.sqlite")).unwrap()
}

pub(crate) fn open_log(folder: &Path) -> Log {
    open_log_of(folder, 64 << 20)
}

/// With segments of this size.
pub(crate) fn open_log_of(folder: &Path, segment_bytes: u64) -> Log {
    let options = StoreOptions::default().segment_bytes(segment_bytes).unwrap();
    let log = Log::builder(folder.join("log")).options(options);
    log.channels("orders.>", Durability::Synced).unwrap().open().unwrap()
}

pub(crate) async fn connect(log: &Log) -> Aether {
    log.connect(aether_core::AetherBuilder::new().url("local:")).await.unwrap()
}

pub(crate) fn billing(log: &Log) -> Consumer {
    let pauses = ConsumerOptions::default().pauses(Duration::from_millis(1), Duration::from_millis(4));
    // A slow machine may be killed more than five times while it bills one wave.
    let options = pauses.max_attempts(NonZeroU32::MAX);
    log.consumer("billing", "orders.>", options).unwrap()
}

pub(crate) fn order(number: u64) -> Wave {
    order_of(number, 1)
}

/// An order of at least `bytes` bytes.
pub(crate) fn order_of(number: u64, bytes: usize) -> Wave {
    let text = number.to_string();
    let rest = " ".repeat(bytes.saturating_sub(text.len()));
    Wave::builder("orders.created").text(text + &rest).build().unwrap()
}

pub(crate) fn number(wave: &Wave) -> u64 {
    wave.text().unwrap().trim_end().parse().unwrap()
}

/// Makes an order: counts it, and emits a wave with its number.
pub(crate) fn make_order<B: Backend>(store: &Store<B>) -> u64 {
    make_order_of(store, 1)
}

/// The same, with a wave of at least `bytes` bytes.
pub(crate) fn make_order_of<B: Backend>(store: &Store<B>, bytes: usize) -> u64 {
    let change = store.begin().unwrap();
    let made = change.table("made");
    let next = made.get("last").unwrap().unwrap_or(0_u64) + 1;
    made.insert("last", &next).unwrap();
    change.emit(order_of(next, bytes)).unwrap();
    change.commit().unwrap();
    next
}

/// The numbers of all waves in a log.
pub(crate) fn logged(log: &Log) -> Vec<u64> {
    let mut reader = log.read_from(0);
    let mut numbers = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{item:?}") };
        numbers.push(number(&stored.wave));
    }
    numbers
}

pub(crate) async fn within<T>(done: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(180), done).await.expect("within three minutes")
}

/// The bills of a service: how many orders, and the sum of their numbers.
pub(crate) fn billed<B: Backend>(store: &Store<B>) -> (u64, u64) {
    let change = store.begin().unwrap();
    change.table("billed").get("all").unwrap().unwrap_or_default()
}

/// Bills an order once, in one transaction.
pub(crate) async fn bill<B: Backend>(store: &Store<B>, wave: &Wave) -> bool {
    let (id, number) = (wave.id(), number(wave));
    let billed = store.once(&id, move |change| {
        let table = change.table("billed");
        let (count, sum) = table.get("all")?.unwrap_or((0_u64, 0_u64));
        table.insert("all", &(count + 1, sum + number))
    });
    billed.await.unwrap().is_some()
}
