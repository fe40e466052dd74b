//! Appending and reading, for the tests of this folder.

use std::sync::mpsc;

use aether_core::Durability;
use aether_log::store::{AppendError, Cursor, Damage, Entry, Item, OpenError, Record, Store, StoreOptions};

pub(crate) fn open(folder: &std::path::Path, options: StoreOptions) -> Result<Store, OpenError> {
    Store::open(folder, options, 0)
}

pub(crate) fn small() -> StoreOptions {
    StoreOptions::default().segment_bytes(4096).unwrap()
}

pub(crate) fn entry(number: u64) -> Entry {
    let body = format!("{number}:{}", "lamp ".repeat(20)).into_bytes().into();
    Entry { kind: 1, level: 4, id: u128::from(number) << 64 | 1, name: "orders.created".to_owned(), body }
}

/// Appends a record and waits until it is synced.
pub(crate) fn append(store: &Store, entry: Entry) -> Result<u64, AppendError> {
    let (done, position) = mpsc::channel();
    store.append(entry, Durability::Synced, Box::new(move |result| done.send(result).unwrap()))?;
    position.recv().unwrap().map(|appended| appended.position)
}

pub(crate) fn read(mut cursor: Cursor) -> (Vec<Record>, Vec<Damage>) {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    while let Some(item) = cursor.next_item().unwrap() {
        match item {
            Item::Record(record) => records.push(record),
            Item::Damaged(damage) => damaged.push(damage),
            other => panic!("{other:?}"),
        }
    }
    (records, damaged)
}

pub(crate) fn positions(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.position).collect()
}

/// The segments of a log, in order.
pub(crate) fn segments(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    files.sort();
    files
}
