//! The keys of a hopping sequence: one for every 1024 slots, and none that leads back. Ordinary term: a key ratchet.
//!
//! A binary tree of keys, each derived from the one above by HKDF-Expand. A chain of keys would do the same, but who
//! joins late would have to walk along the whole of it: 3 million steps for a year of slots of 10 ms. Here any epoch is
//! 40 steps from the root, and what is behind can be forgotten all the same: only the subtrees ahead are kept.
//!
//! Source: Bellare and Miner 1999, "A forward-secure digital signature scheme" (the tree); RFC 5869 (HKDF).

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A key lasts for so many slots.
pub(super) const SLOTS_PER_EPOCH: u64 = 1024;
/// Levels of the tree: enough for 2^50 slots, 350 thousand years of 10 ms each.
const DEPTH: u32 = 40;
const SALT: &[u8] = b"aether-hop-1";
const BRANCHES: [&[u8]; 2] = [b"aether-hop/0", b"aether-hop/1"];

/// 32 bytes that are overwritten when they are dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// The subtrees of keys that are not forgotten, the earliest first. They never overlap.
pub(super) struct Ratchet {
    subtrees: Vec<Subtree>,
}

/// All epochs whose number begins with `prefix`, in a tree of this height.
struct Subtree {
    prefix: u64,
    height: u32,
    key: Key,
}

impl Subtree {
    fn holds(&self, epoch: u64) -> bool {
        epoch >> self.height == self.prefix
    }

    fn child(&self, branch: usize) -> Self {
        let mut key = Key::default();
        // Fails only for a key that is too short or an output that is too long; both are of 32 bytes.
        if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(&*self.key) {
            let _ = hkdf.expand(BRANCHES[branch], &mut *key);
        }
        Self { prefix: self.prefix << 1 | branch as u64, height: self.height - 1, key }
    }
}

impl Ratchet {
    /// The tree of a key, with all epochs.
    pub(super) fn new(secret: &[u8]) -> Self {
        let (root, _) = Hkdf::<Sha256>::extract(Some(SALT), secret);
        let key = Zeroizing::new(root.into());
        Self { subtrees: vec![Subtree { prefix: 0, height: DEPTH, key }] }
    }

    /// The key of an epoch; nothing for one that was forgotten.
    pub(super) fn key(&self, epoch: u64) -> Option<Key> {
        let subtree = self.subtrees.iter().find(|subtree| subtree.holds(epoch))?;
        if subtree.height == 0 {
            return Some(subtree.key.clone());
        }
        let mut node = subtree.child(branch_to(epoch, subtree.height - 1));
        while node.height > 0 {
            node = node.child(branch_to(epoch, node.height - 1));
        }
        Some(node.key.clone())
    }

    /// Forgets the keys of all epochs before this one: what is kept then does not lead to them.
    pub(super) fn forget_before(&mut self, epoch: u64) {
        while let Some(first) = self.subtrees.first() {
            let begins = first.prefix << first.height;
            if begins >= epoch {
                return;
            }
            let first = self.subtrees.remove(0);
            if first.holds(epoch) {
                self.subtrees.splice(0..0, [first.child(0), first.child(1)]);
            }
        }
    }
}

fn branch_to(epoch: u64, height: u32) -> usize {
    (epoch >> height & 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_forgotten_is_gone_and_the_rest_is_as_before(
            mut epochs in prop::collection::vec(0..1_u64 << DEPTH, 1..6),
            ahead in 0..5000_u64,
        ) {
            let whole = Ratchet::new(b"sixteen bytes ok");
            let mut ratchet = Ratchet::new(b"sixteen bytes ok");
            epochs.sort_unstable();
            for epoch in epochs {
                ratchet.forget_before(epoch);
                prop_assert!(ratchet.subtrees.len() <= DEPTH as usize + 1);
                for later in [epoch, epoch + 1, epoch + ahead].map(|later| later.min((1 << DEPTH) - 1)) {
                    prop_assert_eq!(ratchet.key(later), whole.key(later));
                }
                if let Some(before) = epoch.checked_sub(1) {
                    prop_assert_eq!(ratchet.key(before), None);
                    prop_assert_eq!(ratchet.key(before.saturating_sub(ahead)), None);
                }
            }
        }
    }

    #[test]
    fn no_two_epochs_and_no_two_secrets_share_a_key() {
        let (a, b) = (Ratchet::new(b"sixteen bytes ok"), Ratchet::new(b"sixteen bytes oK"));
        let mut keys: Vec<_> = (0..100).flat_map(|epoch| [a.key(epoch), b.key(epoch)]).flatten().collect();
        keys.sort_unstable_by_key(|key| **key);
        keys.dedup();
        assert_eq!(keys.len(), 200);
        assert_eq!(a.key(1 << DEPTH), None);
    }
}
