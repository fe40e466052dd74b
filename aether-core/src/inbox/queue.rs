//! The queue inside an inbox: 64 lists by strength with a bitmap of the non-empty ones, and the receiver's prefetch.
//!
//! A list is first in, first out. In a queue whose sources take turns, that changes when a list is longer than
//! [`IN_ORDER`] and holds items of several sources: until it is empty again, it is a set of [`Sources`].
//!
//! Pure data: no lock, no clock, no counting of losses. Pushing and popping are O(1), except that
//! [`Levels::pop_oldest`] checks the head of each occupied level, and the two conditional pops as many items as they
//! have to.
//!
//! Each level ever used has a ring buffer of its own, read and written sequentially. If emitter and receiver run on two
//! processors, four waves share a cache line that moves from one to the other. In a slab with links between its slots,
//! each wave needed one line, and another one to link it to its neighbour.

use std::collections::VecDeque;

use super::ledger::{Ledger, ShedReason};
use super::sources::{Bound, IN_ORDER, Queueable, Queued, Sources, release_burst};
use crate::amplitude::LEVELS;
use crate::wave::Wave;

/// Capacity kept for each used level, 16 KiB of waves: a queue that keeps emptying and filling does not allocate.
pub(super) const KEPT: usize = 1024;

/// An item that was popped, with what is needed to put it back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Popped<T> {
    pub(super) level: u8,
    /// The arrival mark it was pushed with.
    pub(super) arrival: u64,
    pub(super) item: T,
}

/// Items in 64 levels, 0 the strongest; first in, first out inside each level, or the sources in turn.
pub(super) struct Levels<T> {
    /// The rings of the levels ever used; most inboxes use only a few.
    rings: Vec<VecDeque<Queued<T>>>,
    /// The sources of the level with the same index in `rings`, whose ring is empty then. Shorter than `rings`, or empty.
    sources: Vec<Option<Box<Sources<T>>>>,
    /// The sources of a level that is a ring again, kept for the next level whose sources take turns.
    spare: Option<Box<Sources<T>>>,
    /// Rings longer than this are pushed to with care, as their sources may have to take turns.
    in_order: usize,
    /// The index in `rings` of each level; out of range if the level was never used.
    places: [u8; LEVELS],
    /// Bit `l` is set while level `l` is not empty.
    occupied: u64,
    len: usize,
    last_arrival: u64,
}

impl<T: Queueable> Levels<T> {
    /// Levels that are first in, first out, or whose sources take turns when they wait.
    pub(super) const fn new(takes_turns: bool) -> Self {
        Self {
            rings: Vec::new(),
            sources: Vec::new(),
            spare: None,
            in_order: if takes_turns { IN_ORDER } else { usize::MAX },
            places: [u8::MAX; LEVELS],
            occupied: 0,
            len: 0,
            last_arrival: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The arrival mark of the newest item; 0 if none was pushed.
    pub(super) fn last_arrival(&self) -> u64 {
        self.last_arrival
    }

    /// A bit for each non-empty level; level 0 is the lowest bit.
    pub(super) fn occupied(&self) -> u64 {
        self.occupied
    }

    /// Pushes an item. Its mark must be higher than any earlier mark.
    #[inline]
    pub(super) fn push(&mut self, level: u8, arrival: u64, item: T) {
        let level = level.min(LEVELS as u8 - 1);
        self.last_arrival = arrival;
        self.len += 1;
        self.occupied |= 1 << level;
        match self.rings.get_mut(usize::from(self.places[usize::from(level)])) {
            // The ring of a level whose sources take turns has no capacity.
            Some(ring) if ring.len() < ring.capacity().min(self.in_order) => {
                ring.push_back(Queued { arrival, item });
            }
            _ => self.push_with_care(level, arrival, item),
        }
    }

    /// Outlined, so that on the fast path the item stays in registers.
    #[inline(never)]
    fn push_with_care(&mut self, level: u8, arrival: u64, item: T) {
        let queued = Queued { arrival, item };
        if let Some(sources) = self.sources_mut(level.into()) {
            return sources.push(queued);
        }
        let in_order = self.in_order;
        let ring = self.ring_mut(level);
        let is_long = ring.len() >= in_order;
        if is_long && ring.back().is_some_and(|newest| !newest.item.is_of_source_of(&queued.item)) {
            return self.make_sources(level).push(queued);
        }
        ring.push_back(queued);
    }

    /// Lets the sources of a level take turns from now on.
    #[cold]
    fn make_sources(&mut self, level: u8) -> &mut Sources<T> {
        let ring = std::mem::take(self.ring_mut(level));
        let mut sources = self.spare.take().unwrap_or_else(|| Box::new(Sources::new()));
        ring.into_iter().for_each(|queued| sources.push(queued));
        let place = usize::from(self.places[usize::from(level)]);
        if self.sources.len() <= place {
            self.sources.resize_with(place + 1, || None);
        }
        self.sources[place].insert(sources)
    }

    /// The sources of a level, if they take turns.
    fn sources(&self, level: usize) -> Option<&Sources<T>> {
        self.sources.get(usize::from(self.places[level]))?.as_deref()
    }

    fn sources_mut(&mut self, level: usize) -> Option<&mut Sources<T>> {
        self.sources.get_mut(usize::from(self.places[level]))?.as_deref_mut()
    }

    /// Whether the sources of a level take turns.
    pub(super) fn takes_turns(&self, level: u8) -> bool {
        self.sources(level.into()).is_some()
    }

    /// Makes a level a ring again.
    fn dissolve_sources(&mut self, level: usize) {
        let place = usize::from(self.places[level]);
        if let Some(mut sources) = self.sources.get_mut(place).and_then(Option::take) {
            self.rings[place] = sources.dissolve();
            self.spare = Some(sources);
        }
    }

    /// The ring of a level, created on first use.
    fn ring_mut(&mut self, level: u8) -> &mut VecDeque<Queued<T>> {
        let place = &mut self.places[usize::from(level)];
        if usize::from(*place) >= self.rings.len() {
            // There are no more rings than levels.
            *place = self.rings.len() as u8;
            self.rings.push(VecDeque::new());
        }
        &mut self.rings[usize::from(*place)]
    }

    /// The ring of a non-empty level.
    fn ring(&self, level: usize) -> &VecDeque<Queued<T>> {
        &self.rings[usize::from(self.places[level])]
    }

    /// Puts back an item that was the next of its level when it was popped. Several items are put back youngest
    /// first.
    pub(super) fn put_back(&mut self, popped: Popped<T>) {
        let Popped { level, arrival, item } = popped;
        self.len += 1;
        self.occupied |= 1 << level;
        match self.sources_mut(level.into()) {
            Some(sources) => sources.put_back(Queued { arrival, item }),
            None => self.ring_mut(level).push_front(Queued { arrival, item }),
        }
    }

    /// The oldest item of the strongest level.
    #[inline]
    pub(super) fn pop_strongest(&mut self) -> Option<Popped<T>> {
        if self.occupied == 0 { None } else { self.pop_head(self.occupied.trailing_zeros() as usize) }
    }

    /// The strongest non-empty level.
    pub(super) fn strongest(&self) -> Option<u8> {
        (self.occupied != 0).then(|| self.occupied.trailing_zeros() as u8)
    }

    /// The weakest non-empty level.
    pub(super) fn weakest(&self) -> Option<u8> {
        self.occupied.checked_ilog2().map(|level| level as u8)
    }

    /// The oldest item of the weakest level; if its sources take turns, of the one that uses most of a bound.
    pub(super) fn pop_weakest(&mut self, bound: Bound) -> Option<Popped<T>> {
        let level = usize::from(self.weakest()?);
        match self.sources_mut(level) {
            None => self.pop_head(level),
            Some(sources) => {
                let queued = sources.pop_from_longest(bound);
                self.popped_from_sources(level, queued)
            }
        }
    }

    /// The item that was pushed first.
    pub(super) fn pop_oldest(&mut self) -> Option<Popped<T>> {
        let (_, level) = self.oldest()?;
        self.dissolve_sources(level);
        self.pop_head(level)
    }

    /// The mark of the item that was pushed first.
    pub(super) fn oldest_arrival(&self) -> Option<u64> {
        self.oldest().map(|(arrival, _)| arrival)
    }

    /// The mark and the level of the item that was pushed first.
    fn oldest(&self) -> Option<(u64, usize)> {
        let oldest = |level| match self.sources(level) {
            None => Some(self.ring(level).front()?.arrival),
            Some(sources) => sources.oldest_arrival(),
        };
        self.occupied_levels().filter_map(|level| Some((oldest(level)?, level))).min()
    }

    /// The non-empty levels, the strongest first.
    fn occupied_levels(&self) -> impl Iterator<Item = usize> + use<T> {
        let mut left = self.occupied;
        std::iter::from_fn(move || {
            let level = left.trailing_zeros() as usize;
            // Clears the lowest bit; ends at zero.
            left &= left.checked_sub(1)?;
            Some(level)
        })
    }

    /// The next item of a level.
    #[inline(always)]
    fn pop_head(&mut self, level: usize) -> Option<Popped<T>> {
        let ring = self.rings.get_mut(usize::from(self.places[level]))?;
        let Some(Queued { arrival, item }) = ring.pop_front() else { return self.pop_in_turn(level) };
        Self::shrunk_by_one(ring, &mut self.occupied, level);
        self.len -= 1;
        Some(Popped { level: level as u8, arrival, item })
    }

    /// The next item of a level whose sources take turns.
    #[inline(never)]
    fn pop_in_turn(&mut self, level: usize) -> Option<Popped<T>> {
        let queued = self.sources_mut(level)?.pop();
        self.popped_from_sources(level, queued)
    }

    /// Completes the removal of an item from the sources of a level, which is a ring again when they are empty.
    fn popped_from_sources(&mut self, level: usize, queued: Option<Queued<T>>) -> Option<Popped<T>> {
        let Queued { arrival, item } = queued?;
        self.len -= 1;
        if self.sources(level).is_some_and(|sources| sources.len() == 0) {
            self.occupied &= !(1 << level);
            self.dissolve_sources(level);
        }
        Some(Popped { level: level as u8, arrival, item })
    }

    /// Pops the next items of a level, at most `most`, and passes them to `take` in their order.
    pub(super) fn pop_heads(&mut self, level: u8, most: usize, mut take: impl FnMut(Popped<T>)) {
        if self.takes_turns(level) {
            let in_turn = std::iter::from_fn(|| self.pop_in_turn(level.into()));
            return in_turn.take(most).for_each(take);
        }
        let Some(ring) = self.rings.get_mut(usize::from(self.places[usize::from(level)])) else { return };
        let count = most.min(ring.len());
        for Queued { arrival, item } in ring.drain(..count) {
            take(Popped { level, arrival, item });
        }
        self.len -= count;
        Self::shrunk_by_one(ring, &mut self.occupied, usize::from(level));
    }

    /// The strongest, then next, item pushed after the mark `after` that `wanted` accepts. Checks only those items,
    /// up to the one it takes, so a caller that remembers [`Levels::last_arrival`] never sees an item twice.
    pub(super) fn pop_where(&mut self, after: u64, mut wanted: impl FnMut(&T) -> bool) -> Option<Popped<T>> {
        for level in self.occupied_levels() {
            if let Some(sources) = self.sources_mut(level) {
                let Some(queued) = sources.pop_where(after, &mut wanted) else { continue };
                return self.popped_from_sources(level, Some(queued));
            }
            let ring = self.ring(level);
            let first = ring.partition_point(|queued| queued.arrival <= after);
            let Some(found) = ring.range(first..).position(|queued| wanted(&queued.item)) else { continue };
            return self.take_out(level, first + found);
        }
        None
    }

    /// Like [`Levels::pop_where`], but takes the oldest of all levels.
    pub(super) fn pop_oldest_where(
        &mut self,
        after: u64,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Option<Popped<T>> {
        let mut best: Option<(u64, usize, usize)> = None;
        for level in self.occupied_levels() {
            self.dissolve_sources(level);
            let ring = self.ring(level);
            let first = ring.partition_point(|queued| queued.arrival <= after);
            let found = best.map_or(u64::MAX, |(arrival, ..)| arrival);
            let older = ring.range(first..).take_while(|queued| queued.arrival < found);
            for (index, queued) in older.enumerate() {
                if wanted(&queued.item) {
                    best = Some((queued.arrival, level, first + index));
                    break;
                }
            }
        }
        let (_, level, index) = best?;
        self.take_out(level, index)
    }

    /// Passes items pushed after the mark `after` and accepted by `wanted` to `take`, the strongest level first and in the
    /// order of each level, until `take` returns true. Returns whether all items were checked.
    pub(super) fn take_where(
        &mut self,
        after: u64,
        mut wanted: impl FnMut(&T) -> bool,
        mut take: impl FnMut(Popped<T>) -> bool,
    ) -> bool {
        let mut is_enough = false;
        for level in self.occupied_levels() {
            if is_enough {
                return false;
            }
            self.dissolve_sources(level);
            let Some(ring) = self.rings.get_mut(usize::from(self.places[level])) else { continue };
            let first = ring.partition_point(|queued| queued.arrival <= after);
            let Some(found) = ring.range(first..).position(|queued| wanted(&queued.item)) else { continue };
            for queued in ring.split_off(first + found) {
                if is_enough || !wanted(&queued.item) {
                    ring.push_back(queued);
                    continue;
                }
                let Queued { arrival, item } = queued;
                self.len -= 1;
                is_enough = take(Popped { level: level as u8, arrival, item });
            }
            Self::shrunk_by_one(ring, &mut self.occupied, level);
        }
        !is_enough
    }

    /// Removes an item from the middle of a level.
    fn take_out(&mut self, level: usize, index: usize) -> Option<Popped<T>> {
        let ring = self.rings.get_mut(usize::from(self.places[level]))?;
        let Queued { arrival, item } = ring.remove(index)?;
        Self::shrunk_by_one(ring, &mut self.occupied, level);
        self.len -= 1;
        Some(Popped { level: level as u8, arrival, item })
    }

    #[inline]
    fn shrunk_by_one(ring: &mut VecDeque<Queued<T>>, occupied: &mut u64, level: usize) {
        if ring.is_empty() {
            *occupied &= !(1 << level);
        }
        release_burst(ring, KEPT);
    }

    /// The items that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let sources = self.sources.iter().flatten().chain(&self.spare).map(|sources| sources.capacity());
        self.rings.iter().map(VecDeque::capacity).chain(sources).sum()
    }
}

/// The maximum number of waves in a prefetch.
pub(super) const PREFETCH: usize = 32;

/// Up to 32 waves in the order of receiving, and the counts of those taken from it. Guarded by a lock of its own, which is
/// normally taken by the receiver only.
#[derive(Default)]
pub(super) struct Prefetch {
    waves: VecDeque<Popped<Wave>>,
    taken: Taken,
}

/// The counts of the waves that left a prefetch since it was last settled.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) ledger: Ledger,
    pub(super) bytes: usize,
}

impl Prefetch {
    pub(super) fn len(&self) -> usize {
        self.waves.len()
    }

    pub(super) fn add(&mut self, popped: Popped<Wave>) {
        self.waves.push_back(popped);
    }

    /// The next wave.
    pub(super) fn next(&self) -> Option<&Popped<Wave>> {
        self.waves.front()
    }

    /// Takes the next wave and counts it as delivered, or as lost for a reason.
    #[inline]
    pub(super) fn take_next(&mut self, lost: Option<ShedReason>) -> Option<Wave> {
        let wave = self.waves.pop_front()?.item;
        self.taken.bytes += wave.weight();
        match lost {
            None => self.taken.ledger.delivered += 1,
            Some(reason) => self.taken.ledger.count_loss(reason),
        }
        Some(wave)
    }

    /// Takes the last wave, to put it back into its level.
    pub(super) fn take_youngest(&mut self) -> Option<Popped<Wave>> {
        self.waves.pop_back()
    }

    /// The counts since the last call.
    pub(super) fn settle(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }
}
