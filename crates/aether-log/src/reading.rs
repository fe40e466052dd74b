//! Reading the waves of a log in order, without a consumer: replay, export, inspection.

use aether_core::Pattern;

use crate::filter::WaveFilter;
use crate::matching::Matching;
use crate::store::{Cursor, Damage, Item, ReadError};
use crate::stored_wave::{Decoder, StoredWave};

/// What is next in a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogItem {
    /// A wave.
    Wave(Box<StoredWave>),
    /// Bytes that cannot be read. The waves after them can.
    Damaged(Damage),
    /// A record whose checksums are right and that this program cannot read as a wave, by its position.
    Unknown(u64),
}

/// Reads waves in the order in which they were stored. Reading blocks on the disk.
#[derive(Debug)]
pub struct LogReader {
    cursor: Cursor,
    decoder: Decoder,
    matching: Option<Matching>,
    filter: Option<WaveFilter>,
}

impl LogReader {
    /// Reads from a cursor on.
    #[must_use]
    pub fn new(cursor: Cursor) -> Self {
        Self { cursor, decoder: Decoder::default(), matching: None, filter: None }
    }

    /// Passes over waves of other channels, without decoding them.
    #[must_use]
    pub fn only(mut self, pattern: &Pattern) -> Self {
        self.matching = Some(Matching::new(pattern));
        self
    }

    /// Passes over waves that are not wanted.
    #[must_use]
    pub fn filtered(mut self, filter: WaveFilter) -> Self {
        self.matching = filter.pattern.as_ref().map(Matching::new);
        self.filter = Some(filter);
        self
    }

    /// The smallest position that the next wave can have.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.cursor.position()
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
            match self.decoder.read(&record) {
                Some(Ok(wave)) if self.filter.as_ref().is_some_and(|filter| !filter.takes(&wave)) => {}
                Some(Ok(wave)) => return Ok(Some(LogItem::Wave(Box::new(wave)))),
                _ => return Ok(Some(LogItem::Unknown(record.position))),
            }
        }
    }
}
