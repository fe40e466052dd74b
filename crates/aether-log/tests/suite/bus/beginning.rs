//! Where a consumer has begun, whatever happens to what it has noted.

use std::fs;

use aether_log::{ConsumerOptions, Log, Start};

use crate::bus::stage::{connect, open, receive, text, wave};
use crate::store::stage::segments;

fn newcomer(log: &Log) -> aether_log::Consumer {
    log.consumer("newcomer", "orders.>", ConsumerOptions::default().start(Start::New)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_its_journal_does_not_make_a_consumer_new() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let shop = connect(&log).await.emitter("shop").unwrap();
        shop.emit(wave(0, 0.5)).await.unwrap();
        let consumer = newcomer(&log);
        for number in 1..=3 {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
        receive(&consumer).await.ack().await.unwrap();
    }
    let journal = segments(&folder.path().join("consumers/newcomer")).remove(0);
    let whole = fs::read(&journal).unwrap();
    for at in (0..whole.len()).step_by(3) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&journal, changed).unwrap();
        let log = open(folder.path());
        let consumer = newcomer(&log);
        let mut delivered = Vec::new();
        while delivered.last().is_none_or(|last| last != "3") {
            let delivery = receive(&consumer).await;
            delivered.push(text(&delivery));
            delivery.ack().await.unwrap();
        }
        assert!(delivered.ends_with(&["2".to_owned(), "3".to_owned()]), "byte {at}: {delivered:?}");
        assert!(!delivered.contains(&"0".to_owned()), "byte {at}: it began behind that");
        drop((consumer, log));
        // Behind damage at its end, a journal goes on in another file.
        segments(journal.parent().unwrap()).into_iter().for_each(|file| fs::remove_file(file).unwrap());
        fs::write(&journal, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_has_lost_its_beginning_is_delivered_everything_rather_than_nothing() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let shop = connect(&log).await.emitter("shop").unwrap();
        let consumer = newcomer(&log);
        for number in 1..=3 {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
        receive(&consumer).await.ack().await.unwrap();
    }
    let journal = segments(&folder.path().join("consumers/newcomer")).remove(0);
    let mut bytes = fs::read(&journal).unwrap();
    // Both of its first notes.
    for at in [80, 150] {
        bytes[at] ^= 1;
    }
    fs::write(&journal, bytes).unwrap();
    for _ in 0..2 {
        let log = open(folder.path());
        let consumer = newcomer(&log);
        let delivery = receive(&consumer).await;
        assert_eq!(text(&delivery), "2", "also after opening once more");
        delivery.nack("not now");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_beside_the_waves_is_listed_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let shop = connect(&log).await.emitter("shop").unwrap();
    shop.emit(wave(1, 0.5)).await.unwrap();
    drop(newcomer(&log));
    log.dead().keep("shop", &wave(2, 0.5), &[]).await.unwrap();
    log.snapshot("stock", 1, b"lamps: 25").unwrap();
    assert_eq!(aether_log::verify(folder.path(), |_| {}).unwrap().damaged, []);
    let beside = ["dead", "consumers/newcomer"].map(|name| segments(&folder.path().join(name)).remove(0));
    for file in beside.into_iter().chain([folder.path().join("snapshots/stock.snapshot")]) {
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        changed[30] ^= 1;
        fs::write(&file, changed).unwrap();
        for verified in [aether_log::verify(folder.path(), |_| {}).unwrap(), log.verify().unwrap()] {
            let damaged: Vec<_> = verified.damaged.iter().map(|damage| &damage.path).collect();
            assert_eq!((damaged, verified.records), (vec![&file], 1));
        }
        fs::write(&file, &whole).unwrap();
    }
}
