//! Counts of refused frames, by reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::key::KeyId;
use aether_core::Aether;
use aether_core::medium::MediumStatus;
use aether_core::wave::SignerId;

/// How many ids of missing keys, and of unknown signers, are remembered. Made-up ids displace rare ones first.
const MAX_MISSING: usize = 16;

/// Why a message was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not sealed.
    #[error("the message is not sealed")]
    Plain,
    /// It is sealed with a key that this process does not have.
    #[error("the message is sealed with key {key}, which this process does not have")]
    UnknownKey {
        /// The key that it names. Nothing proves it.
        key: KeyId,
    },
    /// It was altered or cut, or is from another address, another role, or somebody without the key.
    #[error("the message is not authentic")]
    Tampered,
    /// It was already taken, or is too old to tell.
    #[error("the message was already received")]
    Replayed,
    /// It was sealed too long ago, or the clock of its sender or of this machine is off.
    #[error("the message was sealed {} s {} the clock of this machine", ahead_micros.unsigned_abs() / 1_000_000, if *ahead_micros < 0 { "behind" } else { "ahead of" })]
    Stale {
        /// How far the time of sealing is ahead of the clock of this machine, in microseconds.
        ahead_micros: i64,
    },
    /// It is not signed, and this process has a list of signers.
    #[error("the message is not signed")]
    Unsigned,
    /// It is signed with a key that is not on the list.
    #[error("the message is signed with key {signer}, which is not on the list of signers")]
    UnknownSigner {
        /// The key that it names. Somebody with the keys of sealed waves names it.
        signer: SignerId,
    },
    /// Its signature is wrong: somebody with the keys of sealed waves made or altered it.
    #[error("the signature of the message is wrong: the key {signer} has not made it")]
    Forged {
        /// The key that it names.
        signer: SignerId,
    },
}

/// The messages that were refused, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// Not sealed.
    pub plain: u64,
    /// Sealed with a key that this process does not have.
    pub unknown_key: u64,
    /// Not authentic.
    pub tampered: u64,
    /// Received before.
    pub replayed: u64,
    /// Sealed too long ago, or by a wrong clock.
    pub stale: u64,
    /// How far the time of the last stale message was ahead of the clock of this machine, in microseconds.
    pub stale_ahead_micros: i64,
    /// Not signed.
    pub unsigned: u64,
    /// Signed with a key that is not on the list of signers.
    pub unknown_signer: u64,
    /// With a wrong signature.
    pub forged: u64,
    /// With a name that their signer may not use, as a source or in a notice of the framework: each is counted.
    pub misnamed: u64,
    /// The ids of missing keys with the number of their messages, most first; at most 16. Anybody can make up ids.
    pub missing_keys: Vec<(KeyId, u64)>,
    /// The ids of signers that are not on the list with the number of their messages, most first; at most 16.
    pub unknown_signers: Vec<(SignerId, u64)>,
}

impl Refusals {
    /// Adds the counts to the status of the medium that seals.
    pub fn add_to(&self, status: &mut MediumStatus) {
        status.refused_plain += self.plain;
        status.refused_unknown_key += self.unknown_key;
        status.refused_tampered += self.tampered;
        status.refused_replayed += self.replayed;
        status.refused_stale += self.stale;
        status.refused_unsigned += self.unsigned;
        status.refused_unknown_signer += self.unknown_signer;
        status.refused_forged += self.forged;
        status.refused_misnamed += self.misnamed;
    }
}

/// The ids of keys that this process does not have, with the number of messages that name them; most first, at most 16.
/// Anybody can make up ids. Empty if no medium of the process seals.
#[must_use]
pub fn missing_keys(aether: &Aether) -> Vec<(KeyId, u64)> {
    sums(aether.details::<Refusals>().into_iter().flat_map(|refusals| refusals.missing_keys))
}

/// The ids of signers that are not on the list of this process, with the number of their messages; most first, at most 16.
/// Somebody with the keys of sealed waves names them.
#[must_use]
pub fn unknown_signers(aether: &Aether) -> Vec<(SignerId, u64)> {
    sums(aether.details::<Refusals>().into_iter().flat_map(|refusals| refusals.unknown_signers))
}

/// The sums of counts by id, most first.
fn sums<I: Ord + Copy>(counts: impl Iterator<Item = (I, u64)>) -> Vec<(I, u64)> {
    let mut sums = BTreeMap::<I, u64>::new();
    counts.for_each(|(id, messages)| *sums.entry(id).or_default() += messages);
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
    sums.truncate(MAX_MISSING);
    sums
}

#[derive(Debug, Default)]
pub(super) struct RefusalCounts {
    plain: AtomicU64,
    unknown_key: AtomicU64,
    tampered: AtomicU64,
    replayed: AtomicU64,
    stale: AtomicU64,
    stale_ahead_micros: AtomicI64,
    unsigned: AtomicU64,
    unknown_signer: AtomicU64,
    forged: AtomicU64,
    /// Proofs count here.
    pub(super) misnamed: Arc<AtomicU64>,
    missing: Mutex<Vec<(KeyId, u64)>>,
    strangers: Mutex<Vec<(SignerId, u64)>>,
}

impl RefusalCounts {
    /// Counts a message that arrived at an address.
    pub(super) fn count(&self, refusal: Refusal, address: &str) {
        let count = match refusal {
            Refusal::Plain => &self.plain,
            Refusal::UnknownKey { key } => {
                note(&self.missing, key);
                &self.unknown_key
            }
            Refusal::Tampered => &self.tampered,
            Refusal::Replayed => &self.replayed,
            Refusal::Stale { ahead_micros } => {
                self.stale_ahead_micros.store(ahead_micros, Ordering::Relaxed);
                &self.stale
            }
            Refusal::Unsigned => &self.unsigned,
            Refusal::UnknownSigner { signer } => {
                note(&self.strangers, signer);
                &self.unknown_signer
            }
            Refusal::Forged { .. } => &self.forged,
        };
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            // An address may have any character.
            tracing::warn!(?address, %refusal, "a message was refused; later ones for this reason are only counted");
        }
    }

    pub(super) fn read(&self) -> Refusals {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Refusals {
            plain: count(&self.plain),
            unknown_key: count(&self.unknown_key),
            tampered: count(&self.tampered),
            replayed: count(&self.replayed),
            stale: count(&self.stale),
            stale_ahead_micros: self.stale_ahead_micros.load(Ordering::Relaxed),
            unsigned: count(&self.unsigned),
            unknown_signer: count(&self.unknown_signer),
            forged: count(&self.forged),
            misnamed: count(&self.misnamed),
            missing_keys: most_first(&self.missing),
            unknown_signers: most_first(&self.strangers),
        }
    }
}

/// Keeps the most frequent ids (Metwally, Agrawal and El Abbadi 2005, "space saving").
fn note<I: PartialEq>(ids: &Mutex<Vec<(I, u64)>>, id: I) {
    let mut ids = ids.lock();
    if let Some((_, count)) = ids.iter_mut().find(|(known, _)| *known == id) {
        *count += 1;
    } else if ids.len() < MAX_MISSING {
        ids.push((id, 1));
    } else if let Some(rarest) = ids.iter_mut().min_by_key(|(_, count)| *count) {
        *rarest = (id, rarest.1 + 1);
    }
}

fn most_first<I: Copy>(ids: &Mutex<Vec<(I, u64)>>) -> Vec<(I, u64)> {
    let mut ids = ids.lock().clone();
    ids.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_and_made_up_keys_do_not_displace_a_missing_one() {
        let counts = RefusalCounts::default();
        let stale = Refusal::Stale { ahead_micros: -7 };
        for refusal in [Refusal::Plain, Refusal::Tampered, Refusal::Replayed, Refusal::Replayed, stale] {
            counts.count(refusal, "orders");
        }
        for made_up in 0..10_000 {
            counts.count(Refusal::UnknownKey { key: KeyId(made_up) }, "orders");
            counts.count(Refusal::UnknownKey { key: KeyId(u64::MAX) }, "orders");
            counts.count(Refusal::UnknownSigner { signer: SignerId(made_up % 2) }, "orders");
        }
        counts.count(Refusal::Unsigned, "orders");
        counts.count(Refusal::Forged { signer: SignerId(1) }, "orders");
        counts.count(Refusal::UnknownSigner { signer: SignerId(1) }, "orders");
        let read = counts.read();
        assert_eq!((read.plain, read.tampered, read.replayed, read.stale), (1, 1, 2, 1));
        assert_eq!((read.stale_ahead_micros, read.unknown_key), (-7, 20_000));
        assert_eq!(read.missing_keys.len(), MAX_MISSING);
        assert_eq!(read.missing_keys[0], (KeyId(u64::MAX), 10_000));
        assert_eq!((read.unsigned, read.unknown_signer, read.forged, read.misnamed), (1, 10_001, 1, 0));
        assert_eq!(read.unknown_signers, [(SignerId(1), 5001), (SignerId(0), 5000)]);
    }

    #[test]
    fn a_refusal_says_what_is_off() {
        let text = Refusal::Stale { ahead_micros: -7_200_000_000 }.to_string();
        assert_eq!(text, "the message was sealed 7200 s behind the clock of this machine");
        let text = Refusal::UnknownKey { key: KeyId(0xab) }.to_string();
        assert!(text.contains("00000000000000ab"), "{text}");
    }
}
