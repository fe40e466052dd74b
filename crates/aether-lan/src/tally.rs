//! The waves that have arrived from each peer: the other end of a [`Way`](super::way::Way).

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use super::lane::Lane;
use super::message::{Place, Sent};
use super::table::MAX_PEERS;

/// The peers whose tallies are kept. Also tallies of peers that have gone: one that has only been silent goes on counting.
const MAX_TALLIES: NonZeroUsize = NonZeroUsize::new(2 * MAX_PEERS).unwrap();

/// The waves of a way that have arrived, or are missing.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    way: u32,
    /// The waves of each lane that have arrived or are missing.
    reached: [u64; Lane::OF_WAVES],
    missing: u64,
}

impl Tally {
    /// Counts what is missing in front of a place.
    fn reach(&mut self, lane: usize, before: u64) {
        if let Some(reached) = self.reached.get_mut(lane) {
            self.missing = self.missing.saturating_add(before.saturating_sub(*reached));
            *reached = before.max(*reached);
        }
    }
}

/// The tallies of all peers, by their numbers.
pub(super) struct Tallies(Mutex<AllTallies>);

struct AllTallies {
    by_node: LruCache<u64, Tally>,
    /// The waves that have arrived on any way.
    arrived: u64,
}

impl Default for Tallies {
    fn default() -> Self {
        Self(Mutex::new(AllTallies { by_node: LruCache::new(MAX_TALLIES), arrived: 0 }))
    }
}

impl Tallies {
    /// Changes the tally of a peer on a way, if it is the newest one. A number of waves have arrived.
    fn with(&self, node: u64, way: u32, waves: u64, change: impl FnOnce(&mut Tally)) {
        let mut tallies = self.0.lock();
        tallies.arrived = tallies.arrived.saturating_add(waves);
        let tally = tallies.by_node.get_or_insert_mut(node, Tally::default);
        if way > tally.way {
            *tally = Tally { way, ..Tally::default() };
        }
        // What is late on an older way is counted there as lost.
        if way == tally.way && way > 0 {
            change(tally);
        }
    }

    /// Waves of a peer have arrived.
    pub(super) fn arrived(&self, node: u64, lane: Lane, place: Place, waves: u64) {
        let Some(lane) = lane.place().filter(|_| place.way > 0) else { return };
        self.with(node, place.way, waves, |tally| {
            tally.reach(lane, place.before);
            if let Some(reached) = tally.reached.get_mut(lane) {
                *reached = place.before.saturating_add(waves).max(*reached);
            }
        });
    }

    /// A ping of a peer has arrived behind what it had sent. Returns how many waves are missing on its way.
    pub(super) fn pinged(&self, node: u64, sent: &Sent) -> u64 {
        let mut missing = 0;
        self.with(node, sent.way, 0, |tally| {
            sent.waves.iter().enumerate().for_each(|(lane, before)| tally.reach(lane, *before));
            missing = tally.missing;
        });
        missing
    }

    /// The newest way of a peer, and how many of its waves were received.
    pub(super) fn received(&self, node: u64) -> (u32, u64) {
        let tally = self.0.lock().by_node.peek(&node).copied().unwrap_or_default();
        let reached = tally.reached.iter().fold(0_u64, |sum, reached| sum.saturating_add(*reached));
        (tally.way, reached.saturating_sub(tally.missing))
    }

    /// The waves that have arrived so far.
    pub(super) fn all_arrived(&self) -> u64 {
        self.0.lock().arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: u64 = 8;
    const LANES: [u8; 2] = [2, 7];

    fn place(before: u64) -> Place {
        Place { way: 1, before }
    }

    #[test]
    fn waves_that_did_not_arrive_are_missing_when_others_of_their_lane_or_a_ping_do() {
        let tallies = Tallies::default();
        let [strong, weak] = LANES.map(|lane| Lane::read(lane).unwrap());
        tallies.arrived(PEER, weak, place(0), 3);
        tallies.arrived(PEER, weak, place(5), 1);
        // Sent behind the ping, and before it here.
        tallies.arrived(PEER, strong, place(4), 2);
        let sent = Sent { way: 1, waves: [4, 0, 0, 0, 0, 7] };
        assert_eq!(tallies.pinged(PEER, &sent), 2 + 1 + 4);
        assert_eq!(tallies.pinged(PEER, &sent), 7);
        assert_eq!(tallies.received(PEER), (1, 6));
        // Late: it counts as missing already.
        tallies.arrived(PEER, weak, place(3), 2);
        assert_eq!(tallies.pinged(PEER, &sent), 7);
    }

    #[test]
    fn a_new_way_begins_anew_and_an_old_one_counts_no_more() {
        let tallies = Tallies::default();
        tallies.arrived(PEER, Lane::LAST, place(9), 1);
        tallies.arrived(PEER, Lane::LAST, Place { way: 2, before: 1 }, 1);
        tallies.arrived(PEER, Lane::LAST, place(99), 1);
        assert_eq!(tallies.received(PEER), (2, 1));
        assert_eq!(tallies.pinged(PEER, &Sent { way: 2, waves: [0, 0, 0, 0, 0, 2] }), 1);
        assert_eq!((tallies.pinged(PEER, &Sent::default()), tallies.received(16)), (0, (0, 0)));
    }

    #[test]
    fn impossible_numbers_do_no_harm_and_the_table_is_bounded() {
        let tallies = Tallies::default();
        for lane in LANES.map(|lane| Lane::read(lane).unwrap()) {
            tallies.arrived(PEER, lane, place(u64::MAX), u64::MAX);
        }
        assert_eq!(tallies.pinged(PEER, &Sent { way: 1, waves: [u64::MAX; 6] }), u64::MAX);
        assert_eq!(tallies.received(PEER), (1, 0));
        for node in 0..3 * MAX_PEERS as u64 {
            tallies.arrived(8 * node, Lane::LAST, place(0), 1);
        }
        assert_eq!(tallies.0.lock().by_node.len(), 2 * MAX_PEERS);
    }
}
