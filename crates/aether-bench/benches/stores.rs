//! Embedded stores for replicas of a field: redb, which the field uses, beside fjall.
//!
//! `cargo xtask bench stores`
//!
//! Both get the same records and the same group commit: 64 threads wait for each of their writes, and one thread syncs
//! what waits in one transaction. Damage is tried on copies: the end cut off, and one byte changed at a random place.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use fjall::{Database as Fjall, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Database as Redb, ReadableDatabase as _, ReadableTable as _, TableDefinition};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

const REGISTERS: u32 = 100_000;
const WRITERS: u32 = 64;
const EACH: u32 = 300;
/// The number of copies that are damaged in each way.
const DAMAGED: usize = 100;

trait Store: Sized + Send {
    const NAME: &str;
    fn open(folder: &Path) -> Fallible<Self>;
    /// Writes and syncs.
    fn write(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> Fallible<()>;
    /// Reads until the end or an error.
    fn read(&self, each: impl FnMut(&[u8], &[u8])) -> Fallible<()>;
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

impl Store for Redb {
    const NAME: &str = "redb";

    fn open(folder: &Path) -> Fallible<Self> {
        let mut builder = Redb::builder();
        builder.set_cache_size(16 << 20).set_check_integrity_on_open(true);
        Ok(builder.create(folder.join("store"))?)
    }

    fn write(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> Fallible<()> {
        let transaction = self.begin_write()?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in records {
            table.insert(&**key, &**value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn read(&self, mut each: impl FnMut(&[u8], &[u8])) -> Fallible<()> {
        for row in self.begin_read()?.open_table(TABLE)?.iter()? {
            let (key, value) = row?;
            each(key.value(), value.value());
        }
        Ok(())
    }
}

struct Lsm {
    database: Fjall,
    entries: Keyspace,
}

impl Store for Lsm {
    const NAME: &str = "fjall";

    fn open(folder: &Path) -> Fallible<Self> {
        let database = Fjall::builder(folder).cache_size(16 << 20).open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        Ok(Self { database, entries })
    }

    fn write(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> Fallible<()> {
        let mut batch = self.database.batch();
        for (key, value) in records {
            batch.insert(&self.entries, &**key, &**value);
        }
        batch.commit()?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn read(&self, mut each: impl FnMut(&[u8], &[u8])) -> Fallible<()> {
        for row in self.entries.iter() {
            let (key, value) = row.into_inner()?;
            each(&key, &value);
        }
        Ok(())
    }
}

fn main() {
    println!(
        "| store | {WRITERS} writers, durable | replay of {REGISTERS} | size | cut off at a random place | one byte changed |"
    );
    println!("|---|---|---|---|---|---|");
    run::<Redb>();
    run::<Lsm>();
}

fn run<S: Store>() {
    let folder = tempfile::tempdir().unwrap();
    let rate = grouped::<S>(&folder.path().join("grouped"));
    let full = folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    let records: Vec<_> = (0..REGISTERS).map(record).collect();
    let mut store = S::open(&full).unwrap();
    records.chunks(1000).for_each(|chunk| store.write(chunk).unwrap());
    drop(store);
    let copy = tempfile::tempdir().unwrap();
    let size = copy_all(&full, copy.path()).iter().map(|(_, bytes)| bytes).sum::<u64>();
    let mut times: Vec<_> = (0..5).map(|_| replay::<S>(&full)).collect();
    times.sort_by(f64::total_cmp);
    let records: Records = records.into_iter().collect();
    // A copy without damage must have everything, else the others say nothing.
    assert_eq!(damaged::<S>(&full, &records, |_| {}).nothing, DAMAGED);
    let cut = damaged::<S>(&full, &records, |file| {
        file.truncate(fastrand::usize(..file.len()));
    });
    let changed = damaged::<S>(&full, &records, |file| {
        let at = fastrand::usize(..file.len());
        file[at] ^= 1 << fastrand::u8(..8);
    });
    println!(
        "| {} | {rate:.0} a second | {:.0} ms, {:.0} a second | {} KiB | {cut} | {changed} |",
        S::NAME,
        times[2] * 1e3,
        f64::from(REGISTERS) / times[2],
        size / 1024
    );
}

/// A key and a value of the size of a small register.
fn record(n: u32) -> (Vec<u8>, Vec<u8>) {
    (format!("room/{}/lamp/{n}", n % 100).into_bytes(), n.to_string().repeat(12).into_bytes())
}

fn grouped<S: Store>(folder: &Path) -> f64 {
    std::fs::create_dir(folder).unwrap();
    let mut store = S::open(folder).unwrap();
    let (sender, waiting) = mpsc::channel::<((Vec<u8>, Vec<u8>), mpsc::SyncSender<()>)>();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let sender = sender.clone();
            scope.spawn(move || {
                let (done, synced) = mpsc::sync_channel(1);
                for n in 0..EACH {
                    sender.send((record(writer * EACH + n), done.clone())).unwrap();
                    synced.recv().unwrap();
                }
            });
        }
        drop(sender);
        while let Ok(first) = waiting.recv() {
            let (records, done): (Vec<_>, Vec<_>) = std::iter::once(first).chain(waiting.try_iter()).unzip();
            store.write(&records).unwrap();
            done.iter().for_each(|done| done.send(()).unwrap());
        }
    });
    f64::from(WRITERS * EACH) / start.elapsed().as_secs_f64()
}

fn replay<S: Store>(folder: &Path) -> f64 {
    let start = Instant::now();
    let store = S::open(folder).unwrap();
    let mut count = 0;
    store.read(|_, _| count += 1).unwrap();
    assert_eq!(count, REGISTERS);
    start.elapsed().as_secs_f64()
}

#[derive(Default)]
struct Outcome {
    nothing: usize,
    detected: usize,
    readable: usize,
    panicked: usize,
    undetected: usize,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { nothing, detected, readable, panicked, undetected } = self;
        let share = readable.checked_div(*detected).unwrap_or(0) * 100 / REGISTERS as usize;
        write!(
            f,
            "{nothing} without effect, {detected} detected ({share} % of the registers readable then), \
             {undetected} undetected, {panicked} panics"
        )
    }
}

/// Damages copies, each in one file, which is drawn by size.
fn damaged<S: Store>(full: &Path, records: &Records, damage: impl Fn(&mut Vec<u8>)) -> Outcome {
    let mut outcome = Outcome::default();
    std::panic::set_hook(Box::new(|_| {}));
    for _ in 0..DAMAGED {
        let copy = tempfile::tempdir().unwrap();
        let all = copy_all(full, copy.path());
        let mut place = fastrand::u64(..all.iter().map(|(_, bytes)| *bytes).sum::<u64>());
        let mut all = all.iter();
        let hit = loop {
            let (file, bytes) = all.next().unwrap();
            match place.checked_sub(*bytes) {
                Some(rest) => place = rest,
                None => break file,
            }
        };
        let mut bytes = std::fs::read(hit).unwrap();
        damage(&mut bytes);
        std::fs::write(hit, bytes).unwrap();
        let (mut right, mut wrong) = (0, 0);
        let read = catch_unwind(AssertUnwindSafe(|| {
            S::open(copy.path())?.read(|key, value| {
                match records.get(key).is_some_and(|known| known == value) {
                    true => right += 1,
                    false => wrong += 1,
                }
            })
        }));
        match read {
            Err(_) => outcome.panicked += 1,
            Ok(_) if wrong > 0 => outcome.undetected += 1,
            Ok(Ok(())) if right == records.len() => outcome.nothing += 1,
            Ok(Ok(())) => outcome.undetected += 1,
            Ok(Err(_)) => {
                outcome.detected += 1;
                outcome.readable += right;
            }
        }
    }
    let _ = std::panic::take_hook();
    outcome
}

/// Copies a folder. Returns the files of the copy that are not empty, and their sizes.
fn copy_all(from: &Path, to: &Path) -> Vec<(PathBuf, u64)> {
    std::fs::create_dir_all(to).unwrap();
    let mut copied = Vec::new();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copied.extend(copy_all(&path, &to)),
            false => copied.push((to.clone(), std::fs::copy(path, to).unwrap())),
        }
    }
    copied.retain(|(_, bytes)| *bytes > 0);
    copied
}
