//! A wave as JSON, as the pages and the API show it.

use std::time::{SystemTime, UNIX_EPOCH};

use aether_core::{Phase, Wave};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

/// The maximum size of a payload that is shown whole, in bytes. Of a longer text the beginning is shown.
pub(crate) const MAX_SHOWN: usize = 8 << 10;

#[derive(Debug, Serialize)]
struct Record<'a> {
    id: String,
    channel: &'a str,
    kind: &'static str,
    amplitude: f64,
    source: &'a str,
    instance: String,
    /// When it was emitted, by the clock of the gateway.
    emitted_unix_ms: u64,
    age_ms: f64,
    hops: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    half_life_ms: Option<u64>,
    /// In radians; left out where it asserts, as almost all waves do.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The first wave of the request that it belongs to.
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    content_type: &'a str,
    bytes: usize,
    #[serde(flatten)]
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(&'a str, &'a str)>,
}

/// A payload in one of three forms. Without any, it is empty or too long to be shown.
#[derive(Debug, Default, Serialize)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// A wave as JSON.
pub(crate) fn json(wave: &Wave, most: usize) -> String {
    let age = wave.age();
    let emitted = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
    let emitted = emitted.duration_since(UNIX_EPOCH).unwrap_or_default();
    let amplitude = wave.amplitude();
    let record = Record {
        id: wave.id().to_string(),
        channel: wave.channel().as_str(),
        kind: wave.kind().as_str(),
        amplitude: amplitude.to_string().parse().unwrap_or_else(|_| f64::from(amplitude.as_f32())),
        source: wave.source().name(),
        instance: format!("{:x}", wave.source().instance()),
        emitted_unix_ms: u64::try_from(emitted.as_millis()).unwrap_or(u64::MAX),
        age_ms: (age.as_secs_f64() * 1e6).round() / 1e3,
        hops: wave.hops(),
        half_life_ms: wave
            .half_life()
            .duration()
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        phase: Some(wave.phase()).filter(|phase| *phase != Phase::ASSERT).map(|phase| phase.radians()),
        key: wave.key(),
        cause: wave.cause().map(ToString::to_string),
        root: wave.root().to_string(),
        trace: wave.trace_context().map(|trace| trace.to_string()),
        content_type: wave.content_type().as_str(),
        bytes: wave.payload().len(),
        payload: Payload::of(wave.payload(), most),
        metadata: wave.metadata().iter().collect(),
    };
    // Maps of strings and numbers can always be written.
    serde_json::to_string(&record).unwrap_or_default()
}

/// A wave with its whole payload.
pub(crate) fn whole(wave: &Wave) -> String {
    json(wave, usize::MAX)
}

impl<'a> Payload<'a> {
    fn of(payload: &'a [u8], most: usize) -> Self {
        let shown = &payload[..payload.len().min(most)];
        let cut = shown.len() < payload.len();
        if shown.is_empty() {
            return Self { cut, ..Self::default() };
        }
        if !cut && let Ok(json) = serde_json::from_slice(shown) {
            return Self { json: Some(json), ..Self::default() };
        }
        match std::str::from_utf8(shown) {
            Ok(text) => Self { text: Some(text), cut, ..Self::default() },
            // A character may have been cut in two.
            Err(error) if cut && error.error_len().is_none() => {
                let text = std::str::from_utf8(&shown[..error.valid_up_to()]).ok();
                Self { text, cut, ..Self::default() }
            }
            Err(_) => Self { base64: Some(STANDARD.encode(shown)), cut, ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn shown(payload: &'static [u8], most: usize) -> Value {
        let wave = Wave::builder("a.b").bytes(payload).key("k\"").metadata("x", "<y>").build().unwrap();
        serde_json::from_str(&json(&wave, most)).unwrap()
    }

    #[test]
    fn a_payload_is_json_or_text_or_base64() {
        let wave = shown(br#"{"b":1.0,"a":[2]}"#, 99);
        assert_eq!((&wave["json"]["a"][0], &wave["channel"]), (&2.into(), &"a.b".into()));
        assert_eq!((&wave["key"], &wave["metadata"][0][1]), (&"k\"".into(), &"<y>".into()));
        assert_eq!(shown(b"\x00\xff", 99)["base64"], "AP8=");
        assert_eq!(shown("schön".as_bytes(), 99)["text"], "schön");
        let empty = shown(b"", 99);
        assert!(["json", "text", "base64", "cut"].iter().all(|name| empty.get(name).is_none()));
    }

    #[test]
    fn a_long_payload_is_cut_between_characters_and_says_so() {
        let cut = shown("sch\u{f6}n".as_bytes(), 4);
        assert_eq!((&cut["text"], &cut["cut"], &cut["bytes"]), (&"sch".into(), &true.into(), &6.into()));
        assert_eq!(shown(b"[1,2]", 4)["text"], "[1,2");
    }
}
