//! A claim: what one wave asserts or retracts about its coherence key.

use std::time::Duration;

use crate::amplitude::Amplitude;
use crate::phase::Phase;

/// One claim. [`Interference::observe`](super::Interference::observe) takes it from a wave.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// How strong the claim is: the amplitude at the source, whatever path and time took of it since.
    pub amplitude: Amplitude,
    /// Whether it asserts (0) or retracts (pi); in between, its cosine counts.
    pub phase: Phase,
    /// The number its source gave it. Of two claims of one age the higher number counts.
    pub sequence: u64,
    /// The time since it was made.
    pub age: Duration,
}
