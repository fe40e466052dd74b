//! A set of positions, kept as ranges: what was settled behind a wave that is not is mostly one range.

use std::collections::BTreeMap;

/// Positions, as ranges with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    /// The last position of each range by its first.
    ranges: BTreeMap<u64, u64>,
}

impl Positions {
    /// Adds a position. Returns whether it is new.
    pub(crate) fn insert(&mut self, position: u64) -> bool {
        if self.contains(position) {
            return false;
        }
        let before = self.ranges.range(..position).next_back().map(|(first, last)| (*first, *last));
        let first = before.filter(|(_, last)| last + 1 == position).map_or(position, |(first, _)| first);
        let after = position.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, after.unwrap_or(position));
        true
    }

    pub(crate) fn contains(&self, position: u64) -> bool {
        self.ranges.range(..=position).next_back().is_some_and(|(_, last)| *last >= position)
    }

    /// Removes everything up to a position.
    pub(crate) fn remove_to(&mut self, position: u64) {
        while let Some(range) = self.ranges.first_entry().filter(|range| *range.key() <= position) {
            let last = range.remove();
            if last > position {
                self.ranges.insert(position + 1, last);
            }
        }
    }

    /// The first position from this one on that is not here.
    pub(crate) fn first_absent_from(&self, position: u64) -> u64 {
        let range = self.ranges.range(..=position).next_back().filter(|(_, last)| **last >= position);
        range.map_or(position, |(_, last)| last.saturating_add(1))
    }

    /// How many there are between two positions, both included.
    pub(crate) fn count(&self, from: u64, to: u64) -> u64 {
        if from > to {
            return 0;
        }
        let before = self.ranges.range(..from).next_back();
        let within = self.ranges.range(from..=to);
        let part = |(first, last): (&u64, &u64)| {
            let (first, last) = ((*first).max(from), (*last).min(to));
            (last + 1).saturating_sub(first)
        };
        before.into_iter().chain(within).map(part).sum()
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }

    /// The number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges as start and length.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, last - first + 1)).collect()
    }

    /// Reads what [`ranges`](Self::ranges) wrote.
    pub(crate) fn of_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut positions = Self::default();
        for (start, length) in ranges {
            let Some(last) = length.checked_sub(1).and_then(|more| start.checked_add(more)) else { continue };
            match positions.ranges.last_entry() {
                // What is written is in order; anything else was damaged.
                Some(range) if *range.get() >= start => {}
                Some(mut range) if *range.get() + 1 == start => drop(range.insert(last)),
                _ => drop(positions.ranges.insert(start, last)),
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_as_ranges_is_the_same_set() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let (mut ranges, mut model) = (Positions::default(), BTreeSet::new());
            for _ in 0..300 {
                let position = random.u64(1..200);
                if random.u8(..20) == 0 {
                    ranges.remove_to(position / 4);
                    model.retain(|known| *known > position / 4);
                }
                assert_eq!(ranges.insert(position), model.insert(position));
                let (from, to) = (random.u64(..200), random.u64(..200));
                let expected = if from > to { 0 } else { model.range(from..=to).count() as u64 };
                assert_eq!(ranges.count(from, to), expected);
                assert_eq!(
                    (ranges.contains(from), ranges.last()),
                    (model.contains(&from), model.last().copied())
                );
                let absent = (from..).find(|position| !model.contains(position)).unwrap();
                assert_eq!(ranges.first_absent_from(from), absent);
            }
            assert_eq!(Positions::of_ranges(ranges.ranges()), ranges);
            let all: BTreeSet<u64> =
                ranges.ranges().into_iter().flat_map(|(start, length)| start..start + length).collect();
            assert_eq!(all, model);
            assert!(
                ranges.ranges().windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0),
                "gaps lie between"
            );
        }
    }

    #[test]
    fn a_million_positions_in_any_order_are_one_range() {
        let mut positions = Positions::default();
        (2..=1_000_000).rev().for_each(|position| assert!(positions.insert(position)));
        assert_eq!((positions.len(), positions.ranges()), (1, vec![(2, 999_999)]));
    }

    #[test]
    fn damaged_ranges_make_no_set_that_contradicts_itself() {
        let read = Positions::of_ranges([(5, 0), (u64::MAX, 2), (10, 3), (11, 1), (13, 2), (3, 1)]);
        assert_eq!(read.ranges(), [(10, 5)]);
    }
}
