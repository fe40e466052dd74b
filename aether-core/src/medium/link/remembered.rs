//! A table that the network fills. It is bounded, evicts the entry silent for longest first, and releases memory.
//!
//! [`Gaps`](super::Gaps), [`Transit`](super::Transit) and the media use it for what they know about senders. Its keys
//! come from messages, so anyone can forge any number of them.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::clock::Instant;

/// The interval between checks for old entries.
const ROUND: Duration = Duration::from_secs(60);

/// A bounded table. The entry silent for longest is evicted first.
pub struct Remembered<K, V> {
    entries: LruCache<K, RememberedEntry<V>>,
    most: usize,
    keep: Duration,
    /// The time of the last check for old entries.
    swept: Option<Instant>,
    /// The maximum number of entries since memory was last released.
    peak: usize,
    /// The time at which the last evicted entry had last been heard.
    forgotten: Option<Instant>,
}

#[derive(Debug)]
struct RememberedEntry<V> {
    heard: Instant,
    value: V,
}

impl<K, V> fmt::Debug for Remembered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered")
            .field("most", &self.most)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V> Remembered<K, V> {
    /// A table that holds at most `most` entries and evicts entries that were not heard for `keep`.
    #[must_use]
    pub fn new(most: usize, keep: Duration) -> Self {
        Self { entries: LruCache::unbounded(), most, keep, swept: None, peak: 0, forgotten: None }
    }

    /// Returns the entry of a key and marks it as heard.
    pub fn hear(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= ROUND) {
            // An entry that is heard now is not old.
            if let Some(entry) = self.entries.get_mut(key) {
                entry.heard = now;
            }
            self.sweep(now);
        }
        let entry = self.entries.get_mut(key)?;
        entry.heard = now;
        Some(&mut entry.value)
    }

    /// Adds an entry, and returns whether another one was evicted for it.
    pub fn add(&mut self, key: K, value: V, now: Instant) -> bool {
        let is_full = self.entries.len() >= self.most;
        if is_full {
            self.forget_one();
        }
        self.entries.push(key, RememberedEntry { heard: now, value });
        self.peak = self.peak.max(self.entries.len());
        is_full
    }

    /// The time at which the last evicted entry had last been heard. It is unknown whether an older key was ever in the
    /// table.
    #[must_use]
    pub const fn forgotten(&self) -> Option<Instant> {
        self.forgotten
    }

    fn forget_one(&mut self) {
        let heard = self.entries.pop_lru().map(|(_, entry)| entry.heard);
        self.forgotten = self.forgotten.max(heard);
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        let keep = self.keep;
        let is_old = |heard: Instant| now.saturating_duration_since(heard) >= keep;
        while self.entries.peek_lru().is_some_and(|(_, entry)| is_old(entry.heard)) {
            self.forget_one();
        }
        if self.entries.len() < self.peak / 2 {
            // Changing its bound makes the table release memory. Neither bound is ever reached.
            let (a, b) = (NonZeroUsize::MAX, NonZeroUsize::MIN.saturating_add(usize::MAX - 2));
            self.entries.resize(if self.entries.cap() == a { b } else { a });
            self.peak = self.entries.len();
        }
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_latest_and_gives_back_what_was_not_heard_for_long() {
        let (mut table, start) = (Remembered::new(1000, 10 * ROUND), crate::clock::now());
        assert!(table.hear(&0, start).is_none());
        for key in 0..1000 {
            assert!(!table.add(key, (), start));
        }
        assert!(table.hear(&0, start + ROUND).is_some() && table.forgotten().is_none());
        assert!(table.add(1000, (), start + ROUND));
        assert_eq!((table.len(), table.forgotten()), (1000, Some(start)), "1 was the oldest");
        assert!(table.hear(&1, start + ROUND).is_none());
        assert!(table.hear(&0, start + 10 * ROUND).is_some());
        assert_eq!((table.len(), table.peak), (2, 2), "all but 0 and 1000 are ten rounds old");
        assert_eq!(table.entries.len(), 2);
    }
}
