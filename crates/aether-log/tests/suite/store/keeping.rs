//! What is written is read back; retention, rewriting and identities.

use std::time::Duration;

use aether_log::store::{Retention, StoreOptions, View, verify};

use crate::store::stage::{append, entry, open, positions, read, segments, small};

#[test]
fn records_are_read_back_in_order_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = open(folder.path(), small()).unwrap();
        for number in 1..=50 {
            assert_eq!(append(&store, entry(round * 50 + number)).unwrap(), round * 50 + number);
        }
    }
    assert!(segments(folder.path()).len() > 3);
    let store = open(folder.path(), small()).unwrap();
    let (records, damaged) = read(store.cursor(0));
    assert_eq!(positions(&records), (1..=150).collect::<Vec<_>>());
    assert!(damaged.is_empty() && store.torn().is_none());
    for record in &records {
        assert_eq!(record.body, entry(record.position).body);
    }
    assert!(records.windows(2).all(|pair| pair[0].micros <= pair[1].micros));
    assert_eq!(positions(&read(store.cursor(77)).0), (77..=150).collect::<Vec<_>>());
    assert_eq!(verify(folder.path()).unwrap().records, 150);
}

#[test]
fn a_cursor_finds_what_is_written_after_it_has_reached_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    let mut cursor = store.cursor(0);
    assert!(cursor.next_item().unwrap().is_none());
    let view = View::open(folder.path()).unwrap();
    let mut seen = view.cursor(0);
    for number in 1..=100 {
        append(&store, entry(number)).unwrap();
        assert!(cursor.next_item().unwrap().is_some());
        assert!(cursor.next_item().unwrap().is_none());
        view.refresh().unwrap();
        assert!(seen.next_item().unwrap().is_some(), "another process sees record {number}");
        assert!(seen.next_item().unwrap().is_none());
    }
}

#[test]
fn a_record_of_the_same_identity_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!([1, 2, 1, 2].map(|number| append(&store, entry(number)).unwrap()), [1, 2, 1, 2]);
    drop(store);
    let store = open(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!(append(&store, entry(2)).unwrap(), 2, "also after opening again");
    let mut anonymous = entry(0);
    anonymous.id = 0;
    assert_eq!([0, 0].map(|_| append(&store, anonymous.clone()).unwrap()), [3, 4]);
    assert_eq!(read(store.cursor(0)).0.len(), 4);
}

#[test]
fn old_segments_are_dropped_by_size_by_count_and_by_age() {
    let rules = |change: fn(&mut Retention)| {
        let mut rules = Retention::default();
        change(&mut rules);
        small().retention(rules)
    };
    let by_size = rules(|rules| rules.max_bytes = Some(20_000));
    let by_count = rules(|rules| rules.max_records = Some(40));
    for options in [by_size, by_count] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), options).unwrap();
        for number in 1..=300 {
            append(&store, entry(number)).unwrap();
        }
        let extent = store.extent();
        assert!(extent.first > 150 && extent.last == 300, "{extent:?}");
        assert!(extent.bytes <= 24_096, "{extent:?}");
        assert_eq!(positions(&read(store.cursor(0)).0), (extent.first..=300).collect::<Vec<_>>());
        assert_eq!(segments(folder.path()).len(), extent.segments);
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    (1..=100).for_each(|number| assert!(append(&store, entry(number)).is_ok()));
    drop(store);
    let by_age = rules(|rules| rules.max_age = Some(Duration::ZERO));
    let store = open(folder.path(), by_age).unwrap();
    assert_eq!(store.extent().segments, 1, "the last one always stays");
    assert_eq!(store.extent().last, 100);
}

#[test]
fn rewriting_keeps_positions_and_cursors_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    (1..=200).for_each(|number| assert!(append(&store, entry(number)).is_ok()));
    let mut before = store.cursor(0);
    for _ in 0..10 {
        before.next_item().unwrap();
    }
    let last = store.extent();
    let done = store.rewrite(|record| record.position % 10 == 0).unwrap();
    assert!(done.removed > 100 && done.damaged == 0, "{done:?}");
    assert!(store.extent().bytes < last.bytes / 3);
    let (records, damaged) = read(store.cursor(0));
    assert!(damaged.is_empty());
    let rest: Vec<_> = positions(&records);
    assert!(
        rest.iter().take_while(|position| **position < 150).all(|position| position % 10 == 0),
        "{rest:?}"
    );
    assert_eq!(rest.last(), Some(&200));
    let after = read(before).0;
    assert_eq!(positions(&after), rest.iter().copied().filter(|position| *position > 10).collect::<Vec<_>>());
    drop(store);
    let store = open(folder.path(), small()).unwrap();
    assert_eq!(positions(&read(store.cursor(0)).0), rest);
    assert_eq!(append(&store, entry(201)).unwrap(), 201);
}

#[test]
fn a_record_of_the_same_identity_is_stored_once_also_after_segments_were_begun_and_the_log_was_opened_again()
{
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    let mut number = 0;
    // The last segment has one record.
    while store.extent().segments < 5 {
        number += 1;
        append(&store, entry(number)).unwrap();
    }
    drop(store);
    let store = open(folder.path(), small()).unwrap();
    for again in 1..=number {
        assert_eq!(append(&store, entry(again)).unwrap(), again);
    }
    assert_eq!(positions(&read(store.cursor(0)).0), (1..=number).collect::<Vec<_>>());
}

#[test]
fn identities_and_times_are_known_when_the_last_segment_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    append(&store, entry(1)).unwrap();
    let stored = read(store.cursor(0)).0[0].micros;
    drop(store);
    // As a writer leaves it that was killed after it had begun a segment.
    let salt = segments(folder.path())[0].file_name().unwrap().to_str().unwrap()[21..29].to_owned();
    let mut bytes = std::fs::read(&segments(folder.path())[0]).unwrap()[..24].to_vec();
    bytes[8..16].copy_from_slice(&2_u64.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..20]).to_le_bytes();
    bytes[20..].copy_from_slice(&checksum);
    std::fs::write(folder.path().join(format!("{:020}-{salt}.log", 2)), bytes).unwrap();
    let store = open(folder.path(), small()).unwrap();
    assert_eq!(store.extent().segments, 2);
    assert_eq!([1, 2].map(|number| append(&store, entry(number)).unwrap()), [1, 2]);
    assert!(read(store.cursor(2)).0[0].micros >= stored);
}

#[test]
fn a_segment_that_was_not_written_anew_to_its_end_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    append(&store, entry(1)).unwrap();
    drop(store);
    let half = segments(folder.path())[0].with_extension("rewriting");
    std::fs::write(&half, "half of it").unwrap();
    let store = open(folder.path(), small()).unwrap();
    assert!(!half.exists());
    assert_eq!(store.extent().last, 1);
}

#[test]
fn what_is_dropped_while_another_process_reads_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    (1..=300).for_each(|number| assert!(append(&store, entry(number)).is_ok()));
    let view = View::open(folder.path()).unwrap();
    let mut reads = 0;
    let verified = aether_log::store::verify_with(folder.path(), |_| {
        reads += 1;
        // Two segments were read when all but the last are dropped.
        if reads == 2 {
            store.drop_before(u64::MAX);
        }
    });
    assert_eq!(verified.unwrap().segments, 3);
    let (records, damaged) = read(view.cursor(0));
    assert!(damaged.is_empty());
    assert_eq!(positions(&records).first(), Some(&store.extent().first));
    assert_eq!(positions(&records).last(), Some(&300));
}
