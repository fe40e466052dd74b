//! The queue inside an inbox: 64 first-in first-out lists, and a bitmap of those that are not empty.
//!
//! Pure data: no lock, no clock, no counting of losses. Pushing and popping are O(1), but [`Levels::pop_oldest`] looks
//! at the head of each occupied level, and the two with a condition at what they have to.
//!
//! Each list that was ever used is a ring in memory of its own, written and read from one end to the other: where emitter and receiver run
//! on two processors, four waves share a cache line that goes from the one to the other. In a slab with links between
//! its slots each wave took a line, and another to be linked to its neighbour.

use std::collections::VecDeque;

use crate::amplitude::LEVELS;

/// An item that was taken out, with what is needed to put it back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Popped<T> {
    pub(super) level: u8,
    /// As it was pushed with.
    pub(super) arrival: u64,
    pub(super) item: T,
}

/// An item in its level.
struct Queued<T> {
    arrival: u64,
    item: T,
}

/// Items in 64 levels, 0 the strongest; first in, first out inside each.
pub(super) struct Levels<T> {
    /// Of the levels that were ever used, as few inboxes see more than some.
    rings: Vec<VecDeque<Queued<T>>>,
    /// Where in `rings` each level is; behind its end if the level was never used.
    places: [u8; LEVELS],
    /// Bit `l` is set while level `l` holds something.
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

    /// The mark of the newest item that was pushed; 0 if none was.
    pub(super) fn last_arrival(&self) -> u64 {
        self.last_arrival
    }

    /// A bit for each level that holds something; level 0 is the lowest bit.
    pub(super) fn occupied(&self) -> u64 {
        self.occupied
    }

    /// Enters an item, with a mark that is higher than that of any other.
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

    /// Apart, so that where there is room the item stays in registers on its way.
    #[cold]
    #[inline(never)]
    fn push_and_grow(&mut self, level: u8, arrival: u64, item: T) {
        self.ring_mut(level).push_back(Queued { arrival, item });
    }

    /// The ring of a level, made if it is not there yet.
    fn ring_mut(&mut self, level: u8) -> &mut VecDeque<Queued<T>> {
        let place = &mut self.places[usize::from(level)];
        if usize::from(*place) >= self.rings.len() {
            // At most as many as there are levels.
            *place = self.rings.len() as u8;
            self.rings.push(VecDeque::new());
        }
        &mut self.rings[usize::from(*place)]
    }

    /// The ring of a level that holds something.
    fn ring(&self, level: usize) -> &VecDeque<Queued<T>> {
        &self.rings[usize::from(self.places[level])]
    }

    /// Puts an item back that was the oldest of its level when it was popped. Several are put back youngest first.
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

    /// The weakest level that holds something.
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

    /// The same with its level.
    fn oldest(&self) -> Option<(u64, usize)> {
        self.occupied_levels().filter_map(|l| Some((self.ring(l).front()?.arrival, l))).min()
    }

    /// Those that hold something, the strongest first.
    fn occupied_levels(&self) -> impl Iterator<Item = usize> + use<T> {
        let mut left = self.occupied;
        std::iter::from_fn(move || {
            let level = left.trailing_zeros() as usize;
            // Taking the lowest bit away; of nothing there is no lowest.
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

    /// The strongest, then oldest, item pushed after the mark `after` that `wanted` accepts. Looks at those items
    /// only, so that a caller who remembers [`Levels::last_arrival`] never looks at one twice.
    pub(super) fn pop_where(&mut self, after: u64, mut wanted: impl FnMut(&T) -> bool) -> Option<Popped<T>> {
        for level in self.occupied_levels() {
            let ring = self.ring(level);
            let first = ring.partition_point(|queued| queued.arrival <= after);
            let Some(found) = ring.range(first..).position(|queued| wanted(&queued.item)) else { continue };
            return self.take_out(level, first + found);
        }
        None
    }

    /// The same, the oldest of all levels.
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

    /// Takes an item out of the middle of a level.
    fn take_out(&mut self, level: usize, index: usize) -> Option<Popped<T>> {
        let ring = self.rings.get_mut(usize::from(self.places[level]))?;
        let Queued { arrival, item } = ring.remove(index)?;
        Self::shrunk_by_one(ring, &mut self.occupied, level);
        self.len -= 1;
        Some(Popped { level: level as u8, arrival, item })
    }

    /// Memory that a burst took is given back when seven eighths of it are empty.
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

    /// Room for so many items is kept, 16 KiB of waves in a level that was that full: a queue that empties and fills
    /// again all the time allocates nothing.
    const KEPT: usize = 1024;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same queue as a plain list of (level, arrival, item): slow and obviously right.
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
    enum Step {
        Push(u8),
        Strongest,
        Weakest,
        Oldest,
        /// Only items pushed among the last so many, and of an even number.
        Even(u64),
        /// The same, the oldest of them.
        OldestEven(u64),
        /// Takes so many of the strongest out and puts them back.
        PutBack(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0..70u8).prop_map(Step::Push),
            1 => Just(Step::Strongest),
            1 => Just(Step::Weakest),
            1 => Just(Step::Oldest),
            1 => (0..20u64).prop_map(Step::Even),
            1 => (0..20u64).prop_map(Step::OldestEven),
            1 => (0..9usize).prop_map(Step::PutBack),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in prop::collection::vec(any_step(), 0..300)) {
            let mut levels = Levels::new();
            let mut naive = Naive::default();
            for step in steps {
                match step {
                    Step::Push(level) => {
                        naive.arrivals += 1;
                        naive.items.push((level.min(63), naive.arrivals));
                        levels.push(level, naive.arrivals, naive.arrivals);
                    }
                    Step::Strongest => {
                        let expected = naive.pop_by(|a, b| (a.0, a.1) < (b.0, b.1));
                        prop_assert_eq!(levels.pop_strongest().map(pair), expected);
                    }
                    Step::Weakest => {
                        let expected = naive.pop_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1));
                        prop_assert_eq!(levels.pop_weakest().map(pair), expected);
                    }
                    Step::Oldest => {
                        let expected = naive.pop_by(|a, b| a.1 < b.1);
                        prop_assert_eq!(levels.pop_oldest().map(pair), expected);
                    }
                    Step::PutBack(count) => {
                        let prefetch: Vec<_> = (0..count).map_while(|_| levels.pop_strongest()).collect();
                        for popped in prefetch.into_iter().rev() {
                            levels.put_back(popped);
                        }
                    }
                    Step::Even(back) | Step::OldestEven(back) => {
                        let strength = matches!(step, Step::Even(_));
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
