//! The spans of a wave at its receiver: the wait in the inbox, and the handling.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aether_core::clock::micros_since_1970;
use aether_core::{Emitter, Wave};
use futures_util::future::Either;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use opentelemetry_semantic_conventions::attribute::{ERROR_TYPE, MESSAGING_CLIENT_ID};

use super::convert::{current, span_context};
use super::emissions::attributes;

/// Aether's own attribute: how often the wave was handled before.
const ATTEMPT: &str = "aether.wave.attempt";

/// Set when telemetry starts.
pub(super) static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The span of one attempt to handle a wave, with the context in which its handler runs. Nothing if the trace is not
/// sampled, or telemetry is off.
#[derive(Debug, Clone)]
pub(crate) struct HandlingTrace(Option<Context>);

impl HandlingTrace {
    /// Begins the handling, and records the wait that has ended. Both are children of the span that emitted the wave.
    #[inline]
    pub(crate) fn begin(service: &str, wave: &Wave) -> Self {
        match TRACER.get() {
            None => Self(None),
            Some(tracer) => Self(begin(tracer, service, wave)),
        }
    }

    /// Calls a function in the context of the span.
    #[inline]
    pub(crate) fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        let _attached = self.0.clone().map(Context::attach);
        f()
    }

    /// Polls a future in the context of the span.
    pub(crate) fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        match &self.0 {
            Some(context) => Either::Left(future.with_context(context.clone())),
            None => Either::Right(future),
        }
    }

    /// Begins the pause before the next attempt, which has this number. It ends when it is dropped.
    #[inline]
    pub(crate) fn pause(&self, service: &str, wave: &Wave, next: u8) -> RetryPause {
        match &self.0 {
            Some(handling) => pause(handling, service, wave, next),
            None => RetryPause(None),
        }
    }

    /// Ends the span. Without an error it succeeded.
    #[inline]
    pub(crate) fn ended(&self, outcome: &'static str, error: Option<&dyn Display>) {
        if let Some(context) = &self.0 {
            end(context, outcome, error);
        }
    }
}

fn end(context: &Context, outcome: &'static str, error: Option<&dyn Display>) {
    let span = context.span();
    if let Some(error) = error {
        span.set_attribute(KeyValue::new(ERROR_TYPE, outcome));
        span.set_status(Status::error(error.to_string()));
    }
    span.end();
}

#[inline(never)]
fn begin(tracer: &SdkTracer, service: &str, wave: &Wave) -> Option<Context> {
    let parent = match wave.trace_context() {
        // Waves that the handler emits pass the context on.
        Some(parent) if !parent.is_sampled() => return None,
        Some(parent) => Some(Context::new().with_remote_span_context(span_context(&parent, true))),
        None => None,
    };
    let root = Context::new();
    let builder = |name| SpanBuilder::from_name(name).with_kind(SpanKind::Consumer);
    // A retry has waited for its pause, and its first wait is recorded already.
    if let Some(parent) = parent.as_ref().filter(|_| wave.attempt() == 0) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(micros_since_1970());
        let arrived = now.checked_sub(wave.residence()).unwrap_or(now);
        let waiting = builder("wait").with_start_time(arrived);
        let mut waited = tracer.build_with_context(waiting, parent);
        if waited.is_recording() {
            waited.update_name(format!("wait {}", wave.channel()));
            waited.set_attributes(attributes(wave, "wait", "receive"));
            waited.set_attribute(KeyValue::new(MESSAGING_CLIENT_ID, service.to_owned()));
        }
        waited.end_with_timestamp(now);
    }
    let parent = parent.unwrap_or(root);
    let mut span = tracer.build_with_context(builder("process"), &parent);
    if span.is_recording() {
        span.update_name(format!("process {}", wave.channel()));
        span.set_attributes(attributes(wave, "process", "process"));
        span.set_attribute(KeyValue::new(MESSAGING_CLIENT_ID, service.to_owned()));
        if wave.attempt() > 0 {
            span.set_attribute(KeyValue::new(ATTEMPT, i64::from(wave.attempt())));
        }
    }
    Some(parent.with_span(span))
}

/// The pause before a wave is handled again: a span from the failure of an attempt until the wave is back in the inbox.
#[derive(Debug)]
pub(crate) struct RetryPause(Option<Span>);

impl Drop for RetryPause {
    fn drop(&mut self) {
        if let Some(span) = &mut self.0 {
            span.end();
        }
    }
}

/// Giving a message back is an operation of the type `settle` in OpenTelemetry's conventions, whose kind is `client`.
/// Like `wait` and `process` it is a child of the span that emitted the wave; of the handling, if nothing emitted it.
#[inline(never)]
fn pause(handling: &Context, service: &str, wave: &Wave, next: u8) -> RetryPause {
    let Some(tracer) = TRACER.get() else { return RetryPause(None) };
    let parent = match wave.trace_context() {
        Some(parent) => Context::new().with_remote_span_context(span_context(&parent, true)),
        None => handling.clone(),
    };
    let builder = SpanBuilder::from_name(format!("retry {}", wave.channel())).with_kind(SpanKind::Client);
    let mut span = tracer.build_with_context(builder, &parent);
    if span.is_recording() {
        span.set_attributes(attributes(wave, "retry", "settle"));
        span.set_attribute(KeyValue::new(MESSAGING_CLIENT_ID, service.to_owned()));
        span.set_attribute(KeyValue::new(ATTEMPT, i64::from(next)));
    }
    RetryPause(Some(span))
}

/// The same emitter, whose waves are children of the span that this thread executes.
#[inline]
pub(crate) fn joined(emitter: Emitter) -> Emitter {
    if TRACER.get().is_none() {
        return emitter;
    }
    match current() {
        Some(context) => emitter.within_trace(context),
        None => emitter,
    }
}
