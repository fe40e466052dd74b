//! The prefetch: waves that the receiver took out of the levels ahead of time.
//!
//! Guarded by a lock of its own, which is normally taken by the receiver only.

use std::collections::VecDeque;

use super::ledger::{Ledger, ShedReason};
use super::levels::Popped;
use crate::wave::Wave;

/// The maximum number of waves in a prefetch.
pub(super) const PREFETCH: usize = 32;

/// Up to 32 waves in the order of receiving, and the counts of those taken from it.
#[derive(Default)]
pub(super) struct Prefetch {
    waves: VecDeque<Popped<Wave>>,
    taken: Taken,
}

/// What left a prefetch since it was last settled.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) ledger: Ledger,
    pub(super) bytes: usize,
}

impl Prefetch {
    pub(super) fn len(&self) -> usize {
        self.waves.len()
    }

    pub(super) fn add(&mut self, popped: Popped<Wave>) {
        self.waves.push_back(popped);
    }

    /// The next wave.
    pub(super) fn next(&self) -> Option<&Popped<Wave>> {
        self.waves.front()
    }

    /// Takes the next wave and counts it as delivered, or as lost for a reason.
    #[inline]
    pub(super) fn take_next(&mut self, lost: Option<ShedReason>) -> Option<Wave> {
        let wave = self.waves.pop_front()?.item;
        self.taken.bytes += wave.weight();
        match lost {
            None => self.taken.ledger.delivered += 1,
            Some(reason) => self.taken.ledger.count_loss(reason),
        }
        Some(wave)
    }

    /// Takes the last wave, to put it back into its level.
    pub(super) fn take_youngest(&mut self) -> Option<Popped<Wave>> {
        self.waves.pop_back()
    }

    /// The counts since the last call.
    pub(super) fn settle(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }
}
