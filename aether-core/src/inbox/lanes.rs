//! A level whose sources take turns: a lane for each source, and one item of each lane in turn.
//!
//! Pure data, as [`Levels`](super::levels::Levels). Without it, one source that floods a level makes the waves of all others
//! wait behind its own. The number of lanes is fixed, so that invented sources fill no table: sources are assigned to lanes by
//! a keyed hash, and those that share a lane share its turns (stochastic fairness queueing: P. McKenney, INFOCOM 1990; RFC 8290
//! uses as many queues for the same purpose). Items of one source always keep their order.

use std::collections::VecDeque;
use std::hash::RandomState;

use super::queued::{Bound, Queueable, Queued, release_burst};

/// The number of lanes: 40 KiB for each level whose sources take turns. Two given sources share a lane with a probability of
/// one in 1024.
const LANES: usize = 1024;

/// The capacity kept for a lane, in items.
const KEPT: usize = 64;

/// Items of several sources, served in turn.
pub(super) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// The lanes that hold items, the next first.
    turns: VecDeque<u16>,
    keys: RandomState,
    len: usize,
}

struct Lane<T> {
    /// In the order of arrival.
    items: VecDeque<Queued<T>>,
    /// The weight of the items.
    bytes: usize,
}

impl<T: Queueable> Lanes<T> {
    pub(super) fn new() -> Self {
        let lanes = (0..LANES).map(|_| Lane { items: VecDeque::new(), bytes: 0 }).collect();
        Self { lanes, turns: VecDeque::new(), keys: RandomState::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the newest item. A lane that was empty takes its turn after all others.
    pub(super) fn push(&mut self, queued: Queued<T>) {
        let (index, lane) = self.lane_of(&queued.item);
        let was_empty = lane.items.is_empty();
        lane.bytes += queued.item.weight();
        lane.items.push_back(queued);
        self.len += 1;
        if was_empty {
            self.turns.push_back(index);
        }
    }

    /// Puts back an item that is older than all others of its source. It is the next to be popped.
    pub(super) fn put_back(&mut self, queued: Queued<T>) {
        let (index, lane) = self.lane_of(&queued.item);
        let was_empty = lane.items.is_empty();
        lane.bytes += queued.item.weight();
        lane.items.push_front(queued);
        self.len += 1;
        if !was_empty {
            self.turns.retain(|turn| *turn != index);
        }
        self.turns.push_front(index);
    }

    /// The oldest item of the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Queued<T>> {
        let index = self.turns.pop_front()?;
        let queued = self.take(index, 0)?;
        if !self.lanes[usize::from(index)].items.is_empty() {
            self.turns.push_back(index);
        }
        Some(queued)
    }

    /// The oldest item of the lane that uses most of a bound.
    pub(super) fn pop_from_longest(&mut self, bound: Bound) -> Option<Queued<T>> {
        let used = |turn: &u16| {
            let lane = &self.lanes[usize::from(*turn)];
            match bound {
                Bound::Waves => lane.items.len(),
                Bound::Bytes => lane.bytes,
            }
        };
        let longest = *self.turns.iter().max_by_key(|turn| used(turn))?;
        self.take_out(longest, 0)
    }

    /// The mark of the item that was pushed first.
    pub(super) fn oldest_arrival(&self) -> Option<u64> {
        self.oldest_where(0, |_| true).map(|(arrival, ..)| arrival)
    }

    /// The oldest item pushed after the mark `after` that `wanted` accepts: its mark, its lane and its place there.
    pub(super) fn oldest_where(
        &self,
        after: u64,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Option<(u64, u16, usize)> {
        let found = self.turns.iter().filter_map(|turn| {
            let items = &self.lanes[usize::from(*turn)].items;
            let first = items.partition_point(|queued| queued.arrival <= after);
            let (place, queued) =
                items.iter().enumerate().skip(first).find(|(_, queued)| wanted(&queued.item))?;
            Some((queued.arrival, *turn, place))
        });
        found.min()
    }

    /// Removes an item from its place in a lane.
    pub(super) fn take_out(&mut self, lane: u16, place: usize) -> Option<Queued<T>> {
        let queued = self.take(lane, place)?;
        if self.lanes[usize::from(lane)].items.is_empty() {
            self.turns.retain(|turn| *turn != lane);
        }
        Some(queued)
    }

    /// Moves all items out, in the order of arrival.
    pub(super) fn dissolve(&mut self) -> VecDeque<Queued<T>> {
        let turns = std::mem::take(&mut self.turns);
        let mut items: Vec<_> = turns.iter().flat_map(|turn| self.empty(*turn)).collect();
        items.sort_unstable_by_key(|queued| queued.arrival);
        self.len = 0;
        items.into()
    }

    /// The items that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.lanes.iter().map(|lane| lane.items.capacity()).sum()
    }

    fn empty(&mut self, lane: u16) -> VecDeque<Queued<T>> {
        let lane = &mut self.lanes[usize::from(lane)];
        lane.bytes = 0;
        std::mem::take(&mut lane.items)
    }

    fn lane_of(&mut self, item: &T) -> (u16, &mut Lane<T>) {
        // There are no more lanes than 2^16.
        let index = (item.source_hash(&self.keys) % LANES as u64) as u16;
        (index, &mut self.lanes[usize::from(index)])
    }

    fn take(&mut self, lane: u16, place: usize) -> Option<Queued<T>> {
        let lane = &mut self.lanes[usize::from(lane)];
        let queued = lane.items.remove(place)?;
        lane.bytes -= queued.item.weight();
        self.len -= 1;
        release_burst(&mut lane.items, KEPT);
        Some(queued)
    }
}
