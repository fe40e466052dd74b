//! The lanes that a sender uses, and how it changes them.
//!
//! A new map is announced together with the slot from which it applies. That slot is postponed until all receivers that
//! reported recently have confirmed the map. A change of the map therefore loses no waves, whatever the loss on the
//! lanes.
//!
//! Pure data: slots and reports go in, beacons come out. [`crate::sender`] sends them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::control::{Beacon, Hex, NextMap, ReceiverReport};
use crate::lane_loss::LaneLoss;
use crate::lanes::{Draw, LaneSet};
use crate::schedule::HISTORY;

/// The number of slots between the announcement of a map and its first slot.
const NOTICE: u64 = 3;
/// A receiver is forgotten after this many slots without a report, and its confirmation is then no longer needed.
const FORGOTTEN_AFTER: u64 = 16;
/// The maximum number of known receivers. Reports of further ones are ignored.
const MAX_RECEIVERS: usize = 256;

/// The state of a hopping channel as its sender sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HopView {
    /// The lanes in use.
    pub lanes_in_use: Vec<u8>,
    /// The loss rate of each lane, from 0 to 1, estimated from the reports of receivers.
    pub loss: Vec<f32>,
    /// The number of the map. Each change increments it.
    pub map: u32,
    /// The number of receivers that reported recently.
    pub receivers: usize,
    /// The number of control messages that were not sealed with the key for this time and channel.
    pub refused: u64,
}

/// A slot in which waves were sent.
#[derive(Debug)]
pub(crate) struct SentSlot<T> {
    pub(crate) slot: u64,
    pub(crate) lane: u8,
    /// Holds the number of waves.
    pub(crate) waves: Arc<T>,
}

/// A receiver that sends reports.
#[derive(Debug, Clone, Copy)]
struct KnownReceiver {
    reported: u64,
    map: u32,
    /// The last of its slots used to estimate lane loss.
    judged: u64,
}

/// The map of one sender on one channel.
#[derive(Debug)]
pub(crate) struct LaneMap<T> {
    lanes: u8,
    used: LaneSet,
    map: u32,
    next: Option<NextMap>,
    /// Whether all receivers have confirmed the next map.
    is_confirmed: bool,
    loss: LaneLoss,
    receivers: HashMap<u64, KnownReceiver>,
    past: VecDeque<SentSlot<T>>,
    /// The slots in which beacons were sent, with their lanes.
    beacons: VecDeque<(u64, u8)>,
}

impl<T> LaneMap<T> {
    pub(crate) fn new(lanes: u8) -> Self {
        Self {
            lanes,
            used: LaneSet::all(lanes),
            map: 0,
            next: None,
            is_confirmed: false,
            loss: LaneLoss::new(lanes),
            receivers: HashMap::new(),
            past: VecDeque::new(),
            beacons: VecDeque::new(),
        }
    }

    /// The lane of a slot that begins now. Puts a confirmed map into force.
    pub(crate) fn lane(&mut self, slot: u64, draw: Draw) -> u8 {
        if let Some(next) = self.next.filter(|next| self.is_confirmed && slot >= next.from) {
            self.used = LaneSet(next.lanes.0 & LaneSet::all(self.lanes).0);
            self.map = next.map;
            (self.next, self.is_confirmed) = (None, false);
        }
        draw.lane_in(self.lanes, self.used)
    }

    /// Records a slot and the counter of its waves.
    pub(crate) fn begin(&mut self, sent: SentSlot<T>) {
        self.past.push_back(sent);
        while self.past.len() > 2 * HISTORY as usize {
            self.past.pop_front();
        }
    }

    pub(crate) fn used(&self) -> LaneSet {
        self.used
    }

    pub(crate) fn map(&self) -> u32 {
        self.map
    }

    pub(crate) fn receivers(&self) -> usize {
        self.receivers.len()
    }

    pub(crate) fn loss(&self, lane: u8) -> f32 {
        self.loss.loss(lane)
    }

    /// Processes the report of a receiver: updates the loss estimates and the map known to the receiver.
    pub(crate) fn take(&mut self, me: u64, report: &ReceiverReport, waves_of: impl Fn(&T) -> u64) {
        let Some(heard) = report.senders.iter().find(|heard| heard.sender == Hex(me)) else { return };
        let name = report.receiver.0;
        if self.receivers.len() >= MAX_RECEIVERS && !self.receivers.contains_key(&name) {
            return;
        }
        let receiver = self.receivers.entry(name).or_insert(KnownReceiver { reported: 0, map: 0, judged: 0 });
        if report.slot < receiver.reported {
            return;
        }
        (receiver.reported, receiver.map) = (report.slot, heard.map);
        let judged = receiver.judged;
        for &(slot, waves) in heard.waves.iter().filter(|(slot, _)| *slot > judged && *slot < report.slot) {
            receiver.judged = receiver.judged.max(slot);
            let in_slot = || self.past.iter().filter(|sent| sent.slot == slot);
            if let Some(sent) = in_slot().next() {
                self.loss.note(sent.lane, in_slot().map(|sent| waves_of(&sent.waves)).sum(), waves);
            }
            if let Some((_, lane)) = self.beacons.iter().find(|(sent, _)| *sent == slot) {
                self.loss.note(*lane, 1, u64::from(heard.beacons.contains(&slot)));
            }
        }
    }

    /// Confirms or postpones the next map, or proposes one. Called once per slot, before its beacon.
    pub(crate) fn decide(&mut self, slot: u64) {
        // In both directions: slots far in the future date from before the clock went back. Confirmations of receivers
        // that reported then are not needed. A map announced for then is announced again under another number.
        self.receivers.retain(|_, receiver| receiver.reported.abs_diff(slot) < FORGOTTEN_AFTER);
        if let Some(next) = self.next.as_mut().filter(|next| next.from > slot + NOTICE) {
            *next = NextMap { map: next.map.wrapping_add(1), from: slot + NOTICE, ..*next };
            self.is_confirmed = false;
            return;
        }
        if self.is_confirmed {
            return;
        }
        let proposal = self.loss.proposal(self.used);
        match &mut self.next {
            Some(next) if self.receivers.values().all(|receiver| receiver.map == next.map) => {
                // The receivers listen to it from that slot on. It may begin later but not earlier.
                next.from = next.from.max(slot + 1);
                self.is_confirmed = true;
            }
            Some(next) => {
                if next.lanes != Hex(proposal.0) {
                    *next = NextMap {
                        map: next.map.wrapping_add(1),
                        lanes: Hex(proposal.0),
                        from: slot + NOTICE,
                    };
                } else if next.from <= slot + 1 {
                    next.from = slot + NOTICE;
                }
            }
            None if proposal != self.used && !self.receivers.is_empty() => {
                let map = self.map.wrapping_add(1);
                self.next = Some(NextMap { map, lanes: Hex(proposal.0), from: slot + NOTICE });
            }
            None => {}
        }
    }

    /// The beacon of a slot, to be sent on this lane.
    pub(crate) fn beacon(&mut self, me: u64, slot: u64, lane: u8, waves_of: impl Fn(&T) -> u64) -> Beacon {
        self.beacons.push_back((slot, lane));
        while self.beacons.len() > 2 * HISTORY as usize {
            self.beacons.pop_front();
        }
        let is_announced = |sent: &&SentSlot<T>| sent.slot < slot && sent.slot + HISTORY >= slot;
        let mut sent: Vec<(u64, u64)> = Vec::new();
        for past in self.past.iter().filter(is_announced) {
            match sent.last_mut().filter(|(slot, _)| *slot == past.slot) {
                Some((_, waves)) => *waves += waves_of(&past.waves),
                None => sent.push((past.slot, waves_of(&past.waves))),
            }
        }
        Beacon { sender: Hex(me), slot, lanes: Hex(self.used.0), map: self.map, next: self.next, sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(receiver: u64, slot: u64, me: u64, map: u32, waves: Vec<(u64, u64)>) -> ReceiverReport {
        let heard = super::super::control::SenderReport { sender: Hex(me), map, waves, beacons: Vec::new() };
        ReceiverReport { receiver: Hex(receiver), slot, senders: vec![heard] }
    }

    /// Simulates a sender that loses all its waves on lane 0 for a number of slots. Its receiver reports the latest
    /// announced map in each slot. Returns whether the lane was left out.
    fn leaves_lane_0_out(lane_map: &mut LaneMap<u64>, from: u64, slots: u64) -> bool {
        let mut known = 0;
        for slot in from..from + slots {
            // Draws each lane in turn.
            let draw = Draw { first: (slot % 4) << 62, second: slot << 62 };
            let lane = lane_map.lane(slot, draw);
            lane_map.begin(SentSlot { slot, lane, waves: Arc::new(20) });
            lane_map.decide(slot);
            let beacon = lane_map.beacon(7, slot, lane, |waves| *waves);
            known = beacon.next.map_or(beacon.map, |next| next.map).max(known);
            let heard = beacon.sent.iter().map(|(slot, waves)| {
                let lost = lane_map.past.iter().any(|sent| sent.slot == *slot && sent.lane == 0);
                (*slot, if lost { 0 } else { *waves })
            });
            let heard = heard.collect();
            lane_map.take(7, &report(1, slot, 7, known, heard), |waves| *waves);
        }
        !lane_map.used().holds(0)
    }

    #[test]
    fn a_lane_that_loses_all_waves_is_left_out() {
        assert!(leaves_lane_0_out(&mut LaneMap::new(4), 1_000_000, 32));
    }

    #[test]
    fn lanes_are_still_left_out_after_the_clock_went_back() {
        // Covers each stage of a change: no reports, announced, confirmed, in force.
        for before in 0..32 {
            let mut lane_map = LaneMap::new(4);
            leaves_lane_0_out(&mut lane_map, 1_000_000, before);
            assert!(leaves_lane_0_out(&mut lane_map, 900_000, 64), "after {before} slots");
        }
    }
}
