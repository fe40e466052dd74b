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
    /// The owner, and the name that it gave the value.
    Owned(SmolStr, SmolStr),
}

impl Slot {
    pub(super) fn name(&self) -> &SmolStr {
        match self {
            Self::Register(name) | Self::Counter(name) | Self::Member(name, _) | Self::Owned(_, name) => name,
        }
    }

    /// About its size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let more = match self {
            Self::Register(_) | Self::Counter(_) => 0,
            Self::Member(_, member) => member.len(),
            Self::Owned(owner, _) => owner.len(),
        };
        64 + self.name().len() + more
    }
}

/// The state of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A register, or a value of an owner, and its version. There is no value after a removal.
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
