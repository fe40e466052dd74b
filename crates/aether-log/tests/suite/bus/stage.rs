//! A log and a bus, for the tests of this folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_core::{Aether, Durability, Receipt, Wave};
use aether_log::{Consumer, ConsumerOptions, Delivery, Log, LogItem};

pub(crate) fn open(folder: &Path) -> Log {
    let log = Log::builder(folder).channels("orders.>", Durability::Synced).unwrap();
    log.channels("notes.>", Durability::Stored).unwrap().open().unwrap()
}

pub(crate) async fn connect(log: &Log) -> Aether {
    log.connect(aether::builder().url("local:")).await.unwrap()
}

pub(crate) fn wave(number: u64, amplitude: f32) -> Wave {
    Wave::builder("orders.created").amplitude(amplitude).text(number.to_string()).build().unwrap()
}

pub(crate) fn position(receipt: &Receipt) -> u64 {
    receipt.stored.unwrap().position.get()
}

pub(crate) fn billing(log: &Log) -> Consumer {
    let pauses = ConsumerOptions::default().pauses(Duration::from_millis(1), Duration::from_millis(4));
    log.consumer("billing", "orders.>", pauses).unwrap()
}

pub(crate) async fn receive(consumer: &Consumer) -> Delivery {
    let within = tokio::time::timeout(Duration::from_secs(180), consumer.receive());
    within.await.expect("a wave within three minutes").unwrap()
}

pub(crate) fn text(delivery: &Delivery) -> String {
    delivery.wave().text().unwrap().to_owned()
}

/// The texts of all waves in a log.
pub(crate) fn texts(log: &Log) -> Vec<String> {
    let mut reader = log.read_from(0);
    let mut texts = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{item:?}") };
        texts.push(stored.wave.text().unwrap().to_owned());
    }
    texts
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}
