//! A wave that a client wants to emit, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use aether_core::wave::{SourceError, TraceContext};
use aether_core::{Kind, Wave, WaveError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The wave, with at most one payload.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Draft {
    pub(super) channel: String,
    pub(super) kind: Option<String>,
    pub(super) amplitude: Option<f32>,
    pub(super) half_life_ms: Option<u64>,
    /// In radians.
    pub(super) phase: Option<f32>,
    pub(super) key: Option<String>,
    pub(super) cause: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) content_type: Option<String>,
    pub(super) json: Option<Box<RawValue>>,
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
    /// The payload of a request whose body it is.
    #[serde(skip)]
    pub(super) body: Option<bytes::Bytes>,
    /// The trace that the wave goes on.
    #[serde(skip)]
    pub(super) trace: Option<TraceContext>,
}

/// The trace of a `traceparent`. As W3C Trace Context demands, one that is not valid is none, and so is a `tracestate`
/// alone.
pub(super) fn trace(parent: &str, state: Option<&str>) -> Option<TraceContext> {
    let context: TraceContext = parent.trim().parse().ok()?;
    let with_state = state.and_then(|state| context.clone().with_state(state.trim()).ok());
    Some(with_state.unwrap_or(context))
}

/// Why there is no wave.
#[derive(Debug, thiserror::Error)]
pub(super) enum DraftError {
    #[error(transparent)]
    Wave(#[from] WaveError),
    #[error("{0:?} is not a kind: use event, command, query, response or broadcast")]
    Kind(String),
    #[error("the cause is not the id of a wave, such as shop@1f9a/17")]
    Cause(#[source] SourceError),
    #[error("give one payload: json, text or base64")]
    Payloads,
    #[error("the payload is not base64")]
    Base64(#[source] base64::DecodeError),
}

impl Draft {
    pub(super) fn wave(self) -> Result<Wave, DraftError> {
        let kind = match self.kind {
            None => Kind::Event,
            Some(kind) => kind.parse().map_err(|_| DraftError::Kind(kind))?,
        };
        let mut wave = Wave::builder(self.channel.as_str()).kind(kind);
        if let Some(amplitude) = self.amplitude {
            wave = wave.amplitude(amplitude);
        }
        if let Some(half_life) = self.half_life_ms {
            wave = wave.half_life(Duration::from_millis(half_life));
        }
        if let Some(phase) = self.phase {
            wave = wave.phase(phase);
        }
        if let Some(key) = self.key.filter(|key| !key.is_empty()) {
            wave = wave.key(&key);
        }
        if let Some(cause) = self.cause.filter(|cause| !cause.is_empty()) {
            wave = wave.cause(cause.parse().map_err(DraftError::Cause)?);
        }
        if let Some(trace) = self.trace {
            wave = wave.trace_context(trace);
        }
        for (name, value) in &self.metadata {
            wave = wave.metadata(name, value);
        }
        wave = match (self.json, self.text, self.base64, self.body) {
            (None, None, None, None) => wave,
            (Some(json), None, None, None) => wave.json(&json),
            (None, Some(text), None, None) => wave.text(text),
            (None, None, Some(base64), None) => {
                wave.bytes(STANDARD.decode(base64).map_err(DraftError::Base64)?)
            }
            (None, None, None, Some(body)) => wave.bytes(body),
            _ => return Err(DraftError::Payloads),
        };
        if let Some(content_type) = &self.content_type {
            wave = wave.content_type(content_type);
        }
        Ok(wave.build()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(json: &str) -> Result<Wave, String> {
        let draft: Draft = serde_json::from_str(json).map_err(|error| error.to_string())?;
        draft.wave().map_err(|error| error.to_string())
    }

    #[test]
    fn every_part_of_a_draft_is_in_the_wave() {
        let wave = draft(
            r#"{"channel":"a.b","kind":"command","amplitude":0.9,"half_life_ms":8000,"phase":3.1415927,"key":"7","cause":"shop@1f/3",
                "metadata":{"x":"y"},"json":{"n": 1}}"#,
        )
        .unwrap();
        assert_eq!(
            (wave.kind(), wave.key(), wave.metadata().value("x")),
            (Kind::Command, Some("7"), Some("y"))
        );
        assert_eq!(wave.phase(), aether_core::Phase::RETRACT);
        assert_eq!(&wave.payload()[..], br#"{"n": 1}"#.as_slice());
        assert_eq!((wave.content_type().as_str(), wave.cause().unwrap().sequence), ("application/json", 3));
        assert_eq!(draft(r#"{"channel":"a","base64":"AP8="}"#).unwrap().payload()[..], [0, 255]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (json, says) in [
            (r#"{"channel":"a b"}"#, "a b"),
            (r#"{"channel":"a","kind":"wave"}"#, "broadcast"),
            (r#"{"channel":"a","amplitude":2}"#, "2"),
            (r#"{"channel":"a","json":1,"text":"x"}"#, "one payload"),
            (r#"{"channel":"a","chanel":"b"}"#, "chanel"),
            (r#"{"channel":"a","cause":"x"}"#, "shop@1f9a/17"),
            (r#"{"channel":"a","base64":"%"}"#, "base64"),
        ] {
            let error = draft(json).unwrap_err();
            assert!(error.contains(says), "{json}: {error}");
        }
    }
}
