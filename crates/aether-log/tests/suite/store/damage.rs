//! Changed bytes, files that were cut off, and files of others.

use std::collections::BTreeSet;
use std::fs;

use aether_log::store::{OpenError, StoreOptions, verify};

use crate::store::stage::{append, entry, open, positions, read, segments, small};

/// The distance of the bytes that are tried: `cargo xtask faults` tries all.
fn step(few: usize) -> usize {
    if std::env::var_os("AETHER_FAULTS_ROUNDS").is_some() { 1 } else { few }
}

#[test]
fn every_changed_byte_is_found_and_placed_and_the_rest_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), small()).unwrap();
    (1..=30).for_each(|number| assert!(append(&store, entry(number)).is_ok()));
    drop(store);
    let files = segments(folder.path());
    assert!(files.len() >= 2);
    for file in &files {
        let whole = fs::read(file).unwrap();
        // Records are no multiple of 7 bytes long, so each part of a header is hit. `record.rs` tries every bit of one
        // record.
        for at in (0..whole.len()).step_by(step(7)) {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            fs::write(file, &changed).unwrap();
            let verified = verify(folder.path()).unwrap();
            assert_eq!(verified.damaged.len(), 1, "byte {at} of {}", file.display());
            let damage = &verified.damaged[0];
            assert_eq!(damage.path, *file);
            let place = damage.offset..damage.offset + damage.bytes;
            assert!(place.contains(&(at as u64)), "byte {at}: {damage}");
            let is_header = damage.offset == 0;
            assert_eq!(verified.records, if is_header { 30 } else { 29 }, "byte {at}");
        }
        fs::write(file, &whole).unwrap();
    }
}

#[test]
fn a_log_with_a_changed_byte_is_opened_and_continued_and_nothing_of_it_is_thrown_away() {
    let whole = tempfile::tempdir().unwrap();
    let store = open(whole.path(), StoreOptions::default()).unwrap();
    (1..=4).for_each(|number| assert!(append(&store, entry(number)).is_ok()));
    drop(store);
    let file = segments(whole.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    // Each fifth byte, which hits each part of a header.
    for at in (0..bytes.len()).step_by(step(5)) {
        let folder = tempfile::tempdir().unwrap();
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let copy = folder.path().join(file.file_name().unwrap());
        fs::write(&copy, &changed).unwrap();
        let store = open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.damaged().len(), 1, "byte {at}");
        let next = append(&store, entry(5)).unwrap();
        assert!(next >= 5, "the position of a damaged record is not used again: {next} at byte {at}");
        drop(store);
        let store = open(folder.path(), StoreOptions::default()).unwrap();
        let (records, damaged) = read(store.cursor(0));
        let kept: BTreeSet<_> = positions(&records).into_iter().collect();
        let expected = if at < 24 { 5 } else { 4 };
        assert_eq!((kept.len(), kept.last()), (expected, Some(&next)), "byte {at}");
        assert_eq!(damaged.len(), usize::from(at >= 24), "byte {at}: {damaged:?}");
        let now = fs::read(&copy).unwrap();
        assert!(now.starts_with(&changed), "the damaged bytes are kept");
    }
}

#[test]
fn a_record_that_was_not_written_to_its_end_is_cut_off_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), StoreOptions::default()).unwrap();
    append(&store, entry(1)).unwrap();
    append(&store, entry(2)).unwrap();
    let two = store.extent().bytes;
    append(&store, entry(3)).unwrap();
    drop(store);
    let file = segments(folder.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    for end in two as usize + 1..bytes.len() {
        fs::write(&file, &bytes[..end]).unwrap();
        let store = open(folder.path(), StoreOptions::default()).unwrap();
        let torn = store.torn().unwrap_or_else(|| panic!("cut at {end}"));
        assert_eq!((torn.offset, torn.bytes), (two, end as u64 - two));
        assert!(store.damaged().is_empty());
        assert_eq!(append(&store, entry(4)).unwrap(), 3);
        assert_eq!(positions(&read(store.cursor(0)).0), [1, 2, 3]);
    }
    // A power cut can leave a longer file whose last bytes were never written.
    let zeros = [&bytes[..two as usize], &[0; 500]].concat();
    fs::write(&file, zeros).unwrap();
    let store = open(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.torn().map(|torn| torn.bytes), Some(500));
    assert_eq!(store.extent().last, 2);
}

#[test]
fn bytes_in_a_body_that_look_like_a_record_are_not_taken_for_one() {
    let other = tempfile::tempdir().unwrap();
    let store = open(other.path(), StoreOptions::default()).unwrap();
    append(&store, entry(1)).unwrap();
    let made_up = fs::read(&segments(other.path())[0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), StoreOptions::default()).unwrap();
    let mut hostile = entry(1);
    hostile.body = made_up.into();
    append(&store, hostile).unwrap();
    append(&store, entry(2)).unwrap();
    drop(store);
    let file = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    // The header of the first record, so that the search begins before its body.
    bytes[30] ^= 1;
    fs::write(&file, bytes).unwrap();
    let store = open(folder.path(), StoreOptions::default()).unwrap();
    let (records, damaged) = read(store.cursor(0));
    assert_eq!((positions(&records), damaged.len()), (vec![2], 1));
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    for (name, text) in [("notes.log", "my notes"), ("00000000000000000001-12345678.log", &*"x".repeat(5000))]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let refused = open(folder.path(), small()).unwrap_err();
        assert!(matches!(&refused, OpenError::Foreign { path: named } if *named == path), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    fs::write(&file, "text").unwrap();
    assert!(matches!(open(&file, small()), Err(OpenError::NotAFolder { .. })));
}

#[test]
fn a_segment_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), small()).unwrap());
    let file = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[7] = 2;
    let checksum = crc32fast::hash(&bytes[..20]).to_le_bytes();
    bytes[20..24].copy_from_slice(&checksum);
    fs::write(&file, bytes).unwrap();
    assert!(matches!(open(folder.path(), small()), Err(OpenError::Version { version: 2, .. })));
}

#[test]
fn a_changed_byte_of_a_segment_without_records_stops_nothing() {
    let whole = tempfile::tempdir().unwrap();
    drop(open(whole.path(), small()).unwrap());
    let empty = fs::read(&segments(whole.path())[0]).unwrap();
    assert_eq!(empty.len(), 24);
    for at in 0..empty.len() {
        let folder = tempfile::tempdir().unwrap();
        let mut number = 0;
        let store = open(folder.path(), small()).unwrap();
        while store.extent().segments < 3 {
            number += 1;
            append(&store, entry(number)).unwrap();
        }
        drop(store);
        // The last segment, as it was before its first record.
        let file = segments(folder.path()).remove(2);
        let mut bytes = fs::read(&file).unwrap();
        bytes.truncate(24);
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        let verified = verify(folder.path()).unwrap();
        assert_eq!((verified.records, verified.damaged.len()), (number - 1, 1), "byte {at}");
        let store = open(folder.path(), small()).unwrap();
        assert_eq!((store.damaged().len(), store.extent().last), (1, number - 1), "byte {at}");
        assert_eq!(append(&store, entry(number)).unwrap(), number, "byte {at}");
        drop(store);
        assert!(verify(folder.path()).unwrap().damaged.is_empty(), "its header was rewritten");
    }
}
