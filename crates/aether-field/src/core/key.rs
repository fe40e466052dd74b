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
    /// The sums that one writer has added to a counter. Only that writer changes them.
    Count(SmolStr, WriterId),
    /// One addition of a member to a set. Its stamp makes it unique, so a removal concerns only additions that were
    /// seen.
    Member(SmolStr, Bytes, Stamp),
    /// The keys that speak for an owner: its certificates.
    Binding(SmolStr),
    /// A value that only its owner writes: the owner, and the name.
    Owned(SmolStr, SmolStr),
    /// Everything that an owner wrote before the stamp of this entry is void.
    Floor(SmolStr),
}

impl Key {
    /// The name that users gave; for entries about the owner itself, the name of the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Register(name) | Self::Count(name, _) | Self::Member(name, ..) | Self::Owned(_, name) => {
                name
            }
            Self::Binding(owner) | Self::Floor(owner) => owner,
        }
    }

    /// The owner, for entries that only the owner or the root writes.
    #[must_use]
    pub fn owner(&self) -> Option<&SmolStr> {
        match self {
            Self::Register(_) | Self::Count(..) | Self::Member(..) => None,
            Self::Binding(owner) | Self::Owned(owner, _) | Self::Floor(owner) => Some(owner),
        }
    }

    /// The size in bytes that counts against the bounds.
    #[must_use]
    pub fn size(&self) -> usize {
        let more = match self {
            Self::Member(_, member, _) => member.len(),
            Self::Owned(owner, _) => owner.len(),
            _ => 0,
        };
        self.name().len() + more
    }

    /// Registers come before counters, counters before sets, and these before what has an owner.
    #[cfg(feature = "replica")]
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Register(_) => 0,
            Self::Count(..) => 1,
            Self::Member(..) => 2,
            Self::Binding(_) | Self::Owned(..) | Self::Floor(_) => 3,
        }
    }

    /// The first key of the next kind that everybody may write whose name begins so.
    #[cfg(feature = "replica")]
    pub(crate) fn first_of_next_kind(&self, start: &str) -> Option<Self> {
        match self {
            Self::Register(_) => Some(Self::Count(start.into(), WriterId(u64::MIN))),
            Self::Count(..) => Some(Self::Member(start.into(), Bytes::new(), Stamp::default())),
            _ => None,
        }
    }

    /// The last key of the counter that this is a part of.
    #[cfg(feature = "replica")]
    pub(crate) fn last_of_counter(&self) -> Option<Self> {
        let Self::Count(name, _) = self else { return None };
        Some(Self::Count(name.clone(), WriterId(u64::MAX)))
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
            Self::Binding(owner) => {
                part(b"binding");
                part(owner.as_bytes());
            }
            Self::Owned(owner, name) => {
                part(b"owned");
                part(owner.as_bytes());
                part(name.as_bytes());
            }
            Self::Floor(owner) => {
                part(b"floor");
                part(owner.as_bytes());
            }
        }
    }
}
