//! Places of a log that cannot be read.

use std::fmt;
use std::path::PathBuf;

/// Bytes of a segment that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where the damage begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes cannot be used.
    pub bytes: u64,
    /// The position of the record, if its header is whole. Without one, the damage hides at least one record or is in the
    /// header of the file.
    pub position: Option<u64>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, bytes, position } = self;
        write!(f, "{}: {bytes} bytes at {offset} are damaged", path.display())?;
        match position {
            Some(position) => write!(f, " (the record at position {position})"),
            None => Ok(()),
        }
    }
}

/// The beginning of a record that was never written to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Where the record began, in bytes from the start of the file.
    pub offset: u64,
    /// The bytes that were cut off.
    pub bytes: u64,
}
