//! Reading the waves of a log in order, without a consumer: replay, export, inspection.

use aether_core::Pattern;

use crate::matching::Matching;
use crate::store::{Cursor, Damage, Item, ReadError};
use crate::stored_wave::{StoredWave, read};

/// What is next in a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogItem {
    /// A wave.
    Wave(Box<StoredWave>),
    /// Bytes that cannot be read. What follows can.
    Damaged(Damage),
    /// A record whose checksums are right and that this program cannot read as a wave, by its position.
    Unknown(u64),
}

/// Reads waves in the order in which they were stored. Reading blocks on the disk.
#[derive(Debug)]
pub struct LogReader {
    cursor: Cursor,
    matching: Option<Matching>,
}

impl LogReader {
    /// Reads from a cursor on.
    #[must_use]
    pub fn new(cursor: Cursor) -> Self {
        Self { cursor, matching: None }
    }

    /// Passes over waves of other channels, without decoding them.
    #[must_use]
    pub fn only(mut self, pattern: &Pattern) -> Self {
        self.matching = Some(Matching::new(pattern));
        self
    }

    /// The next wave or damage; `None` at the end, where a later call finds what was stored since.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub fn next_item(&mut self) -> Result<Option<LogItem>, ReadError> {
        loop {
            let record = match self.cursor.next_item()? {
                None => return Ok(None),
                Some(Item::Damaged(damage)) => return Ok(Some(LogItem::Damaged(damage))),
                Some(Item::Record(record)) => record,
            };
            if self.matching.as_mut().is_some_and(|matching| !matching.matches(&record.name)) {
                continue;
            }
            return Ok(Some(match read(&record) {
                Some(Ok(wave)) => LogItem::Wave(Box::new(wave)),
                _ => LogItem::Unknown(record.position),
            }));
        }
    }
}
