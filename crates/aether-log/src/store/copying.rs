//! The files of a store, for a copy that is made while another process writes them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_files::disk::{self, Writing};

use super::error::OpenError;
use super::segment::{FILE_HEADER, Found, SegmentReader, file_header};
use super::segments::{Segments, file_name, list_files};

/// A segment of a store that another process may be writing.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    /// The random number of the log.
    salt: u32,
    /// Whether it is the last one, which its writer may be continuing. The others never change.
    pub(crate) is_last: bool,
}

impl SegmentFile {
    /// The segments in this folder, in order.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>, OpenError> {
        let files = list_files(folder)?;
        let last = files.len().saturating_sub(1);
        let files = files.into_iter().enumerate();
        Ok(files.map(|(index, (_, salt, path))| Self { path, salt, is_last: index == last }).collect())
    }

    /// The length up to the end of the last whole record. 0 if the file is still being made.
    pub(crate) fn whole_bytes(&self) -> io::Result<u64> {
        let mut reader = SegmentReader::open(&self.path, self.salt, FILE_HEADER as u64)?;
        let end = reader.about()?.len();
        if end < FILE_HEADER as u64 {
            return Ok(0);
        }
        while let Some(found) = reader.next(end)? {
            if let Found::Torn { offset, .. } = found {
                return Ok(offset);
            }
        }
        Ok(end)
    }
}

/// Begins a segment this far behind the last one, so that the positions in between are never given. Nothing else has the
/// store open.
pub(crate) fn skip_positions(folder: &Path, positions: u64) -> Result<(), OpenError> {
    let disk = disk::current();
    let (segments, opened) = Segments::open(Arc::clone(&disk), folder, true)?;
    if segments.extent().segments == 0 {
        return Ok(());
    }
    let first = opened.next + positions;
    let path = folder.join(file_name(first, segments.salt));
    let made = (|| {
        let file = disk::create(&path)?;
        let mut writing = Writing { disk: &*disk, file: &file };
        io::Write::write_all(&mut writing, &file_header(first, segments.salt))?;
        disk.sync_all(&file)
    })();
    made.map_err(|source| OpenError::io(&path, "make", source))
}
