//! The report that a source receives of a failed wave, and its encoding on the reserved channel.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::amplitude::Amplitude;
use crate::channel::{Channel, Pattern};
use crate::source::WaveId;
use crate::wave::{
    Baggage, ContentType, Kind, MAX_HINT_BYTES, MAX_KEY_BYTES, Metadata, Origin, Received, Wave,
};

/// Why a wave was not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EchoReason {
    /// Its channel has no receiver.
    NoResonator,
    /// Its receiver rejected it; a retry will not help.
    Rejected,
    /// Its handler failed.
    HandlerFailed,
    /// It decayed below the noise floor while it waited.
    Expired,
    /// It was dropped on purpose: an inbox or outbox was full, it was below the noise floor, it waited too long, or the
    /// receiver left.
    Shed,
    /// It reached the maximum number of relays between media.
    TooFar,
}

impl EchoReason {
    /// The lower-case name, used on the wire and in metrics: `no_resonator`, `rejected`, `handler_failed`, `expired`,
    /// `shed`, `too_far`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoResonator => "no_resonator",
            Self::Rejected => "rejected",
            Self::HandlerFailed => "handler_failed",
            Self::Expired => "expired",
            Self::Shed => "shed",
            Self::TooFar => "too_far",
        }
    }
}

impl fmt::Display for EchoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An echo: a report to the source that one or more of its waves failed for one reason. Ordinary term: an error return.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Echo {
    /// The wave that failed; the first, if there were several.
    pub of: WaveId,
    /// The channel of that wave.
    pub channel: Channel,
    /// Why it was not handled.
    pub reason: EchoReason,
    /// Details for people: one line of at most [`MAX_HINT_BYTES`] bytes.
    pub hint: String,
    /// The name of the vibrator that failed to handle it; `-` if there was none.
    pub by: String,
    /// The root of the request to which that wave belongs: [`Wave::root`].
    pub root: WaveId,
    /// The baggage of that wave.
    pub baggage: Baggage,
    /// The number of failures that it reports. Above 1 if echoes were merged under load.
    pub count: u64,
    /// The part of that wave that it carries. `None` if there was no room for it under load, or the reporting program
    /// is older.
    pub wave: Option<Box<FailedWave>>,
}

/// Used as [`Echo::by`] if no vibrator was involved.
pub(crate) const NOBODY: &str = "-";

impl Echo {
    /// The echo of one wave, with the part of the wave that it carries.
    pub fn new(wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> Self {
        Self { wave: Some(Box::new(FailedWave::of(wave))), ..Self::bare(wave, reason, hint, by) }
    }

    /// The echo of one wave, which carries nothing of it but its identity and its request.
    pub(super) fn bare(wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> Self {
        Self {
            of: wave.id(),
            channel: wave.channel().clone(),
            reason,
            hint: shortened(hint).into_owned(),
            by: by.to_owned(),
            root: wave.root(),
            baggage: wave.baggage().clone(),
            count: 1,
            wave: None,
        }
    }

    /// The coherence key of the wave, if it had one and it came back.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.wave.as_ref()?.key.as_deref()
    }

    /// The metadata of the wave; empty if they did not come back.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::NONE;
        self.wave.as_ref().map_or(&NONE, |wave| &wave.metadata)
    }

    /// The payload of the wave, if its source [asked](crate::wave::EchoRequest::payload) for it and it came back.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        self.wave.as_ref()?.payload.as_ref()
    }

    /// The wave that failed, as far as the echo carries it: with its id, its channel and its request, and without a
    /// payload unless that came back. It cannot be answered, and emitting it makes it a new wave.
    #[must_use]
    pub fn to_wave(&self) -> Wave {
        let mut received =
            Received::new(self.of.clone(), self.channel.clone(), Bytes::new(), crate::clock::now());
        received.root = Some(self.root.clone());
        received.baggage = self.baggage.clone();
        if let Some(wave) = &self.wave {
            received.kind = wave.kind;
            received.signal = crate::amplitude::Signal::new(wave.amplitude, wave.kind.default_half_life());
            received.key.clone_from(&wave.key);
            received.cause.clone_from(&wave.cause);
            received.metadata = wave.metadata.clone();
            received.content_type = wave.content_type.clone();
            received.payload = wave.payload.clone().unwrap_or_default();
        }
        received.into_wave()
    }
}

/// For what follows from a failure: the wave that failed is the cause.
impl From<&Echo> for Origin {
    fn from(echo: &Echo) -> Self {
        Self::new(echo.of.clone(), echo.root.clone(), echo.baggage.clone())
    }
}

/// The hint as one line, cut to the maximum length.
pub(super) fn shortened(hint: &str) -> Cow<'_, str> {
    let hint = &hint[..hint.floor_char_boundary(MAX_HINT_BYTES)];
    if hint.contains(char::is_control) {
        Cow::Owned(hint.replace(char::is_control, " "))
    } else {
        Cow::Borrowed(hint)
    }
}

/// The channel on which a source receives its echoes, one for each instance.
pub fn channel_of(instance: u64) -> Result<Channel, crate::wave::ChannelError> {
    Channel::with_reserved(&format!("_aether.echo.{instance:x}"))
}

pub(crate) fn pattern_of(instance: u64) -> Result<Pattern, crate::wave::ChannelError> {
    channel_of(instance).map(|channel| Pattern::from(&channel))
}

/// The JSON encoding of an echo; see `docs/protocol/README.md`.
#[derive(Serialize, Deserialize)]
struct EchoRecord<'a> {
    of: Cow<'a, str>,
    channel: Cow<'a, str>,
    reason: EchoReason,
    hint: Cow<'a, str>,
    by: Cow<'a, str>,
    count: u64,
    /// Left out if it is the wave itself.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    root: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "BTreeMap::is_empty")]
    baggage: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    wave: Option<FailedWaveRecord<'a>>,
}

/// Encodes echoes of one source as the payload of one wave.
pub fn write<'a>(echoes: impl IntoIterator<Item = &'a Echo>) -> Vec<u8> {
    let written: Vec<_> = echoes
        .into_iter()
        .map(|echo| EchoRecord {
            of: echo.of.to_string().into(),
            channel: echo.channel.as_str().into(),
            reason: echo.reason,
            hint: (&*echo.hint).into(),
            by: (&*echo.by).into(),
            count: echo.count,
            root: (echo.root != echo.of).then(|| echo.root.to_string().into()),
            baggage: echo.baggage.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            wave: echo.wave.as_deref().map(FailedWaveRecord::of),
        })
        .collect();
    // Text and numbers can always be encoded.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// Decodes the echoes of a payload. `None` if any part is malformed.
pub(crate) fn read(payload: &[u8]) -> Option<Vec<Echo>> {
    let written: Vec<EchoRecord<'_>> = serde_json::from_slice(payload).ok()?;
    written
        .into_iter()
        .map(|echo| {
            let of: WaveId = echo.of.parse().ok()?;
            let root = echo.root.map_or(Ok(of.clone()), |root| root.parse()).ok()?;
            Some(Echo {
                of,
                channel: Channel::with_reserved(&echo.channel).ok()?,
                reason: echo.reason,
                hint: shortened(&echo.hint).into_owned(),
                by: shortened(&echo.by).into_owned(),
                root,
                baggage: Baggage::of(echo.baggage.iter().map(|(name, value)| (&**name, &**value))).ok()?,
                count: echo.count.max(1),
                wave: match echo.wave {
                    Some(wave) => Some(Box::new(wave.read()?)),
                    None => None,
                },
            })
        })
        .collect()
}

/// The largest payload that comes back with an echo, in bytes.
pub const MAX_ECHO_PAYLOAD: usize = 16 << 10;

/// The part of a failed wave that an echo carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedWave {
    /// Its kind.
    pub kind: Kind,
    /// Its amplitude at the first attempt.
    pub amplitude: Amplitude,
    /// Its coherence key.
    pub key: Option<String>,
    /// Its cause.
    pub cause: Option<WaveId>,
    /// Its metadata.
    pub metadata: Metadata,
    /// The media type of its payload.
    pub content_type: ContentType,
    /// The size of its payload in bytes.
    pub payload_bytes: usize,
    /// Its payload, if the source asked for it ([`EchoRequest::payload`](crate::wave::EchoRequest::payload)) and it has
    /// at most [`MAX_ECHO_PAYLOAD`] bytes.
    pub payload: Option<Bytes>,
}

impl FailedWave {
    pub(super) fn of(wave: &Wave) -> Self {
        let is_wanted = wave.echo_request().is_some_and(|request| request.wants_payload());
        let payload = Some(wave.payload()).filter(|bytes| is_wanted && bytes.len() <= MAX_ECHO_PAYLOAD);
        Self {
            kind: wave.kind(),
            amplitude: wave.first_amplitude(),
            key: wave.key().map(str::to_owned),
            cause: wave.cause().cloned(),
            metadata: wave.metadata().clone(),
            content_type: wave.content_type().clone(),
            payload_bytes: wave.payload().len(),
            // Copied, because it may be a small part of a large network message.
            payload: payload.map(|bytes| Bytes::copy_from_slice(bytes)),
        }
    }

    /// An upper bound on its size as JSON, and on the memory it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        // The names of the fields, numbers, and ids.
        const FIXED: usize = 512;
        let payload = self.payload.as_ref().map_or(0, Bytes::len);
        // At most every character of a text is escaped, and each entry has a few quotes and brackets.
        let texts = self.key.as_ref().map_or(0, String::len) + self.metadata.bytes();
        let cause = self.cause.as_ref().map_or(0, |cause| cause.source.name().len());
        FIXED + 2 * (texts + cause) + 8 * self.metadata.len() + payload.div_ceil(3) * 4
    }
}

/// The JSON encoding; see `docs/protocol/README.md`.
#[derive(Serialize, Deserialize)]
pub(super) struct FailedWaveRecord<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    amplitude: f32,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    cause: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    content_type: Cow<'a, str>,
    bytes: usize,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
}

impl<'a> FailedWaveRecord<'a> {
    pub(super) fn of(wave: &'a FailedWave) -> Self {
        Self {
            kind: wave.kind.as_str().into(),
            amplitude: wave.amplitude.as_f32(),
            key: wave.key.as_deref().map(Cow::from),
            cause: wave.cause.as_ref().map(|cause| cause.to_string().into()),
            metadata: wave.metadata.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            content_type: wave.content_type.as_str().into(),
            bytes: wave.payload_bytes,
            payload: wave.payload.as_ref().map(|bytes| STANDARD.encode(bytes).into()),
        }
    }

    /// `None` if a part is malformed or too large.
    pub(super) fn read(self) -> Option<FailedWave> {
        let mut metadata = Metadata::default();
        for (name, value) in &self.metadata {
            metadata.push(name, value).ok()?;
        }
        let payload = match self.payload {
            Some(text) if text.len() > MAX_ECHO_PAYLOAD.div_ceil(3) * 4 => return None,
            Some(text) => Some(STANDARD.decode(text.as_bytes()).ok()?.into()),
            None => None,
        };
        Some(FailedWave {
            kind: self.kind.parse().ok()?,
            amplitude: Amplitude::new(self.amplitude).ok()?,
            key: match self.key {
                Some(key) if key.is_empty() || key.len() > MAX_KEY_BYTES => return None,
                key => key.map(Cow::into_owned),
            },
            cause: self.cause.map(|cause| cause.parse()).transpose().ok()?,
            metadata,
            content_type: ContentType::new(&self.content_type).ok()?,
            payload_bytes: self.bytes,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::EchoRequest;
    use proptest::prelude::*;

    const DOCUMENTED: &str = r#"[{"of":"alpha@1f9a3c5b7d2e4f60/17","channel":"stock.reserve","reason":"shed","hint":"the inbox was full","by":"stock","count":3,"wave":{"kind":"command","amplitude":0.5,"key":"order-17","metadata":[["tenant","blue"]],"content_type":"application/json","bytes":16,"payload":"eyJza3UiOiJsYW1wIn0="}}]"#;

    #[test]
    fn the_payload_is_encoded_as_documented() {
        let protocol = include_str!("../../../docs/protocol/README.md");
        assert!(protocol.contains(DOCUMENTED), "docs/protocol/README.md shows this payload");
        let echoes = read(DOCUMENTED.as_bytes()).unwrap();
        let [echo] = &*echoes else { panic!("{echoes:?}") };
        assert_eq!((echo.of.sequence, echo.reason, echo.count), (17, EchoReason::Shed, 3));
        assert_eq!((echo.key(), echo.metadata().value("tenant")), (Some("order-17"), Some("blue")));
        let wave = echo.to_wave();
        assert_eq!((wave.id(), wave.text().unwrap()), (echo.of.clone(), r#"{"sku":"lamp"}"#));
        assert_eq!(write(&echoes), DOCUMENTED.as_bytes());
        // Echoes of older programs carry nothing of the wave.
        let (older, _) = DOCUMENTED.split_once(",\"wave\"").unwrap();
        assert_eq!(read(format!("{older}}}]").as_bytes()).unwrap()[0].wave, None);
    }

    #[test]
    fn a_malformed_payload_is_rejected_as_a_whole() {
        let cases = [
            "",
            "{}",
            "[{}]",
            "[1]",
            "null",
            &DOCUMENTED.replace("shed", "bored"),
            &DOCUMENTED.replace("/17", ""),
            &DOCUMENTED.replace("stock.reserve", "stock..reserve"),
            &DOCUMENTED.replace(":3", ":-3"),
            &DOCUMENTED.replace("\"command\"", "\"order\""),
            &DOCUMENTED.replace("0.5", "1.5"),
            &DOCUMENTED.replace("eyJ", "e J"),
            &DOCUMENTED.replace("order-17", ""),
            &DOCUMENTED.replace("tenant", "te nant"),
            &DOCUMENTED.replace(":3,", ":3,\"root\":\"alpha\","),
            &DOCUMENTED.replace(":3,", ":3,\"baggage\":{\"a b\":\"c\"},"),
        ];
        for bad in cases {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn root_and_baggage_travel_with_an_echo_and_what_follows_from_it_inherits_them() {
        const FOLLOWED: &str = r#"[{"of":"beta@2a/300","channel":"stock.reserve","reason":"rejected","hint":"no lamp","by":"stock","count":1,"root":"alpha@1f9a3c5b7d2e4f60/17","baggage":{"tenant":"acme"}}]"#;
        let protocol = include_str!("../../../docs/protocol/README.md");
        assert!(protocol.contains(FOLLOWED), "docs/protocol/README.md shows this payload");
        let echoes = read(FOLLOWED.as_bytes()).unwrap();
        assert_eq!(write(&echoes), FOLLOWED.as_bytes());
        let origin = Origin::from(&echoes[0]);
        assert_eq!(origin.cause().unwrap().to_string(), "beta@2a/300");
        assert_eq!(origin.root().unwrap().to_string(), "alpha@1f9a3c5b7d2e4f60/17");
        assert_eq!(origin.baggage().value("tenant"), Some("acme"));
        let old = read(DOCUMENTED.as_bytes()).unwrap();
        assert_eq!((&old[0].root, old[0].baggage.len()), (&old[0].of, 0), "of an older version");
    }

    #[test]
    fn reasons_are_encoded_by_name() {
        use EchoReason::*;
        for reason in [NoResonator, Rejected, HandlerFailed, Expired, Shed, TooFar] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    proptest! {
        #[test]
        fn encoded_payloads_are_read_back(hints in prop::collection::vec(any::<String>(), 0..5), count in 1..u64::MAX) {
            let wave = Wave::builder("a.b").key("k\"").metadata("m", "\"ü\\").text("x");
            let wave = wave.echo(EchoRequest::told().payload()).amplitude(0.3).build().unwrap();
            let echoes: Vec<_> = hints
                .iter()
                .map(|hint| Echo { count, ..Echo::new(&wave, EchoReason::Rejected, hint, "by") })
                .collect();
            for echo in &echoes {
                let size = write([echo]).len();
                prop_assert!(size < echo.wave.as_ref().unwrap().weight() + 2 * MAX_HINT_BYTES, "{}", size);
                prop_assert!(echo.hint.len() <= MAX_HINT_BYTES && !echo.hint.contains(char::is_control));
            }
            prop_assert!(echoes.iter().all(|echo| echo.payload().is_some() && echo.key() == Some("k\"")));
            prop_assert_eq!(read(&write(&echoes)), Some(echoes));
        }

        #[test]
        fn arbitrary_payloads_are_read_or_rejected(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&payload);
        }
    }
}
