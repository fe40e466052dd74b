//! The table of participants: who announced them, and until when they are there. No clock and no task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::bounds::{LIFETIME, MAX_BYTES, MAX_ID, MAX_PARTICIPANTS, MAX_VALUE, PresenceError};
use super::pending::{Pending, PresenceUpdate};
use crate::core::WriterId;
use crate::replica::wire;

#[derive(Debug)]
struct Participant {
    about: Vec<SmolStr>,
    value: Bytes,
    by: WriterId,
    /// The last sign of life.
    alive: Instant,
    /// Increases with every new value in the table.
    version: u64,
}

/// The announcement of a participant: the patterns of the names that it concerns, and its JSON.
type Said = (Vec<SmolStr>, Bytes);

/// The room that participants take together.
#[derive(Debug, Clone, Copy, Default)]
struct Room {
    participants: usize,
    bytes: usize,
}

impl Room {
    fn takes(self, more: Self) -> bool {
        self.participants + more.participants <= MAX_PARTICIPANTS && self.bytes + more.bytes <= MAX_BYTES
    }
}

#[derive(Debug)]
pub(super) struct Participants {
    own: WriterId,
    all: BTreeMap<SmolStr, Participant>,
    /// When each expires, the next one first.
    expiries: BTreeSet<(Instant, SmolStr)>,
    /// The room of this replica's own announcements, and of all others.
    ours: Room,
    theirs: Room,
    /// The participants of this replica that changed or left since they were sent.
    outgoing: BTreeSet<SmolStr>,
    /// A replica that knows nobody has asked.
    pub(super) asked: bool,
    versions: u64,
    watchers: Vec<Arc<Pending>>,
    is_closed: bool,
}

impl Participants {
    pub(super) fn new(own: WriterId) -> Self {
        Self {
            own,
            all: BTreeMap::new(),
            expiries: BTreeSet::new(),
            ours: Room::default(),
            theirs: Room::default(),
            outgoing: BTreeSet::new(),
            asked: false,
            versions: 0,
            watchers: Vec::new(),
            is_closed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn announce(&mut self, id: &str, said: Said, now: Instant) -> Result<(), PresenceError> {
        if self.is_closed {
            return Err(PresenceError::Closed);
        }
        check(id, &said)?;
        self.expire(now);
        let is_new = self.all.get(id).is_none_or(|known| known.by != self.own || !known.says(&said));
        if !self.put(id, said, self.own, now) {
            return Err(PresenceError::Full { participants: self.ours.participants, bytes: self.ours.bytes });
        }
        if is_new {
            self.outgoing.insert(id.into());
        }
        Ok(())
    }

    pub(super) fn renew(&mut self, id: &str, now: Instant) -> bool {
        self.expire(now);
        match self.all.get_mut(id) {
            Some(known) if known.by == self.own => {
                self.expiries.remove(&(known.alive + LIFETIME, id.into()));
                known.alive = now;
                self.expiries.insert((now + LIFETIME, id.into()));
                true
            }
            _ => false,
        }
    }

    pub(super) fn leave(&mut self, id: &str, now: Instant) -> bool {
        self.expire(now);
        if self.all.get(id).is_none_or(|known| known.by != self.own) {
            return false;
        }
        self.remove(&id.into());
        // While nothing can be sent, departures beyond the bound are left to expiry.
        if self.outgoing.len() < MAX_PARTICIPANTS {
            self.outgoing.insert(id.into());
        }
        true
    }

    pub(super) fn list(&mut self, now: Instant) -> Vec<(String, Bytes)> {
        self.expire(now);
        self.all.iter().map(|(id, known)| (id.to_string(), known.value.clone())).collect()
    }

    /// Takes in an announcement of another replica. Returns how many participants were refused.
    pub(super) fn heard(&mut self, said: wire::Participants, now: Instant) -> u64 {
        if said.writer == self.own || self.is_closed {
            return 0;
        }
        self.expire(now);
        let mut refused = 0;
        for wire::Participant { id, age_ms, about, value } in said.participants {
            let Some(value) = value else {
                if self.all.get(&id).is_some_and(|known| known.by == said.writer) {
                    self.remove(&id);
                }
                continue;
            };
            let age = Duration::from_millis(age_ms.into());
            let Some(alive) = now.checked_sub(age).filter(|_| age < LIFETIME) else { continue };
            let is_newer =
                self.all.get(&id).is_none_or(|known| known.by == said.writer || known.alive < alive);
            if !is_newer {
                continue;
            }
            let heard = (about, value);
            if check(&id, &heard).is_err() || !is_json(&heard.1) || !self.put(&id, heard, said.writer, alive)
            {
                refused += 1;
            }
        }
        refused
    }

    /// Removes those that gave no sign of life for too long. Returns when the next one expires.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some((when, id)) = self.expiries.first().cloned() {
            if when > now {
                return Some(when);
            }
            self.remove(&id);
            // The other replicas let it expire themselves.
            self.outgoing.remove(&id);
        }
        None
    }

    /// Everything that this replica has announced is sent once more.
    pub(super) fn repeat(&mut self) {
        let own = self.own;
        let ours = self.all.iter().filter(|(_, known)| known.by == own).map(|(id, _)| id.clone());
        self.outgoing.extend(ours);
        self.asked = false;
    }

    /// Everything that this replica has announced leaves.
    pub(super) fn leave_all(&mut self) {
        self.repeat();
        for id in self.outgoing.clone() {
            self.remove(&id);
        }
    }

    /// The next message, of about `bytes`; `None` if there is nothing to say.
    pub(super) fn outgoing(
        &mut self,
        bytes: usize,
        now: Instant,
    ) -> Option<(WriterId, Vec<wire::Participant>)> {
        let (mut size, mut participants) = (0, Vec::new());
        while size < bytes
            && let Some(id) = self.outgoing.pop_first()
        {
            let known = self.all.get(&id);
            if known.is_some_and(|known| known.by != self.own) {
                // Another replica has it now.
                continue;
            }
            let age = known.map_or(Duration::ZERO, |known| now.saturating_duration_since(known.alive));
            let value = known.map(|known| known.value.clone());
            let about = known.map(|known| known.about.clone()).unwrap_or_default();
            size += id.len() + patterns(&about) + value.as_ref().map_or(0, Bytes::len) + 16;
            let age_ms = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
            participants.push(wire::Participant { id, age_ms, about, value });
        }
        (!participants.is_empty()).then_some((self.own, participants))
    }

    pub(super) fn watch(&mut self) -> Arc<Pending> {
        let pending = Arc::new(Pending::new(self.all.keys().cloned(), self.is_closed));
        self.watchers.push(Arc::clone(&pending));
        pending
    }

    /// The next update of a watcher; `Err` if there is none and none will come.
    pub(super) fn take(&mut self, pending: &Pending, now: Instant) -> Result<Option<PresenceUpdate>, ()> {
        self.expire(now);
        pending.take(self.is_closed, |id| {
            self.all.get(id).map(|known| (known.version, known.about.clone(), known.value.clone()))
        })
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.all.clear();
        self.expiries.clear();
        self.outgoing.clear();
        (self.ours, self.theirs) = Default::default();
        self.watchers.drain(..).for_each(|watcher| watcher.wake());
    }

    /// Returns whether there was room.
    fn put(&mut self, id: &str, said: Said, by: WriterId, alive: Instant) -> bool {
        let cost = Room { participants: 1, bytes: id.len() + patterns(&said.0) + said.1.len() };
        let is_ours = by == self.own;
        let mut room = if is_ours { self.ours } else { self.theirs };
        let known = self.all.get(id);
        if let Some(known) = known
            && (known.by == self.own) == is_ours
        {
            let before = known.cost(id);
            room = Room {
                participants: room.participants - before.participants,
                bytes: room.bytes - before.bytes,
            };
        }
        if !room.takes(cost) {
            return false;
        }
        let is_changed = known.is_none_or(|known| !known.says(&said));
        let id = SmolStr::from(id);
        let mut version = known.map_or(0, |known| known.version);
        if known.is_some() {
            self.forget(&id);
        }
        if is_changed {
            self.versions += 1;
            version = self.versions;
        }
        self.charge(by, cost, true);
        self.expiries.insert((alive + LIFETIME, id.clone()));
        let (about, value) = said;
        self.all.insert(id.clone(), Participant { about, value, by, alive, version });
        if is_changed {
            self.tell(&id, true);
        }
        true
    }

    fn remove(&mut self, id: &SmolStr) {
        self.forget(id);
        self.tell(id, false);
    }

    fn forget(&mut self, id: &SmolStr) {
        if let Some(known) = self.all.remove(id) {
            self.expiries.remove(&(known.alive + LIFETIME, id.clone()));
            self.charge(known.by, known.cost(id), false);
        }
    }

    fn charge(&mut self, by: WriterId, cost: Room, is_more: bool) {
        let room = if by == self.own { &mut self.ours } else { &mut self.theirs };
        let (participants, bytes) = (&mut room.participants, &mut room.bytes);
        for (sum, cost) in [(participants, cost.participants), (bytes, cost.bytes)] {
            *sum = if is_more { *sum + cost } else { *sum - cost };
        }
    }

    fn tell(&mut self, id: &SmolStr, is_present: bool) {
        // The other owner is the watch.
        self.watchers.retain(|watcher| Arc::strong_count(watcher) > 1);
        self.watchers.iter().for_each(|watcher| watcher.changed(id, is_present));
    }
}

impl Participant {
    fn says(&self, (about, value): &Said) -> bool {
        self.about == *about && self.value == *value
    }

    fn cost(&self, id: &str) -> Room {
        Room { participants: 1, bytes: id.len() + patterns(&self.about) + self.value.len() }
    }
}

/// The size of patterns. One for everything is what is said by default, and costs nothing.
fn patterns(about: &[SmolStr]) -> usize {
    if about == ["*"] { 0 } else { about.iter().map(|pattern| pattern.len() + size_of::<SmolStr>()).sum() }
}

fn check(id: &str, (about, value): &Said) -> Result<(), PresenceError> {
    match (id.len(), patterns(about) + value.len()) {
        (0, _) => Err(PresenceError::EmptyId),
        (bytes, _) if bytes > MAX_ID => Err(PresenceError::IdTooLong { bytes, allowed: MAX_ID }),
        (_, bytes) if bytes > MAX_VALUE => Err(PresenceError::ValueTooLarge { bytes, allowed: MAX_VALUE }),
        _ => Ok(()),
    }
}

/// Readers put the JSON of participants into messages of their own, so it must be JSON.
fn is_json(value: &[u8]) -> bool {
    str::from_utf8(value).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}
