//! Entries, and the identities by which two replicas compare them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::Key;
use super::stamp::{Stamp, WriterId};

/// The content of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When and by whom it was written.
    pub stamp: Stamp,
    /// The stamp of the entry that it replaced at its writer. It tells a concurrent change from one that follows.
    pub replaces: Option<Stamp>,
    /// The value; `None` after a removal.
    pub value: Option<Bytes>,
}

impl Entry {
    /// Whether this is the mark of a removal.
    #[must_use]
    pub const fn is_removed(&self) -> bool {
        self.value.is_none()
    }

    /// Whether this entry won over `old` although its writer had not seen `old`. The writer of `old` should hear of it. A
    /// client has seen its own writes with smaller numbers.
    #[must_use]
    pub fn supersedes(&self, old: &Self) -> bool {
        let follows = self.stamp.writer == old.stamp.writer && self.stamp.logical > old.stamp.logical;
        self.stamp > old.stamp && !follows && self.replaces.is_none_or(|replaced| replaced < old.stamp)
    }
}

/// One change of one key, as it travels between replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Its new entry.
    pub entry: Entry,
}

impl Change {
    /// The identity of this change.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        ChangeId::of(&self.key, &self.entry)
    }

    /// About its size in a message, in bytes.
    pub(crate) fn size(&self) -> usize {
        64 + self.key.size() + self.entry.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The identity of a change: its stamp and 12 bytes of a SHA-256 of key and entry. If a faulty writer uses one stamp
/// twice, the hash decides, in the same way everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ChangeId {
    stamp: Stamp,
    hash: [u8; 12],
}

impl ChangeId {
    pub(crate) fn of(key: &Key, entry: &Entry) -> Self {
        let mut hasher = Sha256::new();
        key.feed(|bytes| hasher.update(bytes));
        match &entry.value {
            Some(value) => {
                hasher.update([1]);
                hasher.update(value);
            }
            None => hasher.update([0]),
        }
        let full = hasher.finalize();
        let mut hash = [0; 12];
        hash.copy_from_slice(&full[..12]);
        Self { stamp: entry.stamp, hash }
    }

    pub(super) const fn from_parts(stamp: Stamp, hash: [u8; 12]) -> Self {
        Self { stamp, hash }
    }

    pub(super) const fn hash(&self) -> [u8; 12] {
        self.hash
    }

    /// The stamp of the change.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The time and the 24 bytes after it, in the order of [`ChangeId`] itself. Reconciliation sorts by both.
    pub(crate) fn to_item(self) -> (u64, [u8; 32]) {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&self.stamp.logical.to_be_bytes());
        id[4..12].copy_from_slice(&self.stamp.writer.0.to_be_bytes());
        id[12..24].copy_from_slice(&self.hash);
        id[24..].copy_from_slice(&self.stamp.micros.to_be_bytes());
        (self.stamp.micros, id)
    }

    pub(crate) fn from_item(id: &[u8; 32]) -> Self {
        let part = |from: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&id[from..from + 8]);
            u64::from_be_bytes(bytes)
        };
        let mut hash = [0; 12];
        hash.copy_from_slice(&id[12..24]);
        let logical = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        Self { stamp: Stamp { micros: part(24), logical, writer: WriterId(part(4)) }, hash }
    }
}

/// The sum of all changes of a replica, without order: equal states have equal digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    sum: [u64; 4],
    /// The number of entries, removals included.
    pub entries: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, id: ChangeId) {
        self.entries += 1;
        self.each(id, u64::overflowing_add);
    }

    pub(crate) fn take(&mut self, id: ChangeId) {
        self.entries -= 1;
        self.each(id, u64::overflowing_sub);
    }

    /// The digest of the changes of both.
    pub(crate) fn with(mut self, other: Self) -> Self {
        self.entries += other.entries;
        self.sum.iter_mut().zip(other.sum).for_each(|(sum, lane)| *sum = sum.wrapping_add(lane));
        self
    }

    /// The four sums and the number, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let numbers = self.sum.into_iter().chain([self.entries]);
        bytes
            .chunks_exact_mut(8)
            .zip(numbers)
            .for_each(|(to, number)| to.copy_from_slice(&number.to_be_bytes()));
        bytes
    }

    /// Adds or subtracts in each of four lanes. The lanes mix the hash with the stamp, so a sum of other changes does
    /// not give the same digest by chance.
    fn each(&mut self, id: ChangeId, change: impl Fn(u64, u64) -> (u64, bool)) {
        let hash = |from: usize| {
            let mut bytes = [0; 8];
            bytes[..6].copy_from_slice(&id.hash[from..from + 6]);
            u64::from_be_bytes(bytes)
        };
        let Stamp { micros, logical, writer } = id.stamp;
        let lanes =
            [hash(0), hash(6), micros ^ hash(0).rotate_left(29), writer.0 ^ u64::from(logical) ^ hash(6)];
        for (sum, lane) in self.sum.iter_mut().zip(lanes) {
            *sum = change(*sum, lane).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_form_for_reconciliation_and_keeps_its_order() {
        let stamp = |micros, logical, writer| Stamp { micros, logical, writer: WriterId(writer) };
        let stamps = [stamp(1, 2, 3), stamp(1, 2, 4), stamp(1, 3, 0), stamp(2, 0, 0), stamp(u64::MAX, 1, 1)];
        let ids = stamps.map(|stamp| {
            let entry = Entry { stamp, replaces: None, value: Some(Bytes::from_static(b"7")) };
            ChangeId::of(&Key::Register("k".into()), &entry)
        });
        assert_eq!(ids.map(|id| ChangeId::from_item(&id.to_item().1)), ids);
        assert!(ids.map(ChangeId::to_item).is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_digest_forgets_what_is_taken_out() {
        let entry = |micros| Entry {
            stamp: Stamp { micros, logical: 0, writer: WriterId(1) },
            replaces: None,
            value: None,
        };
        let ids = [1, 2, 3].map(|micros| ChangeId::of(&Key::Register("k".into()), &entry(micros)));
        let mut digest = Digest::default();
        ids.iter().for_each(|&id| digest.add(id));
        digest.take(ids[1]);
        let mut other = Digest::default();
        other.add(ids[2]);
        assert_ne!(digest, other);
        other.add(ids[0]);
        assert_eq!(digest, other);
    }
}
