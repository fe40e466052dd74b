//! A bounded table whose room principals share: each principal's entries, in the order in which they were last used.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::num::NonZeroUsize;

use aether_core::medium::{ShareSizes, UNPROVEN};
use lru::LruCache;

/// The entries of each principal, and a note `N` for what is known about those that were evicted.
pub struct Shares<K, V, N> {
    /// Apart, so that nothing is looked up where nothing is proven.
    unproven: Share<K, V, N>,
    others: BTreeMap<u64, Share<K, V, N>>,
    sizes: ShareSizes,
    len: usize,
}

pub struct Share<K, V, N> {
    pub entries: LruCache<K, V>,
    pub note: N,
    /// The maximum number of entries since memory was last released.
    peak: usize,
}

impl<K: Hash + Eq, V, N: Default> Default for Share<K, V, N> {
    fn default() -> Self {
        Self { entries: LruCache::unbounded(), note: N::default(), peak: 0 }
    }
}

impl<K: Hash + Eq, V, N> Share<K, V, N> {
    /// Gives memory back that is not used any more.
    fn shrink(&mut self) {
        if self.entries.len() < self.peak / 2 {
            // Changing its bound makes the table release memory. Neither bound is ever reached.
            let (a, b) = (NonZeroUsize::MAX, NonZeroUsize::MIN.saturating_add(usize::MAX - 2));
            self.entries.resize(if self.entries.cap() == a { b } else { a });
            self.peak = self.entries.len();
        }
    }
}

impl<K: Hash + Eq, V, N: Default> Default for Shares<K, V, N> {
    fn default() -> Self {
        Self { unproven: Share::default(), others: BTreeMap::new(), sizes: ShareSizes::default(), len: 0 }
    }
}

impl<K: Hash + Eq, V, N: Default> Shares<K, V, N> {
    /// Whether no principal has an entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of entries of all principals.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The share of a principal, if it has one.
    pub fn share(&self, principal: u64) -> Option<&Share<K, V, N>> {
        if principal == UNPROVEN { Some(&self.unproven) } else { self.others.get(&principal) }
    }

    fn share_mut(&mut self, principal: u64) -> Option<&mut Share<K, V, N>> {
        if principal == UNPROVEN { Some(&mut self.unproven) } else { self.others.get_mut(&principal) }
    }

    /// The entry of a principal that was not used for longest.
    pub fn oldest(&self, principal: u64) -> Option<(&K, &V)> {
        self.share(principal)?.entries.peek_lru()
    }

    /// The entry, which counts as used.
    pub fn get_mut(&mut self, principal: u64, key: &K) -> Option<&mut V> {
        self.share_mut(principal)?.entries.get_mut(key)
    }

    /// Adds an entry that is not there yet.
    pub fn push(&mut self, principal: u64, key: K, value: V) {
        let share = match principal {
            UNPROVEN => &mut self.unproven,
            principal => self.others.entry(principal).or_default(),
        };
        share.entries.push(key, value);
        share.peak = share.peak.max(share.entries.len());
        self.len += 1;
        self.sizes.add(principal, 1);
    }

    /// The principal whose entry makes room for a new one of `principal`.
    pub fn gives_way_to(&self, principal: u64) -> u64 {
        self.sizes.gives_way_to(principal)
    }

    /// Removes the entry of a principal that was not used for longest, and returns it with the principal's note.
    pub fn pop(&mut self, principal: u64) -> Option<(V, &mut N)> {
        // Not by `share_mut`, which would borrow all.
        let share = match principal {
            UNPROVEN => &mut self.unproven,
            principal => self.others.get_mut(&principal)?,
        };
        let (_, value) = share.entries.pop_lru()?;
        self.len -= 1;
        self.sizes.subtract(principal, 1);
        Some((value, &mut share.note))
    }

    /// All principals that have entries or a note.
    pub fn principals(&self) -> Vec<u64> {
        std::iter::once(UNPROVEN).chain(self.others.keys().copied()).collect()
    }

    /// Gives memory back that is not used any more. A principal without entries is forgotten unless its note is `kept`.
    pub fn shrink(&mut self, mut kept: impl FnMut(&N) -> bool) {
        self.unproven.shrink();
        self.others.retain(|_, share| {
            share.shrink();
            !share.entries.is_empty() || kept(&share.note)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_loses_its_own_entries_in_the_order_of_their_use() {
        let mut shares = Shares::<u64, &str, u32>::default();
        shares.push(UNPROVEN, 1, "a");
        shares.push(7, 1, "b");
        shares.push(7, 2, "c");
        assert_eq!((shares.get_mut(7, &1).copied(), shares.get_mut(UNPROVEN, &2)), (Some("b"), None));
        assert_eq!((shares.len(), shares.gives_way_to(UNPROVEN), shares.gives_way_to(7)), (3, 7, 7));
        let (value, note) = shares.pop(7).unwrap();
        assert_eq!(value, "c", "b was used since");
        *note = 1;
        assert!(shares.pop(7).is_some() && shares.pop(7).is_none() && shares.pop(8).is_none());
        shares.shrink(|note| *note == 1);
        assert_eq!(shares.principals(), [UNPROVEN, 7], "its note is kept");
        shares.shrink(|_| false);
        assert_eq!((shares.principals(), shares.len()), (vec![UNPROVEN], 1));
    }
}
