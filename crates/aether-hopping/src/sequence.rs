//! The names of a channel in each slot, derived from a key.
//!
//! A pseudo-random function (HMAC-SHA-256) of the key, the channel and the slot gives a lane, a name, and the seals of
//! control messages. Without the key, the next name can be neither predicted nor linked to the last one.
//! `docs/protocol/README.md` describes the bytes; the known answers in `docs/protocol/vectors/hopping` verify them.
//!
//! The key is ratcheted: each epoch of 1024 slots has its own key, which cannot be derived from later ones. The keys
//! are the leaves of a binary tree, and each node is derived from its parent by HKDF-Expand. In a chain of keys, a late
//! joiner would have to compute every link: 3 million for a year of slots of 10 ms. In the tree, every epoch is 40
//! steps from the root, and earlier epochs can still be deleted, because only the subtrees ahead are kept.
//!
//! Sources: Bellare and Miner 1999, "A forward-secure digital signature scheme" (the tree); RFC 5869 (HKDF).

use std::fmt;

use aether_core::Channel;
use aether_core::wave::ChannelError;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::lanes::Draw;

/// The first token of all channels on which hopping waves are sent.
const ROOT: &str = "hop";
/// The length of a seal in bytes. Forging one takes 2^128 guesses.
pub(crate) const SEAL_BYTES: usize = 16;
/// 16 letters of 5 bits each. With root and lane, a name has at most 23 bytes, which a [`Channel`] stores inline.
const TOKEN_LETTERS: usize = 16;
/// RFC 4648, section 6, in lower case.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The number of slots per key.
pub(crate) const SLOTS_PER_EPOCH: u64 = 1024;
/// The depth of the key tree. Enough for 2^50 slots: 350 thousand years at 10 ms each.
const DEPTH: u32 = 40;
const SALT: &[u8] = b"aether-hop-1";
const BRANCHES: [&[u8]; 2] = [b"aether-hop/0", b"aether-hop/1"];

/// 32 bytes that are overwritten in memory when dropped.
type EpochKey = Zeroizing<[u8; 32]>;

/// The two message streams of a channel. They hop independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// The waves of the channel.
    Waves,
    /// The control messages of its senders and receivers.
    Control,
}

impl Traffic {
    const fn name_label(self) -> &'static [u8] {
        match self {
            Self::Waves => b"name",
            Self::Control => b"reports",
        }
    }

    const fn lane_label(self) -> &'static [u8] {
        match self {
            Self::Waves => b"lane",
            Self::Control => b"reports-lane",
        }
    }
}

/// The place of one message stream of a channel in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) draw: Draw,
    token: [u8; TOKEN_LETTERS],
}

impl Place {
    /// The name of this place on a lane.
    pub(crate) fn on(&self, lane: u8) -> Result<Channel, ChannelError> {
        // Cannot fail: all letters are ASCII.
        let token = std::str::from_utf8(&self.token).unwrap_or_default();
        Channel::new(format!("{ROOT}.{lane}.{token}"))
    }
}

/// The sequence of one key, shared by all channels.
pub(crate) struct Sequence {
    state: Mutex<SequenceState>,
    /// The clock has its own key, which does not hop, because the clock is queried before the slot is known.
    clock: EpochKey,
}

struct SequenceState {
    ratchet: Ratchet,
    /// The two keys used last. Both are needed around the change of an epoch.
    recent: [Option<(u64, EpochKey)>; 2],
    /// The epoch of the latest call of [`Sequence::reach`].
    reached: Option<u64>,
}

impl Sequence {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let state = SequenceState { ratchet: Ratchet::new(secret), recent: [None, None], reached: None };
        let mut clock = EpochKey::default();
        // Cannot fail: HKDF outputs 32 bytes.
        let _ = Hkdf::<Sha256>::new(Some(b"aether-hop-clock-1"), secret).expand(b"", &mut *clock);
        Self { state: Mutex::new(state), clock }
    }

    /// Records that the present slot is this one. When time moves from one epoch to the next, all keys before the
    /// previous epoch are deleted. After a leap in time they are kept until the next change of epoch, so that a clock
    /// that was wrong for a moment can go back.
    pub(crate) fn reach(&self, slot: u64) {
        let epoch = slot / SLOTS_PER_EPOCH;
        let mut state = self.state.lock();
        if state.reached == Some(epoch) {
            return;
        }
        if state.reached.is_some_and(|reached| reached + 1 == epoch) {
            state.ratchet.forget_before(epoch - 1);
            state.recent = [None, None];
        }
        state.reached = Some(epoch);
    }

    /// The pseudo-random function of a slot, or `None` if its key was deleted.
    fn prf(&self, slot: u64, label: &[u8], channel: &Channel) -> Option<Hmac<Sha256>> {
        let epoch = slot / SLOTS_PER_EPOCH;
        let mut state = self.state.lock();
        let known = state.recent.iter().flatten().find(|(known, _)| *known == epoch);
        let key = match known {
            Some((_, key)) => key.clone(),
            None => {
                let key = state.ratchet.key(epoch)?;
                state.recent.swap(0, 1);
                state.recent[0] = Some((epoch, key.clone()));
                key
            }
        };
        drop(state);
        let mut prf = Hmac::<Sha256>::new_from_slice(&*key).ok()?;
        for part in [label, &[0], &slot.to_be_bytes(), channel.as_str().as_bytes()] {
            prf.update(part);
        }
        Some(prf)
    }

    /// The place of a channel's traffic in a slot, or `None` if the key of the slot was deleted.
    pub(crate) fn place(&self, traffic: Traffic, channel: &Channel, slot: u64) -> Option<Place> {
        let draw = |label| -> Option<[u8; 32]> {
            Some(self.prf(slot, label, channel)?.finalize().into_bytes().into())
        };
        let lane = draw(traffic.lane_label())?;
        let number = |at: usize| lane[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let name = draw(traffic.name_label())?;
        let token = letters(&name);
        Some(Place { draw: Draw { first: number(0), second: number(8) }, token })
    }

    /// The seal of a control message in a slot.
    pub(crate) fn seal(&self, channel: &Channel, slot: u64, message: &[u8]) -> Option<[u8; SEAL_BYTES]> {
        let mut prf = self.prf(slot, b"seal", channel)?;
        prf.update(&[0]);
        prf.update(message);
        let whole: [u8; 32] = prf.finalize().into_bytes().into();
        whole.first_chunk().copied()
    }

    /// Whether a seal is valid. The comparison takes constant time.
    pub(crate) fn is_sealed(&self, channel: &Channel, slot: u64, message: &[u8], seal: &[u8]) -> bool {
        let Some(mut prf) = self.prf(slot, b"seal", channel) else { return false };
        prf.update(&[0]);
        prf.update(message);
        seal.len() == SEAL_BYTES && prf.verify_truncated_left(seal).is_ok()
    }

    /// A pseudo-random function of the clock's key.
    pub(crate) fn of_clock(&self, label: &[u8], message: &[u8]) -> Option<[u8; 32]> {
        let mut prf = Hmac::<Sha256>::new_from_slice(&*self.clock).ok()?;
        for part in [label, &[0], message] {
            prf.update(part);
        }
        Some(prf.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Sequence {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequence").finish_non_exhaustive()
    }
}

/// Encodes the first 80 bits as 16 letters.
pub(crate) fn letters(bytes: &[u8; 32]) -> [u8; TOKEN_LETTERS] {
    std::array::from_fn(|place| {
        let (byte, bit) = (place * 5 / 8, place * 5 % 8);
        let pair = u16::from(bytes[byte]) << 8 | u16::from(bytes[byte + 1]);
        LETTERS[usize::from(pair >> (11 - bit) & 31)]
    })
}

/// The subtrees of the keys that were not deleted, earliest first. They never overlap.
struct Ratchet {
    subtrees: Vec<Subtree>,
}

/// All epochs whose number has the prefix `prefix`, as a tree of this height.
struct Subtree {
    prefix: u64,
    height: u32,
    key: EpochKey,
}

impl Subtree {
    fn holds(&self, epoch: u64) -> bool {
        epoch >> self.height == self.prefix
    }

    fn child(&self, branch: usize) -> Self {
        let mut key = EpochKey::default();
        // Cannot fail: key and output have 32 bytes.
        if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(&*self.key) {
            let _ = hkdf.expand(BRANCHES[branch], &mut *key);
        }
        Self { prefix: self.prefix << 1 | branch as u64, height: self.height - 1, key }
    }
}

impl Ratchet {
    /// The tree of a key with all its epochs.
    fn new(secret: &[u8]) -> Self {
        let (root, _) = Hkdf::<Sha256>::extract(Some(SALT), secret);
        let key = Zeroizing::new(root.into());
        Self { subtrees: vec![Subtree { prefix: 0, height: DEPTH, key }] }
    }

    /// The key of an epoch, or `None` if it was deleted.
    fn key(&self, epoch: u64) -> Option<EpochKey> {
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

    /// Deletes the keys of all epochs before this one. They cannot be derived from the remaining ones.
    fn forget_before(&mut self, epoch: u64) {
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
        fn deleted_keys_are_gone_and_later_keys_are_unchanged(
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
