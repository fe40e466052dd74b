//! What was refused, by reason.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::key::KeyId;

/// How many ids of missing keys are remembered. Made-up ids displace rare ones first.
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
    /// The ids of missing keys with the number of their messages, most first; at most 16. Anybody can make up ids.
    pub missing_keys: Vec<(KeyId, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct RefusalCounts {
    plain: AtomicU64,
    unknown_key: AtomicU64,
    tampered: AtomicU64,
    replayed: AtomicU64,
    stale: AtomicU64,
    stale_ahead_micros: AtomicI64,
    missing: Mutex<Vec<(KeyId, u64)>>,
}

impl RefusalCounts {
    pub(super) fn count(&self, refusal: Refusal) {
        let count = match refusal {
            Refusal::Plain => &self.plain,
            Refusal::UnknownKey { key } => {
                self.note(key);
                &self.unknown_key
            }
            Refusal::Tampered => &self.tampered,
            Refusal::Replayed => &self.replayed,
            Refusal::Stale { ahead_micros } => {
                self.stale_ahead_micros.store(ahead_micros, Ordering::Relaxed);
                &self.stale
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps the most frequent ids (Metwally, Agrawal and El Abbadi 2005, "space saving").
    fn note(&self, key: KeyId) {
        let mut missing = self.missing.lock();
        if let Some((_, count)) = missing.iter_mut().find(|(known, _)| *known == key) {
            *count += 1;
        } else if missing.len() < MAX_MISSING {
            missing.push((key, 1));
        } else if let Some(rarest) = missing.iter_mut().min_by_key(|(_, count)| *count) {
            *rarest = (key, rarest.1 + 1);
        }
    }

    pub(super) fn read(&self) -> Refusals {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut missing_keys = self.missing.lock().clone();
        missing_keys.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Refusals {
            plain: count(&self.plain),
            unknown_key: count(&self.unknown_key),
            tampered: count(&self.tampered),
            replayed: count(&self.replayed),
            stale: count(&self.stale),
            stale_ahead_micros: self.stale_ahead_micros.load(Ordering::Relaxed),
            missing_keys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_and_made_up_keys_do_not_displace_a_missing_one() {
        let counts = RefusalCounts::default();
        let stale = Refusal::Stale { ahead_micros: -7 };
        for refusal in [Refusal::Plain, Refusal::Tampered, Refusal::Replayed, Refusal::Replayed, stale] {
            counts.count(refusal);
        }
        for made_up in 0..10_000 {
            counts.count(Refusal::UnknownKey { key: KeyId(made_up) });
            counts.count(Refusal::UnknownKey { key: KeyId(u64::MAX) });
        }
        let read = counts.read();
        assert_eq!((read.plain, read.tampered, read.replayed, read.stale), (1, 1, 2, 1));
        assert_eq!((read.stale_ahead_micros, read.unknown_key), (-7, 20_000));
        assert_eq!(read.missing_keys.len(), MAX_MISSING);
        assert_eq!(read.missing_keys[0], (KeyId(u64::MAX), 10_000));
    }

    #[test]
    fn a_refusal_says_what_is_off() {
        let text = Refusal::Stale { ahead_micros: -7_200_000_000 }.to_string();
        assert_eq!(text, "the message was sealed 7200 s behind the clock of this machine");
        let text = Refusal::UnknownKey { key: KeyId(0xab) }.to_string();
        assert!(text.contains("00000000000000ab"), "{text}");
    }
}
