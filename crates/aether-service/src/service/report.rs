//! The counters of a service: the outcome of each wave that it took.
//!
//! The service counts; anyone may read at any time. A wave is opened once and settled at most once. The type
//! [`InFlight`] ensures that, also for a cancelled task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Wave;
use parking_lot::Mutex;

use crate::timings::{SharedTimings, Timing, Timings};

/// How one attempt to handle a wave ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Succeeded,
    Retried,
    Rejected,
    Failed,
    Panicked,
    TimedOut,
    ShedBusy,
    ShedCircuitOpen,
    Left,
    Abandoned,
}

impl Outcome {
    /// The name in logs: the name of the count in the report.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Retried => "retried",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::ShedBusy => "shed_busy",
            Self::ShedCircuitOpen => "shed_circuit_open",
            Self::Left => "left",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How one echo was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EchoOutcome {
    Handled,
    Failed,
    Left,
}

/// The outcomes of the waves that a service took: `received = succeeded + retried + rejected + failed + panicked +
/// timed_out + shed_busy + shed_circuit_open + left + abandoned + in_flight`, always.
///
/// A wave is received again for each of its attempts. Waves that never left the inbox are in the ledger of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServiceReport {
    /// Waves taken out of the inbox.
    pub received: u64,
    /// Handled, and answered if an answer was expected.
    pub succeeded: u64,
    /// Failed and received again: put back into the inbox at half strength, or, from a durable log, after a pause.
    pub retried: u64,
    /// Not acceptable to the handler, for example because the payload cannot be read.
    pub rejected: u64,
    /// The handler returned an error, or its answer could not be sent.
    pub failed: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// The handler exceeded its time-out.
    pub timed_out: u64,
    /// Not tried: the service was busy and sheds when busy.
    pub shed_busy: u64,
    /// Not tried: the circuit breaker was open.
    pub shed_circuit_open: u64,
    /// Not tried: still in the inbox when the service shut down.
    pub left: u64,
    /// Ended in the middle: the handler still ran when the grace period was over, or the service was dropped. A part of
    /// its work may be done.
    pub abandoned: u64,
    /// Being handled, or waiting to be put back.
    pub in_flight: u64,
    /// Echoes of the service's own waves that its handler of echoes handled. Echoes are not a part of the sum.
    pub echoes: u64,
    /// Echoes whose handler failed, panicked or exceeded its time-out.
    pub echoes_failed: u64,
    /// Echoes whose handler was not called or was ended, because the grace period was over.
    pub echoes_left: u64,
}

impl ServiceReport {
    /// Whether every wave is accounted for. Always true; tests assert it.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.received == self.succeeded + self.retried + self.unhandled() + self.in_flight
    }

    /// Waves that were taken but not handled, for any reason.
    #[must_use]
    pub const fn unhandled(&self) -> u64 {
        self.rejected
            + self.failed
            + self.panicked
            + self.timed_out
            + self.shed_busy
            + self.shed_circuit_open
            + self.left
            + self.abandoned
    }

    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Retried => &mut self.retried,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Failed => &mut self.failed,
            Outcome::Panicked => &mut self.panicked,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::ShedBusy => &mut self.shed_busy,
            Outcome::ShedCircuitOpen => &mut self.shed_circuit_open,
            Outcome::Left => &mut self.left,
            Outcome::Abandoned => &mut self.abandoned,
        }
    }
}

impl fmt::Display for ServiceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, succeeded, retried, in_flight, .. } = self;
        write!(f, "{received} received = {succeeded} succeeded + {retried} retried")?;
        for (count, name) in [
            (self.rejected, "rejected"),
            (self.failed, "failed"),
            (self.panicked, "panicked"),
            (self.timed_out, "timed out"),
            (self.shed_busy, "shed as busy"),
            (self.shed_circuit_open, "shed by the open circuit"),
            (self.left, "left in the inbox"),
            (self.abandoned, "ended in the middle"),
        ] {
            if count > 0 {
                write!(f, " + {count} {name}")?;
            }
        }
        write!(f, " + {in_flight} in flight")?;
        let (handled, failed, left) = (self.echoes, self.echoes_failed, self.echoes_left);
        if handled + failed + left == 0 {
            return Ok(());
        }
        let all = handled + failed + left;
        write!(f, "; {all} echoes = {handled} handled + {failed} failed + {left} left")
    }
}

/// The live counters of a service. Clones share them, and they can be read after the service has ended. All numbers of
/// one report are from the same moment.
#[derive(Debug, Clone, Default)]
pub struct ServiceCounters {
    counts: Arc<Mutex<ServiceReport>>,
    /// Recorded if somebody reads them.
    timings: SharedTimings,
}

impl ServiceCounters {
    /// How long waves wait, are handled and were on their way. Recorded from the first call on, which costs two readings of
    /// the clock and a lock for each wave.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.timings.read()
    }

    /// The histograms, for exporters.
    pub(super) const fn shared_timings(&self) -> &SharedTimings {
        &self.timings
    }

    /// Records an attempt that has waited for so long and ends now.
    #[inline]
    fn time(&self, wave: &Wave, waited: Duration) {
        let timing = Timing {
            wait: (wave.attempt() == 0).then_some(waited),
            handling: wave.residence().saturating_sub(waited),
            transit: wave.age_on_arrival(),
        };
        self.timings.record(wave.amplitude(), timing);
    }

    /// The numbers now.
    #[must_use]
    pub fn report(&self) -> ServiceReport {
        *self.counts.lock()
    }

    pub(super) fn count_echo(&self, outcome: EchoOutcome) {
        let mut counts = self.counts.lock();
        *match outcome {
            EchoOutcome::Handled => &mut counts.echoes,
            EchoOutcome::Failed => &mut counts.echoes_failed,
            EchoOutcome::Left => &mut counts.echoes_left,
        } += 1;
    }
}

/// The account of the loop that serves a set of handlers. Most waves are handled at once, so the end of one is counted
/// together with the beginning of the next: one lock a wave. The sum of a report is right at any time; a wave counts as
/// in flight until the loop has turned to the next one, or waits.
#[derive(Debug)]
pub(super) struct LoopAccount {
    counters: ServiceCounters,
    has_succeeded: bool,
}

impl LoopAccount {
    pub(super) const fn new(counters: ServiceCounters) -> Self {
        Self { counters, has_succeeded: false }
    }

    /// Counts a wave that was taken out of the inbox. It is settled by [`succeeded`](Self::succeeded) or by what
    /// [`hand_over`](Self::hand_over) returns.
    #[inline]
    pub(super) fn open(&mut self) {
        let mut counts = self.counters.counts.lock();
        counts.received += 1;
        match std::mem::take(&mut self.has_succeeded) {
            true => counts.succeeded += 1,
            false => counts.in_flight += 1,
        }
    }

    /// Records that the wave was handled, to be counted with the next one or by [`flush`](Self::flush).
    #[inline]
    pub(super) const fn succeeded(&mut self) {
        self.has_succeeded = true;
    }

    /// How long the wave has waited, if that is recorded. Its handling begins.
    #[inline]
    pub(super) fn waited(&self, wave: &Wave) -> Option<Duration> {
        self.counters.timings.is_recorded().then(|| wave.residence())
    }

    /// Records the handling of a wave that has waited for so long.
    #[inline]
    pub(super) fn time(&self, wave: &Wave, waited: Option<Duration>) {
        if let Some(waited) = waited {
            self.counters.time(wave, waited);
        }
    }

    /// Leaves the wave to an attempt that settles it.
    pub(super) fn hand_over(&self, waited: Option<Duration>) -> InFlight {
        InFlight { counters: Some(self.counters.clone()), waited }
    }

    /// Counts what is not counted yet. The loop calls it before it waits.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.has_succeeded) {
            let mut counts = self.counters.counts.lock();
            counts.in_flight -= 1;
            counts.succeeded += 1;
        }
    }
}

/// A wave counted as in flight. Dropped unsettled, its task was cancelled or panicked.
#[derive(Debug)]
pub(super) struct InFlight {
    counters: Option<ServiceCounters>,
    /// How long the wave has waited, if that is recorded.
    waited: Option<Duration>,
}

impl InFlight {
    /// Records how long the handling took that ends now.
    pub(super) fn time(&self, wave: &Wave) {
        if let Some((counters, waited)) = self.counters.as_ref().zip(self.waited) {
            counters.time(wave, waited);
        }
    }

    pub(super) fn settle(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        if let Some(counters) = self.counters.take() {
            let mut counts = counters.counts.lock();
            counts.in_flight -= 1;
            *counts.of(outcome) += 1;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Panics of handlers and layers are caught; any other panic ends the task.
        self.close(if std::thread::panicking() { Outcome::Panicked } else { Outcome::Abandoned });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(counters: &ServiceCounters) -> InFlight {
        let mut account = LoopAccount::new(counters.clone());
        account.open();
        account.hand_over(None)
    }

    #[test]
    fn a_wave_is_in_flight_until_it_is_settled_or_dropped() {
        let counters = ServiceCounters::default();
        let outcomes = [
            Outcome::Succeeded,
            Outcome::Retried,
            Outcome::Rejected,
            Outcome::Failed,
            Outcome::Panicked,
            Outcome::TimedOut,
            Outcome::ShedBusy,
            Outcome::ShedCircuitOpen,
            Outcome::Left,
            Outcome::Abandoned,
        ];
        for outcome in outcomes {
            open(&counters).settle(outcome);
        }
        let unsettled = open(&counters);
        let report = counters.report();
        assert_eq!((report.received, report.unhandled(), report.in_flight), (11, 8, 1));
        assert!(report.adds_up());
        drop(unsettled);
        assert_eq!((counters.report().abandoned, counters.report().in_flight), (2, 0));
        assert!(counters.report().adds_up());
        let unsettled = open(&counters);
        let thread = std::thread::spawn(move || {
            let _unsettled = unsettled;
            panic!("in a layer");
        });
        assert!(thread.join().is_err());
        assert_eq!(counters.report().panicked, 2);
    }

    #[test]
    fn the_account_of_a_loop_adds_up_at_any_time() {
        let counters = ServiceCounters::default();
        let mut account = LoopAccount::new(counters.clone());
        let counts = || {
            let report = counters.report();
            assert!(report.adds_up(), "{report}");
            (report.received, report.succeeded, report.in_flight)
        };
        account.open();
        assert_eq!(counts(), (1, 0, 1));
        account.succeeded();
        account.open();
        assert_eq!(counts(), (2, 1, 1));
        let handed_over = account.hand_over(None);
        account.open();
        assert_eq!(counts(), (3, 1, 2));
        account.succeeded();
        account.flush();
        account.flush();
        assert_eq!(counts(), (3, 2, 1));
        handed_over.settle(Outcome::Failed);
        assert_eq!((counts(), counters.report().failed), ((3, 2, 0), 1));
    }

    #[test]
    fn the_report_reads_as_a_sum_without_zeros() {
        let counters = ServiceCounters::default();
        open(&counters).settle(Outcome::Succeeded);
        open(&counters).settle(Outcome::TimedOut);
        assert_eq!(
            counters.report().to_string(),
            "2 received = 1 succeeded + 0 retried + 1 timed out + 0 in flight"
        );
        counters.count_echo(EchoOutcome::Handled);
        counters.count_echo(EchoOutcome::Left);
        assert!(counters.report().to_string().ends_with("; 2 echoes = 1 handled + 0 failed + 1 left"));
    }
}
