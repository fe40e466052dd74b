//! A wave as one line: JSON for programs, or text for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use aether_core::{Wave, wave::ContentType};
use anstyle::{AnsiColor, Style};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

/// A wave as one JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    id: String,
    channel: &'a str,
    kind: &'static str,
    amplitude: f64,
    source: &'a str,
    age_ms: f64,
    hops: u8,
    phase: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Left out if it is the wave itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    baggage: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, Values<'a>>,
    content_type: &'a str,
    payload: Payload<'a>,
}

/// One value is a string; several values of one name are a list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

/// A payload as JSON if it parses, else as text, else as bytes. A payload with a text content type is never parsed as
/// JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Payload<'a> {
    /// The original JSON, on one line.
    Json(Box<RawValue>),
    Text(&'a str),
    Bytes {
        base64: String,
    },
}

impl<'a> Record<'a> {
    pub(crate) fn of(wave: &'a Wave) -> Self {
        let mut metadata = BTreeMap::new();
        for (name, value) in wave.metadata().iter() {
            metadata
                .entry(name)
                .and_modify(|values: &mut Values<'a>| values.push(value))
                .or_insert(Values::One(value));
        }
        let amplitude = wave.amplitude();
        Self {
            id: wave.id().to_string(),
            channel: wave.channel().as_str(),
            kind: wave.kind().as_str(),
            // With the three digits that `Amplitude` prints, without the extra digits of its fixed-point form.
            amplitude: amplitude.to_string().parse().unwrap_or_else(|_| f64::from(amplitude.as_f32())),
            source: wave.source().name(),
            age_ms: (wave.age().as_secs_f64() * 1e6).round() / 1e3,
            hops: wave.hops(),
            phase: wave.phase().radians(),
            key: wave.key(),
            cause: wave.cause().map(ToString::to_string),
            root: Some(wave.root()).filter(|root| *root != wave.id()).map(|root| root.to_string()),
            baggage: wave.baggage().iter().collect(),
            metadata,
            content_type: wave.content_type().as_str(),
            payload: Payload::of(wave),
        }
    }
}

impl<'a> Values<'a> {
    fn push(&mut self, value: &'a str) {
        match self {
            Self::One(first) => *self = Self::Several(vec![first, value]),
            Self::Several(values) => values.push(value),
        }
    }
}

impl<'a> Payload<'a> {
    pub(crate) fn of(wave: &'a Wave) -> Self {
        let called_text = *wave.content_type() == ContentType::Text;
        match (wave.text(), wave.json::<Box<RawValue>>()) {
            (Ok(_), Ok(json)) if !called_text => Self::Json(on_one_line(json)),
            (Ok(text), _) => Self::Text(text),
            (Err(_), _) => Self::Bytes { base64: STANDARD.encode(wave.payload()) },
        }
    }
}

/// In JSON a line break can only stand between tokens.
fn on_one_line(json: Box<RawValue>) -> Box<RawValue> {
    if !json.get().contains(['\n', '\r']) {
        return json;
    }
    RawValue::from_string(json.get().replace(['\n', '\r'], " ")).unwrap_or(json)
}

/// The payload for people and scripts: JSON and text unchanged, bytes as JSON.
impl fmt::Display for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => f.write_str(json.get()),
            Self::Text(text) => f.write_str(text),
            Self::Bytes { base64 } => write!(f, "{{\"base64\":\"{base64}\"}}"),
        }
    }
}

/// A wave as a line of text: amplitude, channel, kind, source, payload. It does not keep the wave alive.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) amplitude: f32,
    amplitude_text: String,
    channel: String,
    kind: &'static str,
    source: String,
    payload: String,
}

/// Waves from this amplitude on are shown as strong.
const STRONG: f32 = 0.8;
/// Waves up to this amplitude are shown as weak.
const WEAK: f32 = 0.25;

const CHANNEL: Style = AnsiColor::Cyan.on_default();
const STRENGTH: Style = AnsiColor::Yellow.on_default().bold();
const FAINT: Style = Style::new().dimmed();

impl Line {
    /// The payload is cut after `most_characters` characters.
    pub(crate) fn of(wave: &Wave, most_characters: usize) -> Self {
        Self {
            amplitude: wave.amplitude().as_f32(),
            amplitude_text: wave.amplitude().to_string(),
            channel: wave.channel().to_string(),
            kind: wave.kind().as_str(),
            source: printable(wave.source().name(), usize::MAX),
            payload: printable(&Payload::of(wave).to_string(), most_characters),
        }
    }
}

impl Line {
    /// The same with the id in place of the source.
    pub(crate) fn with_id(self, wave: &Wave) -> Self {
        Self { source: printable(&wave.id().to_string(), usize::MAX), ..self }
    }
}

/// Includes colours; `anstream` removes them where stdout does not want them.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strength = match self.amplitude {
            a if a >= STRONG => STRENGTH,
            a if a <= WEAK => FAINT,
            _ => Style::new(),
        };
        let Self { amplitude_text, channel, kind, source, payload, .. } = self;
        write!(
            f,
            "{strength}{amplitude_text:<5}{strength:#} {CHANNEL}{channel:<22}{CHANNEL:#} {kind:<9} \
             {FAINT}{source:<8}{FAINT:#}  {payload}"
        )
    }
}

/// Escapes control characters, so that data from the network cannot control the terminal.
pub(crate) fn printable(text: &str, most_characters: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most_characters.saturating_add(3)));
    for (at, character) in text.chars().enumerate() {
        if at == most_characters {
            shown.push('…');
            break;
        }
        if character.is_control() || is_unseen(character) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Characters that nobody sees: marks of the text direction, and those without a width, with which two names look alike.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(wave: aether_core::WaveBuilder) -> (String, Value) {
        let text = serde_json::to_string(&Record::of(&wave.build().unwrap())).unwrap();
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn a_record_has_exactly_the_fields_of_the_wave() {
        let cause: aether_core::WaveId = "shop@1f/7".parse().unwrap();
        let wave = Wave::builder("orders.created")
            .amplitude(0.9)
            .key("17")
            .cause(cause)
            .metadata("a", "1")
            .metadata("b", "2")
            .metadata("b", "3")
            .json(json!({ "sku": "lamp" }));
        let (_, mut value) = record(wave);
        assert_eq!(value["age_ms"].take(), 0.0);
        assert_eq!(
            value,
            json!({
                "id": "-@0/0", "channel": "orders.created", "kind": "event", "amplitude": 0.9, "source": "-",
                "age_ms": null, "hops": 0, "phase": 0.0, "key": "17", "cause": "shop@1f/7", "root": "shop@1f/7",
                "metadata": { "a": "1", "b": ["2", "3"] }, "content_type": "application/json",
                "payload": { "sku": "lamp" }
            })
        );
        let (text, _) = record(Wave::builder("a"));
        assert!(
            ["key", "cause", "root", "baggage", "metadata"].iter().all(|name| !text.contains(name)),
            "{text}"
        );
    }

    #[test]
    fn a_payload_is_json_or_text_or_bytes() {
        let payload = |wave| record(wave).1["payload"].take();
        assert_eq!(payload(Wave::builder("a").bytes("{\"b\": [1]}")), json!({ "b": [1] }));
        assert_eq!(payload(Wave::builder("a").text("17")), json!("17"));
        assert_eq!(payload(Wave::builder("a").bytes("17 lamps")), json!("17 lamps"));
        assert_eq!(payload(Wave::builder("a").bytes(&b"\xff\x00"[..])), json!({ "base64": "/wA=" }));
        assert_eq!(payload(Wave::builder("a")), json!(""));
    }

    #[test]
    fn a_payload_with_line_breaks_stays_on_one_line_and_keeps_its_digits() {
        let (text, value) =
            record(Wave::builder("a").bytes("{\n\"n\":\r\n 12345678901234567890.10,\"t\":\"\\n\"}"));
        assert!(!text.contains(['\n', '\r']) && text.contains("12345678901234567890.10"), "{text}");
        assert_eq!(value["payload"]["t"], "\n");
    }

    #[test]
    fn data_from_the_network_does_not_control_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{202e}", 100), "a\\u{1b}[2Jb\\u{a}c\\u{202e}");
        assert_eq!(printable("äöü", 2), "äö…");
        assert_eq!(printable("äöü", 3), "äöü");
        let wave = Wave::builder("a").text("\x1b]0;owned\x07").build().unwrap();
        let line = anstream::adapter::strip_str(&Line::of(&wave, 80).to_string()).to_string();
        assert!(line.contains("\\u{1b}]0;owned\\u{7}"), "{line}");
    }
}
