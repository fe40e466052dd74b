//! The durable log beside the disk itself and two embedded stores.
//!
//! `cargo xtask bench log`
//!
//! Emitting: 64 writers that each wait until their record of 128 bytes is synced. All get the same group commit: one thread
//! takes what waits, writes it and syncs it once. *disk* is a file that is appended and synced so, without anything else.
//! *bus* is `emit` on a durable channel, with the stamp, the frame and a task that waits.
//!
//! Replay: 1,000,000 records that are read in order. For Aether each is decoded into a wave; the stores give bytes.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aether_core::{Channel, Durability, Wave};
use aether_log::{Log, LogItem};
use bytes::Bytes;
use fjall::{Database as Fjall, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Database as Redb, ReadableDatabase as _, ReadableTable as _, TableDefinition};

const WRITERS: usize = 64;
const BYTES: usize = 128;
const FOR: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const WAVES: u64 = 1_000_000;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const CHANNEL: &str = "orders.created";

/// A store that writes and syncs records in a group.
trait Grouped: Send {
    fn write(&mut self, first: u64, records: &[Bytes], sync: bool);
}

struct Disk(File);

impl Grouped for Disk {
    fn write(&mut self, _: u64, records: &[Bytes], sync: bool) {
        self.0.write_all(&records.concat()).unwrap();
        if sync {
            self.0.sync_data().unwrap();
        }
    }
}

impl Grouped for Redb {
    fn write(&mut self, first: u64, records: &[Bytes], _: bool) {
        let transaction = self.begin_write().unwrap();
        let mut table = transaction.open_table(TABLE).unwrap();
        for (position, record) in (first..).zip(records) {
            table.insert(position, &**record).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
    }
}

struct Lsm(Fjall, Keyspace);

impl Lsm {
    fn open(folder: &Path) -> Self {
        let database = Fjall::builder(folder).open().unwrap();
        let entries = database.keyspace("log", KeyspaceCreateOptions::default).unwrap();
        Self(database, entries)
    }
}

impl Grouped for Lsm {
    fn write(&mut self, first: u64, records: &[Bytes], sync: bool) {
        let mut batch = self.0.batch();
        for (position, record) in (first..).zip(records) {
            batch.insert(&self.1, position.to_be_bytes(), &**record);
        }
        batch.commit().unwrap();
        if sync {
            self.0.persist(PersistMode::SyncData).unwrap();
        }
    }
}

/// Records a second that 64 threads get synced.
fn grouped(mut store: impl Grouped) -> f64 {
    let (sender, waiting) = mpsc::channel::<(Bytes, mpsc::SyncSender<()>)>();
    let start = Instant::now();
    let mut written = 0;
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            let sender = sender.clone();
            scope.spawn(move || {
                let (done, synced) = mpsc::sync_channel(1);
                while start.elapsed() < FOR {
                    sender.send((Bytes::from(vec![7; BYTES]), done.clone())).unwrap();
                    synced.recv().unwrap();
                }
            });
        }
        drop(sender);
        while let Ok(first) = waiting.recv() {
            let (records, done): (Vec<_>, Vec<_>) = std::iter::once(first).chain(waiting.try_iter()).unzip();
            store.write(written, &records, true);
            written += records.len() as u64;
            done.iter().for_each(|done| done.send(()).unwrap());
        }
    });
    written as f64 / start.elapsed().as_secs_f64()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Emits a second of 64 tasks.
fn bus(folder: &Path, durability: Durability) -> f64 {
    let runtime = runtime();
    let log = Log::builder(folder).channels("orders.>", durability).unwrap().open().unwrap();
    let aether = runtime.block_on(log.connect(aether::builder())).unwrap();
    let start = Instant::now();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            let shop = aether.emitter("shop").unwrap();
            runtime.spawn(async move {
                let (mut emitted, channel) = (0_u64, Channel::new(CHANNEL).unwrap());
                while start.elapsed() < FOR {
                    let receipt =
                        shop.emit(Wave::from_bytes(&channel, vec![7; BYTES]).unwrap()).await.unwrap();
                    assert_eq!(receipt.stored.unwrap().durability, durability);
                    emitted += 1;
                }
                emitted
            })
        })
        .collect();
    let emitted: u64 = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).sum();
    let rate = emitted as f64 / start.elapsed().as_secs_f64();
    assert_eq!(log.extent().last, emitted);
    rate
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let fresh = || {
        tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap()
    };
    let mut rates = [Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    // In turns, so that a change of the machine meets all.
    for _ in 0..ROUNDS {
        let folder = fresh();
        rates[0].push(grouped(Disk(File::create(folder.path().join("file")).unwrap())));
        let folder = fresh();
        rates[1].push(bus(folder.path(), Durability::Synced));
        let folder = fresh();
        rates[2].push(bus(folder.path(), Durability::Stored));
        let folder = fresh();
        rates[3].push(grouped(Redb::create(folder.path().join("store")).unwrap()));
        let folder = fresh();
        rates[4].push(grouped(Lsm::open(folder.path())));
    }
    let [disk, synced, stored, redb, fjall] = rates.map(median);
    println!("| {WRITERS} writers, {BYTES} bytes | a second | of the disk |");
    println!("|---|---|---|");
    let names = ["disk", "bus, Synced", "bus, Stored", "redb", "fjall"];
    for (name, rate) in names.into_iter().zip([disk, synced, stored, redb, fjall]) {
        println!("| {name} | {rate:.0} | {:.2} |", rate / disk);
    }
    let reached = |is_reached| if is_reached { "reached" } else { "missed" };
    let share = synced >= 20_000.0 || synced >= 0.8 * disk;
    println!("\nGoal: 20,000 Synced emits a second, or 0.8 of the disk: {}", reached(share));
    println!("\n| {WAVES} records | opened in | replayed a second | bytes |\n|---|---|---|---|");
    let (opened, replayed) = replay_log(fresh().path());
    replay_redb(fresh().path());
    replay_fjall(fresh().path());
    println!("\nGoal: 1,000,000 waves replayed a second: {}", reached(WAVES as f64 / replayed >= 1e6));
    println!("Goal: opened within a second: {}", reached(opened < 1.0));
}

fn row(name: &str, opened: f64, replayed: f64, folder: &Path) {
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes: u64 = files.map(|file| size(&file.path())).sum();
    println!("| {name} | {:.0} ms | {:.0} | {bytes} |", opened * 1e3, WAVES as f64 / replayed);
}

fn size(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(files) => files.map(|file| size(&file.unwrap().path())).sum(),
        Err(_) => std::fs::metadata(path).unwrap().len(),
    }
}

/// Returns the seconds of opening and of replaying.
fn replay_log(folder: &Path) -> (f64, f64) {
    let runtime = runtime();
    let open = || Log::builder(folder).channels("orders.>", Durability::Stored).unwrap().open().unwrap();
    let log = open();
    let aether = runtime.block_on(log.connect(aether::builder())).unwrap();
    let shop = aether.emitter("shop").unwrap();
    let channel = Channel::new(CHANNEL).unwrap();
    runtime.block_on(async {
        for _ in 0..WAVES / 1000 {
            let emits = (0..1000).map(|_| shop.emit(Wave::from_bytes(&channel, vec![7; BYTES]).unwrap()));
            futures_util::future::try_join_all(emits).await.unwrap();
        }
    });
    drop((log, aether, shop));
    let measure = || {
        let start = Instant::now();
        let log = open();
        let opened = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let (mut reader, mut waves, mut bytes) = (log.read_from(0), 0, 0);
        while let Some(item) = reader.next_item().unwrap() {
            let LogItem::Wave(stored) = item else { panic!("{item:?}") };
            waves += 1;
            bytes += stored.wave.payload().len();
        }
        assert_eq!((waves, bytes as u64), (WAVES, WAVES * BYTES as u64));
        (opened, start.elapsed().as_secs_f64())
    };
    let (opened, replayed): (Vec<_>, Vec<_>) = (0..5).map(|_| measure()).unzip();
    let (opened, replayed) = (median(opened), median(replayed));
    row("aether-log, waves", opened, replayed, folder);
    (opened, replayed)
}

fn fill(store: &mut impl Grouped) {
    let records: Vec<_> = (0..1000).map(|_| Bytes::from(vec![7; BYTES])).collect();
    (0..WAVES).step_by(1000).for_each(|first| store.write(first, &records, false));
}

fn replay_redb(folder: &Path) {
    let path = folder.join("store");
    fill(&mut Redb::create(&path).unwrap());
    let measure = || {
        let start = Instant::now();
        let store = Redb::create(&path).unwrap();
        let opened = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let transaction = store.begin_read().unwrap();
        let rows = transaction.open_table(TABLE).unwrap();
        let bytes: usize = rows.iter().unwrap().map(|row| row.unwrap().1.value().len()).sum();
        assert_eq!(bytes as u64, WAVES * BYTES as u64);
        (opened, start.elapsed().as_secs_f64())
    };
    let (opened, replayed): (Vec<_>, Vec<_>) = (0..5).map(|_| measure()).unzip();
    row("redb, bytes, no check", median(opened), median(replayed), folder);
}

fn replay_fjall(folder: &Path) {
    let mut store = Lsm::open(folder);
    fill(&mut store);
    store.0.persist(PersistMode::SyncAll).unwrap();
    drop(store);
    let measure = || {
        let start = Instant::now();
        let store = Lsm::open(folder);
        let opened = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let bytes: usize = store.1.iter().map(|row| row.into_inner().unwrap().1.len()).sum();
        assert_eq!(bytes as u64, WAVES * BYTES as u64);
        (opened, start.elapsed().as_secs_f64())
    };
    let (opened, replayed): (Vec<_>, Vec<_>) = (0..5).map(|_| measure()).unzip();
    row("fjall, bytes", median(opened), median(replayed), folder);
}
