//! How much the engine remembers, and which detectors it has.

use std::time::Duration;

use super::{Claims, PhysicsEngine, Strobe};
use crate::channel::Pattern;
use crate::physics::{
    CancellationOptions, CancellationOptionsError, Cancellations, Interfere, InterfereOptionsError,
    ResonanceOptions, ResonanceOptionsError, RetryOptions, RetryOptionsError, RetryStorms, StandingOptions,
    StandingOptionsError, StandingWaves,
};

/// The bounds of a [`PhysicsEngine`]: those of its detectors.
#[derive(Debug, Clone)]
#[must_use = "nothing is made before build()"]
pub struct EngineOptions {
    resonance: ResonanceOptions,
    standing: StandingOptions,
    retries: RetryOptions,
    cancellations: CancellationOptions,
    interference: Option<(Pattern, Interfere)>,
    waves_a_second: u32,
}

/// Bounds that an engine cannot have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineOptionsError {
    /// Those of the service map.
    #[error("the service map cannot be made")]
    Resonance(#[from] ResonanceOptionsError),
    /// Those of the periodic streams.
    #[error("the detector of standing waves cannot be made")]
    Standing(#[from] StandingOptionsError),
    /// Those of the retry storms.
    #[error("the detector of retry storms cannot be made")]
    Retries(#[from] RetryOptionsError),
    /// Those of the claims that flap.
    #[error("the detector of cancellations cannot be made")]
    Cancellations(#[from] CancellationOptionsError),
    /// Those of the claims that add up.
    #[error("the detector of interference cannot be made")]
    Interference(#[from] InterfereOptionsError),
    /// No waves at all.
    #[error("engine option waves_a_second = 0 is not allowed: use 1 or more")]
    WavesASecond,
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

    /// The engine with these bounds.
    ///
    /// # Errors
    /// [`EngineOptionsError`] says which detector cannot be made; its source says why.
    pub fn build(self) -> Result<PhysicsEngine, EngineOptionsError> {
        if self.waves_a_second == 0 {
            return Err(EngineOptionsError::WavesASecond);
        }
        let claims = match self.interference {
            Some((pattern, options)) => {
                Some(Claims { pattern, detector: options.build()?, behind: Duration::ZERO })
            }
            None => None,
        };
        Ok(PhysicsEngine {
            resonance: self.resonance.build()?,
            strobe: Strobe::new(self.waves_a_second),
            standing: StandingWaves::new(self.standing)?,
            retries: RetryStorms::new(self.retries)?,
            cancellations: Cancellations::new(self.cancellations)?,
            claims,
            known: Default::default(),
            findings: Default::default(),
            findings_lost: 0,
            jumps: 0,
        })
    }
}
