//! A token bucket: a number of waves a second, and a second's worth at once.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{self, Instant};

/// Counts down the waves that may still be emitted.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u32,
    /// The time at which the bucket would be full if nothing were taken any more. Generic cell rate algorithm (ITU-T I.371).
    full_at: Mutex<Option<Instant>>,
}

impl Bucket {
    pub(super) const fn new(rate: u32) -> Self {
        Self { rate, full_at: Mutex::new(None) }
    }

    /// Takes one wave, if there is one.
    pub(super) fn take(&self) -> bool {
        let now = clock::now();
        let mut full_at = self.full_at.lock();
        let from = full_at.filter(|at| *at > now).unwrap_or(now);
        let after = from + Duration::from_secs(1) / self.rate.max(1);
        let fits = after <= now + Duration::from_secs(1);
        if fits {
            *full_at = Some(after);
        }
        fits
    }

    /// Gives back a wave that was taken, and not emitted after all.
    pub(super) fn give_back(&self) {
        if let Some(at) = &mut *self.full_at.lock() {
            *at -= Duration::from_secs(1) / self.rate.max(1);
        }
    }
}
