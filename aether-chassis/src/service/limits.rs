//! What a service allows itself and its handlers, and what is wrong with limits that cannot be.

use std::time::Duration;

use crate::Resend;

/// When to stop trying for a while. Ordinary term: circuit breaker.
///
/// After so many failures in a row nothing is taken out of the inbox for a while: waves wait there meanwhile, or are
/// refused by a service that sheds when it is busy. What was being handled when the circuit opened goes on. Then one wave
/// is tried; if it is handled the others follow, and if it fails nothing is taken for as long again. A wave that is rejected is
/// the sender's fault and counts as handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct Breaker {
    pub(super) failures: usize,
    pub(super) open_for: Duration,
}

impl Breaker {
    /// How many failures in a row open the circuit, at least 1. Default: 10.
    pub fn failures(mut self, in_a_row: usize) -> Self {
        self.failures = in_a_row;
        self
    }

    /// How long nothing is tried, more than no time. Default: 1 s.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, open_for: Duration::from_secs(1) }
    }
}

/// Limits that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// No wave could ever be handled.
    #[error("a concurrency of 0 is not allowed: use at least 1, and at most {}", Limits::MOST_AT_ONCE)]
    NoConcurrency,
    /// More than can be counted.
    #[error("a concurrency of {given} is not allowed: use at most {}", Limits::MOST_AT_ONCE)]
    TooMuchConcurrency {
        /// What was given.
        given: usize,
    },
    /// A rate that lets nothing through, or has no meaning.
    #[error(
        "a rate of {waves} waves in {period:?} is not allowed: use at least 1 wave, in more than no time and at most a day"
    )]
    Rate {
        /// How many waves were given.
        waves: u64,
        /// In which time.
        period: Duration,
    },
    /// Nothing can be handled in no time.
    #[error("a time-out of zero is not allowed: leave it out for no time-out")]
    NoTime,
    /// A circuit breaker that is always open, or never.
    #[error(
        "a circuit breaker that opens for {open_for:?} after {failures} failures is not allowed: use more than no time, and at least 1 failure"
    )]
    Breaker {
        /// How many failures in a row were given.
        failures: usize,
        /// How long it shall be open.
        open_for: Duration,
    },
}

/// What a service allows itself.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) concurrency: usize,
    pub(super) rate: Option<(u64, Duration)>,
    pub(super) time_out: Option<Duration>,
    pub(super) breaker: Option<Breaker>,
    pub(super) shed_when_busy: bool,
    pub(super) retry: Option<Resend>,
    pub(super) grace: Duration,
}

impl Limits {
    /// What tokio's semaphore can count, rounded down generously.
    const MOST_AT_ONCE: usize = 1 << 20;

    /// tower adds the period to the time of day, which must not overflow.
    const LONGEST_PERIOD: Duration = Duration::from_secs(60 * 60 * 24);

    /// Refuses what cannot be, before tower would panic over it or wait for ever.
    pub(super) fn check(&self) -> Result<(), LimitsError> {
        match self.concurrency {
            0 => return Err(LimitsError::NoConcurrency),
            given if given > Self::MOST_AT_ONCE => return Err(LimitsError::TooMuchConcurrency { given }),
            _ => {}
        }
        if let Some((waves, period)) = self.rate
            && (waves == 0 || period.is_zero() || period > Self::LONGEST_PERIOD)
        {
            return Err(LimitsError::Rate { waves, period });
        }
        if self.time_out.is_some_and(|time| time.is_zero()) {
            return Err(LimitsError::NoTime);
        }
        match self.breaker {
            Some(Breaker { failures, open_for }) if failures == 0 || open_for.is_zero() => {
                Err(LimitsError::Breaker { failures, open_for })
            }
            _ => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            rate: None,
            time_out: None,
            breaker: None,
            shed_when_busy: false,
            retry: None,
            grace: Duration::from_secs(5),
        }
    }
}
