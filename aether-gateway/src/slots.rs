//! Who has a connection to the HTTP server, and who loses his when there are too many.
//!
//! Asked by the [server](crate::server) for each connection. There are two rooms with so many slots each: for connections
//! whose request has not come yet, and for those that are being answered. So clients that send nothing and clients that
//! read nothing cannot take the slots of one another. A new connection is always let in. When its room is full, the
//! source address with the most slots in that room gives one up, its oldest. With one source for all that is the oldest
//! of all: a client keeps its slot for as long as it takes the others to come and fill the room behind it, however many
//! there are that do nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

/// Slots for connections whose request has not come yet.
const WAITING: usize = 192;
/// Slots for connections that are being answered.
const ANSWERING: usize = 64;

/// How many connections there were, and how many of them the server ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Connections {
    pub(crate) accepted: u64,
    /// Gave way to newer ones before their request came.
    pub(crate) evicted_waiting: u64,
    /// Gave way to newer ones before they had read their answer.
    pub(crate) evicted_answering: u64,
    /// Took too long for their request or their answer.
    pub(crate) timed_out: u64,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots {
    rooms: Mutex<Rooms>,
}

#[derive(Debug)]
struct Rooms {
    waiting: Room,
    answering: Room,
    next: u64,
    counts: Connections,
}

/// Connections by their number, so the oldest comes first.
#[derive(Debug)]
struct Room {
    slots: usize,
    taken: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    by_source: HashMap<IpAddr, usize>,
}

/// The slot of one connection; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    source: IpAddr,
    lost: Arc<Notify>,
    is_answered: AtomicBool,
}

impl Slots {
    pub(crate) fn new() -> Arc<Self> {
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

    pub(crate) fn counts(&self) -> Connections {
        self.rooms.lock().counts
    }

    /// A slot for a connection whose request has not come yet.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr) -> Slot {
        let (source, lost) = (network(source), Arc::new(Notify::new()));
        let mut rooms = self.rooms.lock();
        let number = rooms.next;
        rooms.next += 1;
        rooms.counts.accepted += 1;
        rooms.waiting.enter(number, source, Arc::clone(&lost));
        drop(rooms);
        Slot { slots: Arc::clone(self), number, source, lost, is_answered: AtomicBool::new(false) }
    }

    /// Ends one connection whose request has not come yet, for want of something that the slots do not count.
    pub(crate) fn evict_one(&self) {
        self.rooms.lock().waiting.evict();
    }
}

impl Slot {
    /// The request has come: the connection changes rooms. One that has just lost its slot has it back.
    pub(crate) fn answer(&self) {
        let mut rooms = self.slots.rooms.lock();
        if self.is_answered.swap(true, Ordering::Relaxed) {
            return;
        }
        rooms.waiting.leave(self.number);
        rooms.answering.enter(self.number, self.source, Arc::clone(&self.lost));
    }

    /// Waits until the slot is lost to a newer connection, and counts that.
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
        let mut rooms = self.slots.rooms.lock();
        rooms.waiting.leave(self.number);
        rooms.answering.leave(self.number);
    }
}

impl Room {
    fn new(slots: usize) -> Self {
        Self { slots, taken: BTreeMap::new(), by_source: HashMap::new() }
    }

    fn holds(&self, number: u64) -> bool {
        self.taken.contains_key(&number)
    }

    /// Takes a slot, if need be that of another connection.
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

    /// Takes the oldest slot of the source that has the most.
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

/// What counts as one source: an IPv4 address, or the 64 bits of an IPv6 address that name a network, as one host may
/// have as many addresses of it as it likes.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        v4 => v4,
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
    fn the_oldest_gives_way_and_who_is_answered_is_not_among_those_who_wait() {
        let slots = Slots::with_bounds(2, 1);
        let (first, second) = (slots.enter(source(1)), slots.enter(source(1)));
        first.answer();
        let third = slots.enter(source(1));
        assert!(![&first, &second, &third].into_iter().any(has_lost));
        let fourth = slots.enter(source(1));
        assert_eq!([&first, &second, &third, &fourth].map(has_lost), [false, true, false, false]);

        fourth.answer();
        assert_eq!([&first, &third, &fourth].map(has_lost), [true, false, false]);
        let expected = Connections { accepted: 4, evicted_waiting: 1, evicted_answering: 1, timed_out: 0 };
        assert_eq!(slots.counts(), expected);
    }

    #[test]
    fn the_source_with_the_most_slots_gives_way() {
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
    fn a_request_that_comes_with_the_eviction_is_answered() {
        let slots = Slots::with_bounds(1, 1);
        let slot = slots.enter(source(1));
        slots.evict_one();
        slot.answer();
        assert!(!has_lost(&slot));
        assert_eq!(slots.counts().evicted_waiting, 0);
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
