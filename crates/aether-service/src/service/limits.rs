//! The limits of a service or of a set of its handlers, and the errors of invalid ones.

use std::time::Duration;

use super::live_rate::RateLayer;
use crate::Resend;

/// The options of a circuit breaker.
///
/// After a number of failures in a row the service takes no waves out of the inbox of these handlers for a while. Waves
/// wait there, or are refused by a service that sheds when busy. Running handlers continue. Then one wave is tried: if
/// it is handled, the circuit closes; if it fails, the circuit stays open for the same time again. A rejected wave is
/// the sender's fault and counts as handled.
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
        /// The given number.
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

/// The limits of a set of handlers, for [`Handlers::limits`](crate::Handlers::limits).
///
/// Each set counts by itself: with a concurrency of 8, a service of two sets handles up to 16 waves at a time. What is
/// left out is as the service has it; see [`Limits::new`] and [`Limits::independent`].
///
/// ```
/// use std::time::Duration;
/// use aether_service::{Breaker, Limits};
///
/// let limits = Limits::new().concurrency(2).time_out(Duration::from_secs(3)).circuit_breaker(Breaker::default());
/// # let _ = limits;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves"]
pub struct Limits {
    concurrency: Option<usize>,
    rate: Option<(u64, Duration)>,
    live_rate: Option<RateLayer>,
    time_out: Option<Duration>,
    breaker: Option<Breaker>,
    shed_when_busy: Option<bool>,
    retry: Option<Resend>,
    is_independent: bool,
}

impl Limits {
    /// Well below the maximum of tokio's semaphore.
    const MOST_AT_ONCE: usize = 1 << 20;

    /// tower adds the period to the current time, which must not overflow.
    const LONGEST_PERIOD: Duration = Duration::from_secs(60 * 60 * 24);

    /// Limits that equal the limits of the service, except for what is set here. The retry budget is then also shared
    /// with the rest of the service.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits that have nothing from the service: what is not set here has the default that its method names.
    pub fn independent() -> Self {
        Self { is_independent: true, ..Self::default() }
    }

    /// The maximum number of waves handled at a time. Others wait in the inbox, strongest first. With 1, waves are
    /// handled one after the other. Default: 64.
    pub fn concurrency(mut self, waves: usize) -> Self {
        self.concurrency = Some(waves);
        self
    }

    /// The maximum number of waves started per period. Others wait in the inbox. Default: no limit.
    pub fn rate(mut self, waves: u64, period: Duration) -> Self {
        self.rate = Some((waves, period));
        self
    }

    /// Like [`rate`](Self::rate), with a rate that can change later.
    pub(crate) fn live_rate(self, (waves, period): (u64, Duration), layer: RateLayer) -> Self {
        Self { live_rate: Some(layer), ..self.rate(waves, period) }
    }

    /// The time-out of a handler. After it the handler is cancelled at its await point. Default: no limit.
    pub fn time_out(mut self, time: Duration) -> Self {
        self.time_out = Some(time);
        self
    }

    /// Retries waves whose handler failed, panicked or timed out. Such a wave returns to the inbox at half its
    /// strength, so that it waits behind fresh ones. During the pause before it occupies no place of the concurrency; a set
    /// with 1024 waves that pause takes no others out of its inbox. Handlers must be idempotent. Default: no retries.
    pub fn retry(mut self, resend: Resend) -> Self {
        self.retry = Some(resend);
        self
    }

    /// Pauses handling after too many failures. Default: no circuit breaker.
    pub fn circuit_breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Whether to refuse waves at once while the limits leave no room, instead of letting them wait in the inbox. This
    /// suits services whose askers prefer another instance to waiting. It gives up the order by strength. Default: no.
    pub fn shed_when_busy(mut self, sheds: bool) -> Self {
        self.shed_when_busy = Some(sheds);
        self
    }

    /// These limits as they are in force, in a service with the limits `service`.
    ///
    /// # Errors
    /// [`LimitsError`] for values that would make tower panic or wait for ever.
    pub(super) fn in_force(&self, service: &Self) -> Result<LimitsInForce, LimitsError> {
        let nothing = Self::default();
        let service = if self.is_independent { &nothing } else { service };
        let limits = LimitsInForce {
            concurrency: self.concurrency.or(service.concurrency).unwrap_or(64),
            rate: self.rate.or(service.rate),
            // A rate of the set's own replaces the rate of the service, which may be a live one.
            live_rate: match self.rate {
                Some(_) => self.live_rate.clone(),
                None => service.live_rate.clone(),
            },
            time_out: self.time_out.or(service.time_out),
            breaker: self.breaker.or(service.breaker),
            shed_when_busy: self.shed_when_busy.or(service.shed_when_busy).unwrap_or(false),
            retry: self.retry.as_ref().or(service.retry.as_ref()).cloned(),
        };
        limits.check().map(|()| limits)
    }
}

/// The limits of one set of handlers, complete and checked.
#[derive(Debug, Clone)]
pub(super) struct LimitsInForce {
    pub(super) concurrency: usize,
    pub(super) rate: Option<(u64, Duration)>,
    /// Replaces `rate`, which it begins with.
    pub(super) live_rate: Option<RateLayer>,
    pub(super) time_out: Option<Duration>,
    pub(super) breaker: Option<Breaker>,
    pub(super) shed_when_busy: bool,
    pub(super) retry: Option<Resend>,
}

impl LimitsInForce {
    /// Whether a layer of tower keeps one of the limits. The others are kept by the loop of the set.
    pub(super) const fn need_a_stack(&self) -> bool {
        self.rate.is_some() || self.shed_when_busy
    }

    fn check(&self) -> Result<(), LimitsError> {
        match self.concurrency {
            0 => return Err(LimitsError::NoConcurrency),
            given if given > Limits::MOST_AT_ONCE => return Err(LimitsError::TooMuchConcurrency { given }),
            _ => {}
        }
        if let Some((waves, period)) = self.rate
            && (waves == 0 || period.is_zero() || period > Limits::LONGEST_PERIOD)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_set_leaves_out_is_as_the_service_has_it_unless_it_is_independent() {
        let second = Duration::from_secs(1);
        let service = Limits::new().concurrency(8).time_out(second).circuit_breaker(Breaker::default());
        let inherited = Limits::new().concurrency(2).in_force(&service).unwrap();
        assert_eq!((inherited.concurrency, inherited.time_out), (2, Some(second)));
        assert_eq!(inherited.breaker, Some(Breaker::default()));
        let independent = Limits::independent().rate(1, second).in_force(&service).unwrap();
        assert_eq!((independent.concurrency, independent.rate), (64, Some((1, second))));
        assert_eq!((independent.time_out, independent.breaker), (None, None));
    }
}
