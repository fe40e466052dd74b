//! Owned state: entries that only their owner writes. Nothing is stored here whose signature was not checked.

use std::collections::BTreeMap;
use std::collections::btree_map;

use bytes::Bytes;
use smol_str::SmolStr;

use super::certificate::Certificate;
use super::entry::{Change, ChangeId, Digest, Entry};
use super::key::Key;
use super::limits::{Limits, Refusal};
use super::public_key::PublicKey;
use super::seal::{OVERHEAD, Presence, Seal, Subject};
use super::section::Section;
use super::stamp::{HybridClock, Stamp};
use super::trust::Trust;

/// Whether a signature has to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Signature,
    /// This replica has just made it.
    Own,
}

/// The entries of one owner, and the keys that sign for it.
#[derive(Debug, Default)]
pub(super) struct OwnerEntries {
    /// The present key.
    pub(super) key: Option<PublicKey>,
    /// The key before, and the stamp until which it was valid.
    pub(super) previous: Option<(PublicKey, Stamp)>,
    pub(super) chain: Option<Certificate>,
    pub(super) floor: Stamp,
    entries: BTreeMap<Key, Entry>,
    digest: Digest,
}

impl OwnerEntries {
    /// The key of a hint, if it may sign something of this stamp: the present one, or the one before it.
    fn signer(&self, hint: [u8; 8], stamp: Stamp) -> Option<PublicKey> {
        let previous = self.previous.filter(|(_, until)| stamp < *until).map(|(key, _)| key);
        [self.key, previous].into_iter().flatten().find(|key| key.hint() == hint)
    }

    /// The values and removals, with their names.
    pub(super) fn values(&self) -> impl Iterator<Item = (&SmolStr, &Entry)> {
        self.entries.iter().filter_map(|(key, entry)| match key {
            Key::Owned(_, name) => Some((name, entry)),
            _ => None,
        })
    }
}

/// The owned entries of a replica. [`State`](super::State) holds one.
#[derive(Debug)]
pub(super) struct Ownership {
    field: String,
    trust: Trust,
    /// Moved by signed stamps only, so that no stranger moves the stamps of an owner.
    pub(super) clock: HybridClock,
    owners: BTreeMap<SmolStr, OwnerEntries>,
    ids: BTreeMap<ChangeId, Key>,
    digest: Digest,
    /// The digest of the certificates that the root has begun.
    certified: Digest,
    /// Entries that became void since they were asked for.
    voided: Vec<Change>,
}

impl Ownership {
    pub(super) fn new(field: &str, trust: Trust, clock: HybridClock) -> Self {
        let pinned = |(name, &key): (&SmolStr, &PublicKey)| {
            (name.clone(), OwnerEntries { key: Some(key), ..OwnerEntries::default() })
        };
        let owners = trust.pins.iter().map(pinned).collect();
        let (digest, certified) = (Digest::default(), Digest::default());
        let (ids, voided) = (BTreeMap::new(), Vec::new());
        Self { field: field.to_owned(), trust, clock, owners, ids, digest, certified, voided }
    }

    /// Trusts one more owner. `false` if another key of it is known.
    pub(super) fn trust(&mut self, name: &str, key: PublicKey, limits: &Limits) -> Result<bool, Refusal> {
        if self.trust.pins.get(name) == Some(&key) {
            return Ok(true);
        }
        match self.owners.get(name).and_then(|owner| owner.key) {
            Some(known) => return Ok(known == key),
            None if self.owners.len() >= limits.max_owners => {
                return Err(Refusal::TooManyOwners { allowed: limits.max_owners });
            }
            None => {}
        }
        self.trust.pins.insert(name.into(), key);
        self.owners.entry(name.into()).or_default().key = Some(key);
        Ok(true)
    }

    pub(super) fn field(&self) -> &str {
        &self.field
    }

    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn owner(&self, name: &str) -> Option<&OwnerEntries> {
        self.owners.get(name)
    }

    /// The owners of which a key is known.
    pub(super) fn owners(&self) -> impl Iterator<Item = (&SmolStr, &OwnerEntries)> {
        self.owners.iter()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.owners.values().flat_map(|owner| &owner.entries)
    }

    pub(super) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.owners.get(key.owner()?)?.entries.get(key)
    }

    pub(super) fn change(&self, id: ChangeId) -> Option<Change> {
        let key = self.ids.get(&id)?;
        Some(Change { key: key.clone(), entry: self.entry(key)?.clone() })
    }

    /// The values of an owner whose names begin with `start`, in order.
    pub(super) fn values(&self, owner: &str, start: &str) -> impl Iterator<Item = (&str, Bytes)> {
        let first = Key::Owned(owner.into(), start.into());
        let all = self.owners.get(owner).map(|owner| owner.entries.range(first..));
        all.into_iter()
            .flatten()
            .map_while(move |(key, entry)| match key {
                Key::Owned(_, name) if name.starts_with(start) => Some((name.as_str(), entry)),
                _ => None,
            })
            .filter_map(|(name, entry)| Some((name, value_of(entry)?)))
    }

    /// The values and removals of all owners from this one and this name on, in order.
    #[cfg(feature = "replica")]
    pub(super) fn values_from(&self, owner: &str, name: &str) -> impl Iterator<Item = (&Key, &Entry)> {
        use std::ops::Bound;
        let first = Key::Owned(owner.into(), name.into());
        let owners = self.owners.range::<str, _>((Bound::Included(owner), Bound::Unbounded));
        let all = owners.flat_map(move |(_, owner)| owner.entries.range(first.clone()..));
        all.filter(|(key, _)| matches!(key, Key::Owned(..)))
    }

    pub(super) fn take_voided(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.voided)
    }

    /// Takes in an entry of another replica, or one of this replica's own. `Ok(None)` if it is known, or void.
    ///
    /// The cheap checks come first: bounds, whether it is known, which key it names. So a repetition costs no signature
    /// check, and neither does an entry of somebody unknown.
    pub(super) fn apply(
        &mut self,
        change: Change,
        limits: &Limits,
        wall: u64,
        check: Check,
    ) -> Result<Option<Option<Entry>>, Refusal> {
        let Change { key, mut entry } = change;
        let Some(owner) = key.owner().cloned() else { return Ok(None) };
        // It is not signed, and an owner has no rivals.
        entry.replaces = None;
        check_bounds(&key, &entry, limits)?;
        // Cheaper than a signature.
        if self.entry(&key).is_none() && self.ids.len() >= limits.max_entries {
            return Err(Refusal::Full { allowed: limits.max_entries });
        }
        self.clock.clone().observe(entry.stamp, wall)?;
        let stamp = entry.stamp;
        let old = match &key {
            Key::Binding(_) => self.bind(&owner, key, entry, limits)?,
            _ => self.write(&owner, key, entry, check)?,
        };
        if old.is_some() {
            self.clock.observe(stamp, wall)?;
        }
        Ok(old)
    }

    /// Takes in a value, a removal, or a floor.
    fn write(
        &mut self,
        name: &SmolStr,
        key: Key,
        entry: Entry,
        check: Check,
    ) -> Result<Option<Option<Entry>>, Refusal> {
        let unknown = || Refusal::UnknownOwner { owner: name.clone() };
        let owner = self.owners.get(name).ok_or_else(unknown)?;
        if entry.stamp < owner.floor {
            return Ok(None);
        }
        if let Some(old) = owner.entries.get(&key) {
            let is_newer = entry.stamp > old.stamp
                || (entry.stamp == old.stamp
                    && entry != *old
                    && ChangeId::of(&key, &entry) > ChangeId::of(&key, old));
            if !is_newer {
                return Ok(None);
            }
        }
        let forged = || Refusal::Forged { owner: name.clone() };
        let seal = entry.value.as_ref().and_then(Seal::of).ok_or_else(forged)?;
        let foreign = || Refusal::ForeignKey { owner: name.clone() };
        let signer = owner.signer(seal.hint, entry.stamp).ok_or_else(foreign)?;
        let (signed_name, is_floor) = match &key {
            Key::Owned(_, name) => (name.as_str(), false),
            _ => ("", true),
        };
        let is_signed = || seal.is_by(&signer, &self.field, name, signed_name, entry.stamp);
        if is_floor != (seal.subject == Subject::Floor) || (check == Check::Signature && !is_signed()) {
            return Err(forged());
        }
        let stamp = entry.stamp;
        let old = self.put(name, key, entry);
        if is_floor {
            if let Some(owner) = self.owners.get_mut(name) {
                owner.floor = stamp;
            }
            self.drop_void(name);
        }
        Ok(Some(old))
    }

    /// Takes in the certificates of an owner.
    fn bind(
        &mut self,
        name: &SmolStr,
        key: Key,
        entry: Entry,
        limits: &Limits,
    ) -> Result<Option<Option<Entry>>, Refusal> {
        let forged = || Refusal::Forged { owner: name.clone() };
        let bytes = entry.value.as_ref().ok_or_else(forged)?;
        let known = self.owners.get(name).and_then(|owner| owner.chain.as_ref());
        if self.entry(&key).is_some_and(|old| old.value.as_ref() == Some(bytes)) {
            return Ok(None);
        }
        let chain = Certificate::of(name, bytes).ok_or_else(forged)?;
        if chain.stamp() != entry.stamp {
            return Err(forged());
        }
        let mut checked = 0;
        if let Some(known) = known {
            let is_prefix = known.links.starts_with(&chain.links);
            if is_prefix || chain.rank() < known.rank() {
                return Ok(None);
            }
            if chain.rank() == known.rank() {
                if !chain.links.starts_with(&known.links) {
                    // Another successor of a key that has one already: made with a key that was given up.
                    return Err(Refusal::ForeignKey { owner: name.clone() });
                }
                checked = known.links.len();
            }
        }
        let anchor =
            chain.anchor(&self.trust).ok_or_else(|| Refusal::UnknownOwner { owner: name.clone() })?;
        if !self.owners.contains_key(name) && self.owners.len() >= limits.max_owners {
            return Err(Refusal::TooManyOwners { allowed: limits.max_owners });
        }
        let present = chain.key().filter(|_| chain.is_signed(anchor, checked, &self.field));
        let present = present.ok_or_else(forged)?;
        let was_certified = known.is_some_and(|known| known.rank() > 0);
        if let Some(old) = self.entry(&key).filter(|_| was_certified) {
            self.certified.take(ChangeId::of(&key, old));
        }
        if chain.rank() > 0 {
            self.certified.add(ChangeId::of(&key, &entry));
        }
        let owner = self.owners.entry(name.clone()).or_default();
        (owner.key, owner.previous, owner.chain) = (Some(present), chain.previous(), Some(chain));
        let old = self.put(name, key, entry);
        self.drop_void(name);
        Ok(Some(old))
    }

    /// Drops entries that are older than the floor of an owner, or signed by a key that no longer signs for it. The
    /// remaining entries are the same at every replica.
    fn drop_void(&mut self, name: &SmolStr) {
        let Some(owner) = self.owners.get(name) else { return };
        let is_void = |key: &Key, entry: &Entry| {
            let hint = entry.value.as_ref().and_then(Seal::of).map(|seal| seal.hint);
            !matches!(key, Key::Binding(_))
                && (entry.stamp < owner.floor
                    || hint.and_then(|hint| owner.signer(hint, entry.stamp)).is_none())
        };
        let void: Vec<_> = owner
            .entries
            .iter()
            .filter(|(key, entry)| is_void(key, entry))
            .map(|(key, _)| key.clone())
            .collect();
        for key in void {
            if let Some(entry) = self.take(name, &key) {
                if matches!(key, Key::Floor(_))
                    && let Some(owner) = self.owners.get_mut(name)
                {
                    owner.floor = Stamp::default();
                }
                self.voided.push(Change { key, entry });
            }
        }
    }

    fn put(&mut self, owner: &SmolStr, key: Key, entry: Entry) -> Option<Entry> {
        let old = self.take(owner, &key);
        let id = ChangeId::of(&key, &entry);
        self.ids.insert(id, key.clone());
        self.digest.add(id);
        let owner = self.owners.entry(owner.clone()).or_default();
        owner.digest.add(id);
        owner.entries.insert(key, entry);
        old
    }

    fn take(&mut self, owner: &SmolStr, key: &Key) -> Option<Entry> {
        let btree_map::Entry::Occupied(mut owner) = self.owners.entry(owner.clone()) else { return None };
        let owner = owner.get_mut();
        let entry = owner.entries.remove(key)?;
        let id = ChangeId::of(key, &entry);
        self.ids.remove(&id);
        self.digest.take(id);
        owner.digest.take(id);
        Some(entry)
    }

    /// Whether a presence is signed by the present key of an owner.
    pub(super) fn is_present(&self, owner: &str, presence: &Presence<'_>, signature: &[u8; 64]) -> bool {
        let key = self.owners.get(owner).and_then(|owner| owner.key);
        key.is_some_and(|key| key.verifies(&presence.statement(&self.field, owner), signature))
    }

    /// The parts that another replica may have as well: one for each owner, and one for the certificates of the root.
    /// Two replicas compare only the parts that both have.
    pub(super) fn sections(&self) -> BTreeMap<Section, Digest> {
        let mut sections: BTreeMap<_, _> =
            self.owners.iter().map(|(name, owner)| (Section::owner(name), owner.digest)).collect();
        if let Some(root) = &self.trust.root {
            sections.insert(Section::root(root), self.certified);
        }
        sections
    }

    /// The identities of all entries in these sections.
    pub(super) fn ids_in(&self, sections: &[Section]) -> impl Iterator<Item = ChangeId> {
        let has_root = self.trust.root.is_some_and(|root| sections.contains(&Section::root(&root)));
        let owners: std::collections::BTreeSet<_> =
            self.owners.keys().filter(|name| sections.contains(&Section::owner(name))).collect();
        let is_in = move |key: &Key| {
            key.owner().is_some_and(|owner| owners.contains(owner)) || (has_root && self.is_by_root(key))
        };
        self.ids.iter().filter(move |(_, key)| is_in(key)).map(|(id, _)| *id)
    }

    fn is_by_root(&self, key: &Key) -> bool {
        let Key::Binding(owner) = key else { return false };
        let chain = self.owners.get(owner).and_then(|owner| owner.chain.as_ref());
        chain.is_some_and(|chain| chain.rank() > 0)
    }
}

/// The value of an owned entry; `None` after a removal.
pub(super) fn value_of(entry: &Entry) -> Option<Bytes> {
    let seal = Seal::of(entry.value.as_ref()?)?;
    (seal.subject == Subject::Value).then_some(seal.payload)
}

fn check_bounds(key: &Key, entry: &Entry, limits: &Limits) -> Result<(), Refusal> {
    let (owner, name) = (key.owner().map_or(0, |owner| owner.len()), key.name().len());
    if owner == 0 || name == 0 {
        return Err(Refusal::EmptyName);
    }
    let longest = owner.max(name);
    if longest > limits.max_name {
        return Err(Refusal::NameTooLong { bytes: longest, allowed: limits.max_name });
    }
    let bytes = entry.value.as_ref().map_or(0, Bytes::len).saturating_sub(OVERHEAD);
    // Certificates have a bound of their own.
    if bytes > limits.max_value && !matches!(key, Key::Binding(_)) {
        return Err(Refusal::ValueTooLarge { bytes, allowed: limits.max_value });
    }
    Ok(())
}
