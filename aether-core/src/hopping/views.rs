//! What a receiver knows of the senders of its channel: on which lanes each of them is to be heard.
//!
//! Pure data, from beacons. The lane that the sequence draws is heard in any case: that is where those are of whom
//! nothing is known yet.

use smallvec::SmallVec;

use super::lanes::{Draw, LaneSet};
use super::said::{Beacon, Next};

/// So many senders are known at a time; the one not heard of for longest is forgotten.
const MAX_SENDERS: usize = 16;
/// A sender that was not heard of for so many slots is forgotten.
const FORGOTTEN_AFTER: u64 = 64;

/// One sender.
#[derive(Debug)]
pub(super) struct View {
    pub(super) sender: u64,
    /// When it was heard of first and last.
    pub(super) first: u64,
    pub(super) last: u64,
    lanes: LaneSet,
    map: u32,
    next: Option<Next>,
    /// The slots in which a beacon came, the latest last.
    pub(super) beacons: SmallVec<[u64; 16]>,
    /// Its account is settled up to this slot.
    pub(super) settled: u64,
}

impl View {
    /// The latest map of it that is known.
    pub(super) fn map(&self) -> u32 {
        self.next.map_or(self.map, |next| next.map)
    }
}

/// The senders of a channel.
#[derive(Debug)]
pub(super) struct Views {
    lanes: u8,
    known: Vec<View>,
    /// How many were forgotten because there were too many.
    pub(super) forgotten: u64,
}

impl Views {
    pub(super) fn new(lanes: u8) -> Self {
        Self { lanes, known: Vec::new(), forgotten: 0 }
    }

    pub(super) fn known(&self) -> &[View] {
        &self.known
    }

    /// The lanes on which a slot is to be heard, each once.
    pub(super) fn lanes(&self, slot: u64, draw: Draw) -> SmallVec<[u8; 4]> {
        let mut lanes: SmallVec<[u8; 4]> = SmallVec::from_slice(&[draw.lane(self.lanes)]);
        let mut add = |used: LaneSet| {
            let lane = draw.lane_in(self.lanes, LaneSet(used.0 & LaneSet::all(self.lanes).0));
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
        };
        for view in &self.known {
            add(view.lanes);
            // Both, until a beacon says which: whether all receivers knew in time is known to the sender only.
            if let Some(next) = view.next.filter(|next| slot >= next.from) {
                add(LaneSet(next.lanes.0));
            }
        }
        lanes
    }

    /// Takes in what a sender says of itself. Returns its view, unless it is older than what is known.
    pub(super) fn take(&mut self, beacon: &Beacon) -> Option<&mut View> {
        let now = beacon.slot;
        // On either side: what was said in slots far ahead was said before the clock went back.
        self.known.retain(|view| view.last.abs_diff(now) < FORGOTTEN_AFTER);
        let place = match self.known.iter().position(|view| view.sender == beacon.sender.0) {
            Some(place) => place,
            None => {
                if self.known.len() >= MAX_SENDERS
                    && let Some(oldest) = (0..self.known.len()).min_by_key(|place| self.known[*place].last)
                {
                    self.known.swap_remove(oldest);
                    self.forgotten += 1;
                }
                self.known.push(View {
                    sender: beacon.sender.0,
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
        let view = &mut self.known[place];
        if beacon.slot < view.last {
            return None;
        }
        (view.last, view.lanes, view.map, view.next) =
            (now, LaneSet(beacon.lanes.0), beacon.map, beacon.next);
        if view.beacons.last() != Some(&now) {
            if view.beacons.len() == view.beacons.inline_size() {
                view.beacons.remove(0);
            }
            view.beacons.push(now);
        }
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::super::said::Hex;
    use super::*;

    #[test]
    fn what_was_said_before_the_clock_went_back_does_not_outlast_it() {
        let mut views = Views::new(16);
        let beacon = |slot: u64, lanes: u64| {
            let sender = Hex(1);
            Beacon { sender, slot, lanes: Hex(lanes), map: 1, next: None, sent: Vec::new() }
        };
        let in_use = |views: &Views| views.known().iter().map(|view| view.lanes.0).collect::<Vec<_>>();
        assert!(views.take(&beacon(1_000_000, 0xfff7)).is_some());
        assert!(views.take(&beacon(999_999, 0xffff)).is_none(), "late");
        assert_eq!(in_use(&views), [0xfff7]);
        assert!(views.take(&beacon(900_000, 0xffff)).is_some());
        assert_eq!(in_use(&views), [0xffff]);
        assert_eq!(views.forgotten, 0);
    }
}
