//! The senders that a receiver knows, and the lanes that each of them uses.
//!
//! Pure data, built from beacons. A receiver always listens to the lane drawn by the sequence as well, because unknown
//! senders use it.

use smallvec::SmallVec;

use crate::control::{Beacon, NextMap};
use crate::lanes::{Draw, LaneSet};

/// The maximum number of known senders. If there are more, the one with the oldest last beacon is forgotten.
const MAX_SENDERS: usize = 16;
/// A sender is forgotten after this many slots without a beacon.
const FORGOTTEN_AFTER: u64 = 64;

/// A sender whose beacons arrive.
#[derive(Debug)]
pub(crate) struct KnownSender {
    pub(crate) instance: u64,
    /// The slots of its first and last beacons.
    pub(crate) first: u64,
    pub(crate) last: u64,
    lanes: LaneSet,
    map: u32,
    next: Option<NextMap>,
    /// The slots in which beacons arrived, oldest first.
    pub(crate) beacons: SmallVec<[u64; 16]>,
    /// The last slot for which missed waves were counted.
    pub(crate) settled: u64,
}

impl KnownSender {
    /// The number of its latest map.
    pub(crate) fn map(&self) -> u32 {
        self.next.map_or(self.map, |next| next.map)
    }
}

/// The senders of a channel.
#[derive(Debug)]
pub(crate) struct KnownSenders {
    lanes: u8,
    known: Vec<KnownSender>,
    /// The number of senders forgotten because there were too many.
    pub(crate) forgotten: u64,
}

impl KnownSenders {
    pub(crate) fn new(lanes: u8) -> Self {
        Self { lanes, known: Vec::new(), forgotten: 0 }
    }

    pub(crate) fn known(&self) -> &[KnownSender] {
        &self.known
    }

    /// The lanes to listen to in a slot, without duplicates.
    pub(crate) fn lanes(&self, slot: u64, draw: Draw) -> SmallVec<[u8; 4]> {
        let mut lanes: SmallVec<[u8; 4]> = SmallVec::from_slice(&[draw.lane(self.lanes)]);
        let mut add = |used: LaneSet| {
            let lane = draw.lane_in(self.lanes, LaneSet(used.0 & LaneSet::all(self.lanes).0));
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
        };
        for sender in &self.known {
            add(sender.lanes);
            // Both maps, until a beacon decides: only the sender knows whether all receivers confirmed the new one.
            if let Some(next) = sender.next.filter(|next| slot >= next.from) {
                add(LaneSet(next.lanes.0));
            }
        }
        lanes
    }

    /// Processes a beacon. Returns its sender, or `None` if a later beacon arrived before.
    pub(crate) fn take(&mut self, beacon: &Beacon) -> Option<&mut KnownSender> {
        let now = beacon.slot;
        // In both directions: beacons of slots far in the future were sent before the clock went back.
        self.known.retain(|sender| sender.last.abs_diff(now) < FORGOTTEN_AFTER);
        let place = match self.known.iter().position(|sender| sender.instance == beacon.sender.0) {
            Some(place) => place,
            None => {
                if self.known.len() >= MAX_SENDERS
                    && let Some(oldest) = (0..self.known.len()).min_by_key(|place| self.known[*place].last)
                {
                    self.known.swap_remove(oldest);
                    self.forgotten += 1;
                }
                self.known.push(KnownSender {
                    instance: beacon.sender.0,
                    first: now,
                    last: now,
                    lanes: LaneSet::all(self.lanes),
                    map: 0,
                    next: None,
                    beacons: SmallVec::new(),
                    settled: now.saturating_sub(1),
                });
                self.known.len() - 1
            }
        };
        let sender = &mut self.known[place];
        if beacon.slot < sender.last {
            return None;
        }
        (sender.last, sender.lanes, sender.map, sender.next) =
            (now, LaneSet(beacon.lanes.0), beacon.map, beacon.next);
        if sender.beacons.last() != Some(&now) {
            if sender.beacons.len() == sender.beacons.inline_size() {
                sender.beacons.remove(0);
            }
            sender.beacons.push(now);
        }
        Some(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Hex;

    #[test]
    fn beacons_from_before_the_clock_went_back_are_replaced() {
        let mut senders = KnownSenders::new(16);
        let beacon = |slot: u64, lanes: u64| {
            let sender = Hex(1);
            Beacon { sender, slot, lanes: Hex(lanes), map: 1, next: None, sent: Vec::new() }
        };
        let in_use =
            |senders: &KnownSenders| senders.known().iter().map(|sender| sender.lanes.0).collect::<Vec<_>>();
        assert!(senders.take(&beacon(1_000_000, 0xfff7)).is_some());
        assert!(senders.take(&beacon(999_999, 0xffff)).is_none(), "late");
        assert_eq!(in_use(&senders), [0xfff7]);
        assert!(senders.take(&beacon(900_000, 0xffff)).is_some());
        assert_eq!(in_use(&senders), [0xffff]);
        assert_eq!(senders.forgotten, 0);
    }
}
