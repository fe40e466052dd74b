//! CloudEvents 1.0 over HTTP, in binary and structured mode.
//!
//! The attributes become metadata of the wave, named as in the headers of the binary mode, because that is how they travel
//! over NATS, too. `partitionkey` is the key, `causationid` the cause where it is the id of a wave, and extensions that
//! begin with `aether` are the fields of a wave that CloudEvents does not have. Sources: CloudEvents 1.0.2, its HTTP
//! binding and its JSON format.

use std::collections::BTreeMap;

use aether_core::WaveId;
use aether_files::byte_order_mark;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::draft::{Draft, trace};

/// The common beginning of the formats of single events.
const FORMATS: &str = "application/cloudevents+";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch";
const PREFIX: &str = "ce-";
/// Attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Why a request that looks like an event is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloudEventError {
    #[error("the event is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("an event is one JSON object")]
    Object,
    #[error("the event has no {0}, or an empty one")]
    Missing(&'static str),
    #[error("events of version {0:?} are not read: use 1.0")]
    Version(String),
    #[error("the attribute {0:?} must be a string, a number or true or false")]
    Attribute(String),
    #[error("the attribute {0:?} is not a number")]
    Number(&'static str),
    #[error("give data or data_base64, not both")]
    Data,
    #[error("the value of {0} is neither ASCII nor valid percent-encoded UTF-8, perhaps in quotes")]
    Header(String),
    #[error("there are several headers {0}")]
    Twice(String),
    #[error("batches of events are not read: send one event in a request")]
    Batch,
}

/// The event of a request; `None` if it does not hold one.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Option<Draft>, CloudEventError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    if media_type.is_some_and(|media_type| media_type.starts_with(BATCH)) {
        return Err(CloudEventError::Batch);
    }
    if media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(STRUCTURED)) {
        return structured(body).map(Some);
    }
    if !headers.contains_key("ce-specversion") {
        return Ok(None);
    }
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
            let value = decoded(value).ok_or_else(|| CloudEventError::Header(name.to_string()))?;
            if attributes.insert(attribute.to_owned(), value).is_some() {
                return Err(CloudEventError::Twice(name.to_string()));
            }
        }
    }
    let mut draft = of_attributes(attributes)?;
    draft.content_type = content_type.map(str::to_owned);
    draft.body = Some(body.clone());
    Ok(Some(draft))
}

/// The format of an event that is not read; nothing if it is read, or no event.
pub(super) fn unknown_format(headers: &HeaderMap) -> Option<&str> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = content_type.split(';').next()?.trim();
    let is_event = media_type.get(..FORMATS.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORMATS));
    (is_event && !media_type.eq_ignore_ascii_case(STRUCTURED)).then_some(media_type)
}

/// The value of an attribute, as the HTTP binding writes it: percent-encoded, perhaps in quotes. Its section 3.1.3.2 has it
/// that what is not valid is refused.
fn decoded(value: &HeaderValue) -> Option<String> {
    let value = value.to_str().ok()?;
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(percent_decode_str(value).decode_utf8().ok()?.into_owned());
    };
    let (mut text, mut characters) = (String::new(), quoted.strip_suffix('"')?.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next()?),
            '"' => return None,
            _ => text.push(character),
        }
    }
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

fn structured(body: &[u8]) -> Result<Draft, CloudEventError> {
    let body = byte_order_mark::without(body);
    let is_object = body.trim_ascii_start().starts_with(b"{");
    // The data stays as it was written: no number is rounded, and no member moves.
    let event: BTreeMap<String, Box<RawValue>> = match serde_json::from_slice(body) {
        Ok(event) => event,
        Err(error) if is_object || serde_json::from_slice::<IgnoredAny>(body).is_err() => {
            return Err(CloudEventError::Json(error));
        }
        Err(_) => return Err(CloudEventError::Object),
    };
    let (mut attributes, mut data, mut base64) = (BTreeMap::new(), None, None);
    for (name, value) in event {
        if name == "data" {
            data = Some(value);
            continue;
        }
        let first = value.get().bytes().next();
        match (name.as_str(), first) {
            (_, Some(b'n')) => {}
            ("data_base64", Some(b'"')) => base64 = Some(text(&value)?),
            (_, Some(b'"')) => drop(attributes.insert(name, text(&value)?)),
            (_, Some(b'{' | b'[')) | ("data_base64", _) => return Err(CloudEventError::Attribute(name)),
            _ => drop(attributes.insert(name, value.get().to_owned())),
        }
    }
    let content_type = attributes.remove("datacontenttype");
    let mut draft = of_attributes(attributes)?;
    match (data, base64) {
        (Some(_), Some(_)) => return Err(CloudEventError::Data),
        (Some(data), None)
            if data.get().starts_with('"')
                && content_type.as_deref().is_some_and(|media_type| !is_json(media_type)) =>
        {
            draft.text = Some(text(&data)?);
        }
        (Some(data), None) => draft.json = Some(data),
        (None, base64) => draft.base64 = base64,
    }
    draft.content_type = content_type;
    Ok(draft)
}

fn text(value: &RawValue) -> Result<String, CloudEventError> {
    serde_json::from_str(value.get()).map_err(CloudEventError::Json)
}

fn is_json(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

fn of_attributes(mut attributes: BTreeMap<String, String>) -> Result<Draft, CloudEventError> {
    for name in REQUIRED {
        if attributes.get(name).is_none_or(String::is_empty) {
            return Err(CloudEventError::Missing(name));
        }
    }
    let version = attributes.get("specversion").filter(|version| *version != "1.0");
    if let Some(version) = version {
        return Err(CloudEventError::Version(version.clone()));
    }
    let amplitude = attributes.remove("aetheramplitude").map(|value| value.parse()).transpose();
    let half_life = attributes.remove("aetherhalflife").filter(|value| value != "never");
    let half_life = half_life.map(|value| value.parse()).transpose();
    // The extension for distributed tracing. An invalid trace stays an attribute.
    let traced = attributes
        .get("traceparent")
        .and_then(|parent| trace(parent, attributes.get("tracestate").map(String::as_str)));
    if traced.is_some() {
        attributes.remove("traceparent");
        attributes.remove("tracestate");
    }
    // A cause of another system stays an attribute.
    let is_ours = attributes.get("causationid").is_some_and(|cause| cause.parse::<WaveId>().is_ok());
    Ok(Draft {
        kind: attributes.remove("aetherkind"),
        amplitude: amplitude.map_err(|_| CloudEventError::Number("aetheramplitude"))?,
        half_life_ms: half_life.map_err(|_| CloudEventError::Number("aetherhalflife"))?,
        key: attributes.remove("partitionkey"),
        trace: traced,
        cause: if is_ours { attributes.remove("causationid") } else { None },
        metadata: attributes.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect(),
        ..Draft::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn read_wave(
        all: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> Result<aether_core::Wave, String> {
        let draft = read(&headers(all), &Bytes::from(body)).map_err(|error| error.to_string())?;
        let draft = Draft { channel: "a.b".to_owned(), ..draft.ok_or("no event")? };
        draft.wave().map_err(|error| error.to_string())
    }

    const BINARY: [(&str, &str); 5] = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/shop"),
        ("ce-type", "created"),
        ("content-type", "text/plain"),
    ];

    #[test]
    fn the_binary_mode_has_its_attributes_in_headers() {
        let more = [("ce-partitionkey", "order%207"), ("ce-aetheramplitude", "0.9"), ("ce-causationid", "x")];
        let wave = read_wave(&[&BINARY[..], &more].concat(), "hello").unwrap();
        assert_eq!((wave.key(), wave.text().unwrap()), (Some("order 7"), "hello"));
        let metadata = |name| wave.metadata().value(name);
        assert_eq!((metadata("ce-id"), metadata("ce-source")), (Some("7"), Some("/shop")));
        assert_eq!((metadata("ce-causationid"), wave.cause()), (Some("x"), None), "not the id of a wave");
        assert_eq!(wave.content_type().as_str(), "text/plain");
        assert!((wave.amplitude().as_f32() - 0.9).abs() < 0.01);
    }

    #[test]
    fn the_attribute_of_a_trace_is_the_trace_of_the_wave() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let more = [("ce-traceparent", parent), ("ce-tracestate", "a=b")];
        let wave = read_wave(&[&BINARY[..], &more].concat(), "1").unwrap();
        let trace = wave.trace_context().unwrap();
        assert_eq!((trace.to_string().as_str(), trace.state()), (parent, Some("a=b")));
        assert_eq!(wave.metadata().value("ce-traceparent"), None);
        let wave = read_wave(&[&BINARY[..], &[("ce-traceparent", "00-1")]].concat(), "1").unwrap();
        assert_eq!((wave.trace_context(), wave.metadata().value("ce-traceparent")), (None, Some("00-1")));
    }

    #[test]
    fn the_structured_mode_has_them_in_the_body() {
        let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
        let event = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"t","sequence":3,"causationid":"shop@1f/3",
            "aetherkind":"command","data":{"n":1}}"#;
        let wave = read_wave(&structured, event).unwrap();
        assert_eq!(
            (wave.kind(), &wave.payload()[..]),
            (aether_core::Kind::Command, br#"{"n":1}"#.as_slice())
        );
        assert_eq!((wave.cause().unwrap().sequence, wave.metadata().value("ce-sequence")), (3, Some("3")));
        let event = r#"{"specversion":"1.0","id":"7","source":"/s","type":"t","data_base64":"AP8="}"#;
        assert_eq!(read_wave(&structured, event).unwrap().payload()[..], [0, 255]);
        let event = r#"{"specversion":"1.0","id":"7","source":"/s","type":"t","datacontenttype":"text/plain","data":"x"}"#;
        assert_eq!(read_wave(&structured, event).unwrap().text().unwrap(), "x");
    }

    #[test]
    fn the_data_of_a_structured_event_keeps_every_byte() {
        let structured = [("content-type", STRUCTURED)];
        let data = r#"{"z":1, "b":12345678901234567890123,"c":0.1000000000000000055511151231257827,"d":1.10,"e":1E2,"dup":1,"dup":2}"#;
        for data in [data, "1e400", "[1,  2]"] {
            let event = format!(r#"{{"specversion":"1.0","id":"7","source":"/s","type":"t","data":{data}}}"#);
            for event in [event.clone(), format!("\u{feff}{event}")] {
                let wave = read_wave(&structured, String::leak(event)).unwrap();
                assert_eq!(&wave.payload()[..], data.as_bytes());
            }
        }
    }

    #[test]
    fn attributes_in_headers_are_decoded_as_the_binding_has_it_or_refused() {
        let with = |name, value: &'static [u8]| {
            let mut all = headers(&BINARY);
            all.append(name, HeaderValue::from_bytes(value).unwrap());
            let draft = read(&all, &Bytes::new()).map_err(|error| error.to_string())?;
            let draft = Draft { channel: "a.b".to_owned(), ..draft.unwrap() };
            draft.wave().map_err(|error| error.to_string())
        };
        let subject =
            |value| with("ce-subject", value).unwrap().metadata().value("ce-subject").unwrap().to_owned();
        assert_eq!(subject(b"caf%C3%A9"), "caf\u{e9}");
        assert_eq!(subject(br#""a \"q\" b""#), "a \"q\" b");
        for bad in ["caf\u{e9}".as_bytes(), b"caf\xe9", b"caf%E9", b"\"open", b"\"a\"b\""] {
            assert!(with("ce-subject", bad).unwrap_err().contains("ce-subject"), "{bad:?}");
        }
        assert!(with("ce-id", b"8").unwrap_err().contains("several headers ce-id"));
    }

    #[test]
    fn what_is_no_event_is_refused_or_left_alone() {
        assert!(read(&headers(&[("content-type", "application/json")]), &Bytes::new()).unwrap().is_none());
        let structured = [("content-type", STRUCTURED)];
        for (event, says) in [
            ("[]", "object"),
            ("{", "JSON"),
            (r#"{"specversion":"1.0","id":"7","source":"/s"}"#, "no type"),
            (r#"{"specversion":"0.3","id":"7","source":"/s","type":"t"}"#, "1.0"),
            (r#"{"specversion":"1.0","id":"7","source":"/s","type":"t","x":{}}"#, "\"x\""),
        ] {
            let error = read_wave(&structured, event).unwrap_err();
            assert!(error.contains(says), "{event}: {error}");
        }
        let error = read_wave(&[("content-type", "application/cloudevents-batch+json")], "[]").unwrap_err();
        assert!(error.contains("one event"));
        assert!(read_wave(&BINARY[..3], "").unwrap_err().contains("no type"));
    }
}
