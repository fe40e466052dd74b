//! What an echo carries of the wave that failed, and its encoding.
//!
//! Made where the wave fails, from the wave; read where its source receives the echo. All parts are bounded.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::amplitude::Amplitude;
use crate::source::WaveId;
use crate::wave::{ContentType, Kind, MAX_KEY_BYTES, Metadata, Wave};

/// The largest payload that comes back with an echo, in bytes.
pub const MAX_ECHO_PAYLOAD: usize = 16 << 10;

/// What an echo carries of the wave that failed.
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
