//! Options of interference.

use std::time::Duration;

/// Options of [`Interference`](super::Interference): how claims are added up, and when their sum is reported. Checked by
/// [`Interfere::build`].
#[derive(Debug, Clone)]
#[must_use = "no detector is made before build()"]
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

    /// The half-life of a claim, independent of the half-life of its wave. Default: 30 s. Choose it longer than the
    /// interval at which sources repeat their claims.
    pub fn window(mut self, half_life: Duration) -> Self {
        self.window = half_life;
        self
    }

    /// The half-life of a claim, as set by [`Interfere::window`].
    #[must_use]
    pub const fn half_life(&self) -> Duration {
        self.window
    }

    /// The number of sources that must assert a key before it rises. Default: 3. A source counts for three windows after
    /// its claim.
    pub fn sources(mut self, at_least: usize) -> Self {
        self.sources = at_least;
        self
    }

    /// The amplitude from which a key rises, below 1. Default: 0.8, which three claims of normal amplitude reach.
    pub fn rise(mut self, amplitude: f32) -> Self {
        self.rise = amplitude;
        self
    }

    /// The amplitude below which a risen key falls. Default: 0.5. The distance to [`Interfere::rise`] is the hysteresis.
    pub fn fall(mut self, amplitude: f32) -> Self {
        self.fall = amplitude;
        self
    }

    /// The time for which a key must stay past a threshold before the change is reported. Default: none. Cost: every
    /// report is delayed by it.
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = time;
        self
    }

    /// The maximum number of keys. Beyond it, the least recently claimed is forgotten. Default: 4096. Cost: about 90
    /// bytes per claim, up to 170 more for one that names a cause, 300 bytes per key, plus the key itself, 500 bytes
    /// for each alert that is open, and 300 bytes for each of the latest 1024 sources.
    pub fn max_keys(mut self, most: usize) -> Self {
        self.max_keys = most;
        self
    }

    /// The maximum number of sources per key. Beyond it, those with the latest claims stay. Default: 8.
    pub fn max_sources(mut self, most: usize) -> Self {
        self.max_sources = most;
        self
    }
}
