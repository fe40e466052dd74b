//! Backups of a log that is in use, and logs that were restored from them.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_core::{Durability, Wave};
use aether_log::store::{Retention, StoreOptions};
use aether_log::{
    BackupError, Consumer, ConsumerOptions, Log, LogBuilder, LogView, RestoreError, Schedule, restore, verify,
};

use crate::bus::stage::{connect, files, open, position, receive, text, texts, wave};
use crate::store::failing::Mounted;

/// How many positions a restored log leaves out.
const LEFT_OUT: u64 = 1 << 32;

fn log(folder: &Path, waves: u64) -> LogBuilder {
    let mut rules = Retention::default();
    rules.max_records = Some(waves);
    let options = StoreOptions::default().segment_bytes(4096).unwrap().retention(rules);
    Log::builder(folder).channels(">", Durability::Stored).unwrap().options(options).keep_for(["billing"])
}

/// Waves that fail twice are given up.
fn billing(log: &Log) -> Consumer {
    let options = ConsumerOptions::default().pauses(Duration::ZERO, Duration::ZERO);
    log.consumer("billing", "orders.>", options.max_attempts(NonZeroU32::new(2).unwrap())).unwrap()
}

fn back_up(log: &Path, to: &Path) {
    let backup = LogView::open(log).unwrap().backup(to).unwrap();
    assert!(backup.files > 2 && backup.bytes > 0, "{backup:?}");
}

/// A log with two waves, a consumer that has handled one, a letter and a snapshot.
async fn little(folder: &Path) -> Log {
    let log = open(folder);
    let aether = connect(&log).await;
    for number in 1..=2 {
        aether.emitter("shop").unwrap().emit(wave(number, 0.5)).await.unwrap();
    }
    let consumer = billing(&log);
    receive(&consumer).await.ack().await.unwrap();
    log.dead().keep("saga", &Wave::builder("orders").text("lost").build().unwrap(), &[]).await.unwrap();
    log.snapshot("stock", 1, b"one").unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_log_has_all_that_it_had_and_its_consumers_go_on() {
    let folders = tempfile::tempdir().unwrap();
    let path = folders.path().join("log");
    let log = log(&path, 60).open().unwrap();
    let aether = connect(&log).await;
    let is_done = AtomicBool::new(false);
    let consumer = billing(&log);
    let shop = aether.emitter("shop").unwrap();
    let emits = async {
        for number in 1.. {
            // Full as long as the consumer is behind.
            while shop.emit(wave(number, 0.5)).await.is_err() {
                if is_done.load(Ordering::Acquire) {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if is_done.load(Ordering::Acquire) {
                return;
            }
        }
    };
    let handles = async {
        let mut handled = 0_u64;
        while !is_done.load(Ordering::Acquire) {
            let Ok(delivery) = tokio::time::timeout(Duration::from_millis(50), consumer.receive()).await
            else {
                continue;
            };
            let delivery = delivery.unwrap();
            handled += 1;
            let position = delivery.position();
            if position % 7 == 0 {
                delivery.nack("no ink")
            } else {
                delivery.ack().await.unwrap()
            }
            if handled.is_multiple_of(50) {
                log.snapshot("stock", position, b"stock").unwrap();
                if let Some(letter) = log.dead().numbers().first() {
                    // Refused while the log is full.
                    let _ = log.dead().replay(*letter, &shop).await;
                }
            }
        }
    };
    let backups = tokio::task::spawn_blocking({
        let (folders, path) = (folders.path().to_owned(), path.clone());
        let begun = log.last_position();
        move || {
            let mut known = Vec::new();
            while *begun.borrow() < 300 {
                std::thread::yield_now();
            }
            for number in 0..12 {
                let to = folders.join(format!("backup-{number}"));
                known.push((*begun.borrow(), to.clone()));
                back_up(&path, &to);
            }
            known
        }
    });
    let backups = async {
        let known = backups.await;
        is_done.store(true, Ordering::Release);
        known.unwrap()
    };
    let ((), (), backups) = tokio::join!(emits, handles, backups);
    assert!(log.extent().first > 1, "retention has dropped segments: {:?}", log.extent());
    assert_eq!(consumer.ledger().expired, 0);

    for (known, backup) in backups {
        let restored = backup.with_extension("restored");
        restore(&backup, &restored).unwrap();
        let verified = verify(&restored, |_| {}).unwrap();
        assert!(verified.damaged.is_empty() && verified.torn.is_none(), "{verified:?}");
        let log = self::log(&restored, 10_000).open().unwrap();
        let last = log.extent().last - LEFT_OUT;
        assert!(last >= known, "{last} {known}");
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        let consumer = billing(&log);
        let end = Wave::builder("orders.end").amplitude(0.01).text("end").build().unwrap();
        shop.emit(end).await.unwrap();
        loop {
            let delivery = receive(&consumer).await;
            let is_end = text(&delivery) == "end";
            delivery.ack().await.unwrap();
            if is_end {
                break;
            }
        }
        let ledger = consumer.ledger();
        // Each position was acknowledged or given up, before or after the backup, and nothing was missing.
        assert_eq!((ledger.acknowledged + ledger.dead, ledger.expired), (last + 1, 0), "{ledger:?}");
    }
}

#[tokio::test]
async fn a_restored_log_gives_no_position_and_no_number_of_a_letter_again() {
    let folders = tempfile::tempdir().unwrap();
    let [path, backup, restored] = ["log", "backup", "restored"].map(|name| folders.path().join(name));
    let log = little(&path).await;
    back_up(&path, &backup);
    let refused = LogView::open(&path).unwrap().backup(&backup).unwrap_err();
    assert!(matches!(refused, BackupError::Exists { .. }));
    restore(&backup, &restored).unwrap();
    assert!(matches!(restore(&backup, &restored), Err(RestoreError::Exists { .. })));
    drop(log);

    // A limit to the number of waves counts no positions that were left out.
    let log = self::log(&restored, 5).open().unwrap();
    assert_eq!((log.retain(), texts(&log)), (0, vec!["1".to_owned(), "2".to_owned()]));
    let aether = connect(&log).await;
    let receipt = aether.emitter("shop").unwrap().emit(wave(3, 0.5)).await.unwrap();
    assert_eq!(position(&receipt), LEFT_OUT + 3);
    let letter = log.dead().keep("saga", &wave(9, 0.5), &[]).await.unwrap();
    assert_eq!((log.dead().len(), letter), (2, LEFT_OUT + 2));
    assert_eq!(log.recover("stock").unwrap().0.unwrap().bytes, b"one");
    let consumer = billing(&log);
    for number in ["2", "3"] {
        let delivery = receive(&consumer).await;
        assert_eq!(text(&delivery), number);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_or_missing_file_of_a_backup_is_refused_and_nothing_is_left() {
    let folders = tempfile::tempdir().unwrap();
    let [path, backup, restored] = ["log", "backup", "restored"].map(|name| folders.path().join(name));
    drop(little(&path).await);
    back_up(&path, &backup);
    for file in files(&backup) {
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        for at in [Some(0), Some(bytes.len() / 2), Some(bytes.len() - 1), None] {
            let mut changed = bytes.clone();
            match at {
                Some(at) => changed[at] ^= 4,
                None => changed.truncate(bytes.len() - 2),
            }
            fs::write(&file, changed).unwrap();
            let refused = restore(&backup, &restored).unwrap_err();
            assert!(
                matches!(refused, RestoreError::Damaged { .. } | RestoreError::Manifest { .. }),
                "{refused}"
            );
        }
        fs::remove_file(&file).unwrap();
        restore(&backup, &restored).unwrap_err();
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(fs::read_dir(folders.path()).unwrap().count(), 2);
    restore(&backup, &restored).unwrap();
}

#[tokio::test]
async fn a_full_disk_leaves_no_half_of_a_backup() {
    let Some(disk) = Mounted::new(64) else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = little(folder.path()).await;
    let aether = connect(&log).await;
    let large = Wave::builder("orders.large").bytes(vec![7; 100_000]).build().unwrap();
    aether.emitter("shop").unwrap().emit(large).await.unwrap();
    let refused = LogView::open(folder.path()).unwrap().backup(&disk.0.path().join("backup")).unwrap_err();
    assert!(
        matches!(&refused, BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_each_wave_for_later_that_was_neither_delivered_nor_cancelled() {
    let folders = tempfile::tempdir().unwrap();
    let path = folders.path().join("log");
    let log = open(&path);
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let is_done = AtomicBool::new(false);
    let stored = Mutex::new(Vec::new());
    let keys = Mutex::new(BTreeMap::new());
    let emits = async {
        for batch in 0.. {
            if is_done.load(Ordering::Acquire) {
                return;
            }
            let numbers = batch * 32..(batch + 1) * 32;
            // Large, so that the file of the timers is cleared meanwhile.
            let later = |number: &u64| {
                let text = format!("{number} {}", "x".repeat(16 << 10));
                let after = Duration::from_millis(fastrand::u64(1..400));
                Wave::builder("orders.created").text(text).after(after).build().unwrap()
            };
            shop.emit_all(numbers.clone().map(|number| later(&number))).await.unwrap();
            stored.lock().unwrap().extend(numbers);
            let key = format!("key-{}", batch % 10);
            let schedules = log.schedules();
            if batch % 3 == 0 {
                keys.lock().unwrap().remove(&key);
                schedules.cancel(&key).await.unwrap();
            } else {
                let hour = Schedule::after(Duration::from_secs(3600));
                schedules.put(&key, hour, wave(batch, 0.5)).await.unwrap();
                keys.lock().unwrap().insert(key, batch);
            }
        }
    };
    let backups = async {
        let mut backups = Vec::new();
        for number in 0..8 {
            tokio::time::timeout(Duration::from_secs(60), async {
                // More than the file of the timers keeps.
                while stored.lock().unwrap().len() < 500 * (number + 1) {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap();
            let (known, before) = (stored.lock().unwrap().clone(), keys.lock().unwrap().clone());
            let (path, to) = (path.clone(), folders.path().join(format!("backup-{number}")));
            let made = to.clone();
            tokio::task::spawn_blocking(move || back_up(&path, &made)).await.unwrap();
            let after = keys.lock().unwrap().clone();
            let kept: Vec<_> =
                before.into_iter().filter(|(key, batch)| after.get(key) == Some(batch)).collect();
            backups.push((known, kept, to));
        }
        is_done.store(true, Ordering::Release);
        backups
    };
    let ((), backups) = tokio::join!(emits, backups);
    // On a fast disk many waves still wait, and their files stay until they are due.
    let cleared = async {
        while fs::read_dir(path.join("timers")).unwrap().count() >= 12 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cleared).await.expect("its file was cleared");

    for (known, kept, backup) in backups {
        let restored = backup.with_extension("restored");
        restore(&backup, &restored).unwrap();
        assert!(verify(&restored, |_| {}).unwrap().damaged.is_empty());
        let log = open(&restored);
        let listed = log.schedules().list().await.unwrap();
        for (key, _) in kept {
            assert!(listed.iter().any(|scheduled| scheduled.key == key), "{key} in {listed:?}");
        }
        let mut last = log.last_position();
        loop {
            last.borrow_and_update();
            let mut times = BTreeMap::<u64, u32>::new();
            for text in texts(&log) {
                let number = text.split(' ').next().unwrap().parse().unwrap();
                *times.entry(number).or_default() += 1;
            }
            assert!(times.values().all(|times| *times == 1), "{times:?}");
            if known.iter().all(|number| times.contains_key(number)) {
                break;
            }
            let grown = tokio::time::timeout(Duration::from_secs(60), last.changed());
            grown.await.expect("all of them come").unwrap();
        }
    }
}
