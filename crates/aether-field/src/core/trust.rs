//! Trust: which keys a replica takes for whom.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::identity::Identity;
use super::public_key::PublicKey;

/// Which public keys a replica takes for which owners. Nobody is trusted by default, and nobody is trusted because it
/// came first: a name that somebody else took blocks its owner nowhere.
///
/// An allow-list names the first key of each owner. After a rotation the list stays as it is: the old key has signed the
/// new one, and that signature is in the field. A root certifies names, also new ones and those whose key was lost. The
/// two can be combined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    pub(super) pins: BTreeMap<SmolStr, PublicKey>,
    pub(super) root: Option<PublicKey>,
}

impl Trust {
    /// Nobody: owned state of others is refused.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The owners of this list, by their first keys.
    #[must_use]
    pub fn allow_list<N: AsRef<str>>(owners: impl IntoIterator<Item = (N, PublicKey)>) -> Self {
        let pins = owners.into_iter().map(|(name, key)| (name.as_ref().into(), key)).collect();
        Self { pins, root: None }
    }

    /// Every owner that this key certifies.
    #[must_use]
    pub fn root(root: PublicKey) -> Self {
        Self { pins: BTreeMap::new(), root: Some(root) }
    }

    /// The same with a root.
    #[must_use]
    pub fn with_root(self, root: PublicKey) -> Self {
        Self { root: Some(root), ..self }
    }

    /// The same with one more owner.
    #[must_use]
    pub fn with(mut self, owner: &str, key: PublicKey) -> Self {
        self.pins.insert(owner.into(), key);
        self
    }

    /// The same, and an owner trusts itself, if nothing is said of its name.
    #[must_use]
    pub fn with_self(mut self, identity: &Identity) -> Self {
        self.pins.entry(identity.name().into()).or_insert(identity.public_key());
        self
    }
}
