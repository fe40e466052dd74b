//! What the key says of a slot: its lane, its name, and the seal of what is announced in it.
//!
//! A pseudo-random function of the key (HMAC-SHA-256), the channel and the slot. Without the key the next name can
//! neither be predicted nor linked to the last one. The bytes are described in `protocol/README.md` and checked by the
//! known answers in `protocol/vectors/hopping`.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

use super::lanes::Draw;
use super::ratchet::{Key, Ratchet, SLOTS_PER_EPOCH};
use crate::channel::{Channel, ChannelError};

/// The first token of all channels that hopping waves are sent on.
pub(super) const ROOT: &str = "hop";
/// Bytes of a seal: forging one takes 2^128 guesses.
pub(super) const SEAL_BYTES: usize = 16;
/// 16 letters of 5 bits. With root and lane a name has 23 bytes at most, which a [`Channel`] holds in place.
const TOKEN_LETTERS: usize = 16;
/// RFC 4648, section 6, in lower case.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What is carried in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// The waves of the channel.
    Waves,
    /// What senders and receivers tell each other of them.
    Reports,
}

impl Stream {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Waves => b"name",
            Self::Reports => b"reports",
        }
    }
}

/// Where one stream of a channel is in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) draw: Draw,
    token: [u8; TOKEN_LETTERS],
}

impl Place {
    /// The channel on a lane.
    pub(super) fn on(&self, lane: u8) -> Result<Channel, ChannelError> {
        Channel::new(format!("{ROOT}.{lane}.{}", self.token()))
    }

    pub(super) fn token(&self) -> &str {
        // All letters are ASCII.
        std::str::from_utf8(&self.token).unwrap_or_default()
    }
}

/// The sequence of one key, for all channels.
pub(super) struct Sequence {
    state: Mutex<State>,
    /// The clock is kept before it is known which slot it is, so it has a key of its own, which does not hop.
    clock: Key,
}

struct State {
    ratchet: Ratchet,
    /// The keys used last: in the minutes around a change two epochs are.
    recent: [Option<(u64, Key)>; 2],
    /// The latest epoch that time has come to.
    reached: Option<u64>,
}

impl Sequence {
    pub(super) fn new(secret: &[u8]) -> Self {
        let state = State { ratchet: Ratchet::new(secret), recent: [None, None], reached: None };
        let mut clock = Key::default();
        // 32 bytes are within what HKDF gives.
        let _ = Hkdf::<Sha256>::new(Some(b"aether-hop-clock-1"), secret).expand(b"", &mut *clock);
        Self { state: Mutex::new(state), clock }
    }

    /// Time has come to this slot. When an epoch has passed in the regular course of time, the keys before the last one
    /// are forgotten. After a leap they are kept until the next epoch: a clock that was wrong for a moment shall not
    /// cost the way back.
    pub(super) fn reach(&self, slot: u64) {
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

    /// The key of a slot's epoch; nothing for one that was forgotten.
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

    /// Where a stream of a channel is in a slot; nothing if the slot's key was forgotten.
    pub(super) fn place(&self, stream: Stream, channel: &Channel, slot: u64) -> Option<Place> {
        let draw = |label| -> Option<[u8; 32]> {
            Some(self.prf(slot, label, channel)?.finalize().into_bytes().into())
        };
        let lane = draw(if stream == Stream::Waves { b"lane" } else { &b"reports-lane"[..] })?;
        let number = |at: usize| lane[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let name = draw(stream.label())?;
        let token = letters(&name);
        Some(Place { draw: Draw { first: number(0), second: number(8) }, token })
    }

    /// The seal of what is announced in a slot.
    pub(super) fn seal(&self, channel: &Channel, slot: u64, said: &[u8]) -> Option<[u8; SEAL_BYTES]> {
        let mut prf = self.prf(slot, b"seal", channel)?;
        prf.update(&[0]);
        prf.update(said);
        let whole: [u8; 32] = prf.finalize().into_bytes().into();
        whole.first_chunk().copied()
    }

    /// Whether the seal is right. Takes as long for a wrong one.
    pub(super) fn is_sealed(&self, channel: &Channel, slot: u64, said: &[u8], seal: &[u8]) -> bool {
        let Some(mut prf) = self.prf(slot, b"seal", channel) else { return false };
        prf.update(&[0]);
        prf.update(said);
        seal.len() == SEAL_BYTES && prf.verify_truncated_left(seal).is_ok()
    }

    /// What only those who have the key can say of the clock.
    pub(super) fn of_clock(&self, label: &[u8], said: &[u8]) -> Option<[u8; 32]> {
        let mut prf = Hmac::<Sha256>::new_from_slice(&*self.clock).ok()?;
        for part in [label, &[0], said] {
            prf.update(part);
        }
        Some(prf.finalize().into_bytes().into())
    }
}

/// The first 80 bits as 16 letters.
pub(super) fn letters(bytes: &[u8; 32]) -> [u8; TOKEN_LETTERS] {
    std::array::from_fn(|place| {
        let (byte, bit) = (place * 5 / 8, place * 5 % 8);
        let pair = u16::from(bytes[byte]) << 8 | u16::from(bytes[byte + 1]);
        LETTERS[usize::from(pair >> (11 - bit) & 31)]
    })
}

impl fmt::Debug for Sequence {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequence").finish_non_exhaustive()
    }
}
