//! The span around the handling of a wave.

use std::fmt::Display;

use aether_core::Wave;
use tracing::{Instrument, Span, field};

use crate::telemetry::{HandlingTrace, RetryPause};

/// The target of the span: `AETHER_LOG=info,aether::handling=debug` switches it on.
pub(super) const TARGET: &str = "aether::handling";

/// Around the handling of a wave: the span of the log, and the span of the trace.
#[derive(Debug, Clone)]
pub(super) struct HandlingSpan {
    log: Span,
    trace: HandlingTrace,
}

impl HandlingSpan {
    #[inline]
    pub(super) fn begin(service: &str, wave: &Wave) -> Self {
        let trace = HandlingTrace::begin(service, wave);
        // In the context of the trace, because the log may be exported.
        let log = trace.in_scope(|| handling_span(service, wave));
        Self { log, trace }
    }

    /// Calls a function in the span.
    #[inline]
    pub(super) fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        self.trace.in_scope(|| self.log.in_scope(f))
    }

    /// Polls a future in the span.
    pub(super) fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.trace.around(future.instrument(self.log.clone()))
    }

    /// Begins the span of the pause before the next attempt, which has this number. It ends when it is dropped.
    pub(super) fn pause(&self, service: &str, wave: &Wave, next: u8) -> RetryPause {
        self.trace.pause(service, wave, next)
    }

    /// Ends the span of the trace. Without an error the handling succeeded.
    #[inline]
    pub(super) fn ended(&self, outcome: &'static str, error: Option<&dyn Display>) {
        self.trace.ended(outcome, error);
    }
}

/// A span with what finds the wave, its request and its sender in other logs and on the bus. While no subscriber wants it,
/// nothing is formatted. It is of the level `debug`, because a subscriber that writes text takes 3 us for its fields: as
/// long as an empty handler takes with all that is around it.
fn handling_span(service: &str, wave: &Wave) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "handling",
        service,
        channel = wave.channel().as_str(),
        wave = %wave.id(),
        source = wave.source().name(),
        cause = wave.cause().map(field::display),
        root = %wave.root(),
        attempt = wave.attempt(),
        baggage = (!wave.baggage().is_empty()).then(|| field::display(wave.baggage())),
    )
}
