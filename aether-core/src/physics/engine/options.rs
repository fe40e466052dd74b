//! How much the engine remembers, and which detectors it has.

use crate::channel::Pattern;
use crate::physics::cancellation::CancellationOptions;
use crate::physics::interference::Interfere;
use crate::physics::resonance::ResonanceOptions;
use crate::physics::retries::RetryOptions;
use crate::physics::standing::StandingOptions;

/// The bounds of a [`PhysicsEngine`](super::PhysicsEngine): those of its detectors.
#[derive(Debug, Clone)]
#[must_use = "nothing is made before build()"]
pub struct EngineOptions {
    pub(super) resonance: ResonanceOptions,
    pub(super) standing: StandingOptions,
    pub(super) retries: RetryOptions,
    pub(super) cancellations: CancellationOptions,
    pub(super) interference: Option<(Pattern, Interfere)>,
    pub(super) waves_a_second: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            resonance: ResonanceOptions::default(),
            standing: StandingOptions::default(),
            retries: RetryOptions::default(),
            cancellations: CancellationOptions::default(),
            interference: None,
            waves_a_second: 30_000,
        }
    }
}

impl EngineOptions {
    /// The bounds of the service map.
    pub fn resonance(mut self, options: ResonanceOptions) -> Self {
        self.resonance = options;
        self
    }

    /// The bounds of the periodic streams.
    pub fn standing(mut self, options: StandingOptions) -> Self {
        self.standing = options;
        self
    }

    /// The bounds of the retry storms.
    pub fn retries(mut self, options: RetryOptions) -> Self {
        self.retries = options;
        self
    }

    /// The bounds of the claims that flap.
    pub fn cancellations(mut self, options: CancellationOptions) -> Self {
        self.cancellations = options;
        self
    }

    /// Adds up the claims on the channels of a pattern. Default: none, because only who sends claims knows what is one.
    pub fn interfere(mut self, pattern: Pattern, options: Interfere) -> Self {
        self.interference = Some((pattern, options));
        self
    }

    /// How many waves a second the engine takes in on average, at least 1. Default: 30,000, which costs a few percent of
    /// one processor. If there are more, it looks for eight seconds, or at the waves of eight seconds above that number,
    /// whichever comes first, and then away until the average is kept.
    pub fn waves_a_second(mut self, waves: u32) -> Self {
        self.waves_a_second = waves;
        self
    }
}
