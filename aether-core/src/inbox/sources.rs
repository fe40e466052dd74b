//! A level whose sources take turns: a lane for each source, and one item of each lane in turn.
//!
//! Pure data, as [`Levels`](super::levels::Levels). Without it, one source that floods a level makes the waves of all others
//! wait behind its own. The number of lanes is fixed, so that invented sources fill no table: sources are assigned to lanes by
//! a keyed hash, and those that share a lane share its turns (stochastic fairness queueing: P. McKenney, INFOCOM 1990; RFC 8290
//! uses as many queues for the same purpose). Items of one source always keep their order.
//!
//! Turns are numbered, as in start-time fair queueing. A source that does not use its turns saves them, up to [`SAVED`], and
//! comes first while it has some. Without that, a source had its part of the service only from moment to moment: it waited as
//! long as at a server of its own that is slower by the number of sources, also when the source that floods was served while
//! it had nothing waiting. So a few items that happen to come together waited for as many items of each other source.

use std::collections::VecDeque;
use std::hash::RandomState;

use super::queued::{Bound, IN_ORDER, Queueable, Queued, release_burst};

/// The number of lanes: 56 KiB for each level whose sources take turns. Two given sources share a lane with a probability of
/// one in 1024.
const LANES: usize = 1024;

/// The capacity kept for a lane, in items.
const KEPT: usize = 64;

/// How many turns a source can save: as many as the items of a list that is served in the order of arrival. A source without
/// saved turns waits for as many items of each other source at most before it has a turn for each of theirs.
pub(super) const SAVED: u64 = IN_ORDER as u64;

/// Items of several sources, served in turn.
pub(super) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// The lanes with items that have saved turns, the next first.
    first: VecDeque<u16>,
    /// The other lanes with items, the next first.
    turns: VecDeque<u16>,
    /// The number of the last turn of a lane that had none saved.
    turn: u64,
    keys: RandomState,
    len: usize,
}

struct Lane<T> {
    /// In the order of arrival.
    items: VecDeque<Queued<T>>,
    /// The weight of the items.
    bytes: usize,
    /// The number of its next turn, at most one after the last one. The turns in between are saved.
    next: u64,
}

impl<T: Queueable> Lanes<T> {
    pub(super) fn new() -> Self {
        let lanes = (0..LANES).map(|_| Lane { items: VecDeque::new(), bytes: 0, next: 0 }).collect();
        let (first, turns) = (VecDeque::new(), VecDeque::new());
        Self { lanes, first, turns, turn: SAVED, keys: RandomState::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the newest item.
    pub(super) fn push(&mut self, queued: Queued<T>) {
        let oldest_saved = self.turn.saturating_sub(SAVED);
        let (index, lane) = self.lane_of(&queued.item);
        let was_empty = lane.items.is_empty();
        lane.bytes += queued.item.weight();
        lane.items.push_back(queued);
        if was_empty {
            lane.next = lane.next.max(oldest_saved);
            self.list(index);
        }
        self.len += 1;
    }

    /// Puts back an item that is older than all others of its source. It is the next to be popped.
    pub(super) fn put_back(&mut self, queued: Queued<T>) {
        let (index, lane) = self.lane_of(&queued.item);
        let was_empty = lane.items.is_empty();
        lane.next = lane.next.saturating_sub(1);
        lane.bytes += queued.item.weight();
        lane.items.push_front(queued);
        self.len += 1;
        if !was_empty {
            self.forget(index);
        }
        self.first.push_front(index);
    }

    /// The oldest item of the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Queued<T>> {
        let index = match self.first.pop_front() {
            Some(index) => index,
            None => {
                let index = self.turns.pop_front()?;
                self.turn = self.turn.max(self.lanes[usize::from(index)].next);
                index
            }
        };
        let queued = self.take(index, 0)?;
        let lane = &mut self.lanes[usize::from(index)];
        lane.next += 1;
        if !lane.items.is_empty() {
            self.list(index);
        }
        Some(queued)
    }

    /// Puts a lane behind the others that have saved turns, or have not.
    fn list(&mut self, lane: u16) {
        match self.lanes[usize::from(lane)].next < self.turn {
            true => self.first.push_back(lane),
            false => self.turns.push_back(lane),
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
            self.forget(lane);
        }
        Some(queued)
    }

    /// Moves all items out, in the order of arrival. No source has used more turns than another afterwards.
    pub(super) fn dissolve(&mut self) -> VecDeque<Queued<T>> {
        let (first, turns) = (std::mem::take(&mut self.first), std::mem::take(&mut self.turns));
        let mut items: Vec<_> = first.iter().chain(&turns).flat_map(|turn| self.empty(*turn)).collect();
        // A lane's next turn is the one after the last, at most.
        self.turn += SAVED + 1;
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

    /// The lanes with items.
    fn listed(&self) -> impl Iterator<Item = &u16> {
        self.first.iter().chain(&self.turns)
    }

    fn forget(&mut self, lane: u16) {
        self.first.retain(|turn| *turn != lane);
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
