//! Ledgers and snapshots of the sync engine, and what is exported (C1 22).

use crate::replica::{equal, join, within};
use aether_core::Aether;
use aether_core::clock::micros_since_1970;
use aether_field::core::{Change, Entry, Key, Limits, Stamp, WriterId};
use aether_field::ledger::{Ledger, LedgerError, line};
use aether_field::{Field, Imported};

const LEDGER: &[u8] = include_bytes!("ledgers/ledger.jsonl");
const SNAPSHOT: &[u8] = include_bytes!("ledgers/snapshot.json");

fn read(bytes: &[u8]) -> Ledger {
    Ledger::read(bytes, &Limits::default(), micros_since_1970()).unwrap()
}

fn registers(field: &Field) -> Vec<(String, String)> {
    let text = |value: &bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
    field.list("*").iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

#[tokio::test]
async fn a_ledger_and_its_snapshot_give_the_winners_that_the_engine_had() {
    let aether = Aether::local();
    let (field, other) = (join(&aether, "a").await, join(&aether, "b").await);
    let mut lost = other.superseded();
    let (ledger, snapshot) = (read(LEDGER), read(SNAPSHOT));
    assert_eq!((ledger.changes.len(), ledger.outdated), (4, 5));
    let taken = |import: Imported| (import.taken, import.known, import.gone.len(), import.refused.len());
    assert_eq!(taken(field.import(ledger.changes.clone())), (3, 1, 0, 0));
    assert_eq!(taken(field.import(snapshot.changes.clone())), (1, 2, 0, 0));
    // In the other order, and twice, it is the same.
    let again = join(&Aether::local(), "c").await;
    for changes in [&snapshot.changes, &ledger.changes, &snapshot.changes] {
        again.import(changes.clone());
    }
    assert_eq!(again.digest(), field.digest());
    let expected = [
        ("fan", r#"{"speed":2.50,"note":"a  b"}"#),
        ("heat", r#"{"on":[1,2]}"#),
        ("lamp", "\"one nanosecond later\""),
        ("tie", "\"by hall\""),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(registers(&field), expected);
    within("agreement", field.agreed(1)).await.unwrap();
    equal(&other, &field).await;
    assert_eq!(registers(&other), expected);
    // A write of this replica that is older than the import is replaced, and no race is reported.
    other.set("fan", &1).unwrap();
    equal(&field, &other).await;
    assert_eq!(taken(field.import(ledger.changes)), (0, 4, 0, 0));
    assert_eq!(field.get::<u8>("fan").unwrap(), Some(1));
    assert_eq!((field.status().superseded, other.status().superseded), (0, 0));
    drop((field, other));
    assert_eq!(within("the end", lost.next()).await, None);
}

#[tokio::test]
async fn a_removal_of_long_ago_hides_nothing_that_is_imported_with_it() {
    let record = |kind: &str, key: &str, micros: u64| {
        format!(
            "{{\"kind\":\"{kind}\",\"key\":\"{key}\",\"value\":1,\"stamp\":{{\"p\":{micros}000,\"l\":0,\"n\":\"a\"}}}}\n"
        )
    };
    let field = join(&Aether::local(), "a").await;
    field.import(read(record("set", "there", 1_600_000_000_000_000).as_bytes()).changes);
    let old = read(record("set", "old", 1_700_000_000_000_000).as_bytes()).changes;
    let removal = read(record("del", "there", 1_700_000_000_000_001).as_bytes()).changes;
    let imported = field.import(removal.into_iter().chain(old));
    assert_eq!((imported.taken, imported.gone.len()), (2, 0));
    assert_eq!((field.get_json("there"), field.get::<u8>("old").unwrap()), (None, Some(1)));
}

#[test]
fn what_cannot_be_imported_is_reported_with_its_line() {
    let problems: Vec<_> = read(LEDGER).problems.iter().map(ToString::to_string).collect();
    let expected = [
        "line 10: the value is null, and a field holds no null",
        "line 11: not a record: ",
        "line 12: not a record: ",
        "line 13: the stamp is ",
        "line 14: not a record: ",
        "line 15: the counter 4294967 of the stamp is too large; at most 4294966 is allowed",
        "line 16: the kind \"merge\" is neither",
        "line 17: not a record: ",
        "line 18: a name has at least one byte",
        "line 19: the last line is not complete",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert!(problems[3].contains("ahead of this replica's clock; 900s are allowed"), "{}", problems[3]);
    let problems: Vec<_> = read(SNAPSHOT).problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["entry 4: the value is null, and a field holds no null"]);
}

#[test]
fn other_files_are_refused_as_a_whole() {
    let read = |text: &str| Ledger::read(text.as_bytes(), &Limits::default(), 0);
    assert_eq!(read("hello\nworld\n"), Err(LedgerError::Foreign));
    assert_eq!(read("hello"), Err(LedgerError::Foreign));
    assert_eq!(read("{\"version\":2,\"entries\":[]}"), Err(LedgerError::Version { version: 2 }));
    assert_eq!(read(""), Ok(Ledger::default()));
    assert_eq!(read("\n\n"), Ok(Ledger::default()));
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let field = join(&Aether::local(), "a").await;
    field.import(read(LEDGER).changes);
    for n in 0..100 {
        // Several in one microsecond, so that the counters of the stamps count.
        field.set(&format!("key/{}", n % 30), &serde_json::json!({ "n\n\"": n })).unwrap();
    }
    field.remove("key/3").unwrap();
    field.add("a counter has no form in a ledger", 1).unwrap();
    let lines: Vec<_> = field.export("*").iter().filter_map(line).collect();
    assert_eq!(lines.len(), 33);
    let text = lines.join("\n") + "\n";
    let again = read(text.as_bytes());
    assert_eq!((again.problems.len(), again.outdated), (0, 0));
    let copy = join(&Aether::local(), "b").await;
    assert_eq!(copy.import(again.changes).taken, 33);
    let stamped = |field: &Field| -> Vec<_> {
        field.export("*").into_iter().map(|change| (change.id(), change.key, change.entry.value)).collect()
    };
    assert_eq!(stamped(&copy), stamped(&field));
    let part: Vec<_> = field.export("key/1*").iter().filter_map(line).collect();
    assert_eq!(part.len(), 11);
}

#[tokio::test]
async fn a_writer_that_loses_against_an_import_hears_of_it() {
    let field = join(&Aether::local(), "a").await;
    let mut lost = field.superseded();
    field.set("lamp", "ours").unwrap();
    let stamp = Stamp { micros: micros_since_1970() + 1_000_000, logical: 0, writer: WriterId(7) };
    let entry = Entry { stamp, replaces: None, value: Some("\"theirs\"".into()) };
    let imported = field.import([Change { key: Key::Register("lamp".into()), entry }]);
    assert_eq!((imported.taken, field.status().received), (1, 1));
    let lost = within("the report", lost.next()).await.unwrap();
    assert_eq!((lost.lost.as_deref(), lost.by()), (Some(&b"\"ours\""[..]), Some(WriterId(7))));
}
