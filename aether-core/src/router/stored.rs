//! How far the storing of a wave got: part of the receipt of an emit.

use std::fmt;
use std::num::NonZeroU64;

use crate::wave::Wave;

/// How much a wave survives. Greater levels survive more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: the wave is in memory only.
    #[default]
    None,
    /// The end of the process, also by `kill -9`: the operating system has the wave. A power cut may lose it.
    Stored,
    /// A power cut: the disk has confirmed the wave.
    Synced,
    /// The loss of machines: this many servers keep the wave, and most of them have it already.
    Replicated(u8),
}

impl Durability {
    /// The lower-case name: `none`, `stored`, `synced` or `replicated`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stored => "stored",
            Self::Synced => "synced",
            Self::Replicated(_) => "replicated",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicated(servers) => f.pad(&format!("replicated({servers})")),
            _ => f.pad(self.as_str()),
        }
    }
}

/// The place of a wave in a log, and the level that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stored {
    /// Its position, greater than those of all waves that were stored before.
    pub position: NonZeroU64,
    /// The level that was reached.
    pub durability: Durability,
}

impl Stored {
    /// A wave that was stored. For implementors of media.
    #[must_use]
    pub const fn new(position: NonZeroU64, durability: Durability) -> Self {
        Self { position, durability }
    }
}

/// The places of several waves in a log, and the lowest level that any of them reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StoredRange {
    /// The smallest position. Waves of others may be between the positions.
    pub first: NonZeroU64,
    /// The greatest position.
    pub last: NonZeroU64,
    /// The lowest level that was reached.
    pub durability: Durability,
    /// The number of waves.
    pub waves: u64,
}

impl StoredRange {
    /// A range that has this wave as well.
    #[must_use]
    pub fn with(before: Option<Self>, Stored { position, durability }: Stored) -> Self {
        match before {
            None => Self { first: position, last: position, durability, waves: 1 },
            Some(range) => range.and(Self { first: position, last: position, durability, waves: 1 }),
        }
    }

    /// Both ranges.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            durability: self.durability.min(other.durability),
            waves: self.waves + other.waves,
        }
    }
}

/// Why a wave of a durable channel was not stored, or did not reach the level of its channel. Contains the wave, which was
/// offered to no inbox. If it was written and not synced, it may be found after a restart.
#[derive(Debug, thiserror::Error)]
#[error("the wave on {} was not stored", wave.channel())]
#[non_exhaustive]
pub struct NotStored {
    /// The wave that was not emitted.
    pub wave: Wave,
    /// Whether the same wave may be stored later.
    pub is_transient: bool,
    /// The reason.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl NotStored {
    /// For implementors of media.
    pub fn new(
        wave: Wave,
        is_transient: bool,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { wave, is_transient, source: source.into() }
    }
}
