//! Rewriting full segments without the records that are no longer wanted.

use std::fs;
use std::io::{BufWriter, Write};

use aether_files::disk::{Writing, create};

use super::error::ReadError;
use super::leftovers::REWRITING;
use super::record::Record;
use super::segment::{FILE_HEADER, Found, SegmentReader, file_header};
use super::segments::{Segment, Segments};

/// The result of [`Store::rewrite`](super::Store::rewrite).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rewritten {
    /// Records that stayed, of the segments that were read.
    pub kept: u64,
    /// Records that are gone.
    pub removed: u64,
    /// Segments that were left as they are because bytes in them are damaged.
    pub damaged: usize,
}

/// The last segment stays as it is, because it is being written.
pub(super) fn rewrite(
    segments: &Segments,
    mut keep: impl FnMut(&Record) -> bool,
    is_stopped: impl Fn() -> bool,
) -> Result<Rewritten, ReadError> {
    let mut all = segments.all();
    all.pop();
    let mut done = Rewritten::default();
    for (first, segment) in all {
        if is_stopped() {
            break;
        }
        match rewrite_one(segments, first, &segment, &mut keep)? {
            Some((kept, removed)) => {
                done.kept += kept;
                done.removed += removed;
            }
            None => done.damaged += 1,
        }
    }
    Ok(done)
}

/// The result of reading a segment.
enum Look {
    Damaged,
    /// All of its records stay: their number.
    Untouched(u64),
    HasUnwanted,
}

/// Reads a segment without writing, because most have nothing to remove.
fn look(
    segments: &Segments,
    segment: &Segment,
    keep: &mut impl FnMut(&Record) -> bool,
) -> std::io::Result<Look> {
    let mut reader = SegmentReader::open(&segment.path, segments.salt, FILE_HEADER as u64)?;
    let mut kept = 0;
    while let Some(found) = reader.next(segment.end)? {
        let Found::Record(record, _) = found else { return Ok(Look::Damaged) };
        if !keep(&record) {
            return Ok(Look::HasUnwanted);
        }
        kept += 1;
    }
    Ok(Look::Untouched(kept))
}

/// `None` if the segment has damage.
fn rewrite_one(
    segments: &Segments,
    first: u64,
    segment: &Segment,
    keep: &mut impl FnMut(&Record) -> bool,
) -> Result<Option<(u64, u64)>, ReadError> {
    let path = &segment.path;
    let new_path = path.with_extension(REWRITING);
    let failed = |source| ReadError::io(&new_path, "write", source);
    let unread = |source| ReadError::io(path, "read", source);
    match look(segments, segment, keep).map_err(unread)? {
        Look::Damaged => return Ok(None),
        Look::Untouched(kept) => return Ok(Some((kept, 0))),
        Look::HasUnwanted => {}
    }
    let mut reader = SegmentReader::open(path, segments.salt, FILE_HEADER as u64).map_err(unread)?;
    let about = fs::metadata(path).map_err(unread)?;
    let new = create(&new_path).map_err(failed)?;
    let disk = &*segments.disk;
    let mut file = BufWriter::new(Writing { disk, file: &new });
    let written = (|| {
        file.write_all(&file_header(first, segments.salt)).map_err(failed)?;
        let (mut kept, mut removed) = (0, 0);
        let mut bytes = Vec::new();
        while let Some(found) = reader.next(segment.end).map_err(unread)? {
            let Found::Record(record, _) = found else { return Ok(None) };
            if keep(&record) {
                bytes.clear();
                record.entry().write(segments.salt, record.position, record.micros, &mut bytes);
                file.write_all(&bytes).map_err(failed)?;
                kept += 1;
            } else {
                removed += 1;
            }
        }
        file.flush().map_err(failed)?;
        // The age of a segment is read from its file after a restart.
        let dated = about.modified().and_then(|at| new.set_modified(at));
        dated.and_then(|()| disk.sync_all(&new)).map_err(failed)?;
        Ok(Some((kept, removed, new.metadata().map_err(failed)?)))
    })();
    let (kept, removed, about) = match written {
        Ok(Some((kept, removed, about))) if removed > 0 => (kept, removed, about),
        other => {
            // Left behind it would only take room: opening ignores it.
            let _ = fs::remove_file(&new_path);
            return Ok(other?.map(|(kept, removed, _)| (kept, removed)));
        }
    };
    let replaced = segments.replace(first, &new_path, &about);
    replaced.and_then(|()| disk.sync_folder(segments.folder())).map_err(failed)?;
    Ok(Some((kept, removed)))
}
