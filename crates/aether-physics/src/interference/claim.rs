//! A claim: the assertion or retraction of a wave about its coherence key.

use std::time::Duration;

use aether_core::{Amplitude, Phase};

/// One claim. [`Interference::observe`](super::Interference::observe) takes it from a wave.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The amplitude at the source, before path and time weakened it.
    pub amplitude: Amplitude,
    /// 0 asserts, pi retracts; in between, the cosine counts.
    pub phase: Phase,
    /// The sequence number from its source. Of two claims of the same age, the higher number counts.
    pub sequence: u64,
    /// The time since it was made.
    pub age: Duration,
}
