//! Snapshots of a state, and what came since.

use aether_core::Durability;
use aether_log::store::{OpenError, ReadError, Retention, StoreOptions};
use aether_log::{Log, LogItem, LogReader, SnapshotError};

use crate::bus::stage::{connect, open, position, wave};

fn rest(mut reader: LogReader) -> Vec<u64> {
    let mut positions = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        let LogItem::Wave(stored) = item else { panic!("{item:?}") };
        positions.push(stored.position);
    }
    positions
}

#[tokio::test]
async fn recovering_gives_the_last_snapshot_and_what_came_since_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        let (nothing, since) = log.recover("stock").unwrap();
        assert!(nothing.is_none() && rest(since).is_empty());
        for number in 1..=10 {
            let at = position(&shop.emit(wave(number, 0.5)).await.unwrap());
            if number % 4 == 0 {
                log.snapshot("stock", at, format!("up to {number}").as_bytes()).unwrap();
            }
        }
        let (snapshot, mut since) = log.recover("stock").unwrap();
        assert_eq!(snapshot.unwrap().bytes, b"up to 8");
        assert!(matches!(since.next_item().unwrap(), Some(LogItem::Wave(stored)) if stored.position == 9));
        // The reader goes on into what is stored from now on.
        shop.emit(wave(11, 0.5)).await.unwrap();
        assert_eq!(rest(since), [10, 11]);
        let ahead = log.snapshot("stock", 12, b"the future");
        assert!(matches!(ahead, Err(SnapshotError::Ahead { position: 12, last: 11, .. })));
        for name in ["", "../stock", "a b"] {
            assert!(matches!(log.snapshot(name, 1, b""), Err(SnapshotError::Name { .. })), "{name:?}");
        }
    }
    let log = open(folder.path());
    let (snapshot, since) = log.recover("stock").unwrap();
    assert_eq!((snapshot.unwrap().position, rest(since)), (8, vec![9, 10, 11]));
}

#[tokio::test]
async fn a_damaged_snapshot_is_noticed_and_the_one_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 1..=3 {
        shop.emit(wave(number, 0.5)).await.unwrap();
    }
    log.snapshot("stock", 1, b"first").unwrap();
    log.snapshot("stock", 2, b"second").unwrap();
    let file = folder.path().join("snapshots/stock.snapshot");
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&file, changed).unwrap();
        let (snapshot, since) = log.recover("stock").unwrap();
        assert_eq!(snapshot.unwrap().bytes, b"first", "byte {at}");
        assert_eq!(rest(since), [2, 3], "the older one needs more of the log");
    }
    std::fs::write(&file, &whole[..10]).unwrap();
    std::fs::write(folder.path().join("snapshots/stock.before"), "x").unwrap();
    let refused = log.recover("stock").unwrap_err();
    assert!(matches!(&refused, SnapshotError::Damaged { path } if *path == file), "{refused}");
    log.snapshot("stock", 3, b"third").unwrap();
    assert_eq!(log.recover("stock").unwrap().0.unwrap().bytes, b"third");
}

#[tokio::test]
async fn a_snapshot_of_another_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(wave(1, 0.5)).await.unwrap();
    log.snapshot("stock", 1, b"first").unwrap();
    log.snapshot("stock", 1, b"second").unwrap();
    let file = folder.path().join("snapshots/stock.snapshot");
    let mut later = std::fs::read(&file).unwrap();
    later[7] = 2;
    let checksum = crc32fast::hash(&[&later[..24], &later[28..]].concat()).to_le_bytes();
    later[24..28].copy_from_slice(&checksum);
    std::fs::write(&file, &later).unwrap();
    for refused in [log.recover("stock").unwrap_err(), log.snapshot("stock", 1, b"third").unwrap_err()] {
        assert!(matches!(refused, SnapshotError::Version { version: 2, .. }), "{refused}");
        assert!(
            refused.to_string().contains("has version 2 of the format, and this program reads version 1")
        );
    }
    assert!(matches!(log.verify(), Err(OpenError::Version { version: 2, .. })));
    assert_eq!(std::fs::read(&file).unwrap(), later);
}

#[tokio::test]
async fn waves_that_retention_dropped_behind_a_snapshot_are_a_gap_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = Retention::default();
    rules.max_records = Some(20);
    let options = StoreOptions::default().segment_bytes(4096).unwrap().retention(rules);
    let log = Log::builder(folder.path()).channels("orders.>", Durability::Stored).unwrap();
    let log = log.options(options).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(wave(1, 0.5)).await.unwrap();
    log.snapshot("stock", 1, b"early").unwrap();
    let (_, mut slow) = log.recover("stock").unwrap();
    for number in 2..200 {
        shop.emit(wave(number, 0.5)).await.unwrap();
    }
    let first = log.extent().first;
    assert!(first > 100);
    let refused = log.recover("stock").unwrap_err();
    assert!(
        matches!(&refused, SnapshotError::Gap { position: 1, first: at, .. } if *at == first),
        "{refused}"
    );
    assert!(
        matches!(slow.next_item(), Err(ReadError::Dropped { wanted: 2, .. })),
        "also in the middle of reading"
    );
    assert!(matches!(log.recover("new"), Err(SnapshotError::Gap { position: 0, .. })));
    // As the error advises.
    log.snapshot("stock", first - 1, b"without them").unwrap();
    let (_, since) = log.recover("stock").unwrap();
    assert_eq!(rest(since), (first..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_that_lost_its_end_gives_no_wave_a_position_that_a_snapshot_knows() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        for number in 1..=5 {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
        log.snapshot("stock", 5, b"all five").unwrap();
    }
    // As after a power cut on a disk that confirmed too early.
    for file in std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|end| end == "log") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let log = open(folder.path());
    let aether = connect(&log).await;
    let next = position(&aether.emitter("shop").unwrap().emit(wave(6, 0.5)).await.unwrap());
    assert_eq!(next, 6);
    let (snapshot, since) = log.recover("stock").unwrap();
    assert_eq!((snapshot.unwrap().position, rest(since)), (5, vec![6]));
}
