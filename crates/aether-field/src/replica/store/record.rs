//! The bytes of one stored entry, and of the number of all.
//!
//! A record carries its key and a checksum, and begins with a mark, so it can be found in a file whose structure is
//! damaged. The number tells how many are missing there.

use sha2::{Digest as _, Sha256};

use crate::core::{Change, ChangeId, Entry, Key, Stamp};

/// The first bytes of a record: random bytes, which no text has.
const MARK: [u8; 4] = [0xf1, 0xe1, 0xd6, 0x9b];

/// The first bytes of the number of entries.
const COUNT_MARK: [u8; 4] = [0xc7, 0xf8, 0xdd, 0xb2];

/// The bytes of the number of entries at the time of a stamp.
pub(super) fn encode_count(last: Stamp, entries: u64) -> Vec<u8> {
    postcard::to_extend(&(last, entries, checksum(last, entries)), COUNT_MARK.to_vec()).unwrap_or_default()
}

/// The number of entries in bytes of a file, the newest that is whole. A file may have older ones.
pub(super) fn last_count(bytes: &[u8]) -> Option<u64> {
    let counts = bytes.windows(COUNT_MARK.len()).enumerate().filter(|(_, window)| *window == COUNT_MARK);
    let read = counts.filter_map(|(place, _)| {
        let rest = &bytes[place + COUNT_MARK.len()..];
        let ((last, entries, sum), _) = postcard::take_from_bytes::<(Stamp, u64, [u8; 8])>(rest).ok()?;
        (sum == checksum(last, entries)).then_some((last, entries))
    });
    read.max().map(|(_, entries)| entries)
}

fn checksum(last: Stamp, entries: u64) -> [u8; 8] {
    let Stamp { micros, logical, writer } = last;
    let mut hash = Sha256::new();
    for part in [micros, logical.into(), writer.0, entries] {
        hash.update(part.to_be_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    first
}

/// The bytes of an entry.
pub(super) fn encode(key: &Key, entry: &Entry) -> Vec<u8> {
    let id = ChangeId::of(key, entry);
    // Writing to memory does not fail.
    postcard::to_extend(&(key, entry, id), MARK.to_vec()).unwrap_or_default()
}

/// The entry of these bytes; `None` if they are damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Change> {
    let (key, entry, id): (Key, Entry, ChangeId) = postcard::from_bytes(bytes.strip_prefix(&MARK)?).ok()?;
    let change = Change { key, entry };
    (change.id() == id).then_some(change)
}

/// The result of reading at a mark.
#[derive(Debug)]
pub(super) enum Found {
    /// An entry. It may be an old one: a store does not erase what it replaces.
    Entry(Box<Change>),
    /// Something else, and its key if that is readable.
    Damaged(Option<Key>),
}

/// Everything that looks like a record, with its place. A mark of which one byte is wrong counts if what follows is whole.
pub(super) fn scan(bytes: &[u8]) -> impl Iterator<Item = (usize, Found)> {
    bytes.windows(MARK.len()).enumerate().filter_map(|(place, window)| {
        let right = window.iter().zip(&MARK).filter(|(byte, mark)| byte == mark).count();
        if right + 1 < MARK.len() {
            return None;
        }
        let rest = &bytes[place + MARK.len()..];
        let found = match postcard::take_from_bytes::<(Key, Entry, ChangeId)>(rest) {
            Ok(((key, entry, id), _)) if ChangeId::of(&key, &entry) == id => {
                Found::Entry(Box::new(Change { key, entry }))
            }
            _ if right < MARK.len() => return None,
            _ => Found::Damaged(postcard::take_from_bytes::<Key>(rest).ok().map(|(key, _)| key)),
        };
        Some((place, found))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> Vec<u8> {
        let entry =
            Entry { stamp: Stamp { micros: 7, ..Stamp::default() }, replaces: None, value: Some("v".into()) };
        encode(&Key::Register(name.into()), &entry)
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_found() {
        let whole = record("lamp/1");
        assert_eq!(decode(&whole).unwrap().key.name(), "lamp/1");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn the_newest_whole_number_of_entries_counts() {
        let count = |micros, entries| encode_count(Stamp { micros, ..Stamp::default() }, entries);
        let mut bytes = [&[1, 2][..], &count(7, 300), &[0; 9], &count(5, 299), &record("a")].concat();
        assert_eq!((last_count(&bytes), last_count(&record("a"))), (Some(300), None));
        bytes[2 + COUNT_MARK.len()] ^= 1;
        assert_eq!(last_count(&bytes), Some(299));
    }

    #[test]
    fn records_are_found_between_other_bytes() {
        let (a, mut b, c) = (record("a"), record("b"), record("c"));
        let last = b.len() - 1;
        b[last] ^= 1;
        let bytes = [&[1, 2, 3][..], &a, &[0; 9], &b, &c, &MARK].concat();
        let places = [3, 3 + a.len() + 9, 3 + a.len() + 9 + b.len(), bytes.len() - 4];
        let found: Vec<_> = scan(&bytes).collect();
        assert_eq!(found.iter().map(|(place, _)| *place).collect::<Vec<_>>(), places);
        let name = |key: &Key| key.name().to_owned();
        let names: Vec<_> = found
            .iter()
            .map(|(_, found)| match found {
                Found::Entry(change) => (true, Some(name(&change.key))),
                Found::Damaged(key) => (false, key.as_ref().map(name)),
            })
            .collect();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(names, [(true, some("a")), (false, some("b")), (true, some("c")), (false, None)]);
    }

    #[test]
    fn a_record_whose_mark_is_damaged_is_found() {
        let whole = record("lamp/1");
        for byte in 0..MARK.len() {
            let mut bytes = [&[0; 9][..], &whole].concat();
            bytes[9 + byte] ^= 1;
            let found: Vec<_> = scan(&bytes).collect();
            assert!(
                matches!(&found[..], [(9, Found::Entry(change))] if change.key.name() == "lamp/1"),
                "{found:?}"
            );
            // If more than that is damaged, nothing tells it from other bytes.
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert_eq!(scan(&bytes).count(), 0);
        }
    }
}
