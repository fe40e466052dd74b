//! How claims are added up, and when that is worth a report.

use std::time::Duration;

/// How claims are added up, and when their sum is worth a report. Checked by [`Interfere::build`].
#[derive(Debug, Clone)]
#[must_use = "nothing is made before build()"]
pub struct Interfere {
    pub(super) window: Duration,
    pub(super) sources: usize,
    pub(super) settle: Duration,
    pub(super) max_keys: usize,
    pub(super) max_sources: usize,
    pub(super) rise: f32,
    pub(super) fall: f32,
}

impl Interfere {
    /// Adds up claims by channel and coherence key, with the defaults of the setters.
    pub fn by_key() -> Self {
        Self {
            window: Duration::from_secs(30),
            sources: 3,
            settle: Duration::ZERO,
            max_keys: 4096,
            max_sources: 8,
            rise: 0.8,
            fall: 0.5,
        }
    }

    /// The time in which a claim becomes half as strong, whatever the half-life of its wave. Default: 30 s. Choose it
    /// longer than the pause in which a source repeats its claim.
    pub fn window(mut self, half_life: Duration) -> Self {
        self.window = half_life;
        self
    }

    /// How many sources must assert a key before it rises. Default: 3. A source counts for three windows after its
    /// claim.
    pub fn sources(mut self, at_least: usize) -> Self {
        self.sources = at_least;
        self
    }

    /// The amplitude from which a key rises, below 1. Default: 0.8, which three claims of normal amplitude reach.
    pub fn rise(mut self, amplitude: f32) -> Self {
        self.rise = amplitude;
        self
    }

    /// The amplitude below which a key that has risen falls; the distance to the other threshold is the debounce.
    /// Default: 0.5.
    pub fn fall(mut self, amplitude: f32) -> Self {
        self.fall = amplitude;
        self
    }

    /// For how long a key must be past a threshold without pause before that is reported. Default: not at all. Cost:
    /// every report comes so much later.
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = time;
        self
    }

    /// How many keys are kept; when more come, the one least recently heard of goes. Default: 4096. Cost: about 80
    /// bytes a claim and 300 bytes a key, plus the key itself.
    pub fn max_keys(mut self, most: usize) -> Self {
        self.max_keys = most;
        self
    }

    /// How many sources are kept a key; when more come, those with the latest claims stay. Default: 8.
    pub fn max_sources(mut self, most: usize) -> Self {
        self.max_sources = most;
        self
    }
}
