//! CloudEvents as other programs send them over NATS, in the one form that [`cloudevents`](super::cloudevents) reads.
//!
//! An event in structured mode, the only mode of the NATS binding 1.0.2, becomes one in binary mode, with the bytes of its
//! data as they are. Names of headers are read in any case, and values of attributes as the HTTP binding writes them:
//! percent-encoded, perhaps in quotes. What is no event stays as it is.

use std::collections::BTreeMap;

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::foreign::{ID, SOURCE};
use aether_core::wave::{TRACEPARENT, TRACESTATE};

pub(super) const CONTENT_TYPE: &str = "Content-Type";
/// The header of W3C Baggage, which has no prefix.
pub(super) const BAGGAGE: &str = "baggage";
/// Aether sources are written as `/aether/name@instance`.
pub(super) const SOURCE_PREFIX: &str = "/aether/";
const PREFIX: &str = "ce-";
const STRUCTURED: &str = "application/cloudevents+json";
/// Attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The message as an event in binary mode, if another program has sent it as an event in another form.
pub(super) fn unfolded(mut message: Message) -> Message {
    let none = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&none);
    let is_ours = headers.get(ID).is_some()
        && headers.get(SOURCE).is_some_and(|source| source.as_str().starts_with(SOURCE_PREFIX));
    if is_ours {
        return message;
    }
    let headers = usual(headers);
    let media_type = headers.get(CONTENT_TYPE).map(|value| media_type(value.as_str()));
    let is_binary = headers.iter().any(|(name, _)| AsRef::<str>::as_ref(name).starts_with(PREFIX));
    // The binding knows no header, and its default format is JSON.
    let may_be_structured = match media_type {
        Some(media_type) => media_type == STRUCTURED,
        None => !is_binary && names_a_version(&message.payload),
    };
    if may_be_structured && let Some((attributes, payload)) = structured(&message.payload) {
        let mut headers = headers;
        // That of the envelope, which is gone.
        headers = without(&headers, CONTENT_TYPE);
        for (name, value) in attributes {
            headers.insert(name, value);
        }
        message.length = message.length - message.payload.len() + payload.len();
        (message.headers, message.payload) = (Some(headers), payload);
    } else if !headers.is_empty() {
        message.headers = Some(headers);
    }
    message
}

/// A type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a payload may be an event: most that are none are not read as JSON.
fn names_a_version(payload: &[u8]) -> bool {
    let payload = payload.trim_ascii_start();
    payload.first() == Some(&b'{') && payload.windows(13).any(|part| part == b"\"specversion\"")
}

/// The headers with the usual names, and attributes as text.
fn usual(headers: &HeaderMap) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (name, values) in headers.iter() {
        let given: &str = name.as_ref();
        let is = |known: &&str| given.eq_ignore_ascii_case(known);
        let lower = given.to_ascii_lowercase();
        let known = [CONTENT_TYPE, BAGGAGE, TRACEPARENT, TRACESTATE].into_iter().find(is);
        let is_attribute = lower.starts_with(PREFIX);
        for value in values {
            let decoded = is_attribute.then(|| attribute(value.as_str())).flatten();
            match (is_attribute, known) {
                (true, _) => all.append(lower.as_str(), decoded.unwrap_or_else(|| value.clone())),
                (false, Some(known)) => all.append(known, value.clone()),
                (false, None) => all.append(name.clone(), value.clone()),
            }
        }
    }
    all
}

/// The value of an attribute that is written for HTTP. `None` if it is not valid, or no text for one line.
fn attribute(value: &str) -> Option<HeaderValue> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut unquoted = String::with_capacity(value.len());
    let mut characters = quoted.unwrap_or(value).chars();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('\\', Some(_)) => unquoted.push(characters.next()?),
            ('"', Some(_)) => return None,
            _ => unquoted.push(character),
        }
    }
    percent_decode_str(&unquoted).decode_utf8().ok()?.parse().ok()
}

fn without(headers: &HeaderMap, name: &str) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (other, values) in headers.iter().filter(|(other, _)| AsRef::<str>::as_ref(*other) != name) {
        values.iter().for_each(|value| all.append(other.clone(), value.clone()));
    }
    all
}

/// The attributes as headers, and the data of an event that is one JSON object.
fn structured(payload: &[u8]) -> Option<(Vec<(HeaderName, HeaderValue)>, Bytes)> {
    let payload = aether_files::byte_order_mark::without(payload);
    let event: BTreeMap<String, &RawValue> = serde_json::from_slice(payload).ok()?;
    let text =
        |name: &str| event.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let is_event = REQUIRED.iter().all(|name| text(name).is_some_and(|value| !value.is_empty()));
    if !is_event
        || text("specversion")? != "1.0"
        || event.contains_key("data") && event.contains_key("data_base64")
    {
        return None;
    }
    let content_type = text("datacontenttype").unwrap_or_else(|| "application/json".to_owned());
    let is_json = ["/json", "+json"].iter().any(|end| media_type(&content_type).ends_with(end));
    let data = match (event.get("data"), text("data_base64")) {
        (Some(data), _) if !is_json => match serde_json::from_str::<String>(data.get()) {
            Ok(text) => text.into_bytes(),
            Err(_) => data.get().as_bytes().to_vec(),
        },
        (Some(data), _) => data.get().as_bytes().to_vec(),
        (None, Some(base64)) => STANDARD.decode(base64).ok()?,
        (None, None) => Vec::new(),
    };
    let mut headers = vec![(CONTENT_TYPE.parse().ok()?, content_type.parse().ok()?)];
    for (name, value) in &event {
        if matches!(name.as_str(), "data" | "data_base64" | "datacontenttype") || value.get() == "null" {
            continue;
        }
        let value = text(name).unwrap_or_else(|| value.get().to_owned());
        headers.push(([PREFIX, name].concat().parse().ok()?, value.parse().ok()?));
    }
    Some((headers, data.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], payload: &str) -> (BTreeMap<String, String>, String) {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let message = unfolded(Message {
            subject: "aether.a".into(),
            reply: None,
            length: payload.len(),
            payload: payload.to_owned().into(),
            headers: Some(map),
            status: None,
            description: None,
        });
        let headers = message.headers.unwrap();
        let line = |(name, values): (&HeaderName, &Vec<HeaderValue>)| {
            (AsRef::<str>::as_ref(name).to_owned(), values[0].as_str().to_owned())
        };
        (headers.iter().map(line).collect(), String::from_utf8(message.payload.to_vec()).unwrap())
    }

    const EVENT: &str = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"t","sequence":3,"subject":"café","data":DATA}"#;

    #[test]
    fn a_structured_event_has_its_attributes_and_the_bytes_of_its_data() {
        let data = r#"{"z":1, "b":12345678901234567890123,"d":1.10,"e":1E2,"dup":1,"dup":2}"#;
        let event = EVENT.replace("DATA", data);
        let typed = [("content-type", "Application/CloudEvents+JSON; charset=utf-8")];
        for headers in [&typed[..], &[]] {
            let (attributes, payload) = read(headers, &event);
            assert_eq!(payload, data);
            assert_eq!(attributes["ce-id"], "7");
            assert_eq!(attributes["ce-sequence"], "3");
            assert_eq!(attributes["ce-subject"], "café");
            assert_eq!(attributes[CONTENT_TYPE], "application/json");
        }
        let text = EVENT.replace("\"data\":DATA", r#""datacontenttype":"text/plain","data":"hé\n""#);
        assert_eq!(read(&[], &text).1, "hé\n");
        let marked = format!("\u{feff}{event}");
        assert_eq!(read(&typed, &marked).1, data);
    }

    #[test]
    fn what_is_no_event_stays_as_it_is() {
        for plain in ["{}", r#"{"specversion":"1.0","id":"7"}"#, r#"{"specversion": "#, "\"specversion\""] {
            assert_eq!(read(&[], plain).1, plain);
        }
        let event = EVENT.replace("DATA", "1");
        assert_eq!(read(&[("Content-Type", "application/json")], &event).1, event, "it says so");
        assert_eq!(read(&[("X-Other", "a%20b")], "x").0["X-Other"], "a%20b");
    }

    #[test]
    fn names_are_read_in_any_case_and_values_as_http_has_them() {
        let (read, _) = read(
            &[
                ("CE-Id", "7"),
                ("content-type", "text/plain"),
                ("ce-subject", "caf%C3%A9"),
                ("Ce-Title", r#""a \"q\" b""#),
                ("ce-bad", "caf%E9"),
            ],
            "x",
        );
        assert_eq!((&*read["ce-id"], &*read[CONTENT_TYPE]), ("7", "text/plain"));
        assert_eq!((&*read["ce-subject"], &*read["ce-title"]), ("café", "a \"q\" b"));
        assert_eq!(read["ce-bad"], "caf%E9", "not invented");
    }
}
