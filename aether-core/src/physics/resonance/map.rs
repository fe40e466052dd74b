//! The service map: what [`Resonance::report`](super::Resonance::report) answers.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::ResonanceCounts;
use crate::channel::Channel;

/// How an edge is known. Ordinary term: kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// L0: waves name their cause. Exact.
    Cause,
    /// L1: who emits B hears A, and B follows A more often than by chance.
    Timing,
    /// L1k: the same among the waves of one coherence key.
    KeyedTiming,
    /// L2: timing alone, without knowing who hears what. Groups only, no direction.
    Group,
}

impl Tier {
    /// L0, L1, L1k or L2.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cause => "L0",
            Self::Timing => "L1",
            Self::KeyedTiming => "L1k",
            Self::Group => "L2",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Tier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An edge of the service map: waves of `from` make somebody emit waves of `to`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Edge {
    /// The channel of the causes.
    pub from: Channel,
    /// The channel of the effects.
    pub to: Channel,
    /// Who emits the causes, by name; empty if not known.
    pub emitters: Vec<String>,
    /// Who hears `from` and emits `to`, by name; empty if not known.
    pub handlers: Vec<String>,
    /// How it is known.
    pub tier: Tier,
    /// How many waves of `to` named one of `from` as their cause (L0), or how many waves of `from` were looked at.
    pub waves: u64,
    /// The median time from cause to effect.
    pub median_lag: Duration,
    /// Waves of `to` for each wave of `from`; by timing, those above chance.
    pub effect: f64,
    /// The false discovery rate at which the edge is just taken; 0 for L0.
    pub q_value: f64,
}

/// Channels whose waves come together, by timing alone (L2): the same service, the same load, or the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// The channels, in the order of their names.
    pub channels: Vec<Channel>,
}

/// The service map: which channels follow which, how surely, and how fast.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResonanceMap {
    /// In the order of the channels' names.
    pub edges: Vec<Edge>,
    /// The largest first.
    pub groups: Vec<Group>,
    /// What was seen, left out and forgotten.
    pub counts: ResonanceCounts,
}

impl ResonanceMap {
    /// The edge between two channels.
    #[must_use]
    pub fn edge(&self, from: &str, to: &str) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.from.as_str() == from && edge.to.as_str() == to)
    }
}
