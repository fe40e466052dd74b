//! The counters of what this process exports.

use std::sync::{Arc, OnceLock};

use super::ledger::{Counts, ExportLedger, Signal};

/// Of spans, logs and metrics, in this order.
static COUNTS: OnceLock<[(Signal, Arc<Counts>); 3]> = OnceLock::new();

/// Makes the counters; `None` if they were made before.
pub(super) fn begin() -> Option<[Arc<Counts>; 3]> {
    let counts = [Signal::Spans, Signal::Logs, Signal::Metrics].map(|signal| (signal, Arc::default()));
    COUNTS.set(counts.clone()).ok()?;
    Some(counts.map(|(_, counts)| counts))
}

/// The outcomes of everything that was to be exported; empty while telemetry is off.
#[must_use]
pub fn ledgers() -> Vec<ExportLedger> {
    let counts = COUNTS.get().into_iter().flatten();
    counts.map(|(signal, counts)| counts.ledger(*signal)).collect()
}
