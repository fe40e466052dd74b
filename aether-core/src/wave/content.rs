//! Content types, and parsing of payloads.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

/// The media type of a payload.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ContentType {
    /// Untyped bytes: `application/octet-stream`.
    #[default]
    Bytes,
    /// `application/json`.
    Json,
    /// `text/plain`, UTF-8.
    Text,
    /// Any other media type, at most 255 bytes of printable ASCII.
    Other(Arc<str>),
}

/// A text that is not a valid media type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a content type: use 1 to 255 characters of printable ASCII, such as application/cbor"
)]
pub struct ContentTypeError {
    given: String,
}

impl ContentType {
    /// Parses a media type. Parameters such as `; charset=utf-8` are kept, except for JSON, plain text and octet
    /// streams.
    ///
    /// # Errors
    /// [`ContentTypeError`] if it is empty, longer than 255 bytes or not printable ASCII.
    pub fn new(media_type: &str) -> Result<Self, ContentTypeError> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let printable = media_type.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if essence.is_empty() || media_type.len() > 255 || !printable {
            return Err(ContentTypeError { given: media_type.to_owned() });
        }
        Ok(match essence {
            "application/octet-stream" => Self::Bytes,
            "application/json" => Self::Json,
            "text/plain" => Self::Text,
            _ => Self::Other(media_type.into()),
        })
    }

    /// The media type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bytes => "application/octet-stream",
            Self::Json => "application/json",
            Self::Text => "text/plain",
            Self::Other(media_type) => media_type,
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentType({self})")
    }
}

/// A payload that cannot be parsed as requested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Not the expected JSON; the source holds the position and the reason.
    #[error("the payload of {bytes} bytes ({content_type}) is not the expected JSON")]
    Json {
        /// The size of the payload, in bytes.
        bytes: usize,
        /// The declared content type.
        content_type: ContentType,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// Not UTF-8.
    #[error("the payload is not UTF-8 text: first invalid byte at offset {}", source.valid_up_to())]
    Utf8 {
        /// Holds the offset of the first invalid byte.
        source: std::str::Utf8Error,
    },
}

pub(super) fn read_json<T: DeserializeOwned>(
    payload: &[u8],
    content_type: &ContentType,
) -> Result<T, PayloadError> {
    serde_json::from_slice(payload).map_err(|source| PayloadError::Json {
        bytes: payload.len(),
        content_type: content_type.clone(),
        source,
    })
}

pub(super) fn read_text(payload: &[u8]) -> Result<&str, PayloadError> {
    std::str::from_utf8(payload).map_err(|source| PayloadError::Utf8 { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_recognised_or_kept_or_refused() {
        assert_eq!(ContentType::new("application/json; charset=utf-8"), Ok(ContentType::Json));
        assert_eq!(ContentType::new("application/cbor").unwrap().as_str(), "application/cbor");
        let long = format!("text/plain; charset={}", "a".repeat(256));
        let known = ["application/json; a=\r\nb", "text/plain; a=ü", "application/octet-stream\t", &long];
        for bad in ["", "; a=b", "a\nb", "ü", &"a".repeat(256)].into_iter().chain(known) {
            assert!(ContentType::new(bad).is_err(), "{bad:?}");
        }
    }
}
