//! The number of waves that a receiver received in each slot, by sender.
//!
//! The receiver's task opens a count for each lane it joins. The router counts each wave there when it moves the wave
//! to its original channel. A slot is added to the totals once, when it has ended.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::medium::Relabel;
use aether_core::{Channel, Wave};

use crate::schedule::HISTORY;

/// The number of senders counted separately on one lane of one slot.
const COUNTED_SENDERS: usize = 8;
/// Slots further away are forgotten, both past and future ones, because the clock may have gone back.
const FORGOTTEN_AFTER: u64 = 2 * HISTORY;

/// The account of a receiver of a hopping channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HopAccount {
    /// The number of slots in which the receiver was subscribed.
    pub slots: u64,
    /// The number of waves that arrived in slots that have ended. The [`Ledger`](aether_core::Ledger) of the inbox counts
    /// what became of them.
    pub heard: u64,
    /// The number of waves that senders sent, according to their beacons, in slots in which the receiver was
    /// subscribed, but that did not arrive in time. Counted two slots later, and only on adaptive channels.
    pub missed: u64,
    /// The number of control messages that were not sealed with the key for this time and channel.
    pub refused: u64,
    /// The number of clock steps larger than a quarter of the guard.
    pub clock_steps: u64,
    /// The number of failed attempts to join lanes, because the medium refused.
    pub failed_joins: u64,
    /// The number of senders whose maps were forgotten because there were more than 16 at a time.
    pub forgotten_senders: u64,
}

/// The counters behind a [`HopAccount`].
#[derive(Debug, Default)]
pub(crate) struct ReceiverCounts {
    pub(crate) slots: AtomicU64,
    pub(crate) heard: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) clock_steps: AtomicU64,
    pub(crate) failed_joins: AtomicU64,
    pub(crate) forgotten_senders: AtomicU64,
}

impl ReceiverCounts {
    pub(crate) fn read(&self) -> HopAccount {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HopAccount {
            slots: read(&self.slots),
            heard: read(&self.heard),
            missed: read(&self.missed),
            refused: read(&self.refused),
            clock_steps: read(&self.clock_steps),
            failed_joins: read(&self.failed_joins),
            forgotten_senders: read(&self.forgotten_senders),
        }
    }
}

/// One lane in one slot: the original channel of its waves, and their number by sender.
#[derive(Debug)]
pub(crate) struct LaneCounts {
    channel: Channel,
    /// A sender takes the first free entry.
    senders: [SenderCount; COUNTED_SENDERS],
    others: AtomicU64,
}

#[derive(Debug, Default)]
struct SenderCount {
    /// 0 if the entry is free.
    instance: AtomicU64,
    waves: AtomicU64,
}

impl LaneCounts {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, senders: Default::default(), others: AtomicU64::new(0) }
    }

    #[inline]
    fn count(&self, instance: u64) -> &AtomicU64 {
        for sender in &self.senders {
            let known = sender.instance.load(Ordering::Relaxed);
            if known == instance {
                return &sender.waves;
            }
            if known == 0 {
                let taken =
                    sender.instance.compare_exchange(0, instance, Ordering::Relaxed, Ordering::Relaxed);
                if taken.is_ok() || taken == Err(instance) {
                    return &sender.waves;
                }
            }
        }
        &self.others
    }

    /// The number of waves from one sender.
    fn waves_of(&self, instance: u64) -> u64 {
        let senders = self.senders.iter().filter(|s| s.instance.load(Ordering::Relaxed) == instance);
        senders.map(|sender| sender.waves.load(Ordering::Relaxed)).sum()
    }

    /// The number of waves from all senders.
    fn waves(&self) -> u64 {
        let counted = self.senders.iter().map(|sender| sender.waves.load(Ordering::Relaxed)).sum::<u64>();
        counted + self.others.load(Ordering::Relaxed)
    }
}

impl Relabel for LaneCounts {
    /// Counts a wave and moves it to its original channel.
    fn relabel(&self, mut wave: Wave) -> Wave {
        self.count(wave.source().instance()).fetch_add(1, Ordering::Relaxed);
        wave.move_to(&self.channel);
        wave
    }
}

/// The counts of recent slots.
#[derive(Debug, Default)]
pub(crate) struct SlotCounts {
    slots: VecDeque<CountedSlot>,
}

/// One slot during one uninterrupted subscription.
#[derive(Debug)]
struct CountedSlot {
    number: u64,
    lanes: Vec<Arc<LaneCounts>>,
    is_counted: bool,
}

impl SlotCounts {
    /// Starts counting a lane of a slot.
    pub(crate) fn open(&mut self, number: u64, lane: Arc<LaneCounts>) {
        match self.slots.iter_mut().find(|slot| slot.number == number && !slot.is_counted) {
            Some(slot) => slot.lanes.push(lane),
            None => self.slots.push_back(CountedSlot { number, lanes: vec![lane], is_counted: false }),
        }
    }

    /// Ends all slots except the joined ones. Returns the number of slots ended and of the waves in them. Forgets
    /// distant slots.
    pub(crate) fn end(&mut self, joined: &RangeInclusive<u64>) -> (u64, u64) {
        let (mut slots, mut heard) = (0, 0);
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_counted && !joined.contains(&slot.number)) {
            slot.is_counted = true;
            slots += 1;
            heard += slot.lanes.iter().map(|lane| lane.waves()).sum::<u64>();
        }
        self.slots.retain(|slot| slot.number.abs_diff(*joined.start()) <= FORGOTTEN_AFTER);
        (slots, heard)
    }

    /// The number of waves from a sender in a slot.
    pub(crate) fn waves_of(&self, sender: u64, number: u64) -> u64 {
        let lanes = self.slots.iter().filter(|slot| slot.number == number).flat_map(|slot| &slot.lanes);
        lanes.map(|lane| lane.waves_of(sender)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::Source;
    use aether_core::medium::Sequencer;

    /// A lane on which this many waves arrived, and the instance of their sender.
    fn lane(waves: u64) -> (Arc<LaneCounts>, u64) {
        let counts = Arc::new(LaneCounts::new(Channel::new("orders").unwrap()));
        let sequencer = Sequencer::new(Source::framework());
        for _ in 0..waves {
            counts.relabel(Wave::from_bytes("hop.1.a", "x").unwrap().noticed(&sequencer));
        }
        (counts, sequencer.source().instance())
    }

    #[test]
    fn a_slot_heard_on_several_lanes_is_counted_once() {
        let mut counts = SlotCounts::default();
        for waves in [3, 0, 4] {
            counts.open(10, lane(waves).0);
        }
        let (other, sender) = lane(2);
        counts.open(11, other);
        assert_eq!(counts.end(&(10..=11)), (0, 0), "neither has ended");
        assert_eq!(counts.end(&(11..=12)), (1, 7));
        assert_eq!(counts.end(&(11..=12)), (0, 0));
        assert_eq!(counts.end(&(12..=13)), (1, 2));
        assert_eq!((counts.waves_of(sender, 11), counts.waves_of(sender, 10)), (2, 0));
    }

    #[test]
    fn clocks_that_go_back_do_not_grow_it_and_nothing_is_left_uncounted() {
        let mut counts = SlotCounts::default();
        let (mut opened, mut counted) = (0, (0, 0));
        let mut end = |counts: &mut SlotCounts, joined: &RangeInclusive<u64>| {
            let (slots, heard) = counts.end(joined);
            counted = (counted.0 + slots, counted.1 + heard);
            counted
        };
        for back in 0..5_u64 {
            let now = 1_000_000 - back * 10_000;
            for slot in now..now + 100 {
                counts.open(slot, lane(1).0);
                opened += 1;
                end(&mut counts, &(slot..=slot));
                assert!(counts.slots.len() as u64 <= 2 * FORGOTTEN_AFTER + 1);
            }
        }
        assert_eq!(end(&mut counts, &(0..=0)), (opened, opened));
    }

    #[test]
    fn a_slot_that_returns_is_counted_again_with_its_new_waves() {
        let mut counts = SlotCounts::default();
        counts.open(10, lane(3).0);
        assert_eq!(counts.end(&(11..=11)), (1, 3));
        counts.open(10, lane(2).0);
        assert_eq!(counts.end(&(10..=10)), (0, 0));
        assert_eq!(counts.end(&(11..=11)), (1, 2));
    }
}
