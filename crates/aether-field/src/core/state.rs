//! The state of one replica: its entries, and how changes merge.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use triomphe::Arc;

use super::entry::{Change, ChangeId, Digest, Entry};
use super::held::{ByKey, Held};
use super::index::{Index, Items};
use super::key::Key;
use super::limits::{Limits, Refusal};
use super::owned::Ownership;
use super::section::Section;
use super::stamp::{HybridClock, Stamp, WriterId};
use super::trust::Trust;

/// All entries of one replica.
///
/// A change is applied by [`State::apply`], in any order and any number of times, with the same result: of two entries of
/// one key the one with the greater stamp stays, and two parts of a counter are joined. Local operations make changes
/// that are applied here at once and have to be sent to the other replicas. Time is an argument, in microseconds since
/// 1970.
#[derive(Debug)]
pub struct State {
    entries: BTreeSet<ByKey>,
    index: Index,
    digest: Digest,
    clock: HybridClock,
    collected: Stamp,
    pub(super) limits: Limits,
    pub(super) owned: Ownership,
}

/// The effect of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// The entry is new, or new in a part: [`State::joined`]. It replaced `old`.
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

impl Applied {
    /// The entry that was replaced.
    pub(super) fn old(self) -> Option<Entry> {
        if let Self::Changed { old } = self { old } else { None }
    }
}

impl State {
    /// An empty replica. `writer` must be new for each start of a replica, except when its whole state was stored when
    /// it ended.
    #[must_use]
    pub fn new(writer: WriterId, limits: Limits) -> Self {
        Self {
            entries: BTreeSet::new(),
            index: Index::default(),
            digest: Digest::default(),
            clock: HybridClock::new(writer, Stamp::default(), limits.max_drift),
            collected: Stamp::default(),
            limits,
            owned: Ownership::new(
                "",
                Trust::none(),
                HybridClock::new(writer, Stamp::default(), limits.max_drift),
            ),
        }
    }

    /// A replica from what was stored: changes, the stamp of [`State::collected`], and the newest stamp of
    /// [`State::last_stamp`].
    ///
    /// # Errors
    /// [`Refusal`] if a stored change is out of bounds, or of an owner: [`State::load_owned`] takes those. Stamps are
    /// not compared with the wall clock, which may be wrong at start.
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
        match self.entry(&key) {
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
        let mut count = self.entry(&key).and_then(Count::of).unwrap_or_default();
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
        // The new addition replaces the ones before it.
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

    /// The value of a register.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.entry(&Key::Register(name.into()))?.value.as_ref()
    }

    /// The sum of a counter; 0 if nobody has added to it.
    #[must_use]
    pub fn count(&self, name: &str) -> i128 {
        let counts = self.range(Key::counts(name)).filter_map(|(_, entry)| Count::of(entry));
        counts.map(|count| i128::from(count.up) - i128::from(count.down)).sum()
    }

    /// The sums of one writer of a counter; `None` if it has added nothing.
    #[must_use]
    pub fn count_of(&self, name: &str, writer: WriterId) -> Option<Count> {
        Count::of(self.entry(&Key::Count(name.into(), writer))?)
    }

    /// The members of a set, in order.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &Bytes> {
        let all = self.range(Key::members_from(name, Bytes::new()));
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

    /// The tag of the newest addition of a member; `None` if it is not in the set.
    #[must_use]
    pub fn addition(&self, name: &str, member: &Bytes) -> Option<Stamp> {
        match self.additions(name, member, None).pop() {
            Some(Key::Member(_, _, tag)) => Some(tag),
            _ => None,
        }
    }

    /// The registers whose names begin with `start`, in order.
    pub fn registers(&self, start: &str) -> impl Iterator<Item = (&str, &Bytes)> {
        let all = self.range(Key::Register(start.into())..);
        let registers = all.map_while(move |(key, entry)| match key {
            Key::Register(name) if name.starts_with(start) => Some((name.as_str(), entry)),
            _ => None,
        });
        registers.filter_map(|(name, entry)| Some((name, entry.value.as_ref()?)))
    }

    /// The entry of a key, removals included.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        if key.owner().is_some() {
            return self.owned.entry(key);
        }
        self.entries.get(key).map(|ByKey(held)| held.entry())
    }

    /// The entries from a key on that everybody may write, in the order of their keys, removals included.
    pub fn entries_from(&self, start: Bound<&Key>) -> impl Iterator<Item = (&Key, &Entry)> {
        let all = self.entries.range::<Key, _>((start, Bound::Unbounded));
        all.map(|ByKey(held)| (held.key(), held.entry()))
    }

    /// All entries in the order of their keys, removals included, and after them the entries of each owner.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        let open = self.entries.iter().map(|ByKey(held)| (held.key(), held.entry()));
        open.chain(self.owned.entries())
    }

    /// The digest of all entries.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.with(self.owned.digest())
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
        if change.key.owner().is_some() {
            return self.apply_owned(change, wall);
        }
        self.check(&change)?;
        self.clock.observe(change.entry.stamp, wall)?;
        // Parts of counters are never removed, so they cannot have been.
        let is_removable = !matches!(change.key, Key::Count(..));
        if is_removable && change.entry.stamp < self.collected && !self.entries.contains(&change.key) {
            return Ok(Applied::Gone);
        }
        Ok(self.merge(change))
    }

    /// A change that was applied, in its present form: the part of a counter is joined with the earlier parts.
    #[must_use]
    pub fn joined(&self, change: Change) -> Change {
        match (&change.key, self.entry(&change.key)) {
            (Key::Count(..), Some(entry)) => Change { entry: entry.clone(), key: change.key },
            _ => change,
        }
    }

    /// Whether the sums of a client can follow the present ones. The sums of an earlier write, which comes late or
    /// again, may be smaller.
    pub(super) fn check_count(&self, change: &Change) -> Result<(), Refusal> {
        if let Some(entry) = self.entry(&change.key)
            && change.entry.stamp > entry.stamp
            && change.entry.stamp.logical > entry.stamp.logical
            && let (Some(old), Some(new)) = (Count::of(entry), Count::of(&change.entry))
            && (new.up < old.up || new.down < old.down)
        {
            return Err(Refusal::ForeignCount);
        }
        Ok(())
    }

    /// Drops an entry without a trace, if the key still has exactly this one: a replica that knows more found it
    /// [gone](Applied::Gone). Returns it.
    pub fn forget(&mut self, id: ChangeId) -> Option<Change> {
        let forgotten = self.index.get(id)?.to_change();
        self.take(&forgotten.key)?;
        Some(forgotten)
    }

    /// Drops the removals that are older than the horizon. Returns their keys, for the store.
    ///
    /// Cost: proportional to the number of entries older than the horizon.
    pub fn collect(&mut self, wall: u64) -> Vec<Key> {
        let horizon = u64::try_from(self.limits.horizon.as_micros()).unwrap_or(u64::MAX);
        let before = wall.saturating_sub(horizon);
        let old = self.index.iter().take_while(|held| held.entry().stamp.micros < before);
        let due: Vec<_> =
            old.filter(|held| held.entry().is_removed()).map(|held| held.key().clone()).collect();
        for key in &due {
            if let Some(entry) = self.take(key) {
                self.collected = self.collected.max(entry.stamp);
            }
        }
        due
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
        let held = self.index.get(id).map(|held| held.to_change());
        held.or_else(|| self.owned.change(id))
    }

    /// The digests of the parts of this state that another replica may have as well.
    pub(super) fn sections(&self) -> Vec<(Section, Digest)> {
        [(Section::OPEN, self.digest)].into_iter().chain(self.owned.sections()).collect()
    }

    /// The sorted identities of these sections.
    pub(super) fn items(&mut self, sections: &[Section]) -> Items<'_> {
        if sections == [Section::OPEN] {
            return Items::Open(self.index.ranges());
        }
        let open = sections.contains(&Section::OPEN).then(|| self.index.ids());
        Items::of_sections(open.into_iter().flatten().chain(self.owned.ids_in(sections)))
    }

    fn range(&self, keys: impl RangeBounds<Key>) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.range(keys).map(|ByKey(held)| (held.key(), held.entry()))
    }

    pub(super) fn write(&mut self, key: Key, value: Option<Bytes>, wall: u64) -> Result<Change, Refusal> {
        let replaces = self.entry(&key).map(|entry| entry.stamp);
        let mut clock = self.clock.clone();
        let change = Change { key, entry: Entry { stamp: clock.tick(wall), replaces, value } };
        self.check(&change)?;
        self.clock = clock;
        let _ = self.merge(change.clone());
        Ok(change)
    }

    fn merge(&mut self, mut change: Change) -> Applied {
        if matches!(change.key, Key::Count(..)) {
            // A part replaces nothing: it is joined with what is there.
            change.entry.replaces = None;
        }
        if let Some(entry) = self.entry(&change.key) {
            if let (Key::Count(..), Some(old), Some(new)) =
                (&change.key, Count::of(entry), Count::of(&change.entry))
            {
                let (joined, stamp) = (old.join(new), entry.stamp.max(change.entry.stamp));
                if joined == old && stamp == entry.stamp {
                    return Applied::Known;
                }
                change.entry = Entry { stamp, replaces: None, value: Some(joined.to_bytes()) };
            } else if change.entry.stamp < entry.stamp
                // With equal stamps the hash decides.
                || (change.entry.stamp == entry.stamp
                    && change.id() <= ChangeId::of(&change.key, entry))
            {
                return Applied::Known;
            }
        }
        let id = change.id();
        let old = self.take(&change.key);
        self.digest.add(id);
        let held = Held::new(change);
        self.index.insert(id, Arc::clone(&held));
        self.entries.insert(ByKey(held));
        Applied::Changed { old }
    }

    fn take(&mut self, key: &Key) -> Option<Entry> {
        let ByKey(held) = self.entries.take(key)?;
        if let Some(id) = self.index.remove(&held) {
            self.digest.take(id);
        }
        Some(held.entry().clone())
    }

    /// The additions of a member that are not removed, but for one.
    pub(super) fn additions(&self, name: &str, member: &Bytes, except: Option<&Key>) -> Vec<Key> {
        let all = self.range(Key::members_from(name, member.clone()));
        let of_member =
            |key: &Key| matches!(key, Key::Member(set, other, _) if &**set == name && other == member);
        all.take_while(|(key, _)| of_member(key))
            .filter(|(key, entry)| !entry.is_removed() && Some(*key) != except)
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn check(&self, change: &Change) -> Result<(), Refusal> {
        let Change { key, entry } = change;
        if let Some(owner) = key.owner() {
            // Only `apply` checks signatures.
            return Err(Refusal::UnknownOwner { owner: owner.clone() });
        }
        let max_entries = self.limits.max_entries;
        self.limits.check(change)?;
        if let Key::Count(_, writer) = key
            && (*writer != entry.stamp.writer || Count::of(entry).is_none())
        {
            return Err(Refusal::ForeignCount);
        }
        // Removals of what is not here leave half of the room to what somebody wants to keep.
        let allowed = if entry.is_removed() { max_entries / 2 } else { max_entries };
        if self.entries.len() >= allowed && !self.entries.contains(key) {
            return Err(Refusal::Full { allowed });
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

/// The sums that one writer has added to a counter, and subtracted from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All that it has added.
    pub up: u64,
    /// All that it has subtracted.
    pub down: u64,
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

    /// The sums of both: neither ever falls, so the greater one has everything, whatever their stamps say.
    fn join(self, other: Self) -> Self {
        Self { up: self.up.max(other.up), down: self.down.max(other.down) }
    }

    fn to_bytes(self) -> Bytes {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.up.to_be_bytes());
        bytes[8..].copy_from_slice(&self.down.to_be_bytes());
        Bytes::copy_from_slice(&bytes)
    }
}
