//! The entries of a state in the order of their identities, which is the order of age, and as reconciliation reads them.
//!
//! It is kept up to date with every change, so a reconciliation begins at once and needs no memory of its own.

use negentropy::{Bound, Error, Id, Item, NegentropyStorageBase, NegentropyStorageVector};
use triomphe::Arc;

use super::entry::ChangeId;
use super::held::Held;
use super::stamp::{Stamp, WriterId};

/// The maximum number of entries in a block. Inserting moves half a block, 5 KiB.
const BLOCK: usize = 256;

/// A list of sorted blocks, none of which is empty. A tree would take twice the memory: most new entries have the
/// greatest stamp, so most are appended, and leave full blocks behind.
#[derive(Debug, Default)]
pub(super) struct Index {
    blocks: Vec<Block>,
    /// The number of entries before each block; empty when outdated.
    before: Vec<usize>,
}

type Block = Vec<(Place, Arc<Held>)>;

/// A [`ChangeId`] without padding. It is kept here as well as in the entry, because a comparison of ranges reads all
/// identities in order: that is five times faster without a jump in memory for each.
#[derive(Debug, Clone, Copy)]
struct Place {
    micros: u64,
    logical: u32,
    hash: [u8; 12],
    writer: WriterId,
}

impl Place {
    const fn of(id: ChangeId) -> Self {
        let Stamp { micros, logical, writer } = id.stamp();
        Self { micros, logical, hash: id.hash(), writer }
    }

    const fn stamp(&self) -> Stamp {
        Stamp { micros: self.micros, logical: self.logical, writer: self.writer }
    }

    const fn id(&self) -> ChangeId {
        ChangeId::from_parts(self.stamp(), self.hash)
    }

    fn item(&self) -> Item {
        let (time, id) = self.id().to_item();
        Item::with_timestamp_and_id(time, Id::from_byte_array(id))
    }
}

impl Index {
    pub(super) fn insert(&mut self, id: ChangeId, held: Arc<Held>) {
        self.before.clear();
        let new = (Place::of(id), held);
        let at = self.block_of(id);
        let is_last = at + 1 >= self.blocks.len();
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(vec![new]);
            return;
        };
        let place = block.partition_point(|(place, _)| place.id() < id);
        if block.len() < BLOCK {
            block.insert(place, new);
        } else if place == BLOCK && is_last {
            self.blocks.push(vec![new]);
        } else {
            let mut second = block.split_off(BLOCK / 2);
            match place.checked_sub(BLOCK / 2) {
                Some(place) => second.insert(place, new),
                None => block.insert(place, new),
            }
            self.blocks.insert(at + 1, second);
        }
    }

    /// Removes an entry. Returns its identity.
    pub(super) fn remove(&mut self, held: &Arc<Held>) -> Option<ChangeId> {
        self.before.clear();
        let stamp = held.entry().stamp;
        // More than one have this stamp only if a writer is faulty, and they may be in two blocks.
        let mut at = self.block_of(ChangeId::from_parts(stamp, [0; 12]));
        let place = loop {
            let block = self.blocks.get(at)?;
            let from = block.partition_point(|(place, _)| place.stamp() < stamp);
            let same = block[from..].iter().take_while(|(place, _)| place.stamp() == stamp);
            match same.map(|(_, other)| other).position(|other| Arc::ptr_eq(other, held)) {
                Some(offset) => break from + offset,
                None if block.last().is_some_and(|(place, _)| place.stamp() <= stamp) => at += 1,
                None => return None,
            }
        };
        let block = &mut self.blocks[at];
        let (removed, _) = block.remove(place);
        let len = block.len();
        if len == 0 {
            self.blocks.remove(at);
        } else if len < BLOCK / 4
            && let Some(next) = self.blocks.get_mut(at + 1)
            && len + next.len() <= BLOCK / 2
        {
            // Else many removals would leave many blocks with little in them.
            let next = std::mem::take(next);
            self.blocks[at].extend(next);
            self.blocks.remove(at + 1);
        }
        Some(removed.id())
    }

    pub(super) fn get(&self, id: ChangeId) -> Option<&Arc<Held>> {
        let block = self.blocks.get(self.block_of(id))?;
        let place = block.binary_search_by(|(place, _)| place.id().cmp(&id)).ok()?;
        Some(&block[place].1)
    }

    /// The entries, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.blocks.iter().flatten().map(|(_, held)| held)
    }

    /// The identities, oldest first.
    pub(super) fn ids(&self) -> impl Iterator<Item = ChangeId> {
        self.blocks.iter().flatten().map(|(place, _)| place.id())
    }

    /// The identities by position. The first call after a change counts the blocks: 1 ns each.
    pub(super) fn ranges(&mut self) -> Ranges<'_> {
        if self.before.is_empty() {
            let mut count = 0;
            self.before.extend(self.blocks.iter().map(|block| {
                count += block.len();
                count - block.len()
            }));
        }
        Ranges { blocks: &self.blocks, before: &self.before }
    }

    /// The block in which this identity is, or would be.
    fn block_of(&self, id: ChangeId) -> usize {
        let begins_before = |block: &Block| block.first().is_some_and(|(first, _)| first.id() <= id);
        if self.blocks.last().is_some_and(begins_before) {
            return self.blocks.len() - 1;
        }
        self.blocks.partition_point(begins_before).saturating_sub(1)
    }
}

/// The identities by position, for `negentropy`.
#[derive(Debug)]
pub(super) struct Ranges<'a> {
    blocks: &'a [Block],
    before: &'a [usize],
}

impl NegentropyStorageBase for Ranges<'_> {
    fn size(&self) -> Result<usize, Error> {
        Ok(self.before.last().zip(self.blocks.last()).map_or(0, |(before, last)| before + last.len()))
    }

    fn get_item(&self, position: usize) -> Result<Option<Item>, Error> {
        let mut found = None;
        let mut take = |item, _| {
            found = Some(item);
            Ok(false)
        };
        self.iterate(position, position.saturating_add(1), &mut take)?;
        Ok(found)
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        each: &mut dyn FnMut(Item, usize) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let at = self.before.partition_point(|&before| before <= begin).saturating_sub(1);
        let mut position = self.before.get(at).copied().unwrap_or(0);
        for block in &self.blocks[at.min(self.blocks.len())..] {
            if position >= end {
                break;
            }
            let from = begin.saturating_sub(position).min(block.len());
            let to = (end - position).min(block.len());
            for (offset, (place, _)) in block[..to].iter().enumerate().skip(from) {
                if !each(place.item(), position + offset)? {
                    return Ok(());
                }
            }
            position += block.len();
        }
        Ok(())
    }

    fn find_lower_bound(&self, first: usize, last: usize, bound: &Bound) -> usize {
        let is_before = |(place, _): &(Place, Arc<Held>)| place.item() < bound.item;
        let begins_before = |block: &Block| block.first().is_some_and(is_before);
        let at = self.blocks.partition_point(begins_before).saturating_sub(1);
        let position = self.blocks.get(at).zip(self.before.get(at));
        let position = position.map_or(0, |(block, before)| before + block.partition_point(is_before));
        position.clamp(first, last.max(first))
    }
}

/// The entries that a reconciliation compares.
#[derive(Debug)]
pub(super) enum Items<'a> {
    /// The entries that everybody may write.
    Open(Ranges<'a>),
    /// Other sections, sorted for this message: 50 ns an entry.
    Sections(NegentropyStorageVector),
}

impl Items<'_> {
    pub(super) fn of_sections(ids: impl Iterator<Item = ChangeId>) -> Self {
        let mut sorted = NegentropyStorageVector::new();
        for (time, id) in ids.map(ChangeId::to_item) {
            // Fails only when sealed.
            let _ = sorted.insert(time, Id::from_byte_array(id));
        }
        let _ = sorted.seal();
        Self::Sections(sorted)
    }

    fn storage(&self) -> &dyn NegentropyStorageBase {
        match self {
            Self::Open(ranges) => ranges,
            Self::Sections(sorted) => sorted,
        }
    }
}

impl NegentropyStorageBase for Items<'_> {
    fn size(&self) -> Result<usize, Error> {
        self.storage().size()
    }

    fn get_item(&self, position: usize) -> Result<Option<Item>, Error> {
        self.storage().get_item(position)
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        each: &mut dyn FnMut(Item, usize) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.storage().iterate(begin, end, each)
    }

    fn find_lower_bound(&self, first: usize, last: usize, bound: &Bound) -> usize {
        self.storage().find_lower_bound(first, last, bound)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::{Change, Entry, Key};

    fn change(micros: u64) -> Change {
        // Some have one stamp, as if a writer were faulty.
        let stamp = Stamp { micros: micros / 3, logical: 0, writer: WriterId(1) };
        let entry = Entry { stamp, replaces: None, value: None };
        Change { key: Key::Register(micros.to_string().into()), entry }
    }

    /// The result of `negentropy` itself with a sorted vector.
    fn reference<'a>(ids: impl Iterator<Item = &'a ChangeId>) -> NegentropyStorageVector {
        let mut vector = NegentropyStorageVector::new();
        for (time, id) in ids.map(|id| id.to_item()) {
            vector.insert(time, Id::from_byte_array(id)).unwrap();
        }
        vector.seal().unwrap();
        vector
    }

    #[test]
    fn a_place_has_no_padding() {
        assert_eq!(size_of::<(Place, Arc<Held>)>(), 40);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_index_that_changes_compares_like_a_sorted_vector(
            steps in proptest::collection::vec((0..3, 0..1500_u64), 0..4000),
            ranges in proptest::collection::vec((any::<usize>(), any::<usize>(), 0..1500_u64), 10),
        ) {
            let mut index = Index::default();
            let mut present = BTreeMap::new();
            for (step, micros) in steps {
                let id = change(micros).id();
                if step > 0 {
                    present.entry(id).or_insert_with(|| {
                        let held = Held::new(change(micros));
                        index.insert(id, Arc::clone(&held));
                        held
                    });
                } else if let Some(held) = present.remove(&id) {
                    prop_assert_eq!(index.remove(&held), Some(id));
                    prop_assert_eq!(index.remove(&held), None);
                }
            }
            for id in (0..1500).map(|micros| change(micros).id()) {
                prop_assert_eq!(index.get(id).is_some(), present.contains_key(&id));
            }
            prop_assert!(index.iter().zip(present.values()).all(|(a, b)| Arc::ptr_eq(a, b)));
            let reference = reference(present.keys());
            let index = index.ranges();
            prop_assert_eq!(index.size(), reference.size());
            for (a, b, micros) in ranges {
                let (a, b) = (a % (present.len() + 1), b % (present.len() + 1));
                let (begin, end) = (a.min(b), a.max(b));
                prop_assert_eq!(
                    index.fingerprint(begin, end)?.to_bytes(),
                    reference.fingerprint(begin, end)?.to_bytes()
                );
                prop_assert_eq!(index.get_item(begin), reference.get_item(begin));
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                index.iterate(begin, end, &mut |item, at| { ours.push((item, at)); Ok(true) })?;
                reference.iterate(begin, end, &mut |item, at| { theirs.push((item, at)); Ok(true) })?;
                prop_assert_eq!(ours, theirs);
                let (time, id) = change(micros).id().to_item();
                let item = Item::with_timestamp_and_id(time, Id::from_byte_array(id));
                for bound in [Bound::with_timestamp(micros / 3), Bound::from_item(&item)] {
                    prop_assert_eq!(
                        index.find_lower_bound(begin, end, &bound),
                        reference.find_lower_bound(begin, end, &bound)
                    );
                }
            }
        }
    }
}
