//! A table that the network fills. It is bounded, evicts the entry silent for longest of the principal with most of
//! them, and releases memory.
//!
//! [`Gaps`](super::Gaps), [`Transit`](super::Transit) and the media use it for what they know about senders. Its keys
//! come from messages, so anyone can forge any number of them. Where signatures prove who sent a message, a principal takes
//! nothing from one that holds less; otherwise all are one principal.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::shares::Shares;
use aether_core::clock::Instant;

/// The interval between checks for old entries.
const ROUND: Duration = Duration::from_secs(60);

/// A bounded table. The principal with most entries makes way, with its entry that was silent for longest.
pub struct Remembered<K, V> {
    /// With the time at which the last evicted entry of the principal had last been heard.
    entries: Shares<K, RememberedEntry<V>, Option<Instant>>,
    most: usize,
    keep: Duration,
    /// The time of the last check for old entries.
    swept: Option<Instant>,
    /// The latest of these times of the principals that are no longer known.
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
        Self { entries: Shares::default(), most, keep, swept: None, forgotten: None }
    }

    /// Returns the entry of a key of a principal and marks it as heard. The principal comes
    /// from the proof, or is 0 where nothing is proven.
    pub fn hear(&mut self, principal: u64, key: &K, now: Instant) -> Option<&mut V> {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= ROUND) {
            // An entry that is heard now is not old.
            if let Some(entry) = self.entries.get_mut(principal, key) {
                entry.heard = now;
            }
            self.sweep(now);
        }
        let entry = self.entries.get_mut(principal, key)?;
        entry.heard = now;
        Some(&mut entry.value)
    }

    /// Adds an entry that is not there, and returns whether another one was evicted for it.
    pub fn add(&mut self, principal: u64, key: K, value: V, now: Instant) -> bool {
        let is_full = self.entries.len() >= self.most;
        if is_full {
            self.forget_one(self.entries.gives_way_to(principal));
        }
        self.entries.push(principal, key, RememberedEntry { heard: now, value });
        is_full
    }

    /// The time at which the last evicted entry of a principal had last been heard. It is unknown whether an older key was
    /// ever in the table.
    #[must_use]
    pub fn forgotten(&self, principal: u64) -> Option<Instant> {
        self.forgotten.max(self.entries.share(principal).and_then(|share| share.note))
    }

    fn forget_one(&mut self, principal: u64) {
        if let Some((entry, forgotten)) = self.entries.pop(principal) {
            *forgotten = (*forgotten).max(Some(entry.heard));
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        let keep = self.keep;
        let is_old = |heard: Instant| now.saturating_duration_since(heard) >= keep;
        for principal in self.entries.principals() {
            while self.entries.oldest(principal).is_some_and(|(_, entry)| is_old(entry.heard)) {
                self.forget_one(principal);
            }
        }
        let forgotten = &mut self.forgotten;
        self.entries.shrink(|note| {
            let is_kept = note.is_some_and(|heard| !is_old(heard));
            *forgotten = if is_kept { *forgotten } else { (*forgotten).max(*note) };
            is_kept
        });
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
        let (mut table, start) = (Remembered::new(1000, 10 * ROUND), aether_core::clock::test_now());
        assert!(table.hear(0, &0, start).is_none());
        for key in 0..1000 {
            assert!(!table.add(0, key, (), start));
        }
        assert!(table.hear(0, &0, start + ROUND).is_some() && table.forgotten(0).is_none());
        assert!(table.add(0, 1000, (), start + ROUND));
        assert_eq!((table.len(), table.forgotten(0)), (1000, Some(start)), "1 was the oldest");
        assert!(table.hear(0, &1, start + ROUND).is_none());
        assert!(table.hear(0, &0, start + 10 * ROUND).is_some());
        assert_eq!(table.len(), 2, "all but 0 and 1000 are ten rounds old");
    }

    #[test]
    fn a_principal_evicts_its_own_and_forgets_nothing_of_others() {
        let (mut table, start) = (Remembered::new(10, 10 * ROUND), aether_core::clock::test_now());
        table.add(7, 0, (), start);
        for key in 0..100 {
            table.add(9, key, (), start + ROUND);
        }
        assert!(table.hear(7, &0, start + ROUND).is_some() && table.hear(9, &0, start + ROUND).is_none());
        assert_eq!([7, 8, 9].map(|who| table.forgotten(who)), [None, None, Some(start + ROUND)]);
        // Of a principal that is gone for long nothing is kept apart.
        table.hear(7, &0, start + 20 * ROUND);
        assert_eq!((table.len(), table.forgotten(7)), (1, Some(start + ROUND)));
    }
}
