//! Reading a whole log to find damage.

use std::path::Path;

use aether_files::disk;

use super::damage::{Damage, TornTail};
use super::error::{OpenError, ReadError};
use super::segment::{FILE_HEADER, FileHeader, Found, SegmentReader, read_file_header};
use super::segments::Segments;

/// The contents of a whole log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Records whose checksums are right.
    pub records: u64,
    /// The size of all segments.
    pub bytes: u64,
    /// The number of segments.
    pub segments: usize,
    /// All damage, in the order of the log.
    pub damaged: Vec<Damage>,
    /// A record at the end that is not written to its end: its writer ended there, or is writing it now.
    pub torn: Option<TornTail>,
}

/// Reads a whole log and changes nothing. Another process may be writing it.
///
/// # Errors
/// [`OpenError`] if there is no log, or it cannot be read.
pub fn verify(folder: &Path) -> Result<Verified, OpenError> {
    verify_with(folder, |_| {})
}

/// As [`verify`]. `progress` gets the number of bytes read so far, at least each MiB, out of the bytes of
/// [`View::extent`](super::View::extent).
///
/// # Errors
/// As [`verify`].
pub fn verify_with(folder: &Path, progress: impl FnMut(u64)) -> Result<Verified, OpenError> {
    let (segments, opened) = Segments::open(disk::current(), folder, false)?;
    let verified = verify_segments(&segments, progress)?;
    Ok(Verified { torn: verified.torn.or(opened.torn), ..verified })
}

/// How often progress is reported, in bytes.
const TELL_EVERY: u64 = 1 << 20;

pub(super) fn verify_segments(
    segments: &Segments,
    mut progress: impl FnMut(u64),
) -> Result<Verified, ReadError> {
    let all = segments.all();
    let mut verified = Verified::default();
    let count = all.len();
    for (index, (first, segment)) in all.into_iter().enumerate() {
        let path = &segment.path;
        let failed = |source| ReadError::io(path, "read", source);
        let opened = read_file_header(path, first, segments.salt)
            .and_then(|header| Ok((header, SegmentReader::open(path, segments.salt, FILE_HEADER as u64)?)));
        let (header, mut reader) = match opened {
            // Reading takes longer than its writer may keep a segment.
            Err(error) if segments.is_dropped(&error) => continue,
            opened => opened.map_err(failed)?,
        };
        verified.segments += 1;
        if header != FileHeader::Whole {
            let bytes = segment.end.min(FILE_HEADER as u64);
            verified.damaged.push(Damage { path: path.clone(), offset: 0, bytes, position: None });
        }
        let (before, mut told) = (verified.bytes, 0);
        verified.bytes += segment.end;
        while let Some(found) = reader.next(segment.end).map_err(failed)? {
            match found {
                Found::Record(_, offset) => {
                    verified.records += 1;
                    if offset >= told + TELL_EVERY {
                        told = offset;
                        progress(before + offset);
                    }
                }
                Found::Damaged(damage) => verified.damaged.push(damage),
                Found::Torn { offset, bytes } if index + 1 == count => {
                    verified.torn = Some(TornTail { path: path.clone(), offset, bytes });
                    break;
                }
                Found::Torn { offset, bytes } => {
                    verified.damaged.push(Damage { path: path.clone(), offset, bytes, position: None });
                    break;
                }
            }
        }
        progress(verified.bytes);
    }
    Ok(verified)
}
