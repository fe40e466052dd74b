//! Patterns of the names of sources: `billing`, `sensor-*`, `*`. Rules and lists of signers use them.

use std::fmt;

use crate::source::is_name;

/// The names that a rule or a signer is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Named {
    /// This name.
    Exactly(String),
    /// All names that begin with this.
    BeginningWith(String),
}

impl Named {
    /// `None` unless the text is a name, or the beginning of one and `*`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some(start) if !start.contains('*') && (start.is_empty() || is_name(start)) => {
                Some(Self::BeginningWith(start.to_owned()))
            }
            None if is_name(text) && !text.contains('*') => Some(Self::Exactly(text.to_owned())),
            _ => None,
        }
    }

    /// Whether the name is one of these.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::Exactly(exact) => exact == name,
            Self::BeginningWith(start) => name.starts_with(start.as_str()),
        }
    }

    /// Whether it names all that the other one names.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exactly(a), Self::Exactly(b)) => a == b,
            (Self::Exactly(_), Self::BeginningWith(_)) => false,
            (Self::BeginningWith(a), Self::Exactly(b) | Self::BeginningWith(b)) => b.starts_with(a.as_str()),
        }
    }

    /// Whether there is a name that both name.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// As it is parsed.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::BeginningWith(start) => write!(f, "{start}*"),
        }
    }
}
