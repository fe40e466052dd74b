//! Reading a log that another process writes.
//!
//! Nothing is locked. A record is seen once it is whole: what its writer refused later was never whole, and what was cut
//! off at its end was not either.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::Cursor;
use super::error::OpenError;
use super::segments::{Extent, Segments};

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
        let (segments, _) = Segments::open(folder, false)?;
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

    /// What the log held when it was opened or last refreshed.
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

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.segments.folder().to_owned()
    }
}
