//! What came in the slots that a receiver was there for: how many waves of whom, for as long as that is told.
//!
//! Kept by the follower, which opens a place here for each lane that it joins. A slot is counted once, when it is over.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::course::MEMORY;
use super::ears::Tuned;

/// What is further away than this is forgotten, before and after: the clock may have gone back.
const FORGOTTEN_AFTER: u64 = 2 * MEMORY;

#[derive(Debug, Default)]
pub(super) struct Past {
    slots: VecDeque<Slot>,
}

/// One slot, for as long as it was joined without a break.
#[derive(Debug)]
struct Slot {
    number: u64,
    lanes: Vec<Arc<Tuned>>,
    is_counted: bool,
}

impl Past {
    /// A lane is heard in a slot from now on.
    pub(super) fn open(&mut self, number: u64, lane: Arc<Tuned>) {
        match self.slots.iter_mut().find(|slot| slot.number == number && !slot.is_counted) {
            Some(slot) => slot.lanes.push(lane),
            None => self.slots.push_back(Slot { number, lanes: vec![lane], is_counted: false }),
        }
    }

    /// No slots but these are heard any more. Returns how many slots are over that were not counted yet, and the waves
    /// that came in them. What is far away is forgotten.
    pub(super) fn end(&mut self, joined: &RangeInclusive<u64>) -> (u64, u64) {
        let (mut slots, mut heard) = (0, 0);
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_counted && !joined.contains(&slot.number)) {
            slot.is_counted = true;
            slots += 1;
            heard += slot.lanes.iter().map(|lane| lane.heard()).sum::<u64>();
        }
        self.slots.retain(|slot| slot.number.abs_diff(*joined.start()) <= FORGOTTEN_AFTER);
        (slots, heard)
    }

    /// How many waves of a sender came in a slot.
    pub(super) fn heard_of(&self, sender: u64, number: u64) -> u64 {
        let lanes = self.slots.iter().filter(|slot| slot.number == number).flat_map(|slot| &slot.lanes);
        lanes.map(|lane| lane.heard_from(sender)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::source::Source;
    use crate::wave::Wave;

    /// A lane on which so many waves came, and their sender.
    fn lane(waves: u64) -> (Arc<Tuned>, u64) {
        let tuned = Arc::new(Tuned::new(Channel::new("orders").unwrap()));
        let sequencer = crate::source::Sequencer::new(Source::framework());
        for _ in 0..waves {
            tuned.show(Wave::from_bytes("hop.1.a", "x").unwrap().noticed(&sequencer));
        }
        (tuned, sequencer.source().instance())
    }

    #[test]
    fn a_slot_is_counted_once_on_however_many_lanes_it_was_heard() {
        let mut past = Past::default();
        for waves in [3, 0, 4] {
            past.open(10, lane(waves).0);
        }
        let (other, sender) = lane(2);
        past.open(11, other);
        assert_eq!(past.end(&(10..=11)), (0, 0), "neither is over");
        assert_eq!(past.end(&(11..=12)), (1, 7));
        assert_eq!(past.end(&(11..=12)), (0, 0));
        assert_eq!(past.end(&(12..=13)), (1, 2));
        assert_eq!((past.heard_of(sender, 11), past.heard_of(sender, 10)), (2, 0));
    }

    #[test]
    fn clocks_that_go_back_do_not_grow_it_and_nothing_is_left_uncounted() {
        let mut past = Past::default();
        let (mut opened, mut counted) = (0, (0, 0));
        let mut end = |past: &mut Past, joined: &RangeInclusive<u64>| {
            let (slots, heard) = past.end(joined);
            counted = (counted.0 + slots, counted.1 + heard);
            counted
        };
        for back in 0..5_u64 {
            let now = 1_000_000 - back * 10_000;
            for slot in now..now + 100 {
                past.open(slot, lane(1).0);
                opened += 1;
                end(&mut past, &(slot..=slot));
                assert!(past.slots.len() as u64 <= 2 * FORGOTTEN_AFTER + 1);
            }
        }
        assert_eq!(end(&mut past, &(0..=0)), (opened, opened));
    }

    #[test]
    fn a_slot_that_comes_again_is_counted_again_with_what_came_anew() {
        let mut past = Past::default();
        past.open(10, lane(3).0);
        assert_eq!(past.end(&(11..=11)), (1, 3));
        past.open(10, lane(2).0);
        assert_eq!(past.end(&(10..=10)), (0, 0));
        assert_eq!(past.end(&(11..=11)), (1, 2));
    }
}
