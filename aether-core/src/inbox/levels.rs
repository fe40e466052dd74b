//! The queue inside an inbox: 64 FIFO lists, and a bitmap of the non-empty ones.
//!
//! Pure data: no lock, no clock, no counting of losses. Pushing and popping are O(1), except that
//! [`Levels::pop_oldest`] checks the head of each occupied level, and the two conditional pops check as many items as
//! they have to.
//!
//! Each level ever used has a ring buffer of its own, read and written sequentially. If emitter and receiver run on two
//! processors, four waves share a cache line that moves from one to the other. In a slab with links between its slots,
//! each wave needed one line, and another one to link it to its neighbour.

use std::collections::VecDeque;

use crate::amplitude::LEVELS;

/// An item that was popped, with what is needed to put it back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Popped<T> {
    pub(super) level: u8,
    /// The arrival mark it was pushed with.
    pub(super) arrival: u64,
    pub(super) item: T,
}

/// An item in its level.
struct Queued<T> {
    arrival: u64,
    item: T,
}

/// Items in 64 levels, 0 the strongest; first in, first out inside each level.
pub(super) struct Levels<T> {
    /// The rings of the levels ever used; most inboxes use only a few.
    rings: Vec<VecDeque<Queued<T>>>,
    /// The index in `rings` of each level; out of range if the level was never used.
    places: [u8; LEVELS],
    /// Bit `l` is set while level `l` is not empty.
    occupied: u64,
    len: usize,
    last_arrival: u64,
}

impl<T> Levels<T> {
    pub(super) const fn new() -> Self {
        Self { rings: Vec::new(), places: [u8::MAX; LEVELS], occupied: 0, len: 0, last_arrival: 0 }
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

    /// Pushes an item. Its mark must be higher than that of any other.
    #[inline]
    pub(super) fn push(&mut self, level: u8, arrival: u64, item: T) {
        let level = level.min(LEVELS as u8 - 1);
        self.last_arrival = arrival;
        self.len += 1;
        self.occupied |= 1 << level;
        match self.rings.get_mut(usize::from(self.places[usize::from(level)])) {
            Some(ring) if ring.len() < ring.capacity() => ring.push_back(Queued { arrival, item }),
            _ => self.push_and_grow(level, arrival, item),
        }
    }

    /// Outlined, so that on the fast path the item stays in registers.
    #[cold]
    #[inline(never)]
    fn push_and_grow(&mut self, level: u8, arrival: u64, item: T) {
        self.ring_mut(level).push_back(Queued { arrival, item });
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

    /// Puts back an item that was the oldest of its level when it was popped. Several items are put back youngest
    /// first.
    pub(super) fn put_back(&mut self, popped: Popped<T>) {
        let Popped { level, arrival, item } = popped;
        self.len += 1;
        self.occupied |= 1 << level;
        self.ring_mut(level).push_front(Queued { arrival, item });
    }

    /// The oldest item of the strongest level.
    #[inline]
    pub(super) fn pop_strongest(&mut self) -> Option<Popped<T>> {
        if self.occupied == 0 { None } else { self.pop_head(self.occupied.trailing_zeros() as usize) }
    }

    /// The weakest non-empty level.
    pub(super) fn weakest(&self) -> Option<u8> {
        self.occupied.checked_ilog2().map(|level| level as u8)
    }

    /// The oldest item of the weakest level.
    pub(super) fn pop_weakest(&mut self) -> Option<Popped<T>> {
        self.pop_head(self.weakest()?.into())
    }

    /// The item that was pushed first.
    pub(super) fn pop_oldest(&mut self) -> Option<Popped<T>> {
        let (_, level) = self.oldest()?;
        self.pop_head(level)
    }

    /// The mark of the item that was pushed first.
    pub(super) fn oldest_arrival(&self) -> Option<u64> {
        self.oldest().map(|(arrival, _)| arrival)
    }

    /// The mark and the level of the item that was pushed first.
    fn oldest(&self) -> Option<(u64, usize)> {
        self.occupied_levels().filter_map(|l| Some((self.ring(l).front()?.arrival, l))).min()
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

    /// The oldest item of a level.
    #[inline(always)]
    fn pop_head(&mut self, level: usize) -> Option<Popped<T>> {
        let ring = self.rings.get_mut(usize::from(self.places[level]))?;
        let Queued { arrival, item } = ring.pop_front()?;
        Self::shrunk_by_one(ring, &mut self.occupied, level);
        self.len -= 1;
        Some(Popped { level: level as u8, arrival, item })
    }

    /// Pops the oldest items of a level, at most `most`, and passes them to `take` in their order.
    pub(super) fn pop_heads(&mut self, level: u8, most: usize, mut take: impl FnMut(Popped<T>)) {
        let Some(ring) = self.rings.get_mut(usize::from(self.places[usize::from(level)])) else { return };
        let count = most.min(ring.len());
        for Queued { arrival, item } in ring.drain(..count) {
            take(Popped { level, arrival, item });
        }
        self.len -= count;
        Self::shrunk_by_one(ring, &mut self.occupied, usize::from(level));
    }

    /// The strongest, then oldest, item pushed after the mark `after` that `wanted` accepts. Checks only those items,
    /// so a caller that remembers [`Levels::last_arrival`] never sees an item twice.
    pub(super) fn pop_where(&mut self, after: u64, mut wanted: impl FnMut(&T) -> bool) -> Option<Popped<T>> {
        for level in self.occupied_levels() {
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

    /// Releases the memory of a burst when seven eighths of it are empty.
    #[inline]
    fn shrunk_by_one(ring: &mut VecDeque<Queued<T>>, occupied: &mut u64, level: usize) {
        if ring.is_empty() {
            *occupied &= !(1 << level);
        }
        if ring.capacity() > Self::KEPT && ring.len() < ring.capacity() / 8 {
            Self::shrink(ring);
        }
    }

    #[cold]
    #[inline(never)]
    fn shrink(queue: &mut VecDeque<Queued<T>>) {
        queue.shrink_to(Self::KEPT.max(2 * queue.len()));
    }

    /// Capacity kept for each used level, 16 KiB of waves: a queue that keeps emptying and filling does not allocate.
    const KEPT: usize = 1024;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reference queue, a plain list of (level, arrival, item): slow and obviously right.
    #[derive(Default)]
    struct Naive {
        items: Vec<(u8, u64)>,
        arrivals: u64,
    }

    impl Naive {
        fn pop_by(&mut self, better: impl Fn(&(u8, u64), &(u8, u64)) -> bool) -> Option<(u8, u64)> {
            let best = (0..self.items.len())
                .reduce(|a, b| if better(&self.items[b], &self.items[a]) { b } else { a })?;
            Some(self.items.remove(best))
        }
    }

    fn pair<T>(popped: Popped<T>) -> (u8, T) {
        (popped.level, popped.item)
    }

    #[derive(Debug, Clone)]
    enum LevelStep {
        Push(u8),
        Strongest,
        Weakest,
        Oldest,
        /// Pops the strongest even item among the last n pushed.
        Even(u64),
        /// Pops the oldest of those.
        OldestEven(u64),
        /// Pops at most the given number of even items among the last n pushed.
        Evens(u64, usize),
        /// Takes the n strongest out and puts them back.
        PutBack(usize),
        /// Pops at most n items of the strongest level.
        Heads(usize),
    }

    fn any_step() -> impl Strategy<Value = LevelStep> {
        prop_oneof![
            5 => (0..70u8).prop_map(LevelStep::Push),
            1 => Just(LevelStep::Strongest),
            1 => Just(LevelStep::Weakest),
            1 => Just(LevelStep::Oldest),
            1 => (0..20u64).prop_map(LevelStep::Even),
            1 => (0..20u64).prop_map(LevelStep::OldestEven),
            1 => (0..9usize).prop_map(LevelStep::PutBack),
            1 => (0..9usize).prop_map(LevelStep::Heads),
            1 => (0..40u64, 1..9usize).prop_map(|(back, most)| LevelStep::Evens(back, most)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in prop::collection::vec(any_step(), 0..300)) {
            let mut levels = Levels::new();
            let mut naive = Naive::default();
            for step in steps {
                match step {
                    LevelStep::Push(level) => {
                        naive.arrivals += 1;
                        naive.items.push((level.min(63), naive.arrivals));
                        levels.push(level, naive.arrivals, naive.arrivals);
                    }
                    LevelStep::Strongest => {
                        let expected = naive.pop_by(|a, b| (a.0, a.1) < (b.0, b.1));
                        prop_assert_eq!(levels.pop_strongest().map(pair), expected);
                    }
                    LevelStep::Weakest => {
                        let expected = naive.pop_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1));
                        prop_assert_eq!(levels.pop_weakest().map(pair), expected);
                    }
                    LevelStep::Oldest => {
                        let expected = naive.pop_by(|a, b| a.1 < b.1);
                        prop_assert_eq!(levels.pop_oldest().map(pair), expected);
                    }
                    LevelStep::PutBack(count) => {
                        let prefetch: Vec<_> = (0..count).map_while(|_| levels.pop_strongest()).collect();
                        for popped in prefetch.into_iter().rev() {
                            levels.put_back(popped);
                        }
                    }
                    LevelStep::Heads(most) => {
                        let Some(level) = naive.items.iter().map(|item| item.0).min() else { continue };
                        let count = naive.items.iter().filter(|item| item.0 == level).count().min(most);
                        let expected: Vec<_> =
                            (0..count).map_while(|_| naive.pop_by(|a, b| (a.0, a.1) < (b.0, b.1))).collect();
                        let mut taken = Vec::new();
                        levels.pop_heads(level, most, |popped| taken.push(pair(popped)));
                        prop_assert_eq!(taken, expected);
                    }
                    LevelStep::Evens(back, most) => {
                        let after = naive.arrivals.saturating_sub(back);
                        let fits = |item: u64| item > after && item.is_multiple_of(2);
                        let mut expected: Vec<_> = naive.items.extract_if(.., |item| fits(item.1)).collect();
                        expected.sort_unstable();
                        let is_all = expected.len() < most;
                        naive.items.extend(expected.split_off(most.min(expected.len())));
                        naive.items.sort_by_key(|item| item.1);
                        let mut taken = Vec::new();
                        let even = |item: &u64| item.is_multiple_of(2);
                        let has_seen_all = levels.take_where(after, even, |popped| {
                            taken.push(pair(popped));
                            taken.len() >= most
                        });
                        prop_assert_eq!(taken, expected);
                        prop_assert_eq!(has_seen_all, is_all);
                    }
                    LevelStep::Even(back) | LevelStep::OldestEven(back) => {
                        let strength = matches!(step, LevelStep::Even(_));
                        let after = naive.arrivals.saturating_sub(back);
                        let fits = |item: u64| item > after && item.is_multiple_of(2);
                        let kept: Vec<_> = naive.items.extract_if(.., |item| !fits(item.1)).collect();
                        let expected = naive.pop_by(|a, b| match strength {
                            true => (a.0, a.1) < (b.0, b.1),
                            false => a.1 < b.1,
                        });
                        naive.items.extend(kept);
                        naive.items.sort_by_key(|item| item.1);
                        let even = |item: &u64| item.is_multiple_of(2);
                        let popped = match strength {
                            true => levels.pop_where(after, even),
                            false => levels.pop_oldest_where(after, even),
                        };
                        prop_assert_eq!(popped.map(pair), expected);
                    }
                }
                prop_assert_eq!(levels.len(), naive.items.len());
                prop_assert_eq!(levels.last_arrival(), naive.arrivals);
            }
        }
    }

    #[test]
    fn the_memory_of_a_burst_is_given_back_as_it_empties() {
        let mut levels = Levels::new();
        let room = |levels: &Levels<u64>| levels.rings.iter().map(VecDeque::capacity).sum::<usize>();
        for item in 0..1_000_000 {
            levels.push((item % 4) as u8, item + 1, item);
        }
        while levels.len() > 10_000 {
            levels.pop_strongest();
        }
        assert!(room(&levels) <= 8 * 10_000 + 3 * Levels::<u64>::KEPT, "{}", room(&levels));
        while levels.pop_strongest().is_some() {}
        assert!(room(&levels) <= 4 * Levels::<u64>::KEPT, "{}", room(&levels));
        levels.push(3, 2_000_000, 7);
        assert_eq!(levels.pop_weakest().map(pair), Some((3, 7)));
    }
}
