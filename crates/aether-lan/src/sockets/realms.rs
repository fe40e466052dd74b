//! The realms of a process: one for each of its keys. Processes of one realm hear each other.
//!
//! A node shows itself by a token, which anybody can see. Only holders of the key can make the proof behind its number, so
//! nobody else invents nodes. Anybody who has seen a token can show it again.

use aether_seal::{KeyId, KeyUse, SealKeys};

/// The realm of processes that have no secret.
const OPEN: &str = "open";
/// The digits of a number.
const DIGITS: usize = 16;

/// The realms of a secret: the ids of its keys, which tell nothing about them. The realm of the key that seals comes first.
#[derive(Debug, Clone)]
pub(super) struct Realms {
    names: Vec<(String, Option<KeyId>)>,
    keys: Option<SealKeys>,
}

impl Realms {
    pub(super) fn of(keys: Option<&SealKeys>) -> Self {
        let Some(keys) = keys else {
            return Self { names: vec![(OPEN.to_owned(), None)], keys: None };
        };
        let mut ids: Vec<_> = keys.ids().collect();
        ids.sort_by_key(|(_, key_use)| *key_use != KeyUse::Seals);
        let names = ids.into_iter().map(|(id, _)| (id.to_string(), Some(id)));
        Self { names: names.collect(), keys: Some(keys.clone()) }
    }

    /// None, as a router has.
    pub(super) const fn none() -> Self {
        Self { names: Vec::new(), keys: None }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn has(&self, realm: &str) -> bool {
        self.names().any(|name| name == realm)
    }

    /// Whether the processes of a realm have no secret.
    pub(super) fn is_open(realm: &str) -> bool {
        realm == OPEN
    }

    /// Where a node hears what is sealed with the key that seals.
    pub(super) fn key(&self, node: u64) -> String {
        Self::key_in(self.names().next().unwrap_or_default(), node)
    }

    /// Where a node hears what is sealed with the key of a realm.
    pub(super) fn key_in(realm: &str, node: u64) -> String {
        format!("aether/{realm}/{node:016x}/in")
    }

    fn proof_of(&self, realm: &str, node: u64) -> Option<u64> {
        let (_, id) = self.names.iter().find(|(name, _)| name == realm)?;
        self.keys.as_ref()?.proof_of((*id)?, node)
    }

    /// The token of a node of a realm.
    pub(super) fn token(&self, realm: &str, node: u64) -> String {
        let proof = self.proof_of(realm, node).map(|proof| format!("{proof:016x}")).unwrap_or_default();
        format!("aether/{realm}/{node:016x}{proof}")
    }

    /// The realm and the node of a token. `None` if it is none, or of a realm of ours and made by somebody without its key.
    pub(super) fn read<'a>(&self, token: &'a str) -> Option<(&'a str, u64)> {
        let mut parts = token.split('/').skip(1);
        let (realm, shown) = (parts.next()?, parts.next()?);
        let node = u64::from_str_radix(shown.get(..DIGITS)?, 16).ok()?;
        let is_shown = !self.has(realm) || token == self.token(realm, node);
        is_shown.then_some((realm, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_holders_of_a_key_show_a_node_of_its_realm() {
        let keys = SealKeys::generate().unwrap();
        let (realms, router) = (Realms::of(Some(&keys)), Realms::none());
        let name = realms.names().next().unwrap();
        let token = realms.token(name, 7);
        assert_eq!(realms.read(&token), Some((name, 7)));
        assert_eq!(router.read(&token), Some((name, 7)), "a router has no key, and takes it as it is");
        // Another node with the proof of this one, no proof, and a proof of another key.
        let of_another = token.replace(&format!("{:016x}", 7), &format!("{:016x}", 8));
        let other = Realms::of(Some(&SealKeys::generate().unwrap()));
        let foreign = other.token(other.names().next().unwrap(), 7);
        let foreign = format!("aether/{name}/{}", foreign.rsplit('/').next().unwrap());
        for token in [
            of_another,
            format!("aether/{name}/{:016x}", 7),
            foreign,
            format!("aether/{name}/7"),
            name.to_owned(),
        ] {
            assert_eq!(realms.read(&token), None, "{token}");
        }
        let open = Realms::of(None);
        assert_eq!(open.read(&open.token("open", 9)), Some(("open", 9)));
    }
}
