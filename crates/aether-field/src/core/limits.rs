//! Bounds on what a replica takes, and the errors of what it refuses.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::entry::Change;
use super::key::Key;
use super::stamp::{FromFuture, Stamp};

/// The bounds of a replica. All replicas of a field need the same ones, else what one accepts another refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum size of a name, and of a member of a set, in bytes; 256 by default.
    pub max_name: usize,
    /// The maximum size of a value in bytes; 32,768 by default.
    pub max_value: usize,
    /// The maximum number of entries that everybody may write, and separately of entries of owners, removals included;
    /// 10 million each by default. The two do not compete, so nobody can take the room of an owner.
    pub max_entries: usize,
    /// The maximum number of owners that this replica takes from the certificates of its root; 4,096 by default.
    pub max_owners: usize,
    /// How far a stamp of another writer may be ahead of this replica's clock; 15 minutes by default.
    pub max_drift: Duration,
    /// How long removals are kept; 7 days by default. A replica that was away for longer loses its own changes that are
    /// older than that and of keys that the others do not have. It learns of each.
    pub horizon: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_name: 256,
            max_value: 32_768,
            max_entries: 10_000_000,
            max_owners: 4_096,
            max_drift: Duration::from_secs(15 * 60),
            horizon: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Limits {
    /// Whether name, member and value are within the bounds.
    ///
    /// # Errors
    /// [`Refusal`] with the limit.
    pub fn check(&self, change: &Change) -> Result<(), Refusal> {
        let Change { key, entry } = change;
        let name = key.name().len();
        let longest = if let Key::Member(_, member, _) = key { name.max(member.len()) } else { name };
        if name == 0 {
            return Err(Refusal::EmptyName);
        }
        if longest > self.max_name {
            return Err(Refusal::NameTooLong { bytes: longest, allowed: self.max_name });
        }
        let bytes = entry.value.as_ref().map_or(0, Bytes::len);
        if bytes > self.max_value {
            return Err(Refusal::ValueTooLarge { bytes, allowed: self.max_value });
        }
        Ok(())
    }

    /// Whether a stamp is not too far ahead of a wall clock, in microseconds since 1970.
    ///
    /// # Errors
    /// [`FromFuture`].
    pub fn check_time(&self, stamp: Stamp, wall: u64) -> Result<(), FromFuture> {
        FromFuture::check(stamp, wall, self.max_drift)
    }
}

/// A change that is refused. Nothing of it is visible then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The name is empty.
    #[error("a name has at least one byte")]
    EmptyName,
    /// The name or the member is too long.
    #[error("the name or member has {bytes} bytes; {allowed} are allowed")]
    NameTooLong {
        /// Its size.
        bytes: usize,
        /// The bound.
        allowed: usize,
    },
    /// The value is too large.
    #[error("the value has {bytes} bytes; {allowed} are allowed")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        allowed: usize,
    },
    /// The replica is full.
    #[error("the field has {allowed} entries, which is its bound")]
    Full {
        /// The bound.
        allowed: usize,
    },
    /// The stamp is too far in the future.
    #[error(transparent)]
    FromFuture(#[from] FromFuture),
    /// A part of a counter is written by another writer than its own, is not a count, or counts down.
    #[error("the part of a counter is not one that its writer can have made")]
    ForeignCount,
    /// This replica trusts no key for this owner, or has not seen its certificate yet.
    #[error(
        "no key of the owner {owner:?} is trusted here: it is not in the allow-list, and no certificate of the root has come"
    )]
    UnknownOwner {
        /// The owner.
        owner: SmolStr,
    },
    /// Signed by a key that is not the owner's, or no longer.
    #[error("this is not signed by the present key of the owner {owner:?}")]
    ForeignKey {
        /// The owner.
        owner: SmolStr,
    },
    /// The signature is wrong, or the entry has none.
    #[error("the signature of an entry of the owner {owner:?} is wrong")]
    Forged {
        /// The owner.
        owner: SmolStr,
    },
    /// The same message had a wrong signature before this entry, so this one was not looked at.
    #[error("the entry came after a wrong signature, and was not looked at")]
    Unchecked,
    /// There are too many owners.
    #[error("the field has {allowed} owners, which is its bound")]
    TooManyOwners {
        /// The bound.
        allowed: usize,
    },
    /// The key was rotated too often.
    #[error(
        "the key of {owner:?} was rotated {allowed} times, which is the bound: certify or pin its present key"
    )]
    TooManyRotations {
        /// The owner.
        owner: SmolStr,
        /// The bound.
        allowed: usize,
    },
}

impl Refusal {
    /// The kind of the refusal.
    #[must_use]
    pub const fn reason(&self) -> RefusalReason {
        match self {
            Self::FromFuture(_) => RefusalReason::Clock,
            Self::UnknownOwner { .. } | Self::ForeignKey { .. } | Self::Forged { .. } | Self::Unchecked => {
                RefusalReason::Trust
            }
            Self::Full { .. } | Self::TooManyOwners { .. } | Self::TooManyRotations { .. } => {
                RefusalReason::Full
            }
            Self::EmptyName | Self::NameTooLong { .. } | Self::ValueTooLarge { .. } | Self::ForeignCount => {
                RefusalReason::Bounds
            }
        }
    }
}

/// The kind of a [`Refusal`], as one replica tells another in a reconciliation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The stamp is too far ahead of the clock of the replica that refuses.
    Clock,
    /// No trusted key has signed it.
    Trust,
    /// It is larger than allowed, or none that its writer can have made.
    Bounds,
    /// There is no room.
    Full,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clock => "their stamps are too far ahead of its clock",
            Self::Trust => "it trusts no key that has signed them",
            Self::Bounds => "they are out of its bounds",
            Self::Full => "it has no room",
        })
    }
}

/// How many changes were refused, by the kind of the refusal.
pub type Refusals = BTreeMap<RefusalReason, u64>;
