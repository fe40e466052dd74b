//! How claims are added up, and when that is worth a report.

use std::convert::Infallible;
use std::time::Duration;

use super::Interference;
use crate::amplitude::{Amplitude, AmplitudeError};

/// The shortest and the longest window.
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24 * 365);
/// The longest time to settle.
const LONGEST_SETTLE: Duration = Duration::from_hours(24 * 365);
/// The most keys, and the most sources a key, that can be asked for.
const MOST_KEYS: usize = 1 << 20;
const MOST_SOURCES: usize = 64;

/// How claims are added up, and when their sum is worth a report. Checked by [`Interfere::build`].
#[derive(Debug, Clone)]
#[must_use = "nothing is made before build()"]
pub struct Interfere {
    pub(super) window: Duration,
    pub(super) sources: usize,
    pub(super) settle: Duration,
    pub(super) max_keys: usize,
    pub(super) max_sources: usize,
    rise: Result<Amplitude, AmplitudeError>,
    fall: Result<Amplitude, AmplitudeError>,
}

/// Options that contradict each other or exceed what is possible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InterfereOptionsError {
    /// A threshold that is no amplitude.
    #[error("invalid threshold")]
    Amplitude(#[from] AmplitudeError),
    /// Thresholds between which nothing lies, or that nothing reaches.
    #[error(
        "rise {rise} and fall {fall} are not allowed: the sum must be able to rise above fall and stays below 1, so fall < rise < 1"
    )]
    Thresholds {
        /// The threshold to rise.
        rise: Amplitude,
        /// The threshold to fall.
        fall: Amplitude,
    },
    /// A window too short or too long.
    #[error("window {given:?} is not allowed: it must be from 1 ms to 365 days")]
    Window {
        /// The window as given.
        given: Duration,
    },
    /// A time to settle that is too long.
    #[error("settle time {given:?} is not allowed: at most 365 days")]
    Settle {
        /// The time as given.
        given: Duration,
    },
    /// Fewer than one source, or more than are kept.
    #[error("{given} sources are not allowed: from 1 to max_sources, which is {max}")]
    Sources {
        /// How many were asked for.
        given: usize,
        /// How many are kept.
        max: usize,
    },
    /// A bound of zero, or one that is too large.
    #[error(
        "{max_keys} keys of {max_sources} sources are not allowed: from 1 to {MOST_KEYS} keys, 1 to {MOST_SOURCES} sources"
    )]
    Bounds {
        /// The most keys, as given.
        max_keys: usize,
        /// The most sources a key, as given.
        max_sources: usize,
    },
}

impl From<Infallible> for InterfereOptionsError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
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
            rise: Amplitude::new(0.8),
            fall: Ok(Amplitude::NORMAL),
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
        self.rise = Amplitude::new(amplitude);
        self
    }

    /// The amplitude below which a key that has risen falls; the distance to the other threshold is the debounce.
    /// Default: 0.5.
    pub fn fall(mut self, amplitude: f32) -> Self {
        self.fall = Amplitude::new(amplitude);
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

    /// The detector.
    ///
    /// # Errors
    /// [`InterfereOptionsError`] says which option is wrong and what is allowed.
    pub fn build(self) -> Result<Interference, InterfereOptionsError> {
        let (rise, fall) = (self.rise?, self.fall?);
        let Self { window, settle, sources, max_keys, max_sources, .. } = self;
        if !WINDOWS.contains(&window) {
            return Err(InterfereOptionsError::Window { given: window });
        }
        if settle > LONGEST_SETTLE {
            return Err(InterfereOptionsError::Settle { given: settle });
        }
        if !(1..=MOST_KEYS).contains(&max_keys) || !(1..=MOST_SOURCES).contains(&max_sources) {
            return Err(InterfereOptionsError::Bounds { max_keys, max_sources });
        }
        if !(1..=max_sources).contains(&sources) {
            return Err(InterfereOptionsError::Sources { given: sources, max: max_sources });
        }
        if fall >= rise || rise == Amplitude::FULL {
            return Err(InterfereOptionsError::Thresholds { rise, fall });
        }
        Ok(Interference::new(self, rise, fall))
    }
}
