//! The seam for a tracer, which follows emissions in a distributed trace. Ordinary term: instrumentation.
//!
//! A process has at most one, as it has one subscriber of `tracing`; `aether-service` installs one for OpenTelemetry.
//! Emitters call it for each wave of a sampled trace. Without a tracer they pass on the trace context that they received.

use std::error::Error;
use std::sync::OnceLock;

use crate::wave::{TraceContext, Wave};

static TRACER: OnceLock<Box<dyn EmitTracer>> = OnceLock::new();

/// How a wave is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Emission {
    /// Alone. The span lasts until the wave was offered to its receivers or is in the outbox, so it shows back-pressure.
    Emit,
    /// As a question. The span lasts until there is an answer.
    Ask,
    /// Together with others. The span lasts as long as it takes to number the wave.
    Create,
}

/// Follows the waves that this process emits.
pub trait EmitTracer: Send + Sync + 'static {
    /// Begins the span of an emission, and sets its context on the wave
    /// ([`Wave::set_trace_context`]). `parent` is the context of the span that the emission is part of: from
    /// [`Emitter::within_trace`](crate::Emitter::within_trace), or from the wave itself. It is called for each wave
    /// whose parent is sampled or missing, so it decides whether a new trace is sampled.
    ///
    /// It is called within `emit` and must not block.
    fn begin(
        &self,
        wave: &mut Wave,
        parent: Option<TraceContext>,
        emission: Emission,
    ) -> Option<Box<dyn EmitSpan>>;
}

/// A span of an emission, which ends when it is dropped.
pub trait EmitSpan: Send + Sync {
    /// The emission failed.
    fn failed(&mut self, error: &dyn Error);
}

/// A tracer is installed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tracer of emissions is installed already: a process has one")]
pub struct TracerInstalled;

/// Installs the tracer of this process. It sees the waves of emitters that are made afterwards.
///
/// # Errors
/// [`TracerInstalled`] if there is one.
pub fn set_emit_tracer(tracer: Box<dyn EmitTracer>) -> Result<(), TracerInstalled> {
    TRACER.set(tracer).map_err(|_| TracerInstalled)
}

pub(super) fn is_installed() -> bool {
    TRACER.get().is_some()
}

/// The tracer, if it has to see this wave: not if its trace is known not to be sampled.
pub(super) fn tracer_for(parent: Option<&TraceContext>) -> Option<&'static dyn EmitTracer> {
    match parent {
        Some(parent) if !parent.is_sampled() => None,
        _ => TRACER.get().map(AsRef::as_ref),
    }
}
