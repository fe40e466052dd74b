//! Options of the engine and of its detectors.

use crate::cancellation::CancellationOptions;
use crate::interference::Interfere;
use crate::polling::PollingOptions;
use crate::resonance::ResonanceOptions;
use crate::retries::RetryOptions;
use crate::standing::StandingOptions;
use aether_core::Pattern;

/// Options of a [`PhysicsEngine`](super::PhysicsEngine): the options of its detectors, and the budget of waves.
#[derive(Debug, Clone)]
#[must_use = "no engine is made before build()"]
pub struct EngineOptions {
    pub(super) resonance: ResonanceOptions,
    pub(super) standing: StandingOptions,
    pub(super) polling: PollingOptions,
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
            polling: PollingOptions::default(),
            retries: RetryOptions::default(),
            cancellations: CancellationOptions::default(),
            interference: None,
            waves_a_second: 30_000,
        }
    }
}

impl EngineOptions {
    /// Options of the service map.
    pub fn resonance(mut self, options: ResonanceOptions) -> Self {
        self.resonance = options;
        self
    }

    /// Options of the detector of periodic streams.
    pub fn standing(mut self, options: StandingOptions) -> Self {
        self.standing = options;
        self
    }

    /// Options of the detector of polling.
    pub fn polling(mut self, options: PollingOptions) -> Self {
        self.polling = options;
        self
    }

    /// Options of the detector of retry storms.
    pub fn retries(mut self, options: RetryOptions) -> Self {
        self.retries = options;
        self
    }

    /// Options of the detector of flapping claims.
    pub fn cancellations(mut self, options: CancellationOptions) -> Self {
        self.cancellations = options;
        self
    }

    /// Adds up the claims on the channels of a pattern. Default: none, because only their senders know which waves are
    /// claims.
    pub fn interfere(mut self, pattern: Pattern, options: Interfere) -> Self {
        self.interference = Some((pattern, options));
        self
    }

    /// The average number of waves a second that the engine takes in, at least 1. Default: 30,000, which costs a few
    /// percent of one processor. If there are more, it observes for eight seconds, or until it is eight seconds' worth
    /// of waves over budget, and then pauses until the average is met.
    pub fn waves_a_second(mut self, waves: u32) -> Self {
        self.waves_a_second = waves;
        self
    }
}
