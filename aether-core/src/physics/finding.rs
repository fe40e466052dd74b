//! What the detectors find.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::Channel;
use crate::source::Source;

/// Something that waves mean together, with the numbers that say so.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// A stream turned out to be periodic: a heartbeat, a cron job, polling.
    Standing(StandingWave),
    /// A periodic stream has fallen silent.
    MissingBeat {
        /// What is silent.
        stream: StandingWave,
        /// For how long.
        silence: Duration,
        /// How unlikely such a silence is: a chance of `10^-phi` if the stream were as it was.
        phi: f64,
    },
    /// A question is asked periodically and gets the same answer each time: an event could tell when it changes.
    Polling {
        /// The questions.
        stream: StandingWave,
        /// How many answers in a row were the same.
        unchanged: u32,
    },
    /// The same work is asked for again and again, and more so than before.
    RetryStorm {
        /// Where.
        channel: Channel,
        /// How many attempts there were for one coherence key on average, in the last interval.
        attempts_per_key: f64,
        /// The same for the interval before.
        before: f64,
        /// How many keys these averages were counted on.
        keys: usize,
    },
    /// One source asserts and retracts a claim over and over, so that it says nothing. Ordinary term: flapping.
    Cancellation {
        /// Where.
        channel: Channel,
        /// What the claim is about.
        key: Arc<str>,
        /// Who claims it.
        source: Source,
        /// How often it changed its mind.
        turns: u32,
        /// Within which time.
        within: Duration,
    },
}

/// A periodic stream: what one source emits on one channel, at regular moments.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StandingWave {
    /// Where.
    pub channel: Channel,
    /// Who.
    pub source: Source,
    /// The time from beat to beat.
    pub period: Duration,
    /// Where in its period the stream beats: the time since the detector's first wave, modulo the period.
    pub phase: Duration,
    /// How strictly the beats keep to period and phase, from 0 to 1: the length of the mean vector of the last 128,
    /// folded at the period. Small, too, for a regular stream whose clock drifts.
    pub regularity: f32,
    /// How far the gaps scatter, as a part of the period: their standard deviation.
    pub jitter: f32,
    /// Which part of the beats is missing, as far as gaps of several periods show.
    pub missing: f32,
    /// How many beats were seen.
    pub beats: u64,
}
