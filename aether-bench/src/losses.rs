//! What was lost in a run, by reason and strength.
//!
//! Counted where a contestant says so: by the sender that is refused, and by the inboxes that call `on_shed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::{InboxOptions, ShedReason};
use serde::{Deserialize, Serialize};

use crate::payload::Message;
use crate::schedule::Strength;

/// Why a message was not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loss {
    /// The sender got it back: no room, or the connection is gone.
    Refused,
    /// The sender's outbox was full and shed its weakest.
    OutboxFull,
    /// The receiver's inbox was full and shed its weakest.
    Full,
    /// It waited longer than the sojourn cap of the inbox.
    Sojourn,
    /// Below the noise floor, decayed, or still queued when the receiver went away.
    OtherShed,
    /// The receiver was told how many it had missed, not which (tokio's broadcast).
    Lagged,
    /// Nobody was told.
    Silent,
}

impl Loss {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::OutboxFull,
        Self::Full,
        Self::Sojourn,
        Self::OtherShed,
        Self::Lagged,
        Self::Silent,
    ];

    /// In plain words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::OutboxFull => "outbox full",
            Self::Full => "full",
            Self::Sojourn => "sojourn",
            Self::OtherShed => "other",
            Self::Lagged => "lagged",
            Self::Silent => "silent",
        }
    }

    /// Why an inbox shed a wave.
    #[must_use]
    pub fn of_inbox(reason: ShedReason) -> Self {
        match reason {
            ShedReason::Full => Self::Full,
            ShedReason::Sojourn => Self::Sojourn,
            _ => Self::OtherShed,
        }
    }

    /// Why an outbox shed a wave.
    #[must_use]
    pub fn of_outbox(_reason: ShedReason) -> Self {
        Self::OutboxFull
    }
}

/// How many were lost for each reason, of one strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts([u64; Loss::ALL.len()]);

impl Counts {
    /// How many for this reason.
    #[must_use]
    pub const fn of(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    /// Adds to a reason.
    pub(crate) fn add(&mut self, loss: Loss, messages: u64) {
        self.0[loss as usize] += messages;
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn minus(mut self, before: Self) -> Self {
        for (count, less) in self.0.iter_mut().zip(before.0) {
            *count -= less;
        }
        self
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
        self
    }
}

/// Counts for both strengths, that several threads add to.
#[derive(Debug, Default)]
pub struct Losses {
    counts: [[AtomicU64; Loss::ALL.len()]; 2],
}

impl Losses {
    /// Counts one message.
    pub fn count(&self, strength: Strength, loss: Loss) {
        self.counts[strength as usize][loss as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far, strong and weak.
    #[must_use]
    pub fn so_far(&self) -> [Counts; 2] {
        self.counts
            .each_ref()
            .map(|counts| Counts(counts.each_ref().map(|count| count.load(Ordering::Relaxed))))
    }

    /// An inbox whose losses are counted here, with the reasons that `name` gives them.
    #[must_use]
    pub fn watch(self: &Arc<Self>, inbox: InboxOptions, name: fn(ShedReason) -> Loss) -> InboxOptions {
        let losses = Arc::clone(self);
        inbox.on_shed(move |wave, reason| {
            if let Some(Message::Load(load)) = Message::of_payload(wave.payload()) {
                losses.count(load.strength, name(reason));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_place_of_its_own() {
        let losses = Losses::default();
        for (times, loss) in Loss::ALL.into_iter().enumerate() {
            for _ in 0..=times {
                losses.count(Strength::Weak, loss);
            }
        }
        let [strong, weak] = losses.so_far();
        assert_eq!(strong, Counts::default());
        for (times, loss) in Loss::ALL.into_iter().enumerate() {
            assert_eq!(weak.of(loss), times as u64 + 1, "{loss:?}");
        }
        assert_eq!(weak.sum(), 28);
        assert_eq!((weak.plus(weak).sum(), weak.plus(weak).minus(weak)), (56, weak));
    }
}
