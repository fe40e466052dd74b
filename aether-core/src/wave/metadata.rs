//! The metadata of a wave, and the baggage that the waves it causes inherit.
//!
//! Metadata are names and values that travel beside the payload; ordinary term: headers. Baggage is the ordinary context
//! propagation, as in W3C Baggage: an [`Emitter`](crate::Emitter) adds entries, and every wave that follows carries all of
//! them. Both are bounded, and know neither waves nor wire formats.

use std::fmt;
use std::sync::Arc;

use crate::source::WaveId;

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

    /// The entries of other names, and then one of this name.
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

/// The maximum number of entries of baggage.
pub const MAX_BAGGAGE_ENTRIES: usize = 16;
/// The maximum total length of the names and values of baggage, in bytes.
pub const MAX_BAGGAGE_BYTES: usize = 1024;

/// A small map of names to values that all waves of a request carry, sorted by name. Cloning it bumps at most one
/// reference count.
///
/// Names are tokens of HTTP, such as `tenant` or `feature.flag`, and case-sensitive. Values are one line of text. There
/// are at most [`MAX_BAGGAGE_ENTRIES`] entries of [`MAX_BAGGAGE_BYTES`] bytes together.
///
/// ```
/// use aether_core::wave::Baggage;
///
/// let baggage = Baggage::default().with("tenant", "acme")?.with("user", "17")?;
/// assert_eq!(baggage.value("tenant"), Some("acme"));
/// assert_eq!(baggage.with("tenant", "other")?.len(), 2);
/// # Ok::<(), aether_core::wave::BaggageError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Baggage(Option<Arc<[Entry]>>);

type Entry = (Box<str>, Box<str>);

/// An entry of baggage that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaggageError {
    /// A name that is not a token.
    #[error("baggage name {name:?} is not allowed: use ASCII letters, digits and !#$%&'*+-.^_`|~")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A control character in a value.
    #[error("the value of baggage {name:?} contains a control character: use one line of text")]
    Value {
        /// The name of the entry.
        name: String,
    },
    /// Too many entries or bytes.
    #[error(
        "baggage {name:?} does not fit: at most {MAX_BAGGAGE_ENTRIES} entries and {MAX_BAGGAGE_BYTES} bytes together"
    )]
    Full {
        /// The name of the entry that did not fit.
        name: String,
    },
}

impl Baggage {
    /// No entries.
    pub(crate) const NONE: Self = Self(None);

    /// The same baggage with one entry more. An entry of the same name is replaced.
    ///
    /// # Errors
    /// [`BaggageError`] if the name or the value is not allowed, or there is no room.
    pub fn with(&self, name: &str, value: &str) -> Result<Self, BaggageError> {
        Self::of(self.iter().filter(|(other, _)| *other != name).chain([(name, value)]))
    }

    /// Baggage of these entries, whose names differ.
    pub fn of<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BaggageError> {
        let (mut entries, mut bytes) = (Vec::<Entry>::new(), 0);
        for (name, value) in given {
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(BaggageError::Name { name: name.to_owned() });
            }
            if value.chars().any(char::is_control) {
                return Err(BaggageError::Value { name: name.to_owned() });
            }
            bytes += name.len() + value.len();
            if entries.len() == MAX_BAGGAGE_ENTRIES || bytes > MAX_BAGGAGE_BYTES {
                return Err(BaggageError::Full { name: name.to_owned() });
            }
            entries.push((name.into(), value.into()));
        }
        entries.sort_unstable();
        Ok(if entries.is_empty() { Self::NONE } else { Self(Some(entries.into())) })
    }

    /// The value of a name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(entry, _)| *entry == name).map(|(_, value)| value)
    }

    /// The entries, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.entries().iter().map(|(name, value)| (&**name, &**value))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The total length of all names and values.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Approximate memory used, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of_val(self.entries()) + self.bytes()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl fmt::Debug for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The form of W3C Baggage without escapes, for people: `tenant=acme,user=17`.
impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

/// The metadata entry with the request. Its value is a list of words, separated by commas: `told`, `payload`, `letter`.
pub const ECHO: &str = "aether-echo";

/// A request to be told if a wave fails, for [`WaveBuilder::echo`](crate::WaveBuilder::echo).
///
/// The source of a failed command or query gets an [`Echo`](crate::Echo) without asking. With a request it gets one for
/// a wave of any other kind, too, except responses; and it can have more than the echo.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Wave, wave::EchoRequest};
///
/// let aether = Aether::local();
/// let shop = aether.emitter("shop")?;
/// let mut echoes = shop.echoes().await?;
/// let event = Wave::builder("orders.created").key("17").text("a lamp").echo(EchoRequest::told().payload());
/// shop.emit(event.build()?).await?; // nobody hears it
/// let echo = echoes.receive().await.expect("the medium is open");
/// assert_eq!((echo.key(), echo.payload().map(|bytes| &bytes[..])), (Some("17"), Some(&b"a lamp"[..])));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a request does nothing before a wave has it"]
pub struct EchoRequest {
    payload: bool,
    letter: bool,
}

impl EchoRequest {
    /// Be told if the wave fails.
    pub const fn told() -> Self {
        Self { payload: false, letter: false }
    }

    /// Be sent the payload with the echo, if it has at most [`MAX_ECHO_PAYLOAD`](crate::echo::MAX_ECHO_PAYLOAD) bytes.
    pub const fn payload(mut self) -> Self {
        self.payload = true;
        self
    }

    /// Have the wave kept as a [dead letter](crate::Aether::dead_letters) where it failed, also if its source receives
    /// the echo.
    pub const fn letter(mut self) -> Self {
        self.letter = true;
        self
    }

    /// Whether the payload is wanted.
    #[must_use]
    pub const fn wants_payload(self) -> bool {
        self.payload
    }

    /// Whether a dead letter is wanted.
    #[must_use]
    pub const fn wants_letter(self) -> bool {
        self.letter
    }

    /// The request in the value of a metadata entry. Words of later versions are ignored.
    pub(super) fn read(value: &str) -> Self {
        let has = |word| value.split(',').any(|other| other.trim() == word);
        Self { payload: has("payload"), letter: has("letter") }
    }

    pub(super) const fn written(self) -> &'static str {
        match (self.payload, self.letter) {
            (false, false) => "told",
            (true, false) => "told,payload",
            (false, true) => "told,letter",
            (true, true) => "told,payload,letter",
        }
    }
}

/// The data that all waves of a request share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Left out if it is the cause or, without a cause, the wave itself.
    pub root: Option<WaveId>,
    /// The names and values that follow the request.
    pub baggage: Baggage,
}

impl Request {
    /// A request of these two parts. `None` if both are empty.
    pub fn of(root: Option<WaveId>, baggage: Baggage) -> Option<Arc<Self>> {
        (root.is_some() || !baggage.is_empty()).then(|| Arc::new(Self { root, baggage }))
    }

    /// Approximate memory used, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.root.as_ref().map_or(0, |root| root.source.weight()) + self.baggage.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::{MAX_METADATA_ENTRIES, Wave};

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

    #[test]
    fn entries_are_sorted_and_one_of_the_same_name_is_replaced() {
        let baggage =
            Baggage::default().with("b", "1").unwrap().with("a", "").unwrap().with("b", "2").unwrap();
        assert_eq!(baggage.iter().collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
        assert_eq!((baggage.value("b"), baggage.value("B")), (Some("2"), None));
        assert_eq!((baggage.to_string().as_str(), baggage.bytes()), ("a=,b=2", 3));
        assert_eq!(baggage, Baggage::default().with("a", "").unwrap().with("b", "2").unwrap());
    }

    #[test]
    fn names_values_and_sizes_have_bounds() {
        let none = Baggage::default();
        for bad in ["", "a b", "a,b", "a=b", "a;b", "a:b", "ü", "a\n", "\"a\""] {
            assert!(matches!(none.with(bad, "x"), Err(BaggageError::Name { .. })), "{bad:?}");
        }
        assert!(matches!(none.with("a", "x\r\ny"), Err(BaggageError::Value { .. })));
        assert!(matches!(none.with("a", &"x".repeat(MAX_BAGGAGE_BYTES)), Err(BaggageError::Full { .. })));
        let mut full = none.with("a", &"x".repeat(MAX_BAGGAGE_BYTES - 1)).unwrap();
        assert!(matches!(full.with("b", ""), Err(BaggageError::Full { .. })));
        for number in 0..MAX_BAGGAGE_ENTRIES {
            full = if number == 0 { none.clone() } else { full }.with(&format!("n{number}"), "v").unwrap();
        }
        assert!(matches!(full.with("one-more", ""), Err(BaggageError::Full { .. })));
        assert_eq!(full.with("n3", "replaced").unwrap().len(), MAX_BAGGAGE_ENTRIES);
    }

    #[test]
    fn a_request_is_read_back_and_later_words_are_ignored() {
        for request in [
            EchoRequest::told(),
            EchoRequest::told().payload(),
            EchoRequest::told().letter(),
            EchoRequest::told().payload().letter(),
        ] {
            let wave = Wave::builder("a").echo(request).build().unwrap();
            assert_eq!(wave.echo_request(), Some(request));
        }
        assert_eq!(EchoRequest::read("soon, payload"), EchoRequest::told().payload());
        assert_eq!(Wave::builder("a").metadata("k", "v").build().unwrap().echo_request(), None);
    }

    #[test]
    fn an_entry_without_room_is_an_error() {
        let full = (0..MAX_METADATA_ENTRIES)
            .fold(Wave::builder("a"), |wave, number| wave.metadata(&number.to_string(), "x"));
        assert!(full.echo(EchoRequest::told()).build().is_err());
    }
}
