//! Which letters there are, without their contents.

use std::collections::{BTreeMap, BTreeSet};

use super::error::DeadError;
use super::letter::{about, decoded_identity};
use crate::log_lines::LogLines;
use crate::store::{Cursor, Item, ReadError};

/// The kinds of records.
pub(super) const LETTER: u8 = 16;
pub(super) const REMOVED: u8 = 17;

/// How many letters are kept, and how many bytes of them. Beyond that the oldest go, and are counted.
pub(super) const BOUNDS: Bounds = Bounds { letters: 65_536, bytes: 1 << 30 };

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) letters: usize,
    pub(super) bytes: u64,
}

/// The letters of a log.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// The letters by number.
    pub(super) kept: BTreeMap<u64, Kept>,
    /// The size of all of them.
    bytes: u64,
    /// Letters that were dropped for others, since the log was opened.
    pub(super) overflowed: u64,
    /// Those about them.
    pub(super) lines: LogLines,
    /// Those that are sent again at this moment. As many as callers wait.
    pub(super) replaying: BTreeSet<u64>,
}

/// What is known of a letter without reading it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) consumer: String,
    /// The position of its wave in the log.
    pub(super) position: u64,
    /// The identity of its wave.
    pub(super) id: u128,
    pub(super) bytes: u64,
}

impl Letters {
    pub(super) fn insert(&mut self, number: u64, kept: Kept) {
        self.bytes += kept.bytes;
        self.kept.insert(number, kept);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.bytes -= self.kept.remove(&number).map_or(0, |kept| kept.bytes);
    }

    /// The oldest letter that nobody sends again, if there is more than is to be kept.
    pub(super) fn beyond(&self, bounds: Bounds) -> Option<u64> {
        let is_over = self.kept.len() > bounds.letters || self.bytes > bounds.bytes;
        let mut oldest_first = self.kept.keys().filter(|number| !self.replaying.contains(number));
        oldest_first.next().copied().filter(|_| is_over)
    }

    pub(super) fn read(mut cursor: Cursor) -> Result<Self, ReadError> {
        let mut letters = Self::default();
        letters.read_on(&mut cursor)?;
        Ok(letters)
    }

    /// Reads what a cursor has before it.
    pub(super) fn read_on(&mut self, cursor: &mut Cursor) -> Result<(), ReadError> {
        while let Some(item) = cursor.next_item()? {
            match item {
                Item::Record(record) if record.kind == LETTER => {
                    if let Some(about) = about(&record) {
                        let id = if record.id == 0 { decoded_identity(&record) } else { record.id };
                        let (consumer, position, bytes) =
                            (about.consumer, about.position, record.body.len() as u64);
                        self.insert(record.position, Kept { consumer, position, id, bytes });
                    }
                }
                Item::Record(record) => {
                    if let Ok(number) = postcard::from_bytes::<u64>(&record.body) {
                        self.remove(number);
                    }
                }
                Item::Damaged(damage) => tracing::error!(%damage, "a dead letter is damaged"),
            }
        }
        Ok(())
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.kept.keys().copied().collect()
    }

    /// What is before this is not needed.
    pub(super) fn first(&self) -> u64 {
        self.kept.first_key_value().map_or(u64::MAX, |(number, _)| *number)
    }

    /// An error unless a letter is kept.
    pub(super) fn find(&self, number: u64) -> Result<(), DeadError> {
        if self.kept.contains_key(&number) { Ok(()) } else { Err(DeadError::Unknown { number }) }
    }
}
