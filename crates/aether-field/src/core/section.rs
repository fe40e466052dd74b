//! Sections: the parts of a state that two replicas compare, of which each has those that it trusts.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::public_key::PublicKey;

/// A part of a state that replicas compare: the entries of everybody, the entries of one owner, or the certificates of
/// a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Section(u64);

impl Section {
    /// The entries that everybody may write.
    pub(super) const OPEN: Self = Self(0);

    pub(super) fn owner(name: &str) -> Self {
        Self::of(b"owner", name.as_bytes())
    }

    pub(super) fn root(key: &PublicKey) -> Self {
        Self::of(b"root", key.as_bytes())
    }

    fn of(kind: &[u8], bytes: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(bytes).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        // 0 is taken.
        Self(u64::from_be_bytes(first).max(1))
    }
}
