//! What comes out of interference.

use std::sync::Arc;

use crate::channel::Channel;

/// A fringe: what several sources say of one key has become strong enough together, or no longer is. Ordinary term:
/// corroborated alert, and its end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fringe {
    /// The channel of the claims.
    pub channel: Channel,
    /// What they are about: their coherence key.
    pub key: Arc<str>,
    /// What they amount to, in [0, 1).
    pub amplitude: f32,
    /// How far they agree, from 0 (they cancel) to 1.
    pub coherence: f32,
    /// How many sources assert it at the moment.
    pub sources: usize,
    /// What has happened.
    pub kind: FringeKind,
}

/// What has happened to a fringe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FringeKind {
    /// Enough sources assert it strongly enough: open the alert.
    Rise,
    /// It was retracted or has decayed: close the alert.
    Fall,
    /// It had risen, and its key had to make room for others: what becomes of it is not known.
    Forgotten,
}

/// What the claims about one key amount to at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Resultant {
    /// In [0, 1): 0.75 for two assertions of 0.5, 0 for an assertion and a retraction.
    pub amplitude: f32,
    /// How far the claims agree, from 0 (they cancel) to 1.
    pub coherence: f32,
    /// How many sources assert; a source counts for three windows after its claim.
    pub sources: usize,
}
