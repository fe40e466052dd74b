//! The announced receivers of other processes. Pure data; the time is a parameter.
//!
//! Without keys announcements are not authenticated, so an entry belongs to its announcer. Another announcer that
//! uses the same name gets an entry of its own, which can only add a receiver. Since the lowest floor counts, that
//! never stops a wave that was not stopped before. A forger that copies the announcer's identity as well is detected
//! by its message numbers, which repeat or fall when the real announcer sends next: then no wave is stopped for a
//! while.
//!
//! In a full table the principal with the largest share makes room for receivers of others. Its own further ones are
//! left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Announcement;
use super::floor_index::{FloorIndex, Index, PATTERN_BYTES, Slot, TOKEN_BYTES};
use crate::clock::Instant;
use crate::proof::ShareSizes;
use crate::wave::Wave;

/// The maximum number of known receivers of other processes.
const MAX_RECEIVERS: usize = 4096;
/// The maximum memory used by them, the index included, in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The memory used by one receiver, without its texts and patterns.
const RECEIVER_BYTES: usize = 384;
/// A receiver silent for this long is gone: it has missed three heartbeats.
pub(super) const ABSENT_AFTER: Duration = Duration::from_secs(40);
/// How often absent receivers are searched for while the table is full.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether the announcer is an `Aether`, which numbers its messages; who signed it, if that is proven; and its instance.
type AnnouncerId = (bool, u64, u64);
/// The announcer, and the receiver's instance.
type Key = (AnnouncerId, u64);

#[derive(Debug, Default)]
pub(super) struct AdvertisedFloors {
    receivers: BTreeMap<Key, RemoteReceiver>,
    announcers: HashMap<AnnouncerId, Announcer>,
    bytes: usize,
    /// The bytes that each principal takes of the room.
    shares: ShareSizes,
    /// There were too many receivers to keep, or messages were dropped unread.
    is_overfull: bool,
    /// The same since the last roll call.
    overflows: bool,
    /// When an announcer's identity was last found to be used twice.
    contradicted: Option<Instant>,
    looked: Option<Instant>,
    left_out: u64,
    implausible: u64,
    /// Whether receivers are added to the index.
    is_indexed: bool,
}

#[derive(Debug)]
struct Announcer {
    /// The number of its last message.
    last: u64,
    receivers: usize,
}

#[derive(Debug)]
struct RemoteReceiver {
    announced: Arc<Announcement>,
    heard_of: Instant,
    weight: usize,
    slot: Option<Slot>,
}

impl RemoteReceiver {
    fn is_absent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_of) >= ABSENT_AFTER
    }

    fn index(&mut self, index: &mut Index) {
        let slot = index.add(self.heard_of);
        self.announced.heard.iter().for_each(|heard| index.hear(slot, &heard.pattern));
        index.advertise(slot, self.announced.floor, self.heard_of);
        self.slot = Some(slot);
    }

    fn leave(&mut self, index: &mut Index, now: Instant) {
        if let Some(slot) = self.slot.take() {
            self.announced.heard.iter().for_each(|heard| index.forget(slot, &heard.pattern));
            index.remove(slot, now);
        }
    }
}

/// The maximum memory used by a receiver.
fn weight(announced: &Announcement) -> usize {
    let heard = announced.heard.iter().map(|heard| {
        let (text, group) =
            (heard.pattern.as_str(), heard.group.as_deref().map_or(0, |group| 16 + group.len()));
        // The text is stored twice: in the announcement and, token by token, in the index.
        PATTERN_BYTES + 2 * text.len() + group + heard.pattern.tokens().count() * TOKEN_BYTES
    });
    RECEIVER_BYTES + announced.vibrator.weight() + heard.sum::<usize>()
}

/// The bytes that a receiver takes of the room: at least an equal part, since the number of receivers is bounded, too.
fn share(weight: usize) -> usize {
    weight.max(MAX_BYTES / MAX_RECEIVERS)
}

impl AdvertisedFloors {
    /// Processes one message about receivers of other processes. Returns whether any receiver's subscriptions changed.
    pub(super) fn take_in(
        &mut self,
        message: &Wave,
        announcements: Vec<Announcement>,
        hearers: &FloorIndex,
        now: Instant,
    ) -> bool {
        let source = message.source();
        let announcer = (source.is_framework(), message.principal(), source.instance());
        if announcer.0
            && let Some(known) = self.announcers.get_mut(&announcer)
        {
            if message.sequence() <= known.last {
                self.implausible += 1;
                self.contradicted = Some(now);
            }
            known.last = message.sequence();
        }
        let mut changes = false;
        for mut announced in announcements {
            announced.principal = announcer.1;
            changes |= self.enter((announcer, message.sequence()), announced, hearers, now);
        }
        self.judge(hearers, now);
        changes
    }

    /// Stores a receiver's announcement. A receiver without patterns is gone.
    fn enter(
        &mut self,
        from: (AnnouncerId, u64),
        announced: Announcement,
        hearers: &FloorIndex,
        now: Instant,
    ) -> bool {
        let (announcer, number) = from;
        let key = (announcer, announced.vibrator.instance());
        if announced.heard.is_empty() {
            return self.remove(key, hearers, now);
        }
        if let Some(known) = self.receivers.get_mut(&key)
            && known.announced.heard == announced.heard
        {
            let is_back = known.is_absent(now);
            let is_other = known.announced.is_listed != announced.is_listed;
            known.heard_of = now;
            if let Some(slot) = known.slot
                && !(announced.floor.is_open() && known.announced.floor.is_open())
            {
                hearers.change(|index| index.advertise(slot, announced.floor, now));
            }
            known.announced = Arc::new(announced);
            return is_back || is_other;
        }
        self.remove(key, hearers, now);
        let weight = weight(&announced);
        if !self.has_room(weight)
            && self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY)
        {
            self.looked = Some(now);
            self.forget_absent(hearers, now);
        }
        while !self.has_room(weight) {
            self.note_missed(1);
            if !self.make_room(announcer.1, hearers, now) {
                return true;
            }
        }
        let mut receiver =
            RemoteReceiver { announced: Arc::new(announced), heard_of: now, weight, slot: None };
        if self.is_indexed {
            hearers.change(|index| receiver.index(index));
        }
        self.bytes += weight;
        self.shares.add(announcer.1, share(weight));
        self.receivers.insert(key, receiver);
        self.announcers.entry(announcer).or_insert(Announcer { last: number, receivers: 0 }).receivers += 1;
        true
    }

    fn has_room(&self, weight: usize) -> bool {
        self.receivers.len() < MAX_RECEIVERS && self.bytes + weight <= MAX_BYTES
    }

    /// Removes the receiver of another principal that was announced longest ago, if that principal has more. Returns whether
    /// there was one.
    fn make_room(&mut self, principal: u64, hearers: &FloorIndex, now: Instant) -> bool {
        let holder = self.shares.gives_way_to(principal);
        let held = self.receivers.iter().filter(|(key, _)| key.0.1 == holder && holder != principal);
        let oldest = held.min_by_key(|(_, receiver)| receiver.heard_of).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.remove(key, hearers, now))
    }

    /// Records that announcements were dropped. No wave is stopped until all receivers have announced themselves again.
    pub(super) fn note_missed(&mut self, announcements: u64) {
        (self.is_overfull, self.overflows) = (true, true);
        self.left_out += announcements;
    }

    fn remove(&mut self, key: Key, hearers: &FloorIndex, now: Instant) -> bool {
        let Some(mut receiver) = self.receivers.remove(&key) else { return false };
        self.bytes -= receiver.weight;
        self.shares.subtract(key.0.1, share(receiver.weight));
        if receiver.slot.is_some() {
            hearers.change(|index| receiver.leave(index, now));
        }
        if let Some(announcer) = self.announcers.get_mut(&key.0) {
            announcer.receivers -= 1;
            if announcer.receivers == 0 {
                self.announcers.remove(&key.0);
            }
        }
        true
    }

    /// Removes absent receivers and frees their memory.
    pub(super) fn forget_absent(&mut self, hearers: &FloorIndex, now: Instant) {
        let absent = self.receivers.iter().filter(|(_, receiver)| receiver.is_absent(now));
        for key in absent.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.remove(key, hearers, now);
        }
        if self.announcers.len() < self.announcers.capacity() / 4 {
            self.announcers.shrink_to_fit();
        }
        self.judge(hearers, now);
    }

    /// Adds all receivers to the index, now and from now on.
    pub(super) fn begin_index(&mut self, hearers: &FloorIndex) {
        if !std::mem::replace(&mut self.is_indexed, true) {
            hearers.change(|index| self.receivers.values_mut().for_each(|receiver| receiver.index(index)));
        }
    }

    /// Updates whether the known floors may stop waves.
    pub(super) fn judge(&mut self, hearers: &FloorIndex, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < ABSENT_AFTER;
        hearers.set_incomplete(self.is_overfull || self.contradicted.is_some_and(lately));
    }

    /// How many receivers and announcers are kept.
    #[cfg(feature = "test-util")]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.receivers.len(), self.announcers.len()]
    }

    /// Listed receivers that have announced themselves recently.
    pub(super) fn elsewhere(&self, now: Instant) -> Vec<Arc<Announcement>> {
        let is_here = |receiver: &&RemoteReceiver| receiver.announced.is_listed && !receiver.is_absent(now);
        self.receivers.values().filter(is_here).map(|receiver| Arc::clone(&receiver.announced)).collect()
    }

    /// Announcements that did not fit.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Messages whose numbers show that two announcers use one identity.
    pub(super) const fn implausible(&self) -> u64 {
        self.implausible
    }

    /// Approximate upper bound on the memory used, the index included, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no wave is stopped until all receivers have announced themselves again.
    pub(super) const fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Records a roll call.
    pub(super) fn call(&mut self, hearers: &FloorIndex, now: Instant) {
        // Receivers that did not fit are known again once all have answered a call and fit.
        self.is_overfull = std::mem::take(&mut self.overflows);
        self.judge(hearers, now);
    }
}

#[cfg(test)]
mod tests;
