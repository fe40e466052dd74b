//! The keys of a system: one seals, all open, so that a new key can be handed out before it is used.

use std::fmt;

use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::error::SealError;
use super::key::{KeyId, SealKey};

/// The maximum number of keys in a set. Two are usual during a rotation.
pub(super) const MAX_KEYS: usize = 16;

/// The use of a key of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// It seals and opens. One key of each set.
    Seals,
    /// It only opens.
    Opens,
}

/// A set of keys: one seals what this process sends, each opens what others sent. `Debug` shows ids only, and the memory
/// of keys is overwritten when they are dropped.
///
/// A rotation in three steps loses nothing: [`add`](Self::add) a key and hand the set to all processes; then
/// [`seal_with_newest`](Self::seal_with_newest) and hand it out again; then [`drop_others`](Self::drop_others).
/// `aether keys rotate` does these steps with a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKeys {
    /// Never empty. The newest is last.
    keys: SmallVec<[SealKey; 2]>,
    /// The index of the key that seals.
    sealing: usize,
}

impl SealKeys {
    /// A set of one new key.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self { keys: SmallVec::from_iter([SealKey::generate()?]), sealing: 0 })
    }

    /// A set of one key with these 32 bytes, which must be secret and random. For tests and for keys that come from
    /// elsewhere.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self { keys: SmallVec::from_iter([SealKey::new(Zeroizing::new(secret))]), sealing: 0 }
    }

    /// `None` unless exactly one key seals, none is there twice, and there are at most 16.
    pub(super) fn of(keys: impl IntoIterator<Item = (KeyUse, SealKey)>) -> Option<Self> {
        let (mut all, mut sealing) = (SmallVec::<[SealKey; 2]>::new(), None);
        for (key_use, key) in keys {
            if all.len() == MAX_KEYS || all.contains(&key) {
                return None;
            }
            if key_use == KeyUse::Seals && sealing.replace(all.len()).is_some() {
                return None;
            }
            all.push(key);
        }
        Some(Self { keys: all, sealing: sealing? })
    }

    /// Adds a new key that only opens, and returns its id.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    ///
    /// # Panics
    /// Never. A full set of 16 keys gives up its oldest key that does not seal.
    pub fn add(&mut self) -> Result<KeyId, SealError> {
        let key = SealKey::generate()?;
        if self.keys.len() == MAX_KEYS {
            let oldest = usize::from(self.sealing == 0);
            self.keys.remove(oldest);
            self.sealing -= usize::from(oldest < self.sealing);
        }
        let id = key.id();
        self.keys.push(key);
        Ok(id)
    }

    /// From now on the newest key seals. Returns its id.
    pub fn seal_with_newest(&mut self) -> KeyId {
        self.sealing = self.keys.len() - 1;
        self.sealing_key().id()
    }

    /// Removes all keys but the one that seals, and returns the ids of those that are gone.
    pub fn drop_others(&mut self) -> Vec<KeyId> {
        let sealing = self.sealing_key().id();
        let gone = self.keys.iter().map(SealKey::id).filter(|id| *id != sealing).collect();
        self.keys.retain(|key| key.id() == sealing);
        self.sealing = 0;
        gone
    }

    /// The ids of all keys, the oldest first, and what each is for.
    pub fn ids(&self) -> impl Iterator<Item = (KeyId, KeyUse)> {
        self.parts().map(|(key_use, key)| (key.id(), key_use))
    }

    /// A proof about a node of a local network that only holders of one of the keys can make. `None` without such a key.
    pub fn proof_of(&self, id: KeyId, node: u64) -> Option<u64> {
        self.key(id).map(|key| key.proof_of(node))
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (KeyUse, &SealKey)> {
        let key_use = |index| if index == self.sealing { KeyUse::Seals } else { KeyUse::Opens };
        self.keys.iter().enumerate().map(move |(index, key)| (key_use(index), key))
    }

    pub(super) fn sealing_key(&self) -> &SealKey {
        &self.keys[self.sealing]
    }

    pub(super) fn key(&self, id: KeyId) -> Option<&SealKey> {
        self.keys.iter().find(|key| key.id() == id)
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.ids()).finish()
    }
}
