//! Resending: the retry policy. The physics term is re-amplification.
//!
//! A service uses it to run failed handlers again, an [`Asker`](crate::Asker) to repeat questions. Three rules keep
//! retries from making an overload worse. A resend is half as strong as the attempt before it (the energy bound,
//! computed by `Wave::resent`). Resends are limited to a share of first sends (the budget). The pauses before them grow
//! and are drawn at random (full jitter).

mod budget;

pub use budget::RetryBudget;

use std::time::Duration;

use aether_core::Wave;
use backon::{BackoffBuilder, ExponentialBuilder};

/// Invalid pauses: zero, or a first pause above the longest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pauses from {first:?} to {longest:?} are not allowed: use a first one above zero and a longest not below it"
)]
pub struct PausesError {
    first: Duration,
    longest: Duration,
}

/// A retry policy. Clones share one budget.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct Resend {
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) most: u8,
    pub(crate) budget: RetryBudget,
    halves: bool,
}

impl Resend {
    /// Sets the upper bound of the first pause, and of all pauses. The bound doubles with each attempt until `longest`.
    /// The actual pause is drawn between zero and the bound, so that simultaneous failures do not retry simultaneously.
    /// Default: 20 ms and 1 s.
    ///
    /// Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 (full jitter).
    ///
    /// # Errors
    /// [`PausesError`] if `first` is zero or above `longest`.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Result<Self, PausesError> {
        if first.is_zero() || first > longest {
            return Err(PausesError { first, longest });
        }
        (self.first_pause, self.longest_pause) = (first, longest);
        Ok(self)
    }

    /// The maximum number of resends of one wave. Default: 8, the last at 1/256 of the original strength.
    pub fn most(mut self, resends: u8) -> Self {
        self.most = resends;
        self
    }

    /// The budget for the resends of all waves together. Default: 10 % of first sends, and one a second.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Keeps resends as strong as the first attempt. It exists for a benchmark that shows what retries do without the
    /// energy bound.
    pub fn undiminished(mut self) -> Self {
        self.halves = false;
        self
    }

    /// The next attempt of a wave, or `None` after its last attempt. Does not touch the budget.
    pub(crate) fn next(&self, wave: &Wave) -> Option<Wave> {
        match wave.attempt() {
            attempt if attempt >= self.most => None,
            _ if self.halves => wave.resent(),
            _ => Some(wave.resent_undiminished()),
        }
    }

    /// An endless sequence of random pauses, new in each call.
    pub(crate) fn drawn_pauses(&self) -> impl Iterator<Item = Duration> + Send + Sync + Unpin + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .without_max_times()
            .build()
            .map(|longest| longest.mul_f64(fastrand::f64()))
    }

    /// The pause before an attempt. Attempts count from 1.
    pub(crate) fn pause_before(&self, attempt: u8) -> Duration {
        self.drawn_pauses().nth(usize::from(attempt.saturating_sub(1))).unwrap_or(self.longest_pause)
    }
}

impl Default for Resend {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
            most: 8,
            budget: RetryBudget::default(),
            halves: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_of_nothing_and_pauses_that_shrink_are_refused() {
        let ms = Duration::from_millis;
        for (first, longest) in [(0, 0), (0, 10), (11, 10)] {
            let error = Resend::default().pauses(ms(first), ms(longest)).unwrap_err().to_string();
            assert!(error.contains("above zero"), "{error}");
        }
    }

    #[test]
    fn pauses_are_drawn_below_a_bound_that_doubles() {
        let resend = Resend::default().pauses(Duration::from_millis(10), Duration::from_millis(100)).unwrap();
        for _ in 0..100 {
            let drawn = resend.drawn_pauses().take(6).map(|pause| pause.as_millis());
            for (pause, bound) in drawn.zip([10, 20, 40, 80, 100, 100]) {
                assert!(pause <= bound, "{pause} ms is more than {bound} ms");
            }
            assert!(resend.pause_before(1) <= Duration::from_millis(10));
            assert!(resend.pause_before(200) <= Duration::from_millis(100));
        }
    }

    #[test]
    fn a_wave_is_sent_again_so_often_and_weaker_each_time() {
        let attempts = |resend: &Resend| {
            let wave = Wave::builder("a").amplitude(1.0).build().unwrap();
            std::iter::successors(Some(wave), |wave| resend.next(wave))
                .map(|wave| wave.amplitude().as_f32())
                .collect::<Vec<_>>()
        };
        assert_eq!(attempts(&Resend::default().most(3)), [1.0, 0.5, 0.25, 0.125]);
        assert_eq!(attempts(&Resend::default().most(2).undiminished()), [1.0, 1.0, 1.0]);
        assert_eq!(attempts(&Resend::default().most(255)).len(), 32, "fainter than that there is nothing");
    }
}
