//! The operations of an owner on its own entries: write, sign again, rotate its key, and drop old removals.

use std::collections::BTreeMap;

use bytes::Bytes;
use smol_str::SmolStr;

use super::certificate::{Certificate, MAX_LINKS};
use super::entry::{Change, Entry};
use super::identity::Identity;
use super::key::Key;
use super::limits::Refusal;
use super::owned::{Check, Ownership, value_of};
use super::public_key::PublicKey;
use super::seal::{Presence, Seal, Subject};
use super::stamp::{HybridClock, Stamp};
use super::state::{Applied, State};
use super::trust::Trust;

/// A local change, and the entry that it replaced.
pub type Written = (Change, Option<Entry>);

/// Applies the changes of one message. After a wrong signature it looks at no other owned entry of that message, so a
/// forger has to send a message for each signature that it makes others check.
#[derive(Debug, Default)]
pub struct Intake {
    has_forged: bool,
}

impl Intake {
    /// Applies one change.
    ///
    /// # Errors
    /// As [`State::apply`], and [`Refusal::Unchecked`].
    pub fn apply(&mut self, state: &mut State, change: Change, wall: u64) -> Result<Applied, Refusal> {
        if self.has_forged && change.key.owner().is_some() {
            return Err(Refusal::Unchecked);
        }
        let applied = state.apply(change, wall);
        self.has_forged |= matches!(applied, Err(Refusal::Forged { .. }));
        applied
    }
}

impl State {
    /// The same state of the field of this name, with the owners that are trusted. Call it before anything of owners is
    /// applied or loaded.
    #[must_use]
    pub fn with_trust(mut self, field: &str, trust: Trust) -> Self {
        let clock = HybridClock::new(self.writer(), Stamp::default(), self.limits.max_drift);
        self.owned = Ownership::new(field, trust, clock);
        self
    }

    /// Trusts one more owner from now on, by its first key. Returns whether it does: an owner of which another key is known
    /// keeps that one.
    ///
    /// # Errors
    /// [`Refusal::TooManyOwners`] if it knows as many as it may.
    pub fn trust(&mut self, owner: &str, key: PublicKey) -> Result<bool, Refusal> {
        self.owned.trust(owner, key, &self.limits)
    }

    /// Takes in the stored entries of owners, checking each signature again. Returns those that are refused: damaged, or
    /// of owners that are no longer trusted.
    pub fn load_owned(&mut self, mut changes: Vec<Change>) -> Vec<(Change, Refusal)> {
        // Certificates come before what they make valid, and floors last. Stamps are not compared with the wall clock,
        // which may be wrong at start.
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        let mut refused = Vec::new();
        for change in changes {
            if let Err(refusal) = self.apply_as(change.clone(), u64::MAX, Check::Signature) {
                refused.push((change, refusal));
            }
        }
        refused
    }

    pub(super) fn apply_owned(&mut self, change: Change, wall: u64) -> Result<Applied, Refusal> {
        self.apply_as(change, wall, Check::Signature)
    }

    fn apply_as(&mut self, change: Change, wall: u64, check: Check) -> Result<Applied, Refusal> {
        let old = self.owned.apply(change, &self.limits, wall, check)?;
        Ok(old.map_or(Applied::Known, |old| Applied::Changed { old }))
    }

    /// The entries of owners that became void since the last call: signed by a key that was given up, or older than a
    /// floor. They are no longer here.
    pub fn take_voided(&mut self) -> Vec<Change> {
        self.owned.take_voided()
    }

    /// The value of an owner.
    #[must_use]
    pub fn get_owned(&self, owner: &str, name: &str) -> Option<Bytes> {
        value_of(self.owned.entry(&Key::Owned(owner.into(), name.into()))?)
    }

    /// The values of an owner whose names begin with `start`, in order.
    pub fn owned_by(&self, owner: &str, start: &str) -> impl Iterator<Item = (&str, Bytes)> {
        self.owned.values(owner, start)
    }

    /// The values and removals of all owners from this one and this name on, in order.
    #[cfg(feature = "replica")]
    pub(crate) fn owned_from(&self, owner: &str, name: &str) -> impl Iterator<Item = (&Key, &Entry)> {
        self.owned.values_from(owner, name)
    }

    /// The owners of which a key is known, with it and the serial of its certificate, which is 0 for a key of the
    /// allow-list.
    pub fn owners(&self) -> impl Iterator<Item = (&str, PublicKey, u64)> {
        let serial = |chain: &Option<Certificate>| chain.as_ref().map_or(0, Certificate::serial);
        let owners = self.owned.owners();
        owners.filter_map(move |(name, owner)| Some((name.as_str(), owner.key?, serial(&owner.chain))))
    }

    /// Whether a presence is signed by the present key of an owner.
    #[must_use]
    pub fn is_present(&self, owner: &str, presence: &Presence<'_>, signature: &[u8; 64]) -> bool {
        self.owned.is_present(owner, presence, signature)
    }

    /// Writes a value of this replica's owner.
    ///
    /// # Errors
    /// [`Refusal`] if name or value are out of bounds, the replica is full, or the identity is not the present key of
    /// its name.
    pub fn set_owned(
        &mut self,
        identity: &Identity,
        name: &str,
        value: Bytes,
        wall: u64,
    ) -> Result<Written, Refusal> {
        self.write_owned(identity, name, Some(value), wall)
    }

    /// Removes a value of this replica's owner. `None` if there is none.
    ///
    /// # Errors
    /// As [`State::set_owned`].
    pub fn remove_owned(
        &mut self,
        identity: &Identity,
        name: &str,
        wall: u64,
    ) -> Result<Option<Written>, Refusal> {
        if self.get_owned(identity.name(), name).is_none() {
            return Ok(None);
        }
        self.write_owned(identity, name, None, wall).map(Some)
    }

    fn write_owned(
        &mut self,
        identity: &Identity,
        name: &str,
        value: Option<Bytes>,
        wall: u64,
    ) -> Result<Written, Refusal> {
        self.speaks(identity)?;
        let subject = if value.is_some() { Subject::Value } else { Subject::Removal };
        let bytes = value.as_ref().map_or(0, Bytes::len);
        if bytes > self.limits.max_value {
            return Err(Refusal::ValueTooLarge { bytes, allowed: self.limits.max_value });
        }
        let stamp = self.owned.clock.clone().tick(wall);
        let key = Key::Owned(identity.name().into(), name.into());
        self.seal(identity, subject, key, stamp, value.unwrap_or_default(), wall)
    }

    /// Signs an entry and takes it in as any other, so that it is refused here if it would be elsewhere.
    fn seal(
        &mut self,
        identity: &Identity,
        subject: Subject,
        key: Key,
        stamp: Stamp,
        payload: Bytes,
        wall: u64,
    ) -> Result<Written, Refusal> {
        let name = if let Key::Owned(_, name) = &key { name.as_str() } else { "" };
        let seal = Seal::sign(subject, identity, self.owned.field(), name, stamp, payload);
        let change = Change { key, entry: Entry { stamp, replaces: None, value: Some(seal.to_bytes()) } };
        let applied = self.apply_as(change.clone(), wall.max(stamp.micros), Check::Own)?;
        Ok((change, applied.old()))
    }

    fn speaks(&self, identity: &Identity) -> Result<(), Refusal> {
        let owner: SmolStr = identity.name().into();
        match self.owned.owner(&owner).and_then(|owner| owner.key) {
            None => Err(Refusal::UnknownOwner { owner }),
            Some(key) if key != identity.public_key() => Err(Refusal::ForeignKey { owner }),
            Some(_) => Ok(()),
        }
    }

    /// Makes a certificate of the root known.
    ///
    /// # Errors
    /// [`Refusal`] if it is not signed by the root of this replica.
    pub fn publish(&mut self, certificate: &Certificate, wall: u64) -> Result<Written, Refusal> {
        let value = Some(certificate.to_bytes());
        let entry = Entry { stamp: certificate.stamp(), replaces: None, value };
        let change = Change { key: Key::Binding(certificate.owner().into()), entry };
        let applied = self.apply_owned(change.clone(), wall)?;
        Ok((change, applied.old()))
    }

    /// Replaces the key of this replica's owner: the present key signs the next one, everything is signed again, and
    /// everything that the old key signed is void from then on. Nothing changes if it fails.
    ///
    /// # Errors
    /// [`Refusal`] if the identity is not the present key of its name, or its key was rotated too often.
    pub fn rotate(&mut self, old: &Identity, new: &Identity, wall: u64) -> Result<Vec<Written>, Refusal> {
        self.speaks(old)?;
        let owner: SmolStr = old.name().into();
        if new.name() != old.name() {
            return Err(Refusal::ForeignKey { owner });
        }
        let before = self.owned.owner(&owner).and_then(|owner| owner.chain.clone());
        if before.as_ref().is_some_and(|chain| chain.links.len() >= MAX_LINKS) {
            return Err(Refusal::TooManyRotations { owner, allowed: MAX_LINKS });
        }
        let stamp = self.owned.clock.clone().tick(wall);
        let chain =
            Certificate::rotated(&owner, before.as_ref(), old, new.public_key(), self.owned.field(), stamp);
        let mut changes = vec![self.publish(&chain, wall.max(stamp.micros))?];
        changes.extend(self.maintain(new, &mut BTreeMap::new(), true, wall)?);
        Ok(changes)
    }

    /// Keeps the entries of this replica's owner in order, and returns what has to be sent:
    ///
    /// - Entries that its former key signed, or that a former run wrote later than this one by a wrong clock, are
    ///   signed again.
    /// - Removals older than the horizon are dropped, by a floor under everything; values older than it are signed
    ///   again.
    /// - With `is_complete`, a floor voids the entries that the former key signed. Give it when others were asked for
    ///   their entries.
    ///
    /// `overtaken` has the names and values that this run wrote, and that a former run has overtaken.
    ///
    /// # Errors
    /// [`Refusal`] if the replica is full.
    pub fn maintain(
        &mut self,
        identity: &Identity,
        overtaken: &mut BTreeMap<SmolStr, Option<Bytes>>,
        is_complete: bool,
        wall: u64,
    ) -> Result<Vec<Written>, Refusal> {
        let mut changes = Vec::new();
        if self.speaks(identity).is_err() {
            return Ok(changes);
        }
        for (name, value) in std::mem::take(overtaken) {
            changes.push(self.write_owned(identity, &name, value, wall)?);
        }
        let Some(owner) = self.owned.owner(identity.name()) else { return Ok(changes) };
        let horizon = u64::try_from(self.limits.horizon.as_micros()).unwrap_or(u64::MAX);
        let before = Stamp { micros: wall.saturating_sub(horizon), ..Stamp::default() };
        let has_old_marks =
            owner.values().any(|(_, entry)| entry.stamp < before && value_of(entry).is_none());
        let successor = owner.previous.filter(|_| is_complete).map(|(_, until)| until);
        let floor = owner.floor.max(successor.unwrap_or_default()).max(if has_old_marks {
            before
        } else {
            Stamp::default()
        });
        let hint = identity.public_key().hint();
        let is_foreign =
            |entry: &Entry| entry.value.as_ref().and_then(Seal::of).is_some_and(|seal| seal.hint != hint);
        // A removal below the floor is not needed any more.
        let due = owner.values().filter(|(_, entry)| {
            let is_below = entry.stamp < floor;
            if value_of(entry).is_some() {
                is_below || is_foreign(entry)
            } else {
                !is_below && is_foreign(entry)
            }
        });
        let due: Vec<_> = due.map(|(name, entry)| (name.clone(), value_of(entry))).collect();
        let is_raised = floor > owner.floor;
        for (name, value) in due {
            changes.push(self.write_owned(identity, &name, value, wall)?);
        }
        if is_raised {
            let key = Key::Floor(identity.name().into());
            changes.push(self.seal(identity, Subject::Floor, key, floor, Bytes::new(), wall)?);
        }
        Ok(changes)
    }

    /// The content of an entry, without the signature of an owner; `None` after a removal.
    #[must_use]
    pub fn value_of(key: &Key, entry: &Entry) -> Option<Bytes> {
        if key.owner().is_some() { value_of(entry) } else { entry.value.clone() }
    }
}
