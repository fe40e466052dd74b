//! Baggage: an author's own names and values that follow a request. Ordinary term: context propagation, as in W3C Baggage.
//!
//! An [`Emitter`](crate::Emitter) adds entries; every wave that follows carries all of them, on every medium. This file
//! holds the bounded map. It knows neither waves nor wire formats.

use std::fmt;
use std::sync::Arc;

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
    /// A name that is no token.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
