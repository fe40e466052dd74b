//! The changes of a field, and its state: the words that both protocols translate.

use aether_field::core::Stamp;
use bytes::Bytes;
use smol_str::SmolStr;

/// The slot that has changed. Of the changes of one slot a client needs only the last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    Register(SmolStr),
    Counter(SmolStr),
    Member(SmolStr, Bytes),
}

impl Slot {
    pub(super) fn name(&self) -> &SmolStr {
        match self {
            Self::Register(name) | Self::Counter(name) | Self::Member(name, _) => name,
        }
    }

    /// About its size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        64 + self.name().len() + if let Self::Member(_, member) = self { member.len() } else { 0 }
    }
}

/// The state of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A register and the version of its value. There is no value after a removal.
    Register {
        value: Option<Bytes>,
        version: Option<Stamp>,
    },
    Counter {
        sum: i128,
    },
    /// The version of a member is its newest addition; `None` if it is not in the set.
    Member {
        version: Option<Stamp>,
    },
}
