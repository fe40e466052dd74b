//! The messages of clients.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A message of a client. Fields that a message does not have are ignored, as are messages of types that are not known.
#[derive(Debug, Deserialize)]
pub(super) struct Request<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) token: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) client: Option<Cow<'a, str>>,
    /// The number of a ping.
    #[serde(default)]
    pub(super) id: Option<u64>,
    #[serde(default)]
    pub(super) patterns: Option<Vec<String>>,
    #[serde(default)]
    pub(super) owners: Option<Vec<String>>,
    #[serde(default)]
    pub(super) add: Option<Vec<String>>,
    #[serde(default)]
    pub(super) remove: Option<Vec<String>>,
    #[serde(borrow, default)]
    pub(super) epoch: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) revision: Option<u64>,
    #[serde(default)]
    pub(super) presence: Option<bool>,
    /// Which of several participants of the client.
    #[serde(borrow, default, rename = "as")]
    pub(super) participant: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) value: Option<&'a RawValue>,
}

/// The fields of a write, as far as they identify it. They are read first, so that a refusal can name the write.
#[derive(Debug, Deserialize)]
pub(super) struct Identity {
    #[serde(default)]
    pub(super) op: Option<u64>,
}

/// A write.
#[derive(Debug, Deserialize)]
pub(super) struct WriteRequest<'a> {
    pub(super) op: u64,
    /// Milliseconds since 1970, by the clock of the gateway.
    pub(super) at: f64,
    #[serde(borrow)]
    pub(super) key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) value: Option<&'a RawValue>,
    /// `Some(None)` is `null`: the writer had seen nothing.
    #[serde(default, deserialize_with = "present")]
    pub(super) replaces: Option<Option<String>>,
    #[serde(default)]
    pub(super) up: Option<u64>,
    #[serde(default)]
    pub(super) down: u64,
    #[serde(default)]
    pub(super) member: Option<MemberText>,
    #[serde(default)]
    pub(super) durable: bool,
}

/// An entry that its owner has signed.
#[derive(Debug, Deserialize)]
pub(super) struct OwnedRequest<'a> {
    pub(super) op: u64,
    #[serde(borrow)]
    pub(super) owner: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) key: Option<Cow<'a, str>>,
    /// The stamp of the statement.
    #[serde(borrow)]
    pub(super) version: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) entry: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) certificate: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) durable: bool,
}

/// A member of a set: text, or bytes that are not text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum MemberText {
    Text(String),
    Bytes { base64: String },
}

impl MemberText {
    /// `None` if it is not base64.
    pub(super) fn to_bytes(&self) -> Option<Bytes> {
        use base64::Engine as _;
        match self {
            Self::Text(text) => Some(Bytes::from(text.clone())),
            Self::Bytes { base64 } => {
                base64::engine::general_purpose::STANDARD.decode(base64).ok().map(Bytes::from)
            }
        }
    }
}

/// Tells `null` from a field that is not there.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
