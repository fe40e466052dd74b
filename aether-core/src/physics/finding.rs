//! What the detectors find.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::duration::brief;
use super::engine::Sampling;
use super::interference::{Fringe, FringeKind};
use super::resonance::{Edge, Tier};
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
        /// For how long, as far as it was watched without a break.
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
    /// Claims of several sources about one key rose above their threshold, or fell below it.
    Fringe(Fringe),
    /// One channel follows another, which was not known at the last report.
    Related {
        /// How surely, and how fast.
        edge: Box<Edge>,
    },
    /// An edge that the last report had is no longer found: it fell silent, or too much else was seen since.
    Unrelated {
        /// The channel of the causes.
        from: Channel,
        /// The channel of the effects.
        to: Channel,
        /// How it was known.
        tier: Tier,
    },
    /// There are more waves than may be taken in; the engine looks away for a while.
    Sampling {
        /// How much it looks at.
        sampling: Sampling,
    },
    /// The clock that the engine was given went back, or forth by more than a minute.
    ClockJumped {
        /// How often it did so far.
        times: u64,
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

impl Finding {
    /// Which sort of finding it is: a word in snake case, for metrics and records.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Standing(_) => "standing_wave",
            Self::MissingBeat { .. } => "missing_beat",
            Self::Polling { .. } => "polling",
            Self::RetryStorm { .. } => "retry_storm",
            Self::Cancellation { .. } => "cancellation",
            Self::Fringe(_) => "fringe",
            Self::Related { .. } => "related",
            Self::Unrelated { .. } => "unrelated",
            Self::Sampling { .. } => "sampling",
            Self::ClockJumped { .. } => "clock_jumped",
        }
    }
}

/// One line for people.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standing(stream) => write!(
                f,
                "standing wave: {} by {} beats every {}, regularity {:.2}",
                stream.channel,
                stream.source.name(),
                brief(stream.period),
                stream.regularity
            ),
            Self::MissingBeat { stream, silence, phi } => write!(
                f,
                "missing beat: {} by {} beats every {} and has been silent for {} (phi {phi:.0})",
                stream.channel,
                stream.source.name(),
                brief(stream.period),
                brief(*silence)
            ),
            Self::Polling { stream, unchanged } => write!(
                f,
                "polling: {} asks {} every {} and got the same answer {unchanged} times in a row",
                stream.source.name(),
                stream.channel,
                brief(stream.period)
            ),
            Self::RetryStorm { channel, attempts_per_key, before, keys } => write!(
                f,
                "retry storm: {channel} has {attempts_per_key:.1} attempts a key, {before:.1} before ({keys} keys)"
            ),
            Self::Cancellation { channel, key, source, turns, within } => write!(
                f,
                "cancellation: {} turned {turns} times within {} about {key:?} on {channel}",
                source.name(),
                brief(*within)
            ),
            Self::Fringe(fringe) => write!(
                f,
                "fringe {}: {:?} on {} stands at {:.2} by {} sources",
                match fringe.kind {
                    FringeKind::Rise => "rises",
                    FringeKind::Fall => "falls",
                    FringeKind::Forgotten => "is forgotten",
                },
                fringe.key,
                fringe.channel,
                fringe.amplitude,
                fringe.sources
            ),
            Self::Related { edge } => write!(f, "related: {edge}"),
            Self::Unrelated { from, to, tier } => write!(f, "no longer found: {from} -> {to} ({tier})"),
            Self::Sampling { sampling } => {
                write!(f, "too many waves: looked at {:.1} % of the time", 100.0 * sampling.lately)
            }
            Self::ClockJumped { times } => write!(f, "the clock jumped, {times} times so far"),
        }
    }
}
