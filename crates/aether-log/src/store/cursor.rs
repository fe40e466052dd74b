//! Reading a log in order.

#[cfg(feature = "seal")]
use std::path::Path;
use std::sync::Arc;

use super::damage::Damage;
use super::error::ReadError;
use super::record::Record;
use super::segment::{Found, SegmentReader};
use super::segments::{Place, Segments};

/// The findings of a cursor.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item {
    /// A record.
    Record(Record),
    /// Bytes that cannot be read. The records after them can.
    Damaged(Damage),
}

/// A place in a log, from which it is read in order. Reading blocks on the disk.
#[derive(Debug)]
pub struct Cursor {
    segments: Arc<Segments>,
    /// The smallest position that is still wanted.
    wanted: u64,
    /// Whether it is an error that the log has dropped what is wanted.
    is_gapless: bool,
    is_scattered: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    segment: u64,
    generation: u32,
    reader: SegmentReader,
}

impl Cursor {
    pub(super) fn new(segments: Arc<Segments>, position: u64) -> Self {
        Self { segments, wanted: position, is_gapless: false, is_scattered: false, open: None }
    }

    /// Fails where the log has dropped what would be next, instead of going on behind it.
    pub(crate) fn gapless(self) -> Self {
        Self { is_gapless: true, ..self }
    }

    /// Reads little at once, for [`Cursor::read_near`].
    pub(crate) fn scattered(self) -> Self {
        Self { is_scattered: true, ..self }
    }

    /// The smallest position that the next record can have.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.wanted
    }

    /// The folder of the log.
    #[cfg(feature = "seal")]
    pub(crate) fn folder(&self) -> &Path {
        self.segments.folder()
    }

    /// Continues at the first record whose position is not smaller.
    pub fn seek(&mut self, position: u64) {
        (self.wanted, self.open) = (position, None);
    }

    /// The next record, or damage; `None` at the end, where a later call finds what was written since.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        Ok(self.next_placed()?.map(|(item, _)| item))
    }

    /// The same, with its place.
    pub(crate) fn next_placed(&mut self) -> Result<Option<(Item, Place)>, ReadError> {
        loop {
            let Some(open) = &mut self.open else {
                match self.open_at(None)? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let segment = open.segment;
            let Some((end, generation)) = self.segments.end(segment) else {
                // Dropped by retention.
                self.open = None;
                continue;
            };
            if generation != open.generation {
                self.open = None;
                continue;
            }
            let found = open.reader.next(end);
            let found = found.map_err(|source| ReadError::io(open.reader.path(), "read", source))?;
            match found {
                Some(Found::Record(record, _)) if record.position < self.wanted => {}
                Some(Found::Record(record, offset)) => {
                    self.wanted = record.position + 1;
                    return Ok(Some((Item::Record(record), Place { segment, offset })));
                }
                Some(Found::Damaged(damage)) => {
                    if let Some(position) = damage.position {
                        if position < self.wanted {
                            continue;
                        }
                        self.wanted = position + 1;
                    }
                    let offset = damage.offset;
                    return Ok(Some((Item::Damaged(damage), Place { segment, offset })));
                }
                Some(Found::Torn { offset, bytes }) => {
                    // In the last segment it is a record that is being written.
                    let path = open.reader.path().to_owned();
                    let Some(next) = self.segments.after(segment) else { return Ok(None) };
                    self.open_at(Some(next))?;
                    let damage = Damage { path, offset, bytes, position: None };
                    return Ok(Some((Item::Damaged(damage), Place { segment, offset })));
                }
                None => {
                    let Some(next) = self.segments.after(segment) else { return Ok(None) };
                    // The segment may have grown before the next one was made.
                    if self.segments.end(segment).is_some_and(|(now, _)| now > end) {
                        continue;
                    }
                    self.open_at(Some(next))?;
                }
            }
        }
    }

    /// Opens a segment, or the one with the wanted position. False if there is none.
    fn open_at(&mut self, segment: Option<u64>) -> Result<bool, ReadError> {
        self.wanted = self.wanted.max(segment.unwrap_or(0));
        loop {
            let Some(located) = self.segments.locate(self.wanted) else { return Ok(false) };
            // It is in no segment, or in one that ends before: only what was dropped leaves nothing before it.
            if self.is_gapless && located.segment > self.wanted {
                return Err(ReadError::Dropped { wanted: self.wanted, first: located.segment });
            }
            match SegmentReader::open(&located.path, self.segments.salt, located.offset) {
                Ok(reader) => {
                    let reader = if self.is_scattered { reader.scattered() } else { reader };
                    let about =
                        reader.about().map_err(|source| ReadError::io(&located.path, "read", source))?;
                    if self.segments.is_replaced(located.segment, &about) {
                        continue;
                    }
                    let (segment, generation) = (located.segment, located.generation);
                    self.open = Some(Open { segment, generation, reader });
                    return Ok(true);
                }
                Err(error) if self.segments.is_dropped(&error) => self.segments.forget(located.segment),
                // Dropped between the two lines above.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && self.segments.end(located.segment).is_none() => {}
                Err(source) => return Err(ReadError::io(&located.path, "open", source)),
            }
        }
    }

    /// The record of a position whose offset in its segment is known. `None` if it was dropped or is damaged.
    pub(crate) fn read_near(&mut self, position: u64, offset: u64) -> Result<Option<Record>, ReadError> {
        let Some(located) = self.segments.locate(position) else { return Ok(None) };
        self.read_at(position, Place { segment: located.segment, offset })
    }

    /// The record of a position whose place is known. Looks for it where the place does not hold it any more. `None` if it
    /// was dropped or is damaged.
    pub(crate) fn read_at(&mut self, position: u64, place: Place) -> Result<Option<Record>, ReadError> {
        let is_open = |open: &Open| {
            let now = self.segments.end(place.segment);
            open.segment == place.segment && now.is_some_and(|(_, now)| now == open.generation)
        };
        if !self.open.as_ref().is_some_and(is_open) {
            self.seek(place.segment);
            if !self.open_at(None)? {
                return Ok(None);
            }
        }
        if let Some(open) = &mut self.open
            && open.segment == place.segment
            && let Some((end, _)) = self.segments.end(place.segment)
        {
            open.reader.move_to(place.offset);
            let found = open.reader.next(end);
            match found.map_err(|source| ReadError::io(open.reader.path(), "read", source))? {
                Some(Found::Record(record, _)) if record.position == position => return Ok(Some(record)),
                Some(Found::Damaged(damage)) if damage.position == Some(position) => return Ok(None),
                _ => {}
            }
        }
        self.seek(position);
        while let Some(item) = self.next_item()? {
            if let Item::Record(record) = item {
                return Ok((record.position == position).then_some(record));
            }
        }
        Ok(None)
    }
}
