//! A least-recently-used table that grows on demand up to its bound, and the memory of its entries.

use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

/// The memory of an entry beside its key and value, in bytes: two links and a slot.
pub(super) const ENTRY: usize = 4 * size_of::<usize>();

/// A table with at most this many entries. An [`LruCache`] with a capacity would allocate all of its memory at once.
pub(super) fn bounded<K: Hash + Eq, V>(most: NonZeroUsize) -> LruCache<K, V> {
    let mut cache = LruCache::unbounded();
    cache.resize(most);
    cache
}
