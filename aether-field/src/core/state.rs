//! The state of one replica: its entries, and how changes merge.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use negentropy::NegentropyStorageVector;

use super::entry::{Change, ChangeId, Digest, Entry};
use super::index::Index;
use super::key::Key;
use super::limits::{Limits, Refusal};
use super::stamp::{HybridClock, Stamp, WriterId};

/// All entries of one replica.
///
/// A change is applied by [`State::apply`], in any order and any number of times, with the same result: of two entries of
/// one key the one with the greater stamp stays. Local operations make changes that are applied here at once and have to
/// be sent to the other replicas. Time is an argument, in microseconds since 1970.
#[derive(Debug)]
pub struct State {
    entries: BTreeMap<Key, Entry>,
    ids: BTreeMap<ChangeId, Key>,
    digest: Digest,
    clock: HybridClock,
    collected: Stamp,
    limits: Limits,
    index: Index,
}

/// The effect of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// The entry is new. It replaced `old`.
    Changed {
        /// The entry before, removals included.
        old: Option<Entry>,
    },
    /// The replica has this entry, or a newer one of this key.
    Known,
    /// The change is older than removals that this replica no longer keeps, and the key does not exist here: it was
    /// removed. A replica that still has the entry has to [forget](State::forget) it.
    Gone,
}

impl State {
    /// An empty replica. `writer` must be new for each start of a replica, except when its whole state was stored when
    /// it ended.
    #[must_use]
    pub fn new(writer: WriterId, limits: Limits) -> Self {
        Self {
            entries: BTreeMap::new(),
            ids: BTreeMap::new(),
            digest: Digest::default(),
            clock: HybridClock::new(writer, Stamp::default(), limits.max_drift),
            collected: Stamp::default(),
            limits,
            index: Index::default(),
        }
    }

    /// A replica from what was stored: changes, the stamp of [`State::collected`], and the newest stamp of
    /// [`State::last_stamp`].
    ///
    /// # Errors
    /// [`Refusal`] if a stored change is out of bounds. Stamps are not compared with the wall clock, which may be wrong
    /// at start.
    pub fn restore(
        writer: WriterId,
        limits: Limits,
        changes: impl IntoIterator<Item = Change>,
        collected: Stamp,
        last: Stamp,
    ) -> Result<Self, Refusal> {
        let mut state = Self::new(writer, limits);
        state.collected = collected;
        state.clock = HybridClock::new(writer, last.max(collected), limits.max_drift);
        for change in changes {
            state.check(&change)?;
            let stamp = change.entry.stamp;
            let _ = state.merge(change);
            if stamp > state.clock.last() {
                state.clock = HybridClock::new(writer, stamp, limits.max_drift);
            }
        }
        Ok(state)
    }

    /// Replaces the value of a register.
    ///
    /// # Errors
    /// [`Refusal`] if the name or value is out of bounds, or the replica is full.
    pub fn set(&mut self, name: &str, value: Bytes, wall: u64) -> Result<Change, Refusal> {
        self.write(Key::Register(name.into()), Some(value), wall)
    }

    /// Removes a register. `None` if there is none.
    ///
    /// # Errors
    /// [`Refusal`] if the name is out of bounds.
    pub fn remove(&mut self, name: &str, wall: u64) -> Result<Option<Change>, Refusal> {
        let key = Key::Register(name.into());
        match self.entries.get(&key) {
            Some(entry) if !entry.is_removed() => self.write(key, None, wall).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds to a counter. Concurrent additions of all writers count.
    ///
    /// # Errors
    /// [`Refusal`] if the name is out of bounds, or the replica is full.
    pub fn add(&mut self, name: &str, by: i64, wall: u64) -> Result<Change, Refusal> {
        let key = Key::Count(name.into(), self.clock.writer());
        let mut count = self.entries.get(&key).and_then(Count::of).unwrap_or_default();
        let side = if by < 0 { &mut count.down } else { &mut count.up };
        *side = side.saturating_add(by.unsigned_abs());
        self.write(key, Some(count.to_bytes()), wall)
    }

    /// Adds a member to a set. A concurrent removal does not concern this addition.
    ///
    /// # Errors
    /// [`Refusal`] if name or member are out of bounds, or the replica is full.
    pub fn insert(&mut self, name: &str, member: Bytes, wall: u64) -> Result<Vec<Change>, Refusal> {
        let tag = self.clock.tick(wall);
        let key = Key::Member(name.into(), member.clone(), tag);
        let entry = Entry { stamp: tag, replaces: None, value: Some(Bytes::new()) };
        let change = Change { key: key.clone(), entry };
        self.check(&change)?;
        let seen = self.additions(name, &member, Some(&key));
        let _ = self.merge(change.clone());
        let mut changes = vec![change];
        // The new addition stands for those before it.
        for key in seen {
            changes.push(self.write(key, None, wall)?);
        }
        Ok(changes)
    }

    /// Removes a member from a set: all its additions that this replica has seen. Empty if it is not a member.
    ///
    /// # Errors
    /// [`Refusal`] if name or member are out of bounds.
    pub fn discard(&mut self, name: &str, member: &Bytes, wall: u64) -> Result<Vec<Change>, Refusal> {
        let seen = self.additions(name, member, None);
        seen.into_iter().map(|key| self.write(key, None, wall)).collect()
    }

    /// Removes the additions of a member whose tags are older than a stamp.
    ///
    /// # Errors
    /// [`Refusal`] if name or member are out of bounds.
    pub fn discard_before(
        &mut self,
        name: &str,
        member: &Bytes,
        stamp: Stamp,
        wall: u64,
    ) -> Result<Vec<Change>, Refusal> {
        let seen = self.additions(name, member, None).into_iter();
        let older = seen.filter(|key| matches!(key, Key::Member(_, _, tag) if *tag < stamp));
        older.map(|key| self.write(key, None, wall)).collect()
    }

    /// The value of a register.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.entries.get(&Key::Register(name.into()))?.value.as_ref()
    }

    /// The sum of a counter; 0 if nobody has added to it.
    #[must_use]
    pub fn count(&self, name: &str) -> i128 {
        let counts = self.entries.range(Key::counts(name)).filter_map(|(_, entry)| Count::of(entry));
        counts.map(|count| i128::from(count.up) - i128::from(count.down)).sum()
    }

    /// The members of a set, in order.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &Bytes> {
        let all = self.entries.range(Key::members_from(name, Bytes::new()));
        let mut last = None;
        all.map_while(move |(key, entry)| match key {
            Key::Member(set, member, _) if &**set == name => Some((member, entry)),
            _ => None,
        })
        .filter(|(_, entry)| !entry.is_removed())
        .filter_map(move |(member, _)| (last.replace(member) != Some(member)).then_some(member))
    }

    /// Whether a set has this member.
    #[must_use]
    pub fn is_member(&self, name: &str, member: &Bytes) -> bool {
        !self.additions(name, member, None).is_empty()
    }

    /// The registers whose names begin with `start`, in order.
    pub fn registers(&self, start: &str) -> impl Iterator<Item = (&str, &Bytes)> {
        let all = self.entries.range(Key::Register(start.into())..);
        let registers = all.map_while(move |(key, entry)| match key {
            Key::Register(name) if name.starts_with(start) => Some((name.as_str(), entry)),
            _ => None,
        });
        registers.filter_map(|(name, entry)| Some((name, entry.value.as_ref()?)))
    }

    /// The entry of a key, removals included.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries from a key on, in the order of their keys, removals included.
    pub fn entries_from(&self, start: Bound<&Key>) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.range((start, Bound::Unbounded))
    }

    /// All entries in the order of their keys, removals included.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// The digest of all entries.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The writer of this replica's changes.
    #[must_use]
    pub const fn writer(&self) -> WriterId {
        self.clock.writer()
    }

    /// The newest stamp made or seen. Store it, so that the stamps after a restart are later.
    #[must_use]
    pub const fn last_stamp(&self) -> Stamp {
        self.clock.last()
    }

    /// The newest removal that is no longer kept, here or at a replica that this one was reconciled with.
    #[must_use]
    pub const fn collected(&self) -> Stamp {
        self.collected
    }

    /// The bounds.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Applies a change of another replica.
    ///
    /// # Errors
    /// [`Refusal`]; the state is as before then.
    pub fn apply(&mut self, change: Change, wall: u64) -> Result<Applied, Refusal> {
        self.check(&change)?;
        self.clock.observe(change.entry.stamp, wall)?;
        // Parts of counters are never removed, so they cannot have been.
        let is_removable = !matches!(change.key, Key::Count(..));
        if is_removable && change.entry.stamp < self.collected && !self.entries.contains_key(&change.key) {
            return Ok(Applied::Gone);
        }
        if let (Key::Count(..), Some(old)) = (&change.key, self.entries.get(&change.key))
            && change.entry.stamp > old.stamp
            && let (Some(old), Some(new)) = (Count::of(old), Count::of(&change.entry))
            && (new.up < old.up || new.down < old.down)
        {
            return Err(Refusal::ForeignCount);
        }
        Ok(self.merge(change))
    }

    /// Drops an entry without a trace, if the key still has exactly this one: a replica that knows more found it
    /// [gone](Applied::Gone). Returns it.
    pub fn forget(&mut self, id: ChangeId) -> Option<Change> {
        let key = self.ids.get(&id)?.clone();
        let entry = self.take(&key)?;
        Some(Change { key, entry })
    }

    /// Drops the removals that are older than the horizon. Returns their keys, for the store.
    ///
    /// Cost: proportional to the number of entries older than the horizon.
    pub fn collect(&mut self, wall: u64) -> Vec<Key> {
        let horizon = u64::try_from(self.limits.horizon.as_micros()).unwrap_or(u64::MAX);
        let before = wall.saturating_sub(horizon);
        let old = self.ids.iter().take_while(|(id, _)| id.stamp().micros < before);
        let is_removed = |key: &Key| self.entries.get(key).is_some_and(Entry::is_removed);
        let due: Vec<_> =
            old.filter(|(_, key)| is_removed(key)).map(|(id, key)| (*id, key.clone())).collect();
        for (id, key) in &due {
            self.collected = self.collected.max(id.stamp());
            self.take(key);
        }
        due.into_iter().map(|(_, key)| key).collect()
    }

    /// Takes over what a replica no longer keeps, after all its entries were taken over.
    pub(super) fn note_collected(&mut self, collected: Stamp, wall: u64) -> Result<(), Refusal> {
        self.clock.observe(collected, wall)?;
        self.collected = self.collected.max(collected);
        Ok(())
    }

    /// The change of this identity, if it is the current one of its key.
    #[must_use]
    pub fn change(&self, id: ChangeId) -> Option<Change> {
        let key = self.ids.get(&id)?;
        Some(Change { key: key.clone(), entry: self.entries.get(key)?.clone() })
    }

    pub(super) fn index(&mut self) -> Arc<NegentropyStorageVector> {
        self.index.get_or_build(self.ids.keys().copied())
    }

    fn write(&mut self, key: Key, value: Option<Bytes>, wall: u64) -> Result<Change, Refusal> {
        let replaces = self.entries.get(&key).map(|entry| entry.stamp);
        let mut clock = self.clock.clone();
        let change = Change { key, entry: Entry { stamp: clock.tick(wall), replaces, value } };
        self.check(&change)?;
        self.clock = clock;
        let _ = self.merge(change.clone());
        Ok(change)
    }

    fn merge(&mut self, change: Change) -> Applied {
        let id = change.id();
        if let Some(entry) = self.entries.get(&change.key) {
            // With equal stamps the hash decides.
            let is_newer = change.entry.stamp > entry.stamp
                || (change.entry.stamp == entry.stamp && id > ChangeId::of(&change.key, entry));
            if !is_newer {
                return Applied::Known;
            }
        }
        let old = self.take(&change.key);
        self.digest.add(id);
        self.ids.insert(id, change.key.clone());
        self.entries.insert(change.key, change.entry);
        Applied::Changed { old }
    }

    fn take(&mut self, key: &Key) -> Option<Entry> {
        self.index.is_outdated();
        let entry = self.entries.remove(key)?;
        let id = ChangeId::of(key, &entry);
        self.ids.remove(&id);
        self.digest.take(id);
        Some(entry)
    }

    /// The additions of a member that are not removed, but for one.
    fn additions(&self, name: &str, member: &Bytes, except: Option<&Key>) -> Vec<Key> {
        let all = self.entries.range(Key::members_from(name, member.clone()));
        let of_member =
            |key: &Key| matches!(key, Key::Member(set, other, _) if &**set == name && other == member);
        all.take_while(|(key, _)| of_member(key))
            .filter(|(key, entry)| !entry.is_removed() && Some(*key) != except)
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn check(&self, change: &Change) -> Result<(), Refusal> {
        let Change { key, entry } = change;
        let Limits { max_name, max_value, max_entries, .. } = self.limits;
        let name = key.name().len();
        let longest = if let Key::Member(_, member, _) = key { name.max(member.len()) } else { name };
        if name == 0 {
            return Err(Refusal::EmptyName);
        }
        if longest > max_name {
            return Err(Refusal::NameTooLong { bytes: longest, allowed: max_name });
        }
        let bytes = entry.value.as_ref().map_or(0, Bytes::len);
        if bytes > max_value {
            return Err(Refusal::ValueTooLarge { bytes, allowed: max_value });
        }
        if let Key::Count(_, writer) = key
            && (*writer != entry.stamp.writer || Count::of(entry).is_none())
        {
            return Err(Refusal::ForeignCount);
        }
        if self.entries.len() >= max_entries && !self.entries.contains_key(key) {
            return Err(Refusal::Full { allowed: max_entries });
        }
        Ok(())
    }
}

impl Change {
    /// The part of a counter that a writer has added to it, `up`, and taken from it, `down`: the sums of everything
    /// that it ever did. So the change is the same however often it is made, and neither sum ever falls.
    #[must_use]
    pub fn counted(name: &str, up: u64, down: u64, stamp: Stamp) -> Self {
        let key = Key::Count(name.into(), stamp.writer);
        Self { key, entry: Entry { stamp, replaces: None, value: Some(Count { up, down }.to_bytes()) } }
    }
}

/// What one writer has added to a counter, and subtracted from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    up: u64,
    down: u64,
}

impl Count {
    fn of(entry: &Entry) -> Option<Self> {
        let bytes: &[u8; 16] = entry.value.as_deref()?.try_into().ok()?;
        let (up, down) = bytes.split_at(8);
        Some(Self {
            up: u64::from_be_bytes(up.try_into().ok()?),
            down: u64::from_be_bytes(down.try_into().ok()?),
        })
    }

    fn to_bytes(self) -> Bytes {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.up.to_be_bytes());
        bytes[8..].copy_from_slice(&self.down.to_be_bytes());
        Bytes::copy_from_slice(&bytes)
    }
}
