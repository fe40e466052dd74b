//! What became of a hopping channel, at a receiver and at a sender.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a receiver has heard of a hopping channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HopAccount {
    /// Slots that it was there for.
    pub slots: u64,
    /// Waves that came, in slots that are over. What became of them is in the [`Ledger`](crate::Ledger) of the inbox.
    pub heard: u64,
    /// Waves that senders said they had sent in slots that it was there for, and that did not come in time. Known of
    /// adaptive channels only, two slots later.
    pub missed: u64,
    /// Reports that were not sealed with the key, or not for this time and channel.
    pub refused: u64,
    /// How often the time has made a step of more than a quarter of the guard.
    pub clock_steps: u64,
    /// Slots, or parts of them, that the medium did not let it join.
    pub failed_joins: u64,
    /// Senders whose maps are no longer known because there were more than 16 at a time.
    pub forgotten_senders: u64,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) slots: AtomicU64,
    pub(super) heard: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) clock_steps: AtomicU64,
    pub(super) failed_joins: AtomicU64,
    pub(super) forgotten_senders: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self) -> HopAccount {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HopAccount {
            slots: read(&self.slots),
            heard: read(&self.heard),
            missed: read(&self.missed),
            refused: read(&self.refused),
            clock_steps: read(&self.clock_steps),
            failed_joins: read(&self.failed_joins),
            forgotten_senders: read(&self.forgotten_senders),
        }
    }
}

/// What a sender knows of a hopping channel.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HopView {
    /// The lanes in use.
    pub lanes_in_use: Vec<u8>,
    /// The share of waves that is lost on each lane, as far as receivers have reported.
    pub loss: Vec<f32>,
    /// The number of the map: it grows with each change.
    pub map: u32,
    /// Receivers that were heard of lately.
    pub receivers: usize,
    /// Reports that were not sealed with the key, or not for this time and channel.
    pub refused: u64,
}
