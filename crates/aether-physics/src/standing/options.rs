//! The options and the counts of the detector of standing waves.

use std::time::Duration;

use crate::bounds::{BoundsError, check};

/// The upper bound of [`StandingOptions::max_streams`].
const MOST_STREAMS: usize = 1 << 16;
/// The upper bound of [`StandingOptions::shortest_silence`].
const LONGEST_SILENCE: Duration = Duration::from_secs(3600);

/// Options of [`StandingWaves`](super::StandingWaves).
#[derive(Debug, Clone)]
#[must_use = "no detector is made before StandingWaves::new()"]
pub struct StandingOptions {
    pub(super) max_streams: usize,
    pub(super) shortest_silence: Duration,
}

impl Default for StandingOptions {
    fn default() -> Self {
        Self { max_streams: 1024, shortest_silence: Duration::from_secs(1) }
    }
}

impl StandingOptions {
    /// The maximum number of observed streams, each of one source on one channel. Beyond it, the one that was silent
    /// longest is forgotten. Default: 1024. Cost: up to 2 KiB per stream.
    pub fn max_streams(mut self, most: usize) -> Self {
        self.max_streams = most;
        self
    }

    /// The shortest silence that is reported, however short the period is: a process, a scheduler or a link may pause
    /// for less. At most an hour. Default: 1 s.
    pub fn shortest_silence(mut self, silence: Duration) -> Self {
        self.shortest_silence = silence;
        self
    }

    pub(super) fn check(&self) -> Result<(), BoundsError> {
        let Self { max_streams, shortest_silence } = *self;
        let streams_allowed = (1..=MOST_STREAMS).contains(&max_streams);
        check(streams_allowed, "standing.max_streams", max_streams, format!("1 to {MOST_STREAMS}"))?;
        let silence_allowed = shortest_silence <= LONGEST_SILENCE;
        check(silence_allowed, "standing.shortest_silence", shortest_silence.as_secs_f64(), "at most 3600 s")
    }
}

/// The waves and streams that a detector of standing waves has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StandingCounts {
    /// Waves that count as beats.
    pub beats: u64,
    /// Waves inside of a burst, after its first.
    pub inside_bursts: u64,
    /// Waves that arrived a second time, or in the same nanosecond.
    pub repeated: u64,
    /// Waves older than the latest 128 of their stream.
    pub too_old: u64,
    /// Waves without a source.
    pub sourceless: u64,
    /// Streams that were forgotten because there were too many.
    pub streams_evicted: u64,
    /// Forgotten streams that were periodic. Their silence is not reported.
    pub standing_evicted: u64,
    /// The number of times that the caller's clock went back.
    pub clock_jumps: u64,
}
