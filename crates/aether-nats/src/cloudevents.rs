//! Messages that are not frames: CloudEvents 1.0, and plain messages from foreign publishers. Events are written in binary
//! mode; `envelope` brings those of other programs into that form.
//!
//! The attributes are sent as headers and the data as the payload. Wave fields without a CloudEvents attribute use
//! extension attributes that begin with `aether`. Sources: CloudEvents 1.0.2, its NATS protocol binding, and its
//! Partitioning and Correlation extensions; W3C Baggage; W3C Trace Context for
//! `traceparent` and `tracestate`, which are read as metadata.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aether_core::clock::{self, Instant};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::envelope::{self, BAGGAGE, CONTENT_TYPE, SOURCE_PREFIX};
use super::foreign::{Foreign, ID, SOURCE};
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
        // The wave has one context, that of the span that emitted it.
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
    let message = envelope::unfolded(message);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: HeaderMap, payload: Bytes) -> Message {
        Message {
            subject: "aether.a".into(),
            reply: None,
            length: payload.len(),
            payload,
            headers: Some(headers),
            status: None,
            description: None,
        }
    }

    fn read_back(headers: HeaderMap, payload: Bytes) -> Wave {
        let channel = Channel::new("a").unwrap();
        read(message(headers, payload), &channel, Kind::Event, &mut Foreign::new(), clock::now())
    }

    #[test]
    fn every_amplitude_is_read_back_as_it_was() {
        for loss in 0..=u16::MAX {
            let amplitude = Amplitude::from_loss(loss);
            let text = amplitude.as_f32().to_string();
            let read: f32 = text.parse().unwrap();
            assert_eq!(Amplitude::new(read), Ok(amplitude), "{text}");
        }
        let wave = Wave::builder("a").amplitude(Amplitude::from_loss(2049)).build().unwrap();
        let back = read_back(headers(&wave, clock::now()), Bytes::new());
        assert_eq!(back.amplitude(), wave.amplitude());
    }

    #[test]
    fn a_position_is_read_back_and_nonsense_is_none() {
        let at = Position { stream: u64::MAX, first: 17, age_micros: 0 };
        let wave = Wave::from_bytes("a", "").unwrap();
        let written = numbered(&wave, 0xAB, at, clock::now());
        assert_eq!(position(&message(written.clone(), Bytes::new())), Some((0xAB, at)));
        assert!(read_back(written, Bytes::new()).metadata().is_empty());
        for nonsense in ["", "ab", "ab.1.2", "ab.1.2.3.4", "xy.1.2.3", "ab.1.2.-3", "ab.1..3"] {
            let mut headers = HeaderMap::new();
            headers.insert(POSITION, nonsense);
            assert_eq!(position(&message(headers, Bytes::new())), None, "{nonsense}");
        }
    }

    #[test]
    fn a_small_payload_does_not_keep_the_block_it_was_read_into() {
        let block = Bytes::from(vec![7; 64 << 10]);
        let small = read_back(HeaderMap::new(), block.slice(..SHARED_FROM - 1));
        assert!(!block.as_ptr_range().contains(&small.payload().as_ptr()));
        let large = read_back(HeaderMap::new(), block.slice(..SHARED_FROM));
        assert!(block.as_ptr_range().contains(&large.payload().as_ptr()));
    }

    #[test]
    fn baggage_is_read_back_and_what_is_none_stays_a_header() {
        let with = |headers: &[&str]| {
            let mut map = HeaderMap::new();
            headers.iter().for_each(|value| map.append(BAGGAGE, *value));
            let wave = read_back(map, Bytes::new());
            (wave.baggage().clone(), wave.metadata().value(BAGGAGE).map(str::to_owned))
        };
        let given = Baggage::of([("user", "Zoë, 50 % ;\\\"x\"=y"), ("empty", "")]).unwrap();
        let written = write_baggage(&given);
        assert_eq!(written, "empty=,user=Zo%C3%AB%2C%2050%20%25%20%3B%5C%22x%22=y");
        assert_eq!(with(&[&written]), (given, None));
        // Spaces and properties, as other writers send them.
        let other = Baggage::of([("a", "1"), ("b", "2")]).unwrap();
        assert_eq!(with(&[" a = 1;secret;ttl=3 , b=2"]), (other, None));
        let many = (0..=MAX_BAGGAGE_ENTRIES).map(|n| format!("n{n}=v")).collect::<Vec<_>>().join(",");
        let long = format!("a={}", "v".repeat(aether_core::wave::MAX_BAGGAGE_BYTES));
        for bad in ["", "a", "a=1,a=2", "a b=1", "a=%FF", "a=%0A", &many, &long] {
            assert_eq!(with(&[bad]), (Baggage::default(), Some(bad.to_owned())), "{bad}");
        }
        assert_eq!(with(&["a=1", "b=2"]), (Baggage::default(), Some("a=1".to_owned())));
    }

    #[test]
    fn the_root_is_read_back_and_another_correlation_id_stays_a_header() {
        let id = |text: &str| text.parse::<WaveId>().unwrap();
        let builder = Wave::builder("a").cause(id("shop@7/2"));
        let wave = builder.root(id("shop@7/1")).build().unwrap();
        let headers_of = |wave: &Wave| headers(wave, aether_core::clock::now());
        let read = read_back(headers_of(&wave), Bytes::new());
        assert_eq!((read.cause(), read.root()), (Some(&id("shop@7/2")), id("shop@7/1")));
        assert!(read.metadata().is_empty());
        let direct = Wave::builder("a").cause(id("shop@7/1")).build().unwrap();
        assert_eq!(headers_of(&direct).get(ROOT).unwrap().as_str(), "shop@7/1");
        assert_eq!(read_back(headers_of(&direct), Bytes::new()).stored_root(), None);
        let mut foreign = HeaderMap::new();
        foreign.insert(ROOT, "order 17");
        let read = read_back(foreign, Bytes::new());
        assert_eq!((read.root(), read.metadata().value(ROOT)), (read.id(), Some("order 17")));
    }

    #[test]
    fn the_content_type_may_come_as_an_attribute() {
        let with = |entries: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            entries.iter().for_each(|(name, value)| headers.append(*name, *value));
            let wave = read_back(headers, Bytes::new());
            (wave.content_type().clone(), wave.metadata().value(DATA_CONTENT_TYPE).map(str::to_owned))
        };
        let json = "application/json";
        assert_eq!(with(&[(DATA_CONTENT_TYPE, json)]), (ContentType::Json, None));
        let kept = Some(json.to_owned());
        assert_eq!(
            with(&[(CONTENT_TYPE, "text/plain"), (DATA_CONTENT_TYPE, json)]),
            (ContentType::Text, kept)
        );
        assert_eq!(with(&[(DATA_CONTENT_TYPE, "")]), (ContentType::Bytes, Some(String::new())));
    }
}
