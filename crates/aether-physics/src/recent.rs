//! A bounded table that replaces its least recently used entry. Ordinary term: LRU cache.
//!
//! Each detector keeps its keys, streams and names in one. An entry has a slot: a small number used by queues and
//! deadlines, which stays the same until the entry is replaced. Entries are looked up by the parts of a key, without
//! building one. A new entry reuses the memory of the one it replaces, so that a flood of new names does not allocate.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

/// Seeded at random, so that a remote peer cannot choose names that collide.
#[cfg(not(test))]
type Hashing = std::hash::RandomState;
/// The samples of the detectors depend on hashes: a unit test gets the same ones each time.
#[cfg(test)]
type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// No slot: the end of the list.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    max: usize,
    hasher: Hashing,
    index: HashTable<u32>,
    entries: Vec<Entry<K, V>>,
    newest: u32,
    oldest: u32,
    evicted: u64,
}

#[derive(Debug)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

impl<K, V> Recent<K, V> {
    /// A table with at most `max` entries, from 1 to 2^32 - 2. Grows on demand.
    pub(crate) fn new(max: usize) -> Self {
        debug_assert!((1..NONE as usize).contains(&max));
        Self {
            max,
            hasher: Hashing::default(),
            index: HashTable::new(),
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            evicted: 0,
        }
    }

    /// The hash of the parts of a key. Each lookup must hash the same parts in the same order.
    pub(crate) fn hash_of(&self, parts: impl Hash) -> u64 {
        self.hasher.hash_one(parts)
    }

    /// The slot of an entry. Does not count as a use.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&K) -> bool) -> Option<u32> {
        self.index.find(hash, |&slot| is_it(&self.entries[slot as usize].key)).copied()
    }

    /// The slot of an entry. Counts as a use.
    pub(crate) fn touch(&mut self, hash: u64, is_it: impl Fn(&K) -> bool) -> Option<u32> {
        let slot = self.find(hash, is_it)?;
        self.touch_slot(slot);
        Some(slot)
    }

    /// Counts as a use of the entry in a slot.
    pub(crate) fn touch_slot(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Inserts a key that is not in the table. A full table replaces the least recently used entry: the new one gets
    /// its slot, and `renew` converts the old one in place to reuse its memory.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        make: impl FnOnce() -> (K, V),
        renew: impl FnOnce(&mut K, &mut V),
    ) -> u32 {
        let slot = if self.entries.len() < self.max {
            let slot = self.entries.len();
            let (key, value) = make();
            if slot == self.entries.capacity() {
                // Doubling would exceed the bound.
                self.entries.reserve_exact(slot.max(8).min(self.max - slot));
                // Twice the capacity, so that the index reuses removed places and never grows because of them.
                let Self { index, entries, .. } = self;
                let room = 2 * entries.capacity() - index.len();
                index.reserve(room, |&slot| entries[slot as usize].hash);
            }
            self.entries.push(Entry { hash, key, value, newer: NONE, older: NONE });
            slot as u32
        } else {
            let slot = self.oldest;
            self.unlink(slot);
            self.forget(slot);
            self.evicted += 1;
            let entry = &mut self.entries[slot as usize];
            entry.hash = hash;
            renew(&mut entry.key, &mut entry.value);
            slot
        };
        let Self { index, entries, .. } = self;
        index.insert_unique(hash, slot, |&slot| entries[slot as usize].hash);
        self.link(slot);
        slot
    }

    pub(crate) fn key(&self, slot: u32) -> &K {
        &self.entries[slot as usize].key
    }

    pub(crate) fn value(&self, slot: u32) -> &V {
        &self.entries[slot as usize].value
    }

    pub(crate) fn value_mut(&mut self, slot: u32) -> &mut V {
        &mut self.entries[slot as usize].value
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of entries that were replaced.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The entries, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|entry| (&entry.key, &entry.value))
    }

    /// The slots in use.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + use<K, V> {
        0..self.entries.len() as u32
    }

    /// All values.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    fn forget(&mut self, slot: u32) {
        let hash = self.entries[slot as usize].hash;
        if let Ok(found) = self.index.find_entry(hash, |&other| other == slot) {
            found.remove();
        }
    }

    fn link(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        let entry = &mut self.entries[slot as usize];
        (entry.newer, entry.older) = (NONE, older);
        match self.entries.get_mut(older as usize) {
            Some(older) => older.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { newer, older, .. } = self.entries[slot as usize];
        match self.entries.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn use_name(table: &mut Recent<u16, u32>, name: u16) -> u32 {
        let hash = table.hash_of(name);
        match table.touch(hash, |key| *key == name) {
            Some(slot) => {
                *table.value_mut(slot) += 1;
                slot
            }
            None => table.insert(hash, || (name, 1), |key, uses| (*key, *uses) = (name, 1)),
        }
    }

    proptest! {
        /// Compared with a list searched from end to end.
        #[test]
        fn holds_the_most_recently_used(max in 1usize..9, names in prop::collection::vec(0u16..14, 0..300)) {
            let mut table = Recent::new(max);
            let mut model: Vec<(u16, u32)> = Vec::new();
            let mut evicted = 0;
            for name in names {
                let slot = use_name(&mut table, name);
                let uses = match model.iter().position(|entry| entry.0 == name) {
                    Some(at) => model.remove(at).1 + 1,
                    None => 1,
                };
                if model.len() == max {
                    model.remove(0);
                    evicted += 1;
                }
                model.push((name, uses));
                prop_assert_eq!((*table.key(slot), *table.value(slot)), (name, uses));
            }
            let mut held: Vec<_> = table.iter().map(|(key, value)| (*key, *value)).collect();
            held.sort_unstable();
            model.sort_unstable();
            prop_assert_eq!(held, model);
            prop_assert_eq!(table.evicted(), evicted);
            for name in 0..14 {
                let found = table.find(table.hash_of(name), |key| *key == name);
                prop_assert_eq!(found.is_some(), table.iter().any(|(key, _)| *key == name));
            }
        }
    }

    #[test]
    fn slots_are_stable_and_memory_of_evicted_entries_is_reused() {
        let mut table: Recent<String, ()> = Recent::new(2);
        let mut enter = |name: &str, going: &str| {
            let renew = |key: &mut String, (): &mut ()| {
                assert_eq!(key, going);
                name.clone_into(key);
            };
            table.insert(table.hash_of(name), || (name.to_owned(), ()), renew)
        };
        let (a, b, c) = (enter("a", ""), enter("b", ""), enter("c", "a"));
        assert_eq!((c, table.key(b).as_str(), table.key(a).as_str(), table.len()), (a, "b", "c", 2));
    }
}
