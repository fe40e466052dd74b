//! The spans of emissions: what the core calls for each wave of a sampled trace.

use std::error::Error;

use aether_core::Wave;
use aether_core::vibrator::{Emission, EmitSpan, EmitTracer};
use aether_core::wave::TraceContext;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, MESSAGING_CLIENT_ID, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_CONVERSATION_ID, MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
};

use super::convert::{span_context, trace_context};

/// The name of the system in attributes.
pub(super) const SYSTEM: &str = "aether";
/// Aether's own attribute: the importance of the wave at its source.
const AMPLITUDE: &str = "aether.wave.amplitude";
/// Aether's own attribute: the kind of the wave.
const KIND: &str = "aether.wave.kind";

/// The attributes of all spans about a wave, by the conventions for messaging spans:
/// <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>.
pub(super) fn attributes(wave: &Wave, operation: &'static str, sort: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new(MESSAGING_SYSTEM, SYSTEM),
        KeyValue::new(MESSAGING_OPERATION_NAME, operation),
        KeyValue::new(MESSAGING_OPERATION_TYPE, sort),
        KeyValue::new(MESSAGING_DESTINATION_NAME, wave.channel().as_str().to_owned()),
        KeyValue::new(MESSAGING_MESSAGE_ID, wave.id().to_string()),
        KeyValue::new(MESSAGING_MESSAGE_CONVERSATION_ID, wave.root().to_string()),
        KeyValue::new(MESSAGING_MESSAGE_BODY_SIZE, i64::try_from(wave.payload().len()).unwrap_or(i64::MAX)),
        KeyValue::new(KIND, wave.kind().as_str()),
        KeyValue::new(AMPLITUDE, f64::from(wave.amplitude().as_f32())),
    ]
}

/// Follows the emissions of this process.
pub(super) struct Emissions(pub(super) SdkTracer);

struct EmissionSpan(Span);

impl EmitTracer for Emissions {
    fn begin(
        &self,
        wave: &mut Wave,
        parent: Option<TraceContext>,
        emission: Emission,
    ) -> Option<Box<dyn EmitSpan>> {
        let parent = match &parent {
            Some(parent) => Context::new().with_remote_span_context(span_context(parent, false)),
            // Such as a span of the author's around a timer.
            None => Context::current(),
        };
        let (operation, sort, kind) = match emission {
            Emission::Ask => ("ask", "send", SpanKind::Client),
            Emission::Create => ("create", "create", SpanKind::Producer),
            _ => ("emit", "send", SpanKind::Producer),
        };
        let mut span = self.0.build_with_context(SpanBuilder::from_name(operation).with_kind(kind), &parent);
        if let Some(context) = trace_context(span.span_context()) {
            wave.set_trace_context(context);
        }
        if !span.is_recording() {
            return None;
        }
        span.update_name(format!("{operation} {}", wave.channel()));
        span.set_attributes(attributes(wave, operation, sort));
        span.set_attribute(KeyValue::new(MESSAGING_CLIENT_ID, wave.source().to_string()));
        Some(Box::new(EmissionSpan(span)))
    }
}

impl EmitSpan for EmissionSpan {
    fn failed(&mut self, error: &dyn Error) {
        // The alternatives of the errors are few; their text is not.
        self.0.set_attribute(KeyValue::new(ERROR_TYPE, "refused"));
        self.0.set_status(Status::error(error.to_string()));
    }
}
