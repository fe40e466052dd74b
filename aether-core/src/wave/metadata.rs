//! Metadata: names and values that travel beside the payload. Ordinary term: headers.

use std::fmt;

use super::{ECHO, EchoRequest};

/// The maximum number of entries of a wave's metadata.
pub const MAX_METADATA_ENTRIES: usize = 32;
/// The maximum total length of the names and values of a wave's metadata, in bytes.
pub const MAX_METADATA_BYTES: usize = 8192;

/// A small ordered list of names and values. A name may occur more than once.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    entries: Vec<(Box<str>, Box<str>)>,
    bytes: usize,
    /// The request in one of the entries, so that looking for it costs nothing.
    pub(super) echo: Option<EchoRequest>,
}

/// An entry that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A name that is not allowed as a header name.
    #[error("metadata name {name:?} is not allowed: use printable ASCII without spaces and ':'")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A control character in a value.
    #[error("the value of metadata {name:?} contains a control character: use one line of text")]
    Value {
        /// The name of the entry.
        name: String,
    },
    /// Too many entries or bytes.
    #[error(
        "metadata {name:?} does not fit: at most {MAX_METADATA_ENTRIES} entries and {MAX_METADATA_BYTES} bytes together"
    )]
    Full {
        /// The name of the entry that did not fit.
        name: String,
    },
}

impl Metadata {
    /// Empty metadata.
    pub(crate) const NONE: Self = Self { entries: Vec::new(), bytes: 0, echo: None };

    /// Adds an entry at the end.
    ///
    /// # Errors
    /// [`MetadataError`] if the name or the value is not allowed or there is no room; nothing is added.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), MetadataError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            return Err(MetadataError::Name { name: name.to_owned() });
        }
        if value.chars().any(char::is_control) {
            return Err(MetadataError::Value { name: name.to_owned() });
        }
        let bytes = self.bytes + name.len() + value.len();
        if self.entries.len() == MAX_METADATA_ENTRIES || bytes > MAX_METADATA_BYTES {
            return Err(MetadataError::Full { name: name.to_owned() });
        }
        if name == ECHO {
            self.echo.get_or_insert_with(|| EchoRequest::read(value));
        }
        self.entries.push((name.into(), value.into()));
        self.bytes = bytes;
        Ok(())
    }

    /// The same entries with one of this name at the end, in place of those of this name.
    pub(super) fn replaced(&self, name: &str, value: &str) -> Result<Self, MetadataError> {
        let mut metadata = Self::default();
        for (other, kept) in self.iter().filter(|(other, _)| *other != name) {
            metadata.push(other, kept)?;
        }
        metadata.push(name, value)?;
        Ok(metadata)
    }

    /// The first value of a name. Names are case-sensitive.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(entry, _)| *entry == name).map(|(_, value)| value)
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The request to be told, if an entry has one.
    pub(super) const fn echo_request(&self) -> Option<EchoRequest> {
        self.echo
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The total length of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Approximate memory used, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.entries.capacity() * size_of::<(Box<str>, Box<str>)>() + self.bytes
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order_and_bounds() {
        let mut metadata = Metadata::default();
        metadata.push("b", "1").unwrap();
        metadata.push("a", "2").unwrap();
        metadata.push("b", "3").unwrap();
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(metadata.value("b"), Some("1"));
        for bad in ["", "a b", "a:b", "ü", "a\n"] {
            assert!(matches!(metadata.push(bad, "x"), Err(MetadataError::Name { .. })), "{bad:?}");
        }
        assert!(matches!(metadata.push("a", "x\r\ny"), Err(MetadataError::Value { .. })));
        assert!(matches!(metadata.push("a", &"x".repeat(8192)), Err(MetadataError::Full { .. })));
        for _ in 0..29 {
            metadata.push("n", "v").unwrap();
        }
        assert!(matches!(metadata.push("n", "v"), Err(MetadataError::Full { .. })));
        assert_eq!(metadata.len(), MAX_METADATA_ENTRIES);
    }
}
