//! Sealed logs: nothing in the folder can be read, altered, moved or put there without the keys, and a key that is missing
//! costs no wave.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use aether::seal::{SealKeys, missing_keys};
use aether_core::clock::{test_now, wall_time};
use aether_core::{Aether, Durability, Wave};
use aether_log::store::{Entry, Item, OpenError, Store, StoreOptions};
use aether_log::{
    ConsumerOptions, DeadError, DeadView, Log, LogItem, LogReader, LogView, Replay, SCHEDULE, Schedule,
    SnapshotError, Unopened, restore, verify,
};

use crate::bus::stage::{billing, connect, files, position, receive, text, texts, wave};

const HOUR: Duration = Duration::from_secs(3600);

fn open(folder: &Path, keys: &SealKeys) -> Log {
    let log = Log::builder(folder).channels(">", Durability::Synced).unwrap();
    log.keys(keys.clone()).open().unwrap()
}

fn plain(folder: &Path) -> Result<Log, OpenError> {
    Log::builder(folder).channels(">", Durability::Synced).unwrap().open()
}

/// Nothing of these texts is in any file.
fn assert_hidden(folder: &Path, texts: &[&str]) {
    for path in files(folder) {
        let bytes = fs::read(&path).unwrap();
        for text in texts {
            let is_there = bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!is_there, "{text} is in {}", path.display());
        }
    }
}

async fn emit(aether: &Aether, channel: &str, text: &str) -> u64 {
    let wave = Wave::builder(channel).text(text).build().unwrap();
    position(&aether.emitter("shop").unwrap().emit(wave).await.unwrap())
}

#[tokio::test]
async fn nothing_of_a_wave_a_failure_a_letter_or_a_state_can_be_read_in_the_folder_or_its_backup() {
    const SECRETS: [&str; 8] = [
        "a-lamp",
        "customer-17",
        "secret-shop",
        "trace-of-9",
        "no-such-account",
        "a-chair-later",
        "a-tick",
        "25-lamps-left",
    ];
    let root = tempfile::tempdir().unwrap();
    let (folder, keys) = (root.path().join("log"), SealKeys::generate().unwrap());
    let (failed, letter) = {
        let log = open(&folder, &keys);
        let aether = connect(&log).await;
        let shop = aether.emitter("secret-shop").unwrap();
        let order = |text: &str| {
            Wave::builder("orders.created").key("customer-17").metadata("note", "trace-of-9").text(text)
        };
        for number in 0..3 {
            shop.emit(order(&format!("a-lamp {number}")).build().unwrap()).await.unwrap();
        }
        shop.emit(order("a-chair-later").after(HOUR)).await.unwrap();
        let tick = Wave::builder("orders.created").text("a-tick").build().unwrap();
        log.schedules().put("hourly", Schedule::cron("@hourly", "UTC").unwrap(), tick).await.unwrap();
        log.snapshot("stock", 3, b"25-lamps-left").unwrap();
        let twice = ConsumerOptions::default().max_attempts(NonZeroU32::new(2).unwrap());
        let twice = twice.pauses(Duration::ZERO, Duration::ZERO);
        let consumer = log.consumer("billing", "orders.>", twice).unwrap();
        let first = receive(&consumer).await;
        let failed = first.position();
        first.nack("no-such-account 1");
        let again = receive(&consumer).await;
        assert_eq!((again.position(), again.attempt()), (failed, 2));
        again.nack("no-such-account 2");
        // The letter is written while the next wave is waited for.
        receive(&consumer).await.nack("no-such-account 3");
        let numbers = log.dead().numbers();
        assert_eq!(numbers.len(), 1);
        LogView::open(&folder).unwrap().backup(&root.path().join("backup")).unwrap();
        assert_eq!(aether.status().refused(), 0);
        (failed, numbers[0])
    };
    assert_hidden(root.path(), &SECRETS);
    // Without keys it is checked, counted, backed up and restored.
    let restored = root.path().join("restored");
    restore(&root.path().join("backup"), &restored).unwrap();
    for folder in [&folder, &restored] {
        let verified = verify(folder, |_| {}).unwrap();
        assert_eq!((verified.records, verified.damaged.len(), verified.torn), (3, 0, None));
    }
    let standing = LogView::open(&folder).unwrap().standing(aether_log::Effort::default()).unwrap();
    let of_billing = standing.consumers["billing"].as_ref().unwrap();
    assert_eq!((of_billing.dead, of_billing.lag.at_least, of_billing.retrying), (1, 2, 1));
    assert_eq!(standing.dead.unwrap()["billing"], 1);
    assert_hidden(root.path(), &SECRETS);
    // With them everything is there.
    for folder in [&folder, &restored] {
        let log = open(folder, &keys);
        assert_eq!(texts(&log), ["a-lamp 0", "a-lamp 1", "a-lamp 2"]);
        assert_eq!(log.recover("stock").unwrap().0.unwrap().bytes, b"25-lamps-left");
        let dead = log.dead().show(letter).unwrap();
        assert_eq!((dead.stored.position, dead.stored.wave.key()), (failed, Some("customer-17")));
        let errors: Vec<_> = dead.failed.iter().map(|attempt| &*attempt.error).collect();
        assert_eq!(errors, ["no-such-account 1", "no-such-account 2"]);
        // The failure of the second wave is known after the restart, and one more makes a letter of it.
        let twice = ConsumerOptions::default().max_attempts(NonZeroU32::new(2).unwrap());
        let consumer = log.consumer("billing", "orders.>", twice).unwrap();
        let (one, other) = (receive(&consumer).await, receive(&consumer).await);
        let (again, next) = if one.attempt() == 2 { (one, other) } else { (other, one) };
        assert_eq!((again.attempt(), next.attempt()), (2, 1));
        next.ack().await.unwrap();
        again.nack("once more");
        let aether = connect(&log).await;
        log.dead().replay(letter, &aether.emitter("replay").unwrap()).await.unwrap();
        let replayed = receive(&consumer).await;
        assert_eq!(replayed.wave().sequence(), dead.stored.wave.sequence());
        replayed.ack().await.unwrap();
        let [number] = log.dead().numbers()[..] else { panic!("one letter") };
        let letter = log.dead().show(number).unwrap();
        let errors: Vec<_> = letter.failed.iter().map(|attempt| &*attempt.error).collect();
        assert_eq!(errors, ["no-such-account 3", "once more"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wave_for_later_and_a_schedule_come_when_they_are_due_each_as_a_wave_of_its_own() {
    let _ = test_now();
    let (folder, keys) = (tempfile::tempdir().unwrap(), SealKeys::generate().unwrap());
    let log = open(folder.path(), &keys);
    let aether = connect(&log).await;
    let later = Wave::builder("orders.created").text("later").after(3 * HOUR);
    aether.emitter("shop").unwrap().emit(later).await.unwrap();
    // A time that it has for itself does not count.
    let tick = Wave::builder("orders.created").text("a tick").after(HOUR).build().unwrap();
    let begun = wall_time();
    log.schedules().put("hourly", Schedule::every(HOUR), tick).await.unwrap();
    let consumer = billing(&log);
    let (mut ids, mut dues) = (Vec::new(), Vec::new());
    while ids.len() < 3 {
        let delivery = consumer.receive().await.unwrap();
        if text(&delivery) == "a tick" {
            assert_eq!(delivery.wave().metadata().value(SCHEDULE), Some("hourly"));
            ids.push(delivery.wave().id());
            dues.push(
                delivery.wave().due().unwrap().duration_since(begun).unwrap().as_secs().div_ceil(60) / 60,
            );
        }
        delivery.ack().await.unwrap();
    }
    assert_eq!(dues, [1, 2, 3]);
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_hidden(folder.path(), &["a tick", "later"]);
    // Replayed to the log, it keeps its identity.
    let given_up = consumer.receive().await.unwrap();
    let id = given_up.wave().id();
    given_up.give_up("not now");
    assert!(tokio::time::timeout(Duration::from_millis(10), consumer.receive()).await.is_err());
    log.dead().store_again(log.dead().numbers()[0]).await.unwrap();
    assert_eq!(consumer.receive().await.unwrap().wave().id(), id);
}

#[tokio::test(start_paused = true)]
async fn a_wave_whose_key_is_missing_waits_for_the_file_that_has_it_and_keeps_its_place_among_those_of_its_key()
 {
    let _ = test_now();
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = (root.path().join("log"), root.path().join("aether.keys"));
    let older = SealKeys::generate().unwrap();
    let mut newer = older.clone();
    let newest = newer.add().unwrap();
    newer.seal_with_newest();
    {
        let log = open(&folder, &older);
        let aether = connect(&log).await;
        let keyed = |text: &str| Wave::builder("orders.created").key("17").text(text).build().unwrap();
        aether.emitter("shop").unwrap().emit(keyed("of the older key")).await.unwrap();
        drop((aether, log));
        // The process that has the file after a rotation.
        let log = open(&folder, &newer);
        let aether = connect(&log).await;
        aether.emitter("shop").unwrap().emit(keyed("of the newer key")).await.unwrap();
        assert_eq!(texts(&log), ["of the older key", "of the newer key"]);
    }
    older.save_new(&file).unwrap();
    let log = Log::builder(&folder).channels(">", Durability::Synced).unwrap().keys(&file).open().unwrap();
    let aether = connect(&log).await;
    let consumer = log.consumer("billing", "orders.>", ConsumerOptions::default().by_key()).unwrap();
    let first = receive(&consumer).await;
    assert_eq!(text(&first), "of the older key");
    let waiting = tokio::time::timeout(Duration::from_secs(12), consumer.receive()).await;
    assert!(waiting.is_err());
    let status = aether.status();
    assert!(status.refused_unknown_key >= 2, "it is looked at again: {status:?}");
    assert_eq!(missing_keys(&aether)[0].0, newest);
    let ledger = consumer.ledger();
    assert_eq!((ledger.stored, ledger.in_flight, ledger.waiting), (2, 1, 1), "{ledger:?}");

    newer.replace(&file).unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(60), consumer.receive()).await;
    assert!(waiting.is_err(), "it is opened now, and waits for the one before it");
    // The file is read beside the look that finds it changed.
    assert!(aether.status().refused_unknown_key <= status.refused_unknown_key + 1);
    first.ack().await.unwrap();
    let second = receive(&consumer).await;
    assert_eq!((text(&second), second.attempt()), ("of the newer key".to_owned(), 1));
    second.ack().await.unwrap();
}

#[tokio::test]
async fn what_was_not_sealed_altered_or_moved_is_passed_over_and_counted() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), SealKeys::generate().unwrap());
    let log = open(folder.path(), &keys);
    let aether = connect(&log).await;
    emit(&aether, "orders.created", "genuine").await;
    log.snapshot("stock", 1, b"one lamp").unwrap();
    drop((aether, log));
    // Somebody who may write the folder, and has no keys.
    {
        let store = Store::open(folder.path(), StoreOptions::default(), 0).unwrap();
        let Some(Item::Record(genuine)) = store.cursor(0).next_item().unwrap() else { panic!("a record") };
        let of = |name: &str, body: Vec<u8>| Entry {
            kind: genuine.kind,
            level: 0,
            id: 0,
            name: name.to_owned(),
            body: body.into(),
        };
        let mut altered = genuine.body.to_vec();
        *altered.last_mut().unwrap() ^= 1;
        let forged = [
            of("orders.created", b"a frame of a stranger".to_vec()),
            of("orders.created", altered),
            of("orders.deleted", genuine.body.to_vec()),
        ];
        for entry in forged {
            store.append(entry, Durability::Stored, Box::new(drop)).unwrap();
        }
    }
    let snapshots = folder.path().join("snapshots");
    fs::copy(snapshots.join("stock.snapshot"), snapshots.join("other.snapshot")).unwrap();

    let log = open(folder.path(), &keys);
    let aether = connect(&log).await;
    emit(&aether, "orders.created", "the last").await;
    let consumer = billing(&log);
    for expected in ["genuine", "the last"] {
        let delivery = receive(&consumer).await;
        assert_eq!(text(&delivery), expected);
        delivery.ack().await.unwrap();
    }
    let status = aether.status();
    assert_eq!((status.refused_plain, status.refused_tampered), (1, 2), "{status:?}");
    assert_eq!((consumer.ledger().acknowledged, consumer.ledger().expired), (2, 3));
    let moved = log.recover("other").unwrap_err();
    assert!(matches!(moved, SnapshotError::Sealing { .. }), "{moved:?}");
    let mut reader = log.read_from(2);
    for _ in 0..3 {
        let item = reader.next_item().unwrap().unwrap();
        assert!(matches!(item, LogItem::Unopened { reason: Unopened::Refused(_), .. }), "{item:?}");
    }
    assert!(matches!(reader.next_item().unwrap(), Some(LogItem::Wave(_))));
}

#[tokio::test]
async fn a_changed_byte_is_damage_and_what_is_around_it_is_opened() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), SealKeys::generate().unwrap());
    let log = open(folder.path(), &keys);
    let aether = connect(&log).await;
    for number in 0..3 {
        emit(&aether, "orders.created", &format!("lamp {number}")).await;
    }
    drop((aether, log));
    let segment = files(folder.path()).into_iter().find(|path| {
        path.parent() == Some(folder.path()) && path.extension().is_some_and(|end| end == "log")
    });
    let segment = segment.expect("a segment");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert_eq!(verify(folder.path(), |_| {}).unwrap().damaged.len(), 1);
    let log = open(folder.path(), &keys);
    let consumer = billing(&log);
    assert_eq!(
        (text(&receive(&consumer).await), text(&receive(&consumer).await)),
        ("lamp 0".to_owned(), "lamp 2".to_owned())
    );
}

#[tokio::test]
async fn a_log_is_sealed_as_a_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let keys = SealKeys::generate().unwrap();
    let with_keys = |folder: &Path| Log::builder(folder).keys(keys.clone()).open();
    async fn a_wave(log: Log) {
        emit(&connect(&log).await, "orders.created", "a lamp").await;
    }
    async fn a_letter(log: Log) {
        log.dead().keep("saga", &wave(1, 0.5), &[]).await.unwrap();
    }
    async fn a_wave_for_later(log: Log) {
        log.schedules().put("later", Schedule::after(HOUR), wave(1, 0.5)).await.unwrap();
    }
    macro_rules! check {
        ($fill:ident) => {
            let (sealed, not) = (
                root.path().join(concat!("sealed-", stringify!($fill))),
                root.path().join(stringify!($fill)),
            );
            $fill(open(&sealed, &keys)).await;
            $fill(plain(&not).unwrap()).await;
            let (without, with) = (plain(&sealed).unwrap_err(), with_keys(&not).unwrap_err());
            assert!(matches!(without, OpenError::Sealed { .. }), "{without:?}");
            assert!(matches!(with, OpenError::Plain { .. }), "{with:?}");
            with_keys(&sealed).unwrap();
            plain(&not).unwrap();
        };
    }
    check!(a_wave);
    check!(a_letter);
    check!(a_wave_for_later);
    let refused =
        Log::builder(root.path().join("new")).keys(root.path().join("missing.keys")).open().unwrap_err();
    assert!(matches!(refused, OpenError::Keys { .. }), "{refused:?}");
}

#[tokio::test]
async fn readers_beside_the_log_open_it_with_the_keys_and_go_on_without() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), SealKeys::generate().unwrap());
    let id = keys.ids().next().unwrap().0;
    let log = open(folder.path(), &keys);
    let aether = connect(&log).await;
    for number in 0..2 {
        emit(&aether, "orders.created", &format!("lamp {number}")).await;
    }
    let letter = log.dead().keep("saga", &wave(1, 0.5), &[]).await.unwrap();
    let view = aether_log::store::View::open(folder.path()).unwrap();
    let reader = || LogReader::new(view.cursor(0));
    let item = reader().next_item().unwrap().unwrap();
    assert!(
        matches!(item, LogItem::Unopened { position: 1, key: Some(key), reason: Unopened::Locked, .. } if key == id),
        "{item:?}"
    );
    let mut replay = Replay::new(reader());
    assert!(replay.next_wave().await.unwrap().is_none());
    assert_eq!(replay.unopened(), &[(format!("sealed with key {id}"), 2)].into());
    let mut replay = Replay::new(reader().keys(keys.clone()).unwrap());
    for number in 0..2 {
        let wave = replay.next_wave().await.unwrap().unwrap().wave;
        assert_eq!(wave.text().unwrap(), format!("lamp {number}"));
    }
    let without = DeadView::open(folder.path()).unwrap();
    assert!(matches!(without.show(letter), Err(DeadError::Unopened { .. })));
    assert_eq!((without.numbers(), without.by_consumer()["saga"]), (vec![letter], 1));
    let with = without.keys(keys).unwrap();
    assert_eq!(with.show(letter).unwrap().stored.wave.text().unwrap(), "1");
}

#[tokio::test]
async fn waves_are_told_apart_and_compacted_by_key_as_in_a_plain_log() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), SealKeys::generate().unwrap());
    let options = StoreOptions::default().segment_bytes(4096).unwrap();
    let log = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().options(options);
    let log = log.keys(keys).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let state = |number: u64| {
        Wave::builder("state").key(&(number % 2).to_string()).text(number.to_string()).build().unwrap()
    };
    for number in 0..100 {
        shop.emit(state(number)).await.unwrap();
    }
    // Of full segments the last of each key stays.
    let all = texts(&log).len();
    let done = log.compact(&"state".parse().unwrap()).unwrap();
    let left = texts(&log);
    assert!(done.removed > 0 && left.len() as u64 == all as u64 - done.removed, "{done:?}");
    assert_eq!(left.last().unwrap(), "99");
    let LogItem::Wave(stored) = log.read_from(100).next_item().unwrap().unwrap() else { panic!("a wave") };
    let again = shop.emit_identified(stored.wave).await.unwrap();
    assert_eq!(position(&again), 100, "it is there already");
}
