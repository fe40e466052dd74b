//! Recalls the records before the last segment after opening: the identities of the latest ones, and when they were
//! stored.

use super::error::OpenError;
use super::segment::SegmentReader;
use super::segments::{Opened, Segments};

/// The identities of at least as many records are remembered after opening, if the log has them. Of each only the header is
/// read, so they cost as many reads at most.
const AT_LEAST: usize = 16_384;

/// Reads the headers of the segments before the one that was read whole, backwards, until enough is known.
pub(super) fn recall(segments: &Segments, remembered: usize, opened: &mut Opened) -> Result<(), OpenError> {
    let wanted = remembered.min(AT_LEAST);
    let mut before = Vec::new();
    for (first, segment) in segments.all().into_iter().rev() {
        if opened.records >= wanted && opened.last_micros > 0 {
            break;
        }
        if opened.scanned == Some(first) {
            continue;
        }
        let failed = |source| OpenError::io(&segment.path, "read", source);
        let mut reader = SegmentReader::of_heads(&segment.path, segments.salt).map_err(failed)?;
        let (mut ids, mut last_micros) = (Vec::new(), 0);
        while let Some(head) = reader.next_head(segment.end).map_err(failed)? {
            last_micros = head.micros;
            opened.records += 1;
            if head.id != 0 {
                ids.push((head.id, head.position));
            }
        }
        opened.last_micros = opened.last_micros.max(last_micros);
        before.push(ids);
    }
    if remembered > 0 && !before.is_empty() {
        before.reverse();
        before.push(std::mem::take(&mut opened.ids));
        opened.ids = before.concat();
    }
    Ok(())
}
