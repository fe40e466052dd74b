//! Options of the service map: its bounds, and the threshold of an edge.

/// Options of a [`Resonance`](super::Resonance). All bounds are numbers of entries;
/// [`Resonance::max_weight`](super::Resonance::max_weight) gives the bytes.
///
/// ```
/// use aether_physics::ResonanceOptions;
///
/// let resonance = ResonanceOptions::default().channels(64).moments(2048).build()?;
/// assert!(resonance.max_weight() < 20 << 20);
/// assert_eq!(
///     ResonanceOptions::default().channels(0).build().unwrap_err().to_string(),
///     "resonance.channels = 0 is not allowed: use 1 to 4096"
/// );
/// # Ok::<(), aether_physics::BoundsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ResonanceOptions {
    pub(super) channels: usize,
    pub(super) moments: usize,
    pub(super) waves: usize,
    pub(super) edges: usize,
    pub(super) vibrators: usize,
    pub(super) keyed_a_second: usize,
    pub(super) least_effect: f64,
    pub(super) false_discovery_rate: f64,
}

impl Default for ResonanceOptions {
    fn default() -> Self {
        Self {
            channels: 256,
            moments: 4096,
            waves: 32_768,
            edges: 1024,
            vibrators: 256,
            keyed_a_second: 2000,
            least_effect: 0.04,
            false_discovery_rate: 0.01,
        }
    }
}

impl ResonanceOptions {
    /// The maximum number of channels, 1 to 4096. Default: 256. Beyond it, the channel that was silent longest is
    /// forgotten. Cost: the moments below for each, and the square of their number in a report.
    #[must_use]
    pub fn channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// The maximum number of emissions kept for timing per channel, 64 to 65,536. Default: 4096. Cost: 16 bytes each.
    #[must_use]
    pub fn moments(mut self, moments: usize) -> Self {
        self.moments = moments;
        self
    }

    /// The maximum number of waves kept by id to look up causes, 16 to 16,777,216. Default: 32,768. Cost: about 130
    /// bytes each.
    #[must_use]
    pub fn waves(mut self, waves: usize) -> Self {
        self.waves = waves;
        self
    }

    /// The maximum number of edges kept from causes, and of edges kept from timing, 1 to 65,536 each.
    /// Default: 1024. Cost: about 2.5 KB for both.
    #[must_use]
    pub fn edges(mut self, edges: usize) -> Self {
        self.edges = edges;
        self
    }

    /// The maximum number of vibrators whose patterns are kept, 1 to 65,536. Default: 256.
    #[must_use]
    pub fn vibrators(mut self, vibrators: usize) -> Self {
        self.vibrators = vibrators;
        self
    }

    /// The number of waves with a coherence key that timing uses per second, 1 to 1,000,000. Default: 2000. If there
    /// are more, it samples every second, fourth and so on *key*. Related waves then stay together, and the moments of
    /// each channel reach back far enough.
    #[must_use]
    pub fn keyed_a_second(mut self, waves: usize) -> Self {
        self.keyed_a_second = waves;
        self
    }

    /// The smallest effect of an edge found by timing: waves of B for each wave of A, above chance. Above 0 and at most
    /// 1. Default: 0.04.
    #[must_use]
    pub fn least_effect(mut self, effect: f64) -> Self {
        self.least_effect = effect;
        self
    }

    /// The share of edges found by timing that may be chance, above 0 and at most 0.5. Default: 0.01.
    #[must_use]
    pub fn false_discovery_rate(mut self, rate: f64) -> Self {
        self.false_discovery_rate = rate;
        self
    }
}
