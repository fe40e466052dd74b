//! Reading the waves of a log in order, without a consumer: replay, export, inspection.

use std::sync::Arc;

use aether_core::{Channel, Pattern};
#[cfg(feature = "seal")]
use aether_seal::{KeyId, KeySource, sealed_key};

use crate::filter::WaveFilter;
use crate::matching::Matching;
use crate::sealing::{Sealing, Unopened};
#[cfg(feature = "seal")]
use crate::store::OpenError;
use crate::store::{Cursor, Damage, Item, ReadError};
use crate::stored_wave::{Decoder, StoredWave, Unread};

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
    /// A wave that cannot be opened, or one that is not sealed in a log with keys.
    Unopened {
        /// Its position.
        position: u64,
        /// Its channel, which is not sealed.
        channel: Option<Channel>,
        /// The id of the key with which it claims to be sealed. Nothing proves it.
        #[cfg(feature = "seal")]
        key: Option<KeyId>,
        /// Why.
        reason: Unopened,
    },
}

/// Reads waves in the order in which they were stored. Reading blocks on the disk.
#[derive(Debug)]
pub struct LogReader {
    cursor: Cursor,
    sealing: Arc<Sealing>,
    decoder: Decoder,
    matching: Option<Matching>,
    filter: Option<WaveFilter>,
}

impl LogReader {
    /// Reads from a cursor on.
    #[must_use]
    pub fn new(cursor: Cursor) -> Self {
        Self::opening(cursor, Arc::default())
    }

    /// The same of a log that may be sealed.
    pub(crate) fn opening(cursor: Cursor, sealing: Arc<Sealing>) -> Self {
        Self { cursor, sealing, decoder: Decoder::default(), matching: None, filter: None }
    }

    /// Opens sealed waves with these keys. Default: a sealed wave is [`LogItem::Unopened`].
    ///
    /// # Errors
    /// [`OpenError::Keys`] if the keys cannot be used.
    #[cfg(feature = "seal")]
    pub fn keys(mut self, keys: impl Into<KeySource>) -> Result<Self, OpenError> {
        self.sealing = Arc::new(Sealing::of_folder(self.cursor.folder(), keys.into())?);
        Ok(self)
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
            match self.decoder.read(&record, &self.sealing) {
                Some(Ok(wave)) if self.filter.as_ref().is_some_and(|filter| !filter.takes(&wave)) => {}
                Some(Ok(wave)) => return Ok(Some(LogItem::Wave(Box::new(wave)))),
                Some(Err(Unread::Unopened(reason))) => {
                    return Ok(Some(LogItem::Unopened {
                        position: record.position,
                        channel: str::from_utf8(&record.name).ok().and_then(|name| Channel::new(name).ok()),
                        #[cfg(feature = "seal")]
                        key: sealed_key(&record.body),
                        reason,
                    }));
                }
                _ => return Ok(Some(LogItem::Unknown(record.position))),
            }
        }
    }
}
