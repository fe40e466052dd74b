//! The losses of a run, by reason and strength.
//!
//! Counted where a contestant reports them: by a refused sender, and by inboxes with `on_shed`.

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
    /// Refused to the sender: no room, or no connection.
    Refused,
    /// The sender's outbox was full and shed its weakest.
    OutboxFull,
    /// The receiver's inbox was full and shed its weakest.
    Full,
    /// It waited longer than the sojourn cap of the inbox.
    Sojourn,
    /// Below the noise floor, expired, or still queued when the receiver was closed.
    OtherShed,
    /// The receiver learnt only the number of missed messages (tokio's broadcast).
    Lagged,
    /// Lost silently.
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

    /// The name in tables.
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

    /// The loss for the reason of an inbox.
    #[must_use]
    pub fn of_inbox(reason: ShedReason) -> Self {
        match reason {
            ShedReason::Full => Self::Full,
            ShedReason::Sojourn => Self::Sojourn,
            _ => Self::OtherShed,
        }
    }

    /// The loss for the reason of an outbox.
    #[must_use]
    pub fn of_outbox(_reason: ShedReason) -> Self {
        Self::OutboxFull
    }
}

/// The losses of one strength by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts([u64; Loss::ALL.len()]);

impl Counts {
    /// The losses for a reason.
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

/// Counts for both strengths, shared by several threads.
#[derive(Debug, Default)]
pub struct Losses {
    counts: [[AtomicU64; Loss::ALL.len()]; 2],
}

impl Losses {
    /// Counts one message.
    pub fn count(&self, strength: Strength, loss: Loss) {
        self.counts[strength as usize][loss as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The current counts, strong and weak.
    #[must_use]
    pub fn so_far(&self) -> [Counts; 2] {
        self.counts
            .each_ref()
            .map(|counts| Counts(counts.each_ref().map(|count| count.load(Ordering::Relaxed))))
    }

    /// Inbox options whose losses are counted here; `name` maps the reasons.
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
