//! The account of what was given to the exporter: plain numbers, and why telemetry does not start.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans of traces.
    Spans,
    /// Lines of the log.
    Logs,
    /// Exports of all metrics. A failed one loses no count: the next has the totals.
    Metrics,
}

impl Signal {
    /// The lower-case name, as used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// The outcomes of the spans, log lines or exports of metrics: `offered = exported + lost_full + lost_export + queued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportLedger {
    /// Which they are.
    pub signal: Signal,
    /// Given to the exporter.
    pub offered: u64,
    /// Taken by the collector.
    pub exported: u64,
    /// Lost, because too many waited.
    pub lost_full: u64,
    /// Lost, because the collector did not take them.
    pub lost_export: u64,
    /// Waiting, or under way.
    pub queued: u64,
}

impl ExportLedger {
    /// All that were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost_full + self.lost_export
    }

    /// Whether the account is complete. Always true; for assertions in tests.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.offered == self.exported + self.lost() + self.queued
    }
}

impl fmt::Display for ExportLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, offered, exported, lost_full, lost_export, queued } = self;
        write!(
            f,
            "{}: {offered} offered = {exported} exported + {lost_full} lost for lack of room + {lost_export} not taken by \
             the collector + {queued} queued",
            signal.as_str()
        )
    }
}

/// The counters behind an [`ExportLedger`].
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "for exporters"))]
#[derive(Debug, Default)]
pub(super) struct Counts {
    exported: AtomicU64,
    lost_full: AtomicU64,
    lost_export: AtomicU64,
    queued: AtomicU64,
}

#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "for exporters"))]
impl Counts {
    /// Takes a place among `most`; false, and counted as lost, if there is none.
    pub(super) fn enter(&self, most: u64) -> bool {
        let taken = self.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            (queued < most).then_some(queued + 1)
        });
        if taken.is_err() {
            self.lost_full.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Gives back the places of a batch that was exported or not.
    pub(super) fn leave(&self, number: u64, exported: bool) {
        let fate = if exported { &self.exported } else { &self.lost_export };
        fate.fetch_add(number, Ordering::Relaxed);
        self.queued.fetch_sub(number, Ordering::Relaxed);
    }

    /// The account. An item that moves from one number to another meanwhile is counted in one of them.
    pub(super) fn ledger(&self, signal: Signal) -> ExportLedger {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (queued, exported) = (count(&self.queued), count(&self.exported));
        let (lost_full, lost_export) = (count(&self.lost_full), count(&self.lost_export));
        let offered = exported + lost_full + lost_export + queued;
        ExportLedger { signal, offered, exported, lost_full, lost_export, queued }
    }
}

/// Why telemetry does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The program was built without it.
    #[error(
        "this program was built without the feature otlp of aether-service: build it with, or set telemetry.otlp = off"
    )]
    NotBuilt,
    /// It was started before.
    #[error("telemetry was started already: a process has one")]
    Started,
    /// The collector does not answer.
    #[error("the collector does not answer")]
    Unreachable {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The collector does not take what it is sent.
    #[error("the collector refuses telemetry with status {status}")]
    Refused {
        /// The status of HTTP.
        status: u16,
    },
    /// An exporter cannot be made of the settings and the variables of OpenTelemetry.
    #[error("the exporter of {} cannot be made", signal.as_str())]
    Exporter {
        /// The exported signal.
        signal: Signal,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_lost_and_the_account_adds_up() {
        let counts = Counts::default();
        assert_eq!((0..5).filter(|_| counts.enter(3)).count(), 3);
        counts.leave(2, true);
        assert!(counts.enter(3));
        counts.leave(1, false);
        let ledger = counts.ledger(Signal::Spans);
        assert!(ledger.adds_up(), "{ledger}");
        assert_eq!((ledger.offered, ledger.exported, ledger.lost_full), (6, 2, 2));
        assert_eq!((ledger.lost_export, ledger.queued, ledger.lost()), (1, 1, 3));
    }
}
