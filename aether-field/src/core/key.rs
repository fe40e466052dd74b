//! Keys: what a change is about.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::stamp::{Stamp, WriterId};

/// The place of one entry. Registers have one entry for a name; a counter has one for each writer, and a set one for
/// each addition of a member, so that all three merge by the same rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A value that is replaced as a whole.
    Register(SmolStr),
    /// What one writer has added to a counter. Only that writer changes it.
    Count(SmolStr, WriterId),
    /// One addition of a member to a set. Its stamp makes it unique, so a removal concerns only additions that were
    /// seen.
    Member(SmolStr, Bytes, Stamp),
}

impl Key {
    /// The name that users gave.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Register(name) | Self::Count(name, _) | Self::Member(name, ..) => name,
        }
    }

    /// The size in bytes that counts against the bounds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.name().len() + if let Self::Member(_, member, _) = self { member.len() } else { 0 }
    }

    /// Registers come before counters, and counters before sets.
    #[cfg(feature = "replica")]
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Register(_) => 0,
            Self::Count(..) => 1,
            Self::Member(..) => 2,
        }
    }

    /// The first key of the next kind whose name begins so.
    #[cfg(feature = "replica")]
    pub(crate) fn first_of_next_kind(&self, start: &str) -> Option<Self> {
        match self {
            Self::Register(_) => Some(Self::Count(start.into(), WriterId(u64::MIN))),
            Self::Count(..) => Some(Self::Member(start.into(), Bytes::new(), Stamp::default())),
            Self::Member(..) => None,
        }
    }

    /// The keys of all parts of a counter.
    pub(crate) fn counts(name: &str) -> (Bound<Self>, Bound<Self>) {
        let name: SmolStr = name.into();
        let first = Self::Count(name.clone(), WriterId(u64::MIN));
        (Bound::Included(first), Bound::Included(Self::Count(name, WriterId(u64::MAX))))
    }

    /// The keys of all additions to a set, from this member on.
    pub(crate) fn members_from(name: &str, member: Bytes) -> (Bound<Self>, Bound<Self>) {
        let first = Self::Member(name.into(), member, Stamp::default());
        (Bound::Included(first), Bound::Unbounded)
    }

    /// The bytes that identify the key in a hash. Lengths come first, so no two keys have the same bytes.
    pub(crate) fn feed(&self, mut take: impl FnMut(&[u8])) {
        let mut part = |bytes: &[u8]| {
            take(&(bytes.len() as u64).to_be_bytes());
            take(bytes);
        };
        match self {
            Self::Register(name) => {
                part(b"register");
                part(name.as_bytes());
            }
            Self::Count(name, writer) => {
                part(b"count");
                part(name.as_bytes());
                part(&writer.0.to_be_bytes());
            }
            Self::Member(name, member, tag) => {
                part(b"member");
                part(name.as_bytes());
                part(member);
                part(&tag.micros.to_be_bytes());
                part(&tag.logical.to_be_bytes());
                part(&tag.writer.0.to_be_bytes());
            }
        }
    }
}
