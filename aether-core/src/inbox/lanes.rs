//! A level whose sources take turns: a lane for each source, and one item of each lane in turn.
//!
//! Pure data, as [`Levels`](super::levels::Levels). Without it, one source that floods a level makes the waves of all others
//! wait behind its own. The number of lanes is fixed, so that invented sources fill no table: sources are assigned to lanes by
//! a keyed hash, and those that share a lane share its turns (stochastic fairness queueing: P. McKenney, INFOCOM 1990; RFC 8290
//! uses as many queues for the same purpose). Items of one source always keep their order.
//!
//! A source that had nothing waiting comes first, once; then it takes its turn behind those that have (the new and the old queues
//! of RFC 8290, section 4.2). Otherwise each item of a source that emits little would wait for one of a source that floods.

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
    /// The lanes of sources that had nothing waiting, the next first. Each has an item.
    fresh: VecDeque<u16>,
    /// The other lanes that take turns, the next first. One that has become empty keeps its place until its turn comes, so
    /// that its source is not fresh with each item.
    turns: VecDeque<u16>,
    keys: RandomState,
    len: usize,
}

struct Lane<T> {
    /// In the order of arrival.
    items: VecDeque<Queued<T>>,
    /// The weight of the items.
    bytes: usize,
    /// Whether it is among those that take turns.
    is_listed: bool,
}

impl<T: Queueable> Lanes<T> {
    pub(super) fn new() -> Self {
        let lanes = (0..LANES).map(|_| Lane { items: VecDeque::new(), bytes: 0, is_listed: false }).collect();
        Self { lanes, fresh: VecDeque::new(), turns: VecDeque::new(), keys: RandomState::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the newest item.
    pub(super) fn push(&mut self, queued: Queued<T>) {
        let (index, lane) = self.lane_of(&queued.item);
        let was_listed = std::mem::replace(&mut lane.is_listed, true);
        lane.bytes += queued.item.weight();
        lane.items.push_back(queued);
        self.len += 1;
        if !was_listed {
            self.fresh.push_back(index);
        }
    }

    /// Puts back an item that is older than all others of its source. It is the next to be popped.
    pub(super) fn put_back(&mut self, queued: Queued<T>) {
        let (index, lane) = self.lane_of(&queued.item);
        let was_listed = std::mem::replace(&mut lane.is_listed, true);
        lane.bytes += queued.item.weight();
        lane.items.push_front(queued);
        self.len += 1;
        if was_listed {
            self.forget(index);
        }
        self.fresh.push_front(index);
    }

    /// The oldest item of the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Queued<T>> {
        loop {
            let index = self.fresh.pop_front().or_else(|| self.turns.pop_front())?;
            match self.take(index, 0) {
                Some(queued) => {
                    self.turns.push_back(index);
                    return Some(queued);
                }
                // It has become empty since its last turn.
                None => self.lanes[usize::from(index)].is_listed = false,
            }
        }
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
        let longest = *self.listed().max_by_key(|turn| used(turn))?;
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
        let found = self.listed().filter_map(|turn| {
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
            self.lanes[usize::from(lane)].is_listed = false;
            self.forget(lane);
        }
        Some(queued)
    }

    /// Moves all items out, in the order of arrival.
    pub(super) fn dissolve(&mut self) -> VecDeque<Queued<T>> {
        let (fresh, turns) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.turns));
        let mut items: Vec<_> = fresh.iter().chain(&turns).flat_map(|turn| self.empty(*turn)).collect();
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
        (lane.bytes, lane.is_listed) = (0, false);
        std::mem::take(&mut lane.items)
    }

    /// The lanes that take turns, also those that are empty.
    fn listed(&self) -> impl Iterator<Item = &u16> {
        self.fresh.iter().chain(&self.turns)
    }

    fn forget(&mut self, lane: u16) {
        self.fresh.retain(|turn| *turn != lane);
        self.turns.retain(|turn| *turn != lane);
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
