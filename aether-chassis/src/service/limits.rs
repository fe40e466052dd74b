//! The limits of a service, and the errors of invalid ones.

use std::time::Duration;

use crate::Resend;

/// The options of a circuit breaker.
///
/// After a number of failures in a row the service takes no waves out of its inbox for a while. Waves wait there, or
/// are refused by a service that sheds when busy. Running handlers continue. Then one wave is tried: if it is handled,
/// the circuit closes; if it fails, the circuit stays open for the same time again. A rejected wave is the sender's
/// fault and counts as handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct Breaker {
    pub(super) failures: usize,
    pub(super) open_for: Duration,
}

impl Breaker {
    /// The number of failures in a row that opens the circuit, at least 1. Default: 10.
    pub fn failures(mut self, in_a_row: usize) -> Self {
        self.failures = in_a_row;
        self
    }

    /// How long the circuit stays open, above zero. Default: 1 s.
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

/// A limit that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// A concurrency of 0 would never handle a wave.
    #[error("a concurrency of 0 is not allowed: use at least 1, and at most {}", Limits::MOST_AT_ONCE)]
    NoConcurrency,
    /// The concurrency is above the maximum.
    #[error("a concurrency of {given} is not allowed: use at most {}", Limits::MOST_AT_ONCE)]
    TooMuchConcurrency {
        /// What was given.
        given: usize,
    },
    /// The rate is zero, or its period is out of range.
    #[error(
        "a rate of {waves} waves in {period:?} is not allowed: use at least 1 wave, in a period above zero and at most a day"
    )]
    Rate {
        /// The given number of waves.
        waves: u64,
        /// The given period.
        period: Duration,
    },
    /// The time-out is zero.
    #[error("a time-out of zero is not allowed: leave it out for no time-out")]
    NoTime,
    /// The circuit breaker would always be open, or never.
    #[error(
        "a circuit breaker that opens for {open_for:?} after {failures} failures is not allowed: use a time above zero, and at least 1 failure"
    )]
    Breaker {
        /// The given number of failures in a row.
        failures: usize,
        /// The given time.
        open_for: Duration,
    },
}

/// The limits of a service.
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
    /// Well below the maximum of tokio's semaphore.
    const MOST_AT_ONCE: usize = 1 << 20;

    /// tower adds the period to the current time, which must not overflow.
    const LONGEST_PERIOD: Duration = Duration::from_secs(60 * 60 * 24);

    /// Refuses values that would make tower panic or wait for ever.
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
