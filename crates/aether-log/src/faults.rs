//! A log on a machine that fails: a sync that is refused, a disk that fills up in the middle of a group, a clock that
//! goes back.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aether_core::clock::micros_since_1970;
use aether_core::{Durability, EmitError, Emitter, Wave};
use aether_files::disk::Disk;

use crate::store::{AppendError, System, verify};
use crate::{Log, LogItem, StoredWave};

/// Works until it is made to fail.
#[derive(Debug)]
struct Faulty {
    fails_to_sync: AtomicBool,
    /// The bytes that may still be written.
    room: AtomicU64,
    syncs: AtomicU64,
}

impl Faulty {
    fn new() -> Arc<Self> {
        let (fails_to_sync, room) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        Arc::new(Self { fails_to_sync, room, syncs: AtomicU64::new(0) })
    }
}

/// The clock of the test that sets it; 0 is the clock of the machine.
static MICROS: AtomicU64 = AtomicU64::new(0);

fn set_micros() -> u64 {
    match MICROS.load(Ordering::Relaxed) {
        0 => micros_since_1970(),
        micros => micros,
    }
}

fn system(disk: &Arc<Faulty>) -> System {
    System { disk: Arc::clone(disk) as _, micros: micros_since_1970 }
}

impl Disk for Faulty {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.load(Ordering::Relaxed);
        let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = file.write(&bytes[..taken])?;
        if room != u64::MAX {
            self.room.store(room - written as u64, Ordering::Relaxed);
        }
        Ok(written)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.fails_to_sync.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the disk does not answer")),
            false => file.sync_data(),
        }
    }
}

fn open(folder: &Path, disk: &Arc<Faulty>) -> Log {
    let log = Log::builder(folder).channels("orders.>", Durability::Synced).unwrap();
    log.channels("notes.>", Durability::Stored).unwrap().on(system(disk)).open().unwrap()
}

/// The only segment.
fn segment(folder: &Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.find(|path| path.extension().is_some_and(|end| end == "log")).unwrap()
}

async fn shop(log: &Log) -> Emitter {
    log.connect(aether_core::AetherBuilder::new().url("local:")).await.unwrap().emitter("shop").unwrap()
}

fn wave(channel: &str, number: u64) -> Wave {
    Wave::builder(channel).text(number.to_string()).build().unwrap()
}

fn kept(log: &Log) -> Vec<StoredWave> {
    let (mut reader, mut waves) = (log.read_from(0), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{item:?}") };
        waves.push(*stored);
    }
    waves
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_accepted_until_the_log_is_opened_again_and_nothing_acknowledged_is_lost()
 {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Faulty::new());
    {
        let log = open(folder.path(), &disk);
        let shop = shop(&log).await;
        for number in 1..=5 {
            shop.emit(wave("orders.created", number)).await.unwrap();
        }
        log.ready().unwrap();
        disk.fails_to_sync.store(true, Ordering::Relaxed);
        let refused = shop.emit(wave("orders.created", 6)).await.unwrap_err();
        let EmitError::NotStored(error) = &refused else { panic!("{refused:?}") };
        assert!(!error.is_transient, "a second sync would prove nothing");
        assert!(error.source.to_string().contains("could not be synced"), "{}", error.source);
        assert_eq!(refused.into_wave().unwrap().text().unwrap(), "6");
        assert!(matches!(log.ready(), Err(AppendError::Failed { .. })), "readiness gives the reason");
        assert_eq!(kept(&log).len(), 5, "nobody acts on a wave that may not be there");
        // The disk works again, and still nobody knows what it has.
        disk.fails_to_sync.store(false, Ordering::Relaxed);
        for channel in ["orders.created", "notes.taken"] {
            assert!(shop.emit(wave(channel, 7)).await.is_err());
        }
        assert!(log.ready().is_err());
    }
    // The system may report that it has the sixth, and not have it: the file is rewritten.
    let number = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(segment(folder.path())).unwrap());
    let before = number();
    let log = open(folder.path(), &disk);
    assert_ne!(number(), before);
    log.ready().unwrap();
    let shop = shop(&log).await;
    shop.emit(wave("orders.created", 8)).await.unwrap();
    let texts: Vec<_> = kept(&log).iter().map(|stored| stored.wave.text().unwrap().to_owned()).collect();
    // The sixth was written, and its emitter was told that nobody knows.
    assert_eq!(texts, ["1", "2", "3", "4", "5", "6", "8"]);
    drop((shop, log));
    let before = number();
    drop(open(folder.path(), &disk));
    assert_eq!(number(), before, "once is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_at_the_end_of_a_segment_fails_the_log() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Faulty::new());
    let options = crate::store::StoreOptions::default().segment_bytes(4096).unwrap();
    let log = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().options(options);
    let log = log.on(system(&disk)).open().unwrap();
    let shop = shop(&log).await;
    disk.fails_to_sync.store(true, Ordering::Relaxed);
    let mut stored = 0;
    let refused = loop {
        match shop.emit(wave("notes.taken", stored)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(stored > 10 && !refused.is_transient(), "{refused:?}");
    assert!(matches!(log.ready(), Err(AppendError::Failed { .. })));
    assert_eq!(kept(&log).len() as u64, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waves_of_a_batch_share_a_few_syncs() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Faulty::new());
    let log = open(folder.path(), &disk);
    let shop = shop(&log).await;
    let before = disk.syncs.load(Ordering::Relaxed);
    // Made before, because a batch ends when making its waves takes some milliseconds.
    let waves: Vec<_> = (0..1000).map(|number| wave("orders.created", number)).collect();
    let receipt = shop.emit_all(waves).await.unwrap();
    assert_eq!(receipt.stored.unwrap().waves, 1000);
    // One, unless the machine does something else for so long that a batch ends before.
    let syncs = disk.syncs.load(Ordering::Relaxed) - before;
    assert!((1..=20).contains(&syncs), "{syncs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_that_does_not_fit_the_whole_records_stay_and_the_others_are_handed_back() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Faulty::new());
    let log = open(folder.path(), &disk);
    let shop = shop(&log).await;
    shop.emit(wave("orders.created", 0)).await.unwrap();
    let size = log.extent().bytes;
    shop.emit(wave("orders.created", 1)).await.unwrap();
    let size = log.extent().bytes - size;
    // Room for three and a half of ten.
    disk.room.store(size * 7 / 2, Ordering::Relaxed);
    let error = shop.emit_all((2..12).map(|number| wave("orders.created", number))).await.unwrap_err();
    let stored = error.stored.unwrap();
    assert_eq!((error.emitted, stored.first.get(), stored.last.get()), (3, 3, 5), "{error:?}");
    let back: Vec<_> = error.into_waves().map(|wave| wave.text().unwrap().to_owned()).collect();
    assert_eq!(back, (5..12).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(kept(&log).len(), 5);
    assert!(matches!(log.ready(), Err(AppendError::Write { .. })), "not ready while the disk is full");
    let still = shop.emit(wave("orders.created", 5)).await.unwrap_err();
    assert!(still.is_transient());
    // The log finds out by itself that there is room, because somebody asks.
    disk.room.store(u64::MAX, Ordering::Relaxed);
    let ready = async {
        while log.ready().is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(180), ready).await.unwrap();
    let receipt = shop.emit(wave("orders.created", 5)).await.unwrap();
    assert_eq!(
        (receipt.stored.unwrap().position.get(), receipt.sequence),
        (6, 6),
        "no position and no number is lost"
    );
    let verified = verify(folder.path()).unwrap();
    assert_eq!((verified.records, verified.damaged.len(), verified.torn), (6, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn times_stand_still_while_the_clock_is_behind_and_nothing_is_dropped_or_out_of_order() {
    const HOUR: u64 = 3_600_000_000;
    let folder = tempfile::tempdir().unwrap();
    let start = micros_since_1970();
    let max_age = Some(std::time::Duration::from_secs(2 * 3600));
    let rules = crate::store::Retention { max_age, ..Default::default() };
    let options = crate::store::StoreOptions::default().segment_bytes(4096).unwrap().retention(rules);
    let builder = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().options(options);
    let builder = builder.on(System { micros: set_micros, ..System::current() });
    let set = |micros: u64| MICROS.store(micros, Ordering::Relaxed);
    set(start);
    {
        let log = builder.clone().open().unwrap();
        let shop = shop(&log).await;
        for number in 0..50 {
            shop.emit(wave("notes.taken", number)).await.unwrap();
        }
        set(start - HOUR);
        for number in 50..100 {
            shop.emit(wave("notes.taken", number)).await.unwrap();
        }
        set(0);
        assert_eq!(kept(&log).len(), 100);
    }
    // Also when the clock is behind the log from the start.
    set(start - HOUR);
    let log = builder.open().unwrap();
    let shop = shop(&log).await;
    for number in 100..150 {
        shop.emit(wave("notes.taken", number)).await.unwrap();
    }
    set(start + HOUR);
    shop.emit(wave("notes.taken", 150)).await.unwrap();
    let waves = kept(&log);
    let texts: Vec<_> = waves.iter().map(|stored| stored.wave.text().unwrap().to_owned()).collect();
    assert_eq!(texts, (0..=150).map(|number| number.to_string()).collect::<Vec<_>>());
    let micros = |stored: &StoredWave| {
        let since = stored.at.duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(since.as_micros()).unwrap()
    };
    assert!(waves[..150].iter().all(|stored| micros(stored) == start), "times stand still");
    assert_eq!(micros(&waves[150]), start + HOUR, "and go on when the clock has caught up");
}
