//! The settings of the fields that a gateway serves: the part of `[service.gateway]` that is about them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::limits::{LimitError, SecurityLimits};

/// A field that is served, and the file that keeps its replica: `NAME` or `NAME=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedField {
    /// The name of the field.
    pub name: String,
    /// The file; `None` for a replica that is only in memory.
    pub store: Option<PathBuf>,
}

impl ServedField {
    /// A field that is kept in this file.
    #[must_use]
    pub fn kept_in(name: &str, file: PathBuf) -> Self {
        Self { name: name.to_owned(), store: Some(file) }
    }
}

/// A text that names no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use NAME, or NAME=FILE to keep the field in a file, such as home=home.field")]
pub struct ServedFieldError;

impl FromStr for ServedField {
    type Err = ServedFieldError;

    fn from_str(text: &str) -> Result<Self, ServedFieldError> {
        let (name, store) = text.split_once('=').map_or((text, None), |(name, path)| (name, Some(path)));
        if name.is_empty() || store == Some("") {
            return Err(ServedFieldError);
        }
        Ok(Self { name: name.to_owned(), store: store.map(|path| Path::new(path).to_owned()) })
    }
}

impl fmt::Display for ServedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Some(path) => write!(f, "{}={}", self.name, path.display()),
            None => f.write_str(&self.name),
        }
    }
}

/// An origin whose pages may use the fields: `https://shop.example`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(String);

/// A text that cannot be read as an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin: use a scheme and a host, such as https://shop.example, or * for all pages")]
pub struct OriginError(String);

impl AllowedOrigin {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AllowedOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let host = text.split_once("://").map(|(_, host)| host.strip_suffix('/').unwrap_or(host));
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', ' ', '*']);
        // An origin that no browser sends would match nothing, and nobody would notice.
        if text == "*" || host.is_some_and(is_host) {
            Ok(Self(text.to_owned()))
        } else {
            Err(OriginError(text.to_owned()))
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the [`SecurityLimits`] with its value: `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSetting(String);

impl LimitSetting {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LimitSetting {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        SecurityLimits::default().set(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for LimitSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_with_or_without_a_file() {
        let field = |text: &str| text.parse::<ServedField>();
        assert_eq!(field("home"), Ok(ServedField { name: "home".to_owned(), store: None }));
        let kept = field("home=/var/a=b").unwrap();
        assert_eq!(
            (kept.store.as_deref(), kept.to_string()),
            (Some(Path::new("/var/a=b")), "home=/var/a=b".to_owned())
        );
        for text in ["", "=home.field", "home="] {
            assert_eq!(field(text), Err(ServedFieldError), "{text:?}");
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused() {
        for text in ["*", "https://shop.example", "http://127.0.0.1:3000/", "tauri://localhost"] {
            assert_eq!(text.parse::<AllowedOrigin>().unwrap().to_string(), text);
        }
        for text in ["shop.example", "https://", "https://*.shop.example", "https://shop.example/page", ""] {
            assert_eq!(text.parse::<AllowedOrigin>(), Err(OriginError(text.to_owned())));
        }
    }
}
