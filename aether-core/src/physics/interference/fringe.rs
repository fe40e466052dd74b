//! Fringes: the results of interference.

use std::sync::Arc;

use crate::channel::Channel;

/// A fringe: the sum of the claims about one key has crossed a threshold. Ordinary term: a corroborated alert, or its
/// end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fringe {
    /// The channel of the claims.
    pub channel: Channel,
    /// The coherence key of the claims.
    pub key: Arc<str>,
    /// The amplitude of their sum, in [0, 1).
    pub amplitude: f32,
    /// The agreement of the claims, from 0 (they cancel) to 1.
    pub coherence: f32,
    /// The number of sources that assert it.
    pub sources: usize,
    /// The change.
    pub kind: FringeKind,
}

/// A change of a fringe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FringeKind {
    /// Enough sources assert it strongly enough: open the alert.
    Rise,
    /// It was retracted or has decayed: close the alert.
    Fall,
    /// It had risen, and its key was forgotten to make room for others.
    Forgotten,
}

/// The sum of the claims about one key at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Resultant {
    /// In [0, 1): 0.75 for two assertions of 0.5, 0 for an assertion and a retraction.
    pub amplitude: f32,
    /// The agreement of the claims, from 0 (they cancel) to 1.
    pub coherence: f32,
    /// The number of sources that assert. A source counts for three windows after its claim.
    pub sources: usize,
}
