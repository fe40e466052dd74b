//! Who holds how much of a bounded table that a network fills. Ordinary term: fair eviction.
//!
//! A full table takes from the principal that holds most of it. So a principal that makes up entries without end evicts its
//! own, and whoever holds less than the largest loses nothing. Where nothing is proven everybody is one principal.
//!
//! [`ShareSizes`] only counts, for tables that keep their entries themselves. [`Shares`] keeps entries as well, each
//! principal's in the order in which they were last used. This module reads no clock, and knows no keys.

use std::collections::{BTreeSet, HashMap};

/// The principal of everything that nobody has proven.
pub const UNPROVEN: u64 = 0;

/// How much each principal holds: entries, or bytes.
#[derive(Debug, Default)]
pub struct ShareSizes {
    sizes: HashMap<u64, usize>,
    by_size: BTreeSet<(usize, u64)>,
}

impl ShareSizes {
    /// How much a principal holds.
    pub fn of(&self, principal: u64) -> usize {
        self.sizes.get(&principal).copied().unwrap_or_default()
    }

    /// Adds what a principal holds more.
    pub fn add(&mut self, principal: u64, more: usize) {
        self.set(principal, self.of(principal) + more);
    }

    /// Subtracts what a principal no longer holds.
    pub fn subtract(&mut self, principal: u64, less: usize) {
        self.set(principal, self.of(principal).saturating_sub(less));
    }

    fn set(&mut self, principal: u64, size: usize) {
        let before = match size {
            0 => self.sizes.remove(&principal),
            _ => self.sizes.insert(principal, size),
        };
        if let Some(before) = before {
            self.by_size.remove(&(before, principal));
        }
        if size > 0 {
            self.by_size.insert((size, principal));
        }
    }

    /// The principal that makes room for something new of `principal`: the one with the largest share, and itself if no other
    /// has more.
    pub fn gives_way_to(&self, principal: u64) -> u64 {
        match self.by_size.last() {
            Some((largest, holder)) if *largest > self.of(principal) => *holder,
            _ => principal,
        }
    }
}

pub use by_use::Shares;

mod by_use {
    use std::collections::HashMap;
    use std::hash::Hash;
    use std::num::NonZeroUsize;

    use lru::LruCache;

    use super::{ShareSizes, UNPROVEN};

    /// The entries of each principal, and a note `N` for what is known about those that were evicted.
    pub struct Shares<K, V, N> {
        /// Apart, so that nothing is looked up where nothing is proven.
        unproven: Share<K, V, N>,
        others: HashMap<u64, Share<K, V, N>>,
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
            Self { unproven: Share::default(), others: HashMap::new(), sizes: ShareSizes::default(), len: 0 }
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

        /// What a principal has.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_gives_way_and_itself_where_no_other_has_more() {
        let mut sizes = ShareSizes::default();
        assert_eq!(sizes.gives_way_to(1), 1, "nobody has anything");
        sizes.add(1, 3);
        sizes.add(2, 5);
        assert_eq!([1, 2, 3].map(|who| sizes.gives_way_to(who)), [2, 2, 2]);
        sizes.add(1, 2);
        assert_eq!([1, 2].map(|who| sizes.gives_way_to(who)), [1, 2], "both have most");
        sizes.subtract(2, 5);
        sizes.subtract(1, 1);
        assert_eq!((sizes.of(1), sizes.of(2), sizes.gives_way_to(2)), (4, 0, 1));
        sizes.subtract(1, 9);
        assert_eq!((sizes.of(1), sizes.gives_way_to(2)), (0, 2));
    }

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
