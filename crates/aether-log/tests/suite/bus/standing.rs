//! How a log and its consumers stand, seen by a process that does not have it open.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aether_core::{Durability, Pattern, Wave};
use aether_log::store::{OpenError, Retention, StoreOptions};
use aether_log::{ConsumerOptions, ConsumerStanding, Effort, Log, LogStanding, LogView, Start};

use crate::bus::stage::{billing, connect, open, receive, texts, wave};

fn of<'a>(standing: &'a LogStanding, name: &str) -> &'a ConsumerStanding {
    standing.consumers[name].as_ref().unwrap()
}

/// The number of waves that wait for a consumer: the least and the most.
fn lag(standing: &LogStanding, name: &str) -> (u64, u64) {
    let lag = of(standing, name).lag;
    (lag.at_least, lag.at_most)
}

fn note(text: &str) -> Wave {
    Wave::builder("notes.taken").text(text.to_owned()).build().unwrap()
}

fn small_segments(folder: &Path) -> aether_log::LogBuilder {
    let options = StoreOptions::default().segment_bytes(4096).unwrap();
    Log::builder(folder).channels(">", Durability::Stored).unwrap().options(options)
}

/// All files below a folder with their contents.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => drop(files.insert(entry.path(), std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    files
}

/// The file of a journal that has one segment.
fn journal(log: &Path, consumer: &str) -> PathBuf {
    let files = std::fs::read_dir(log.join("consumers").join(consumer)).unwrap();
    let mut segments = files.map(|file| file.unwrap().path());
    segments.find(|path| path.extension().is_some_and(|end| end == "log")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_each_consumer_is_counted_while_the_log_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let began = SystemTime::now() - Duration::from_secs(1);
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 0..20 {
        shop.emit(wave(number, 0.5)).await.unwrap();
    }
    for number in 0..5 {
        shop.emit(note(&number.to_string())).await.unwrap();
    }
    let consumer = billing(&log);
    let _all = log.consumer("all", ">", ConsumerOptions::default()).unwrap();
    let new = ConsumerOptions::default().start(Start::New);
    let _new = log.consumer("new", "notes.>", new).unwrap();
    let (first, second, third) =
        (receive(&consumer).await, receive(&consumer).await, receive(&consumer).await);
    // The journal is written in this order, so with the acknowledgement the failure is there.
    first.nack("no ink");
    second.ack().await.unwrap();

    let mut view = LogView::open(folder.path()).unwrap();
    let standing = view.standing(Effort::default()).unwrap();
    assert_eq!((standing.extent.first, standing.extent.last, standing.more_consumers), (1, 25, 0));
    let of_billing = of(&standing, "billing");
    assert_eq!(of_billing.pattern, Some(Pattern::new("orders.>").unwrap()));
    assert_eq!((of_billing.position, of_billing.acknowledged, lag(&standing, "billing")), (0, 1, (19, 19)));
    assert_eq!((of_billing.retrying, of_billing.in_flight, of_billing.damaged), (1, 1, 0));
    assert!(of_billing.last_acknowledged.unwrap() > began && of_billing.oldest_waiting.unwrap() > began);
    assert_eq!(of_billing.oldest_waiting, standing.oldest, "the first wave waits");
    assert_eq!((lag(&standing, "all"), of(&standing, "all").last_acknowledged), ((25, 25), None));
    assert_eq!((lag(&standing, "new"), of(&standing, "new").position), ((0, 0), 25));
    assert_eq!(of(&standing, "new").oldest_waiting, None);
    assert_eq!(standing.dead, Some(BTreeMap::new()));

    // The log goes on, and the view with it.
    third.ack().await.unwrap();
    shop.emit(wave(20, 0.5)).await.unwrap();
    shop.emit(note("5")).await.unwrap();
    let later = view.standing(Effort::default()).unwrap();
    assert_eq!((later.extent.last, lag(&later, "billing"), lag(&later, "new")), (27, (19, 19), (1, 1)));
    assert_eq!((lag(&later, "all"), of(&later, "billing").in_flight), ((27, 27), 0));
    assert_eq!((of(&later, "new").position, of(&later, "billing").position), (26, 0));
    assert!(later.newest > standing.newest && later.oldest == standing.oldest);
    assert!(later.extent.bytes > standing.extent.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_far_behind_is_counted_as_far_as_the_effort_allows_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = small_segments(folder.path()).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let text = "x".repeat(100);
    let _slow = log.consumer("slow", "notes.>", ConsumerOptions::default()).unwrap();
    for _ in 0..200 {
        shop.emit(note(&text)).await.unwrap();
        shop.emit(wave(0, 0.5)).await.unwrap();
    }
    let new = ConsumerOptions::default().start(Start::New);
    let _near = log.consumer("near", "notes.>", new).unwrap();
    shop.emit(note(&text)).await.unwrap();
    let mut view = LogView::open(folder.path()).unwrap();
    let least = view.standing(Effort::default().max_bytes(0)).unwrap();
    let (at_least, at_most) = lag(&least, "slow");
    assert!((1..200).contains(&at_least) && (202..402).contains(&at_most), "{at_least} to {at_most}");
    assert!(!of(&least, "slow").lag.is_exact() && of(&least, "slow").oldest_waiting.is_none());
    assert_eq!(lag(&least, "near"), (1, 1));
    let more = lag(&view.standing(Effort::default().max_bytes(16 << 10)).unwrap(), "slow");
    assert!(more.0 > at_least && more.0 < 201 && more.1 < at_most, "{more:?}");
    // Counted segments are not counted again, so a little effort at a time comes to the end.
    let least = lag(&view.standing(Effort::default().max_bytes(0)).unwrap(), "slow");
    assert_eq!(least, more);
    let mut calls = 0;
    let exact = loop {
        let standing = view.standing(Effort::default().max_bytes(8 << 10)).unwrap();
        calls += 1;
        if of(&standing, "slow").lag.is_exact() {
            break standing;
        }
    };
    assert!((2..40).contains(&calls) && lag(&exact, "slow") == (201, 201), "{calls} calls");
    // Acknowledgements are subtracted without another look at the log, and a fresh view agrees.
    let slow = log.consumer("slow", "notes.>", ConsumerOptions::default()).unwrap();
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(receive(&slow).await);
    }
    for delivery in open.into_iter().skip(5) {
        delivery.ack().await.unwrap();
    }
    shop.emit(note(&text)).await.unwrap();
    let after = view.standing(Effort::default().max_bytes(0)).unwrap();
    let fresh = LogView::open(folder.path()).unwrap().standing(Effort::default()).unwrap();
    assert_eq!((lag(&after, "slow"), lag(&fresh, "slow")), ((187, 187), (187, 187)));
    assert_eq!((of(&fresh, "slow").position, of(&fresh, "slow").oldest_waiting), (0, fresh.oldest));
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_that_the_log_dropped_or_removed_do_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut retention = Retention::default();
    retention.max_records = Some(60);
    let options = StoreOptions::default().segment_bytes(4096).unwrap().retention(retention);
    let log = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().options(options);
    let log = log.open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let _slow = log.consumer("slow", ">", ConsumerOptions::default()).unwrap();
    shop.emit(note("first")).await.unwrap();
    let mut view = LogView::open(folder.path()).unwrap();
    assert_eq!(lag(&view.standing(Effort::default()).unwrap(), "slow"), (1, 1));
    for number in 0..300 {
        let keyed = Wave::builder("state.lamp").key(if number % 2 == 0 { "a" } else { "b" });
        shop.emit(keyed.text("x".repeat(100)).build().unwrap()).await.unwrap();
    }
    let kept = texts(&log).len() as u64;
    assert!(kept < 150, "{kept}");
    let dropped = view.standing(Effort::default()).unwrap();
    assert_eq!(lag(&dropped, "slow"), (kept, kept));
    assert!(dropped.extent.first > 1);
    log.compact(&Pattern::new("state.*").unwrap()).unwrap();
    let left = texts(&log).len() as u64;
    assert!(left < kept, "{left}");
    assert_eq!(lag(&view.standing(Effort::default()).unwrap(), "slow"), (left, left));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_torn_end_of_a_journal_costs_one_acknowledgement_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        for number in 0..5 {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
        let consumer = billing(&log);
        for _ in 0..3 {
            receive(&consumer).await.ack().await.unwrap();
        }
    }
    let standing = || {
        let before = files(folder.path());
        let standing = LogView::open(folder.path()).unwrap().standing(Effort::default()).unwrap();
        assert!(files(folder.path()) == before, "looking changed a file");
        (lag(&standing, "billing"), of(&standing, "billing").acknowledged, of(&standing, "billing").damaged)
    };
    assert_eq!(standing(), ((2, 2), 3, 0));
    let path = journal(folder.path(), "billing");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    assert_eq!(standing(), ((3, 3), 2, 0), "the last acknowledgement is not whole");
    std::fs::write(&path, [&whole[..], &whole[whole.len() - 50..whole.len() - 30]].concat()).unwrap();
    assert_eq!(standing().0, (2, 2), "half a record behind the last one");
    let mut damaged = whole.clone();
    let middle = whole.len() - 80;
    damaged[middle] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (_, acknowledged, places) = standing();
    assert_eq!((acknowledged, places), (2, 1));
    // Its owner is not locked out meanwhile.
    let view = LogView::open(folder.path()).unwrap();
    let log = open(folder.path());
    assert_eq!(billing(&log).ledger().acknowledged, 2);
    drop(view);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_counted_by_consumer() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(wave(7, 0.9)).await.unwrap();
    let once = ConsumerOptions::default().max_attempts(NonZeroU32::MIN);
    let once = once.pauses(Duration::ZERO, Duration::ZERO);
    let consumer = log.consumer("billing", "orders.>", once).unwrap();
    let mut view = LogView::open(folder.path()).unwrap();
    assert_eq!(view.standing(Effort::default()).unwrap().dead, Some(BTreeMap::new()));
    receive(&consumer).await.nack("no ink");
    // Giving up happens while the next wave is waited for, which is weaker and so comes later.
    shop.emit(wave(8, 0.1)).await.unwrap();
    receive(&consumer).await.ack().await.unwrap();
    let standing = view.standing(Effort::default()).unwrap();
    assert_eq!(standing.dead, Some(BTreeMap::from([("billing".to_owned(), 1)])));
    assert_eq!((of(&standing, "billing").dead, lag(&standing, "billing")), (1, (0, 0)));
    let numbers = log.dead().numbers();
    log.dead().drop_letter(numbers[0]).await.unwrap();
    assert_eq!(view.standing(Effort::default()).unwrap().dead, Some(BTreeMap::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_consumers_the_first_are_read_and_the_others_counted() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(wave(1, 0.5)).await.unwrap();
    let _billing = billing(&log);
    for number in 0..200 {
        std::fs::create_dir(folder.path().join(format!("consumers/made-up-{number:03}"))).unwrap();
    }
    std::fs::create_dir(folder.path().join("consumers/no consumer")).unwrap();
    std::fs::write(folder.path().join("consumers/file"), "").unwrap();
    let mut view = LogView::open(folder.path()).unwrap();
    let standing = view.standing(Effort::default().max_consumers(10)).unwrap();
    assert_eq!((standing.consumers.len(), standing.more_consumers), (10, 191));
    let made_up = of(&standing, "made-up-000");
    assert_eq!((made_up.pattern.as_ref(), made_up.lag.at_most), (None, 0), "nothing is known of it");
    assert_eq!(lag(&standing, "billing"), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_vanishes_is_an_error_and_another_one_in_its_place_is_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("shop");
    assert!(matches!(LogView::open(&folder), Err(OpenError::Io { .. })));
    let make = async |waves: u64| {
        let log = open(&folder);
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        for number in 0..waves {
            shop.emit(wave(number, 0.5)).await.unwrap();
        }
    };
    make(3).await;
    let mut view = LogView::open(&folder).unwrap();
    view.standing(Effort::default()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(view.standing(Effort::default()).is_err());
    make(2).await;
    assert!(matches!(view.standing(Effort::default()), Err(OpenError::Nothing { .. })));
    let standing = LogView::open(&folder).unwrap().standing(Effort::default()).unwrap();
    assert_eq!(standing.extent.last, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_nobody_uses_is_forgotten_and_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(wave(7, 0.9)).await.unwrap();
    let used = billing(&log);
    receive(&used).await.ack().await.unwrap();
    assert!(matches!(log.forget_consumer("billing"), Err(aether_log::ForgetError::InUse { .. })));
    drop(used);
    assert!(log.forget_consumer("billing").unwrap());
    assert!(!log.forget_consumer("billing").unwrap() && !log.forget_consumer("../dead").unwrap());
    assert!(folder.path().join("dead").exists(), "a name leads out of the folder nowhere");
    let anew = billing(&log);
    assert_eq!(crate::bus::stage::text(&receive(&anew).await), "7");
}
