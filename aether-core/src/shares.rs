//! Who holds how much of a bounded table that a network fills. Ordinary term: fair eviction.
//!
//! A full table takes from the principal that holds most of it. So a principal that makes up entries without end evicts its
//! own, and whoever holds less than the largest loses nothing. Where nothing is proven everybody is one principal.
//!
//! [`ShareSizes`] only counts: tables keep their entries themselves. This module reads no clock, and knows no keys.

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
}
