//! The connection slots of the HTTP server, and which connection is closed when they run out.
//!
//! The [server](crate::server) takes a slot for each connection. There are two rooms with a fixed number of slots: for
//! connections whose request has not arrived, and for connections that are being answered. So clients that send nothing
//! and clients that read nothing cannot take each other's slots. A new connection is always admitted. When its room is
//! full, the source address with the most slots in that room loses its oldest one. If all connections have one source,
//! that is the oldest of all. So a client keeps its slot until newer connections fill the whole room, however many idle
//! ones there are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::client::network;

/// Slots for connections whose request has not arrived.
const WAITING: usize = 192;
/// Slots for connections that are being answered.
const ANSWERING: usize = 64;

/// Counts of connections, and of those that the server closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connections {
    /// Accepted in total.
    pub accepted: u64,
    /// Closed for newer ones before their request arrived.
    pub evicted_waiting: u64,
    /// Closed for newer ones before they had read their answer.
    pub evicted_answering: u64,
    /// Exceeded the time limit of their request or answer.
    pub timed_out: u64,
}

/// All slots.
#[derive(Debug)]
pub struct Slots {
    rooms: Mutex<Rooms>,
}

#[derive(Debug)]
struct Rooms {
    waiting: Room,
    answering: Room,
    next: u64,
    counts: Connections,
}

/// Connections by number, oldest first.
#[derive(Debug)]
struct Room {
    slots: usize,
    taken: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    by_source: HashMap<IpAddr, usize>,
}

/// The slot of one connection. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    lost: Arc<Notify>,
    is_answered: AtomicBool,
}

impl Slots {
    /// 192 slots for connections whose request has not arrived, and 64 for those that are being answered.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_bounds(WAITING, ANSWERING)
    }

    fn with_bounds(waiting: usize, answering: usize) -> Arc<Self> {
        let rooms = Rooms {
            waiting: Room::new(waiting),
            answering: Room::new(answering),
            next: 0,
            counts: Connections::default(),
        };
        Arc::new(Self { rooms: Mutex::new(rooms) })
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Connections {
        self.rooms.lock().counts
    }

    /// Takes a slot for a connection whose request has not arrived.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr) -> Slot {
        let (source, lost) = (network(source), Arc::new(Notify::new()));
        let mut rooms = self.rooms.lock();
        let number = rooms.next;
        rooms.next += 1;
        rooms.counts.accepted += 1;
        rooms.waiting.enter(number, source, Arc::clone(&lost));
        drop(rooms);
        Slot { slots: Arc::clone(self), number, lost, is_answered: AtomicBool::new(false) }
    }

    /// Closes one connection whose request has not arrived, to free a resource that slots do not count.
    pub(crate) fn evict_one(&self) {
        self.rooms.lock().waiting.evict();
    }
}

impl Slot {
    /// Moves the connection to the other room, because its request has arrived, which names its source: behind a proxy,
    /// another one. A connection that has just lost its slot gets one back.
    pub(crate) fn answer(&self, source: IpAddr) {
        let mut rooms = self.slots.rooms.lock();
        if self.is_answered.swap(true, Ordering::Relaxed) {
            return;
        }
        rooms.waiting.leave(self.number);
        rooms.answering.enter(self.number, network(source), Arc::clone(&self.lost));
    }

    /// Gives the slot back, because the connection has bounds of its own from now on.
    pub(crate) fn leave(&self) {
        let mut rooms = self.slots.rooms.lock();
        rooms.waiting.leave(self.number);
        rooms.answering.leave(self.number);
    }

    /// Waits until a newer connection takes the slot, and counts that.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is missed.
    pub(crate) async fn lost(&self) {
        loop {
            self.lost.notified().await;
            let mut rooms = self.slots.rooms.lock();
            if rooms.waiting.holds(self.number) || rooms.answering.holds(self.number) {
                continue;
            }
            if self.is_answered.load(Ordering::Relaxed) {
                rooms.counts.evicted_answering += 1;
            } else {
                rooms.counts.evicted_waiting += 1;
            }
            return;
        }
    }

    pub(crate) fn timed_out(&self) {
        self.slots.rooms.lock().counts.timed_out += 1;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Room {
    fn new(slots: usize) -> Self {
        Self { slots, taken: BTreeMap::new(), by_source: HashMap::new() }
    }

    fn holds(&self, number: u64) -> bool {
        self.taken.contains_key(&number)
    }

    /// Takes a slot, if necessary from another connection.
    fn enter(&mut self, number: u64, source: IpAddr, lost: Arc<Notify>) {
        if self.taken.len() >= self.slots {
            self.evict();
        }
        self.taken.insert(number, (source, lost));
        *self.by_source.entry(source).or_default() += 1;
    }

    fn leave(&mut self, number: u64) {
        let Some((source, _)) = self.taken.remove(&number) else { return };
        if let Some(slots) = self.by_source.get_mut(&source) {
            *slots -= 1;
            if *slots == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    /// Frees the oldest slot of the source with the most slots.
    fn evict(&mut self) {
        let most = self.by_source.values().max().copied();
        let is_of_most = |source: &IpAddr| self.by_source.get(source).copied() == most;
        let oldest = self.taken.iter().find(|(_, (source, _))| is_of_most(source));
        if let Some((&number, (_, lost))) = oldest {
            lost.notify_one();
            self.leave(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn source(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn has_lost(slot: &Slot) -> bool {
        slot.lost().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_waiting_connection_is_closed_and_answered_ones_are_not() {
        let slots = Slots::with_bounds(2, 1);
        let (first, second) = (slots.enter(source(1)), slots.enter(source(1)));
        first.answer(source(1));
        let third = slots.enter(source(1));
        assert!(![&first, &second, &third].into_iter().any(has_lost));
        let fourth = slots.enter(source(1));
        assert_eq!([&first, &second, &third, &fourth].map(has_lost), [false, true, false, false]);

        fourth.answer(source(1));
        assert_eq!([&first, &third, &fourth].map(has_lost), [true, false, false]);
        let expected = Connections { accepted: 4, evicted_waiting: 1, evicted_answering: 1, timed_out: 0 };
        assert_eq!(slots.counts(), expected);
    }

    #[test]
    fn the_source_with_the_most_slots_loses_one() {
        let slots = Slots::with_bounds(4, 1);
        let quiet = slots.enter(source(1));
        let greedy: Vec<_> = (0..10).map(|_| slots.enter(source(2))).collect();
        let late = slots.enter(source(3));
        assert!(!has_lost(&quiet) && !has_lost(&late));
        assert_eq!(greedy.iter().filter(|slot| !has_lost(slot)).count(), 2);
        drop((greedy, late));
        let others: Vec<_> = (0..3).map(|_| slots.enter(source(2))).collect();
        assert!(!others.iter().chain([&quiet]).any(has_lost), "slots are given back");
    }

    #[test]
    fn those_behind_a_proxy_take_nothing_from_each_other_once_they_are_known() {
        let slots = Slots::with_bounds(8, 3);
        let [quiet, greedy, again, more] = [2, 3, 3, 3].map(|client| {
            let slot = slots.enter(source(1));
            slot.answer(source(client));
            slot
        });
        assert_eq!([&quiet, &greedy, &again, &more].map(has_lost), [false, true, false, false]);
    }

    #[test]
    fn a_connection_that_leaves_makes_room_and_is_not_closed() {
        let slots = Slots::with_bounds(1, 1);
        let streaming = slots.enter(source(1));
        streaming.answer(source(1));
        streaming.leave();
        let other = slots.enter(source(1));
        other.answer(source(1));
        assert!(!has_lost(&streaming) && !has_lost(&other));
        assert_eq!(slots.counts().evicted_answering, 0);
    }

    #[test]
    fn a_request_that_arrives_with_the_eviction_is_answered() {
        let slots = Slots::with_bounds(1, 1);
        let slot = slots.enter(source(1));
        slots.evict_one();
        slot.answer(source(1));
        assert!(!has_lost(&slot));
        assert_eq!(slots.counts().evicted_waiting, 0);
    }
}
