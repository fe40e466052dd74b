//! Reading a log that another process writes.
//!
//! Nothing is locked. A record is seen once it is whole: what its writer refused later was never whole, and what was cut
//! off at its end was not either.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_files::disk;

use super::cursor::Cursor;
use super::error::OpenError;
use super::segment::{Found, SegmentReader};
use super::segments::{Extent, Segments};

/// The size of a segment of a log, and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    /// The last position that it can have; smaller than `first` if it has none.
    pub(crate) last: u64,
    pub(crate) bytes: u64,
    /// Increases when it is rewritten.
    pub(crate) generation: u32,
}

/// A log that another process may be writing, open for reading only. A last record that is being written is not there yet.
#[derive(Debug)]
pub struct View {
    segments: Arc<Segments>,
}

impl View {
    /// Opens a log for reading. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError`]: there is no log, the folder holds files of something else, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        if !folder.is_dir() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(OpenError::io(folder, "read", source));
        }
        let (segments, _) = Segments::open(disk::current(), folder, false)?;
        if segments.extent().segments == 0 {
            return Err(OpenError::Nothing { path: folder.to_owned() });
        }
        Ok(Self { segments: Arc::new(segments) })
    }

    /// A cursor at the first record whose position is not smaller.
    #[must_use]
    pub fn cursor(&self, position: u64) -> Cursor {
        Cursor::new(Arc::clone(&self.segments), position)
    }

    /// The extent of the log when it was opened or last [caught up](View::catch_up).
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.segments.extent()
    }

    /// Looks at the folder again, so that cursors find what was written meanwhile.
    ///
    /// # Errors
    /// [`OpenError`], as [`View::open`].
    pub fn refresh(&self) -> Result<(), OpenError> {
        self.segments.refresh()
    }

    /// As [`View::refresh`], and reads the records written to the last segment since, so that [`View::extent`] is
    /// current. Blocks: it reads the new bytes and up to 1 MiB before them, or one segment, if a new one was begun.
    ///
    /// # Errors
    /// [`OpenError`], as [`View::open`].
    pub fn catch_up(&self) -> Result<(), OpenError> {
        self.refresh()?;
        let Some((first, segment)) = self.segments.all().pop() else { return Ok(()) };
        let failed = |source| OpenError::io(&segment.path, "read", source);
        let from = segment.before(u64::MAX);
        let mut reader = SegmentReader::open(&segment.path, self.segments.salt, from).map_err(failed)?;
        while let Some(found) = reader.next(segment.end).map_err(failed)? {
            match found {
                Found::Record(record, offset) => {
                    self.segments.update(first, |known| known.note(record.position, record.micros, offset));
                }
                Found::Damaged(_) => {}
                // It is being written, or its writer ended there.
                Found::Torn { .. } => break,
            }
        }
        Ok(())
    }

    /// The segments, in order.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let all = self.segments.all();
        let next = all.iter().skip(1).map(|(first, _)| Some(*first)).chain([None]);
        let spans = all.iter().zip(next).map(|((first, segment), next)| Span {
            first: *first,
            last: next.map_or(segment.last, |next| next - 1),
            bytes: segment.end,
            generation: segment.generation,
        });
        spans.collect()
    }

    /// When the last record was stored, in microseconds since 1970, as far as that is known.
    pub(crate) fn newest_micros(&self) -> Option<u64> {
        let all = self.segments.all();
        all.iter().rev().map(|(_, segment)| segment.micros).find(|micros| *micros > 0)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.segments.folder().to_owned()
    }
}
