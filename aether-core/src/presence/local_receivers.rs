//! The receivers of this process: their subscriptions, and the floors that they advertise.
//!
//! A changed subscription costs time logarithmic in the receiver's subscriptions. In process, without a sender that
//! respects floors, it is only an entry in a table. Over a network it is recorded as news, sent by
//! [`Presence::announce`](super::Presence::announce).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::announcement::{Announcement, MAX_PATTERNS};
use super::floor_index::{FloorIndex, Index, Slot};
use crate::amplitude::Floor;
use crate::clock::{self, Instant};
use crate::inbox::Inbox;
use crate::router::Heard;
use crate::source::Source;
use crate::sync::AtomicBool;

#[derive(Default)]
pub(super) struct LocalReceivers {
    pub(super) receivers: BTreeMap<u64, LocalReceiver>,
    /// Receivers with changes to announce.
    pub(super) news: BTreeSet<u64>,
    /// Farewells of closed receivers, to be sent.
    pub(super) farewells: Vec<Announcement>,
    /// Receivers whose floor may be up.
    pub(super) raised: BTreeSet<u64>,
    /// They have announced that they leave, because the medium is about to be closed.
    pub(super) have_left: bool,
    /// Whether receivers are added to the index.
    is_indexed: bool,
}

pub(super) struct LocalReceiver {
    pub(super) source: Source,
    pub(super) inbox: Arc<Inbox>,
    /// By subscription id, so in the order in which they were joined.
    heard: BTreeMap<u64, Heard>,
    pub(super) is_raised: Arc<AtomicBool>,
    pub(super) advertised: Floor,
    /// When that was.
    pub(super) since: Option<Instant>,
    /// Whether rosters list it.
    pub(super) is_listed: bool,
    slot: Option<Slot>,
    pub(super) made_at: std::time::SystemTime,
}

impl LocalReceiver {
    pub(super) fn new(
        source: &Source,
        inbox: &Arc<Inbox>,
        is_raised: Arc<AtomicBool>,
        is_listed: bool,
    ) -> Self {
        Self {
            source: source.clone(),
            inbox: Arc::clone(inbox),
            heard: BTreeMap::new(),
            is_raised,
            advertised: Floor::OPEN,
            since: None,
            is_listed,
            slot: None,
            made_at: clock::wall_time(),
        }
    }

    pub(super) fn is_tuned(&self) -> bool {
        !self.heard.is_empty()
    }

    /// Its complete announcement.
    pub(super) fn announcement(&self) -> Announcement {
        self.saying(usize::MAX)
    }

    /// Its announcement as sent to others: beyond the maximum number of patterns it is truncated, and encoded as
    /// hearing everything.
    pub(super) fn short_announcement(&self) -> Announcement {
        self.saying(MAX_PATTERNS + 1)
    }

    /// The announcement that it has left.
    pub(super) fn farewell(&self) -> Announcement {
        Announcement { floor: Floor::OPEN, effective_floor: Floor::OPEN, ..self.saying(0) }
    }

    fn saying(&self, most: usize) -> Announcement {
        Announcement {
            vibrator: self.source.clone(),
            heard: self.heard.values().take(most).cloned().collect(),
            effective_floor: self.inbox.effective_floor(),
            floor: self.advertised,
            principal: 0,
            is_listed: self.is_listed,
        }
    }

    fn index(&mut self, index: &mut Index, now: Instant) {
        let slot = index.add(now);
        self.heard.values().for_each(|heard| index.hear(slot, &heard.pattern));
        index.advertise(slot, self.advertised, self.since.unwrap_or(now));
        self.slot = Some(slot);
    }

    /// Sets the floor that it advertises.
    pub(super) fn advertise(&mut self, floor: Floor, hearers: &FloorIndex, now: Instant) {
        (self.advertised, self.since) = (floor, Some(now));
        if let Some(slot) = self.slot {
            hearers.change(|index| index.advertise(slot, floor, now));
        }
    }
}

impl LocalReceivers {
    /// Those that rosters list.
    pub(super) fn shown(&self) -> impl Iterator<Item = &LocalReceiver> {
        self.receivers.values().filter(|receiver| receiver.is_listed && receiver.is_tuned())
    }

    /// Re-arms the report of receivers whose floor may be up.
    pub(super) fn mark_unattended(&mut self) {
        for instance in std::mem::take(&mut self.raised) {
            if let Some(receiver) = self.receivers.get(&instance) {
                receiver.is_raised.store(false, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn begin_index(&mut self, hearers: &FloorIndex, now: Instant) {
        if !std::mem::replace(&mut self.is_indexed, true) {
            hearers
                .change(|index| self.receivers.values_mut().for_each(|receiver| receiver.index(index, now)));
        }
    }

    pub(super) fn open(&mut self, mut receiver: LocalReceiver, hearers: &FloorIndex, now: Instant) {
        if self.is_indexed {
            hearers.change(|index| receiver.index(index, now));
        }
        self.receivers.insert(receiver.source.instance(), receiver);
    }

    /// Removes a receiver. Returns the farewell to send, if any.
    pub(super) fn close(
        &mut self,
        instance: u64,
        hearers: &FloorIndex,
        now: Instant,
    ) -> Option<Announcement> {
        let receiver = self.receivers.remove(&instance)?;
        // It may hear nothing any more, which the others do not know yet.
        let has_news = self.news.remove(&instance);
        if let Some(slot) = receiver.slot {
            hearers.change(|index| {
                receiver.heard.values().for_each(|heard| index.forget(slot, &heard.pattern));
                index.remove(slot, now);
            });
        }
        (receiver.is_tuned() || has_news).then(|| receiver.farewell())
    }

    /// Adds a subscription by its id. Returns whether others have to be notified.
    pub(super) fn tune(&mut self, instance: u64, id: u64, heard: Heard, hearers: &FloorIndex) -> bool {
        let Some(receiver) = self.receivers.get_mut(&instance) else { return false };
        if receiver.heard.contains_key(&id) {
            return false;
        }
        if let Some(slot) = receiver.slot {
            hearers.change(|index| index.hear(slot, &heard.pattern));
        }
        receiver.heard.insert(id, heard);
        // A receiver with more patterns has already announced that it hears everything.
        receiver.heard.len() <= MAX_PATTERNS + 1
    }

    /// The instance of the receiver that has a subscription.
    pub(super) fn receiver_of(&self, id: u64) -> Option<u64> {
        self.receivers
            .iter()
            .find(|(_, receiver)| receiver.heard.contains_key(&id))
            .map(|(instance, _)| *instance)
    }

    /// Removes a subscription. Returns whether others have to be notified.
    pub(super) fn detune(&mut self, instance: u64, id: u64, hearers: &FloorIndex) -> bool {
        let Some(receiver) = self.receivers.get_mut(&instance) else { return false };
        let Some(heard) = receiver.heard.remove(&id) else { return false };
        if let Some(slot) = receiver.slot {
            hearers.change(|index| index.forget(slot, &heard.pattern));
        }
        receiver.heard.len() <= MAX_PATTERNS
    }
}
