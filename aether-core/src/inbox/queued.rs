//! What the queue of an inbox holds, and what it needs to know about it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::wave::Wave;

/// A list that is no longer than this is served in the order of arrival: as many waves as the receiver prefetches.
pub(super) const IN_ORDER: usize = 32;

/// An item in its level.
pub(super) struct Queued<T> {
    pub(super) arrival: u64,
    pub(super) item: T,
}

/// A bound of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Waves,
    Bytes,
}

/// Something that a source has emitted.
pub(super) trait Queueable {
    /// Whether both have one source.
    fn is_of_source_of(&self, other: &Self) -> bool;

    /// A number that depends on the source and on keys that nobody else knows.
    fn source_hash(&self, keys: &RandomState) -> u64;

    /// The memory that it takes, in bytes. It never changes.
    fn weight(&self) -> usize;
}

impl Queueable for Wave {
    fn is_of_source_of(&self, other: &Self) -> bool {
        self.source() == other.source()
    }

    fn source_hash(&self, keys: &RandomState) -> u64 {
        keys.hash_one(self.source())
    }

    fn weight(&self) -> usize {
        Self::weight(self)
    }
}

/// Releases the memory of a burst, down to room for `kept` items, when seven eighths of it are empty.
#[inline]
pub(super) fn release_burst<T>(items: &mut VecDeque<Queued<T>>, kept: usize) {
    #[cold]
    #[inline(never)]
    fn shrink<T>(items: &mut VecDeque<Queued<T>>, kept: usize) {
        items.shrink_to(kept.max(2 * items.len()));
    }
    if items.capacity() > kept && items.len() < items.capacity() / 8 {
        shrink(items, kept);
    }
}
