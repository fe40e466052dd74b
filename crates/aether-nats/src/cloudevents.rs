//! Messages that are not frames: CloudEvents 1.0, and plain messages from foreign publishers.
//!
//! Events are written in binary mode: the attributes are sent as headers and the data as the payload. Wave fields without a
//! CloudEvents attribute use extension attributes that begin with `aether`. Sources: CloudEvents 1.0.2, its NATS protocol
//! binding, and its Partitioning and Correlation extensions; W3C Baggage; W3C Trace Context for `traceparent` and
//! `tracestate`, which are read as metadata.
//!
//! Events of other programs are brought into that form first. An event in structured mode, the only mode of the NATS
//! binding 1.0.2, becomes one in binary mode, with the bytes of its data as they are. Names of headers are read in
//! any case, and values of attributes as the HTTP binding writes them: percent-encoded, perhaps in quotes. Anything
//! that is not an event stays as it is.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;

use super::foreign::{Foreign, ID, SOURCE};
use aether_core::clock::{self, Instant};
use aether_core::wave::{
    Baggage, ContentType, MAX_BAGGAGE_ENTRIES, MAX_HOPS, MAX_KEY_BYTES, Received, Signal, TRACEPARENT,
    TRACESTATE,
};
use aether_core::{Amplitude, Channel, HalfLife, Kind, Metadata, Phase, Wave, WaveId};
use aether_link::wire::{Position, SHARED_FROM};

/// The name of the content type attribute in other bindings.
const DATA_CONTENT_TYPE: &str = "ce-datacontenttype";
const KEY: &str = "ce-partitionkey";
const CAUSE: &str = "ce-causationid";
const ROOT: &str = "ce-correlationid";
const KIND: &str = "ce-aetherkind";
const AMPLITUDE: &str = "ce-aetheramplitude";
const HALF_LIFE: &str = "ce-aetherhalflife";
const HOPS: &str = "ce-aetherhops";
const AGE: &str = "ce-aetherage";
const PHASE: &str = "ce-aetherphase";
/// Node and position; see [`numbered`].
const POSITION: &str = "ce-aetherposition";
/// Headers that are derived from the wave when it is written and that its reader does not need.
const REDUNDANT: [&str; 4] = ["ce-specversion", "ce-type", "ce-time", DATA_CONTENT_TYPE];

/// The bytes of a value of baggage that are escaped: all but the `baggage-octet` of W3C Baggage. The library escapes
/// those that are not ASCII anyway.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

const CONTENT_TYPE: &str = "Content-Type";

/// The header of W3C Baggage, which has no prefix.
const BAGGAGE: &str = "baggage";

/// Aether sources are written as `/aether/name@instance`.
const SOURCE_PREFIX: &str = "/aether/";

const PREFIX: &str = "ce-";

const STRUCTURED: &str = "application/cloudevents+json";

/// The headers of a wave that is sent at `now`.
pub(super) fn headers(wave: &Wave, now: Instant) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for_each_header(wave, now, |name, value| headers.append(name, value));
    headers
}

/// The headers of a wave, including its position in its sender's stream: node in hexadecimal, stream, number, and age
/// of the stream in microseconds, separated by dots.
pub(super) fn numbered(wave: &Wave, node: u64, position: Position, now: Instant) -> HeaderMap {
    let mut headers = headers(wave, now);
    let Position { stream, first, age_micros } = position;
    headers.insert(POSITION, format!("{node:x}.{stream}.{first}.{age_micros}"));
    headers
}

/// The node and the position stated in a message.
pub(super) fn position(message: &Message) -> Option<(u64, Position)> {
    let text = first(message.headers.as_ref()?, POSITION)?;
    let (node, numbers) = text.split_once('.')?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    let position =
        Position { stream: numbers.next()??, first: numbers.next()??, age_micros: numbers.next()?? };
    numbers.next().is_none().then_some((u64::from_str_radix(node, 16).ok()?, position))
}

/// An upper bound on the size of a wave's headers in bytes, regardless of the wave's age when it is sent.
pub(super) fn headers_len(wave: &Wave) -> usize {
    const STATUS_LINE_AND_END: usize = "NATS/1.0\r\n\r\n".len();
    /// The number of digits of the longest age in microseconds.
    const LONGEST_AGE: usize = u64::MAX.ilog10() as usize + 1;
    /// The length of the longest position header: three numbers, the node, and the dots between them.
    const LONGEST_POSITION: usize = POSITION.len() + ": \r\n".len() + 3 * LONGEST_AGE + 16 + 3;
    let mut bytes = STATUS_LINE_AND_END + LONGEST_POSITION;
    for_each_header(wave, clock::now(), |name, value| {
        let length = if name == AGE { LONGEST_AGE } else { value.len() };
        bytes += name.len() + ": \r\n".len() + length;
    });
    bytes
}

fn for_each_header(wave: &Wave, now: Instant, mut f: impl FnMut(&str, &str)) {
    let age = wave.age_when(now);
    let emitted = clock::wall_time().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    f("ce-specversion", "1.0");
    f(ID, &wave.id().to_string());
    f(SOURCE, &format!("{SOURCE_PREFIX}{}", wave.source()));
    f("ce-type", wave.channel().as_str());
    f("ce-time", &humantime::format_rfc3339_micros(emitted).to_string());
    f(CONTENT_TYPE, wave.content_type().as_str());
    f(KIND, wave.kind().as_str());
    // Written with enough digits to distinguish it from all other amplitudes.
    f(AMPLITUDE, &wave.amplitude().as_f32().to_string());
    let half_life = wave.half_life().duration().map_or("never".to_owned(), |t| t.as_millis().to_string());
    f(HALF_LIFE, &half_life);
    f(HOPS, &wave.hops().to_string());
    f(AGE, &u64::try_from(age.as_micros()).unwrap_or(u64::MAX).to_string());
    if wave.phase() != Phase::ASSERT {
        f(PHASE, &wave.phase().radians().to_string());
    }
    if let Some(key) = wave.key() {
        // A key can be any text, but a header must fit on one line.
        f(KEY, &key.replace(['\r', '\n'], " "));
    }
    if let Some(cause) = wave.cause() {
        f(CAUSE, &cause.to_string());
        // Consumers that know the Correlation extension need not know Aether's rule for leaving it out.
        f(ROOT, &wave.root().to_string());
    } else if let Some(root) = wave.stored_root() {
        f(ROOT, &root.to_string());
    }
    if !wave.baggage().is_empty() {
        f(BAGGAGE, &write_baggage(wave.baggage()));
    }
    let trace = wave.stored_trace();
    if let Some(trace) = trace {
        f(TRACEPARENT, &trace.to_string());
        if let Some(state) = trace.state() {
            f(TRACESTATE, state);
        }
    }
    for (name, value) in wave.metadata().iter() {
        // The wave has one context, of the span that emitted it.
        if trace.is_none() || !matches!(name, TRACEPARENT | TRACESTATE) {
            f(name, value);
        }
    }
}

fn write_baggage(baggage: &Baggage) -> String {
    let entries =
        baggage.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED)));
    entries.collect::<Vec<_>>().join(",")
}

/// Reads a `baggage` header. Properties of entries are dropped. `None` if any entry is malformed or repeated, or if they do
/// not fit.
fn read_baggage(header: &str) -> Option<Baggage> {
    let mut entries = BTreeMap::new();
    for entry in header.split(',') {
        let (name, value) = entry.split(';').next()?.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        if entries.insert(name.trim(), value).is_some() || entries.len() > MAX_BAGGAGE_ENTRIES {
            return None;
        }
    }
    Baggage::of(entries.iter().map(|(name, value)| (*name, &**value))).ok()
}

/// Reads a message that is not a frame. This never fails: missing or invalid fields get their default values, and
/// headers that do not map to an attribute become metadata as far as there is room.
pub(super) fn read(
    message: Message,
    channel: &Channel,
    kind: Kind,
    foreign: &mut Foreign,
    now: Instant,
) -> Wave {
    let message = unfolded(message);
    let none = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&none);
    let text = |name: &str| first(headers, name);
    // An Aether id names a source and a sequence number. All other ids are kept as metadata.
    let own_id = text(ID).and_then(|id| id.parse::<WaveId>().ok()).filter(|id| {
        text(SOURCE).and_then(|source| source.strip_prefix(SOURCE_PREFIX)) == Some(&*id.source.to_string())
    });
    let is_own = own_id.is_some();
    let id = own_id.unwrap_or_else(|| foreign.identify(&message, now));
    let kind = text(KIND).and_then(|kind| kind.parse().ok()).unwrap_or(kind);
    let amplitude = text(AMPLITUDE)
        .and_then(|amplitude| amplitude.parse().ok())
        .and_then(|amplitude| Amplitude::new(amplitude).ok());
    let half_life = text(HALF_LIFE).and_then(|half_life| match half_life {
        "never" => Some(HalfLife::NEVER),
        millis => millis.parse().ok().and_then(|ms| HalfLife::nearest(Duration::from_millis(ms)).ok()),
    });
    let hops = text(HOPS).and_then(|hops| hops.parse().ok()).filter(|hops| *hops <= MAX_HOPS);
    let age = text(AGE).and_then(|age| age.parse().ok()).map(Duration::from_micros);
    let phase = text(PHASE).and_then(|phase| phase.parse().ok()).and_then(|phase| Phase::new(phase).ok());
    let key = text(KEY).filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    let cause: Option<WaveId> = text(CAUSE).and_then(|cause| cause.parse().ok());
    let root: Option<WaveId> = text(ROOT).and_then(|root| root.parse().ok());
    // Several headers of that name may belong to one list, which is then left as it is.
    let baggage = headers.get_all(BAGGAGE).count().eq(&1).then(|| read_baggage(text(BAGGAGE)?)).flatten();
    let named = [CONTENT_TYPE, DATA_CONTENT_TYPE].into_iter().find(|name| text(name).is_some());
    let content_type = named.and_then(text).and_then(|media_type| ContentType::new(media_type).ok());

    let mut metadata = Metadata::default();
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| -> &str { name.as_ref() }).collect();
    // The client keeps headers in a hash map. Sorting at least makes the order deterministic.
    names.sort_unstable();
    for name in names {
        let taken = is_own && (REDUNDANT.contains(&name) || matches!(name, ID | SOURCE))
            || matches!(name, CONTENT_TYPE | KIND | AMPLITUDE | HALF_LIFE | HOPS | AGE | PHASE | POSITION)
            || (name == DATA_CONTENT_TYPE && named == Some(name) && content_type.is_some())
            || (name == KEY && key.is_some())
            || (name == CAUSE && cause.is_some())
            || (name == ROOT && root.is_some())
            || (name == BAGGAGE && baggage.is_some());
        if !taken {
            for value in headers.get_all(name) {
                if let Err(error) = metadata.push(name, value.as_str()) {
                    tracing::debug!(%channel, %error, "a header of a foreign message was left out");
                }
            }
        }
    }
    let mut received = Received::new(id, channel.clone(), own_memory(message.payload), now);
    received.kind = kind;
    received.signal = Signal {
        amplitude: amplitude.unwrap_or_default(),
        half_life: half_life.unwrap_or_else(|| kind.default_half_life()),
        hops: hops.unwrap_or(0),
    };
    received.phase = phase.unwrap_or_default();
    received.age = age.unwrap_or_default();
    received.content_type = content_type.unwrap_or_default();
    received.key = key.map(str::to_owned);
    received.cause = cause;
    received.root = root;
    received.baggage = baggage.unwrap_or_default();
    received.metadata = metadata;
    received.into_wave()
}

/// Copies a small payload, as is done for frames: a slice would keep alive the whole block that the client read.
fn own_memory(payload: Bytes) -> Bytes {
    if payload.len() < SHARED_FROM { Bytes::copy_from_slice(&payload) } else { payload }
}

fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.as_str())
}

/// Attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The message as an event in binary mode, if another program has sent it as an event in another form.
fn unfolded(mut message: Message) -> Message {
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
        // Of the envelope, which is gone.
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
mod tests;
