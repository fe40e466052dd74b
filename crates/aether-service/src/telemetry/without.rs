//! Telemetry in a program without the feature `otlp`: nothing but the trace context is passed on.

use std::fmt::Display;

use aether_core::wave::TraceContext;
use aether_core::{Aether, Emitter, Wave};

use super::ledger::{ExportLedger, TelemetryError};
use crate::timings::SharedTimings;

/// Refuses to start.
///
/// # Errors
/// Always [`TelemetryError::NotBuilt`].
pub const fn start(_collector: &str, _program: &str) -> Result<(), TelemetryError> {
    Err(TelemetryError::NotBuilt)
}

/// Does nothing.
pub fn observe(_aether: &Aether) {}

/// Does nothing.
pub fn end() {}

pub(crate) fn end_with_process() {}

/// No accounts.
#[must_use]
pub fn ledgers() -> Vec<ExportLedger> {
    Vec::new()
}

pub(crate) const fn current() -> Option<TraceContext> {
    None
}

pub(crate) fn joined(emitter: Emitter) -> Emitter {
    emitter
}

/// Asks a collector whether it takes telemetry.
///
/// # Errors
/// [`TelemetryError::NotBuilt`].
pub const fn check(_collector: &str) -> Result<(), TelemetryError> {
    Err(TelemetryError::NotBuilt)
}

/// No histograms.
pub(crate) const fn record(_service: &str, _timings: &SharedTimings) {}

/// No span.
#[derive(Debug)]
pub(crate) struct RetryPause;

/// No span.
#[derive(Debug, Clone)]
pub(crate) struct HandlingTrace;

impl HandlingTrace {
    #[inline]
    pub(crate) const fn begin(_service: &str, _wave: &Wave) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        f()
    }

    #[inline]
    pub(crate) fn around<F: Future>(&self, future: F) -> F {
        future
    }

    #[inline]
    pub(crate) const fn pause(&self, _service: &str, _wave: &Wave, _next: u8) -> RetryPause {
        RetryPause
    }

    #[inline]
    pub(crate) fn ended(&self, _outcome: &'static str, _error: Option<&dyn Display>) {}
}
