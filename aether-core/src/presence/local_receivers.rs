//! The receivers of this process: what each hears, and the floor that it advertises.
//!
//! A change of what one hears costs the logarithm of how much it hears, and nobody is told where nobody asks: in process
//! without a sender that respects floors it is an entry in a table. Over a network it is noted as news, which
//! [`Presence::announce`](super::Presence::announce) tells.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::announcement::{Announcement, MAX_PATTERNS};
use super::floor_index::{FloorIndex, Index, Slot};
use crate::amplitude::Floor;
use crate::clock::Instant;
use crate::inbox::Inbox;
use crate::router::Heard;
use crate::source::Source;

#[derive(Default)]
pub(super) struct LocalReceivers {
    pub(super) receivers: HashMap<u64, LocalReceiver>,
    /// Those who have something new to say.
    pub(super) news: HashSet<u64>,
    /// The farewells of those who are gone.
    pub(super) farewells: Vec<Announcement>,
    /// Those whose floor may be up.
    pub(super) raised: HashSet<u64>,
    pub(super) is_attended: bool,
    /// They have said goodbye, because the medium is about to be closed.
    pub(super) are_gone: bool,
    /// Whether receivers are entered into the index.
    is_indexed: bool,
}

pub(super) struct LocalReceiver {
    pub(super) source: Source,
    pub(super) inbox: Arc<Inbox>,
    /// By the numbers of their subscriptions, so in the order in which they were joined.
    heard: BTreeMap<u64, Heard>,
    pub(super) is_raised: Arc<AtomicBool>,
    pub(super) advertised: Floor,
    /// When that was.
    pub(super) since: Option<Instant>,
    /// Whether rosters show it.
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
            made_at: std::time::SystemTime::now(),
        }
    }

    pub(super) fn is_tuned(&self) -> bool {
        !self.heard.is_empty()
    }

    /// All of what it says of itself.
    pub(super) fn announcement(&self) -> Announcement {
        self.saying(usize::MAX)
    }

    /// The same as others are told it: who hears too much to say is cut off, and written as one who hears everything.
    pub(super) fn short_announcement(&self) -> Announcement {
        self.saying(MAX_PATTERNS + 1)
    }

    /// What it says when it is gone.
    pub(super) fn farewell(&self) -> Announcement {
        Announcement { floor: Floor::OPEN, effective_floor: Floor::OPEN, ..self.saying(0) }
    }

    fn saying(&self, most: usize) -> Announcement {
        Announcement {
            vibrator: self.source.clone(),
            heard: self.heard.values().take(most).cloned().collect(),
            effective_floor: self.inbox.effective_floor(),
            floor: self.advertised,
            is_listed: self.is_listed,
        }
    }

    fn index(&mut self, index: &mut Index, now: Instant) {
        let slot = index.add(now);
        self.heard.values().for_each(|heard| index.hear(slot, &heard.pattern));
        index.advertise(slot, self.advertised, self.since.unwrap_or(now));
        self.slot = Some(slot);
    }

    /// Enters the floor that it advertises now.
    pub(super) fn advertise(&mut self, floor: Floor, hearers: &FloorIndex, now: Instant) {
        (self.advertised, self.since) = (floor, Some(now));
        if let Some(slot) = self.slot {
            hearers.change(|index| index.advertise(slot, floor, now));
        }
    }
}

impl LocalReceivers {
    /// Lets those whose floor may be up say so again.
    pub(super) fn are_not_attended(&mut self) {
        for instance in self.raised.drain() {
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

    /// What others have to be told, if anything.
    pub(super) fn close(
        &mut self,
        instance: u64,
        hearers: &FloorIndex,
        now: Instant,
    ) -> Option<Announcement> {
        let receiver = self.receivers.remove(&instance)?;
        self.news.remove(&instance);
        if let Some(slot) = receiver.slot {
            hearers.change(|index| {
                receiver.heard.values().for_each(|heard| index.forget(slot, &heard.pattern));
                index.remove(slot, now);
            });
        }
        receiver.is_tuned().then(|| receiver.farewell())
    }

    /// One of them hears a pattern from now on, by a subscription of this number. Says whether others have to be told.
    pub(super) fn tune(&mut self, instance: u64, id: u64, heard: Heard, hearers: &FloorIndex) -> bool {
        let Some(receiver) = self.receivers.get_mut(&instance) else { return false };
        if receiver.heard.contains_key(&id) {
            return false;
        }
        if let Some(slot) = receiver.slot {
            hearers.change(|index| index.hear(slot, &heard.pattern));
        }
        receiver.heard.insert(id, heard);
        // Who hears more than that has said that it hears everything.
        receiver.heard.len() <= MAX_PATTERNS + 1
    }

    /// The opposite.
    pub(super) fn detune(&mut self, instance: u64, id: u64, hearers: &FloorIndex) -> bool {
        let Some(receiver) = self.receivers.get_mut(&instance) else { return false };
        let Some(heard) = receiver.heard.remove(&id) else { return false };
        if let Some(slot) = receiver.slot {
            hearers.change(|index| index.forget(slot, &heard.pattern));
        }
        receiver.heard.len() <= MAX_PATTERNS
    }
}
