//! Which lanes a sender uses, and how it changes them: announced, known to every receiver, and then from a slot on.
//!
//! Pure: slots come in, nothing is sent here. A map changes only when all receivers that were heard of lately have said
//! that they know of it; until then its beginning is put off. So a change loses nothing, however much is lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::lanes::{Draw, LaneSet};
use super::said::{Beacon, Hex, Next, Report};
use super::survey::Survey;

/// How many slots ahead a map is announced.
const NOTICE: u64 = 3;
/// Slots that are judged and announced: reports that got lost are made up for by later ones.
pub(super) const MEMORY: u64 = 8;
/// A receiver that was not heard of for so many slots is no longer waited for.
const FORGOTTEN_AFTER: u64 = 16;
/// So many receivers report at most. Of more, nothing is lost but their say.
const MAX_RECEIVERS: usize = 256;

/// What was sent in a slot.
#[derive(Debug)]
pub(super) struct Sent<T> {
    pub(super) slot: u64,
    pub(super) lane: u8,
    /// Where the number of waves is read.
    pub(super) turn: Arc<T>,
}

/// A receiver, as far as it was heard of.
#[derive(Debug, Clone, Copy)]
struct Receiver {
    heard_of: u64,
    map: u32,
    /// The last slot that its report was judged by.
    judged: u64,
}

/// The map of one sender on one channel.
#[derive(Debug)]
pub(super) struct Course<T> {
    lanes: u8,
    used: LaneSet,
    map: u32,
    next: Option<Next>,
    /// Whether the next map comes into force at its slot.
    is_settled: bool,
    survey: Survey,
    receivers: HashMap<u64, Receiver>,
    past: VecDeque<Sent<T>>,
    /// The slots in which a beacon was sent, and the lanes.
    beacons: VecDeque<(u64, u8)>,
}

impl<T> Course<T> {
    pub(super) fn new(lanes: u8) -> Self {
        Self {
            lanes,
            used: LaneSet::all(lanes),
            map: 0,
            next: None,
            is_settled: false,
            survey: Survey::new(lanes),
            receivers: HashMap::new(),
            past: VecDeque::new(),
            beacons: VecDeque::new(),
        }
    }

    /// The lane of a slot that is beginning.
    pub(super) fn lane(&mut self, slot: u64, draw: Draw) -> u8 {
        if let Some(next) = self.next.filter(|next| self.is_settled && slot >= next.from) {
            self.used = LaneSet(next.lanes.0 & LaneSet::all(self.lanes).0);
            self.map = next.map;
            (self.next, self.is_settled) = (None, false);
        }
        draw.lane_in(self.lanes, self.used)
    }

    /// Notes what a slot is counted by.
    pub(super) fn begin(&mut self, sent: Sent<T>) {
        self.past.push_back(sent);
        while self.past.len() > 2 * MEMORY as usize {
            self.past.pop_front();
        }
    }

    pub(super) fn used(&self) -> LaneSet {
        self.used
    }

    pub(super) fn map(&self) -> u32 {
        self.map
    }

    pub(super) fn receivers(&self) -> usize {
        self.receivers.len()
    }

    pub(super) fn loss(&self, lane: u8) -> f32 {
        self.survey.loss(lane)
    }

    /// Judges the lanes by what a receiver has heard of this sender.
    pub(super) fn take(&mut self, me: u64, report: &Report, waves_of: impl Fn(&T) -> u64) {
        let Some(heard) = report.senders.iter().find(|heard| heard.sender == Hex(me)) else { return };
        let name = report.receiver.0;
        if self.receivers.len() >= MAX_RECEIVERS && !self.receivers.contains_key(&name) {
            return;
        }
        let receiver = self.receivers.entry(name).or_insert(Receiver { heard_of: 0, map: 0, judged: 0 });
        if report.slot < receiver.heard_of {
            return;
        }
        (receiver.heard_of, receiver.map) = (report.slot, heard.map);
        let judged = receiver.judged;
        for &(slot, waves) in heard.waves.iter().filter(|(slot, _)| *slot > judged && *slot < report.slot) {
            receiver.judged = receiver.judged.max(slot);
            let in_slot = || self.past.iter().filter(|sent| sent.slot == slot);
            if let Some(sent) = in_slot().next() {
                self.survey.note(sent.lane, in_slot().map(|sent| waves_of(&sent.turn)).sum(), waves);
            }
            if let Some((_, lane)) = self.beacons.iter().find(|(said, _)| *said == slot) {
                self.survey.note(*lane, 1, u64::from(heard.beacons.contains(&slot)));
            }
        }
    }

    /// Settles or puts off the next map, or proposes one. To be called once a slot, before its beacon.
    pub(super) fn decide(&mut self, slot: u64) {
        // On either side: what is far ahead is of a time before the clock went back. Who was heard of then, and knows of
        // a map that was to begin then, is not waited for; that map has to be announced anew, by another number.
        self.receivers.retain(|_, receiver| receiver.heard_of.abs_diff(slot) < FORGOTTEN_AFTER);
        if let Some(next) = self.next.as_mut().filter(|next| next.from > slot + NOTICE) {
            *next = Next { map: next.map.wrapping_add(1), from: slot + NOTICE, ..*next };
            self.is_settled = false;
            return;
        }
        if self.is_settled {
            return;
        }
        let proposal = self.survey.proposal(self.used);
        match &mut self.next {
            Some(next) if self.receivers.values().all(|receiver| receiver.map == next.map) => {
                // The receivers know it from that slot on; later would do, earlier would not.
                next.from = next.from.max(slot + 1);
                self.is_settled = true;
            }
            Some(next) => {
                if next.lanes != Hex(proposal.0) {
                    *next =
                        Next { map: next.map.wrapping_add(1), lanes: Hex(proposal.0), from: slot + NOTICE };
                } else if next.from <= slot + 1 {
                    next.from = slot + NOTICE;
                }
            }
            None if proposal != self.used && !self.receivers.is_empty() => {
                let map = self.map.wrapping_add(1);
                self.next = Some(Next { map, lanes: Hex(proposal.0), from: slot + NOTICE });
            }
            None => {}
        }
    }

    /// What is said in a slot, on a lane.
    pub(super) fn beacon(&mut self, me: u64, slot: u64, lane: u8, waves_of: impl Fn(&T) -> u64) -> Beacon {
        self.beacons.push_back((slot, lane));
        while self.beacons.len() > 2 * MEMORY as usize {
            self.beacons.pop_front();
        }
        let is_told = |sent: &&Sent<T>| sent.slot < slot && sent.slot + MEMORY >= slot;
        let mut sent: Vec<(u64, u64)> = Vec::new();
        for past in self.past.iter().filter(is_told) {
            match sent.last_mut().filter(|(slot, _)| *slot == past.slot) {
                Some((_, waves)) => *waves += waves_of(&past.turn),
                None => sent.push((past.slot, waves_of(&past.turn))),
            }
        }
        Beacon { sender: Hex(me), slot, lanes: Hex(self.used.0), map: self.map, next: self.next, sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(receiver: u64, slot: u64, me: u64, map: u32, waves: Vec<(u64, u64)>) -> Report {
        let heard = super::super::said::Heard { sender: Hex(me), map, waves, beacons: Vec::new() };
        Report { receiver: Hex(receiver), slot, senders: vec![heard] }
    }

    /// A sender whose waves on lane 0 are all lost, from a slot on for so many; its receivers report in each slot the
    /// latest map that they were told of. Returns whether the lane was left out.
    fn leaves_lane_0_out(course: &mut Course<u64>, from: u64, slots: u64) -> bool {
        let mut known = 0;
        for slot in from..from + slots {
            // Each lane in turn, as far as it is in use.
            let draw = Draw { first: (slot % 4) << 62, second: slot << 62 };
            let lane = course.lane(slot, draw);
            course.begin(Sent { slot, lane, turn: Arc::new(20) });
            course.decide(slot);
            let beacon = course.beacon(7, slot, lane, |waves| *waves);
            known = beacon.next.map_or(beacon.map, |next| next.map).max(known);
            let heard = beacon.sent.iter().map(|(slot, waves)| {
                let lost = course.past.iter().any(|sent| sent.slot == *slot && sent.lane == 0);
                (*slot, if lost { 0 } else { *waves })
            });
            let heard = heard.collect();
            course.take(7, &report(1, slot, 7, known, heard), |waves| *waves);
        }
        !course.used().holds(0)
    }

    #[test]
    fn a_lane_on_which_all_is_lost_is_left_out() {
        assert!(leaves_lane_0_out(&mut Course::new(4), 1_000_000, 32));
    }

    #[test]
    fn when_the_clock_has_gone_back_lanes_are_left_out_as_before() {
        // Wherever the change was when it happened: nothing known, announced, settled, in force.
        for before in 0..32 {
            let mut course = Course::new(4);
            leaves_lane_0_out(&mut course, 1_000_000, before);
            assert!(leaves_lane_0_out(&mut course, 900_000, 64), "after {before} slots");
        }
    }
}
