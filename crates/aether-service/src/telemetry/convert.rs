//! Converts between the trace context of a wave and the trace context of OpenTelemetry.

use aether_core::wave::TraceContext;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceState};
use opentelemetry::{Context, SpanId, TraceFlags, TraceId};

/// The context of a wave for OpenTelemetry.
pub(super) fn span_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let state = context.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    SpanContext::new(
        TraceId::from_bytes(context.trace_id().to_be_bytes()),
        SpanId::from_bytes(context.span_id().to_be_bytes()),
        TraceFlags::new(context.flags()),
        is_remote,
        state,
    )
}

/// The context of a span for waves; `None` if it is not valid.
pub(super) fn trace_context(span: &SpanContext) -> Option<TraceContext> {
    let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
    let span_id = u64::from_be_bytes(span.span_id().to_bytes());
    let context = TraceContext::new(trace_id, span_id, span.trace_flags().to_u8()).ok()?;
    let state = span.trace_state().header();
    // One that is too long to travel is left out, as W3C Trace Context allows.
    Some(if state.is_empty() { context } else { context.clone().with_state(&state).unwrap_or(context) })
}

/// The context of the span that is being executed by this thread, if there is one.
pub(crate) fn current() -> Option<TraceContext> {
    Context::map_current(|context| {
        context.has_active_span().then(|| trace_context(context.span().span_context())).flatten()
    })
}
