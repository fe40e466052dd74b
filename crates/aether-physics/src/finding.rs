//! Findings: the results of the detectors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::duration::brief;
use super::interference::{Fringe, FringeKind};
use super::resonance::{Edge, Tier};
use super::sampling::Sampling;
use aether_core::{Channel, Source};

/// A pattern in the traffic, with its evidence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// A stream is periodic: a heartbeat, a cron job, polling.
    Standing(StandingWave),
    /// A periodic stream has fallen silent.
    MissingBeat {
        /// The silent stream.
        stream: StandingWave,
        /// The silence so far, as long as the stream was observed without a break.
        silence: Duration,
        /// The evidence: such a silence has a probability of `10^-phi` while the stream is alive.
        phi: f64,
        /// The other streams that this silence explains: those that fell silent at the same time, of the same source or of
        /// sources that are silent as a whole, and those that echo the silent stream.
        also_silent: Vec<StandingWave>,
    },
    /// A reported silence is over: the stream beats again, or another instance of its source does, or most of
    /// the streams of several sources that fell silent with it do. From then on, streams that stay silent are reported
    /// by themselves.
    Resumed {
        /// The stream that was reported, or the one that replaces it.
        stream: StandingWave,
        /// The length of the silence.
        silence: Duration,
        /// The number of the other streams that fell silent with it and are still silent.
        also_silent: usize,
    },
    /// The same question is asked at even intervals and always gets the same answer. An event on each change could
    /// replace it. Reported once, until its asker has stopped.
    Polling {
        /// The channel of the questions.
        channel: Channel,
        /// The asker.
        source: Source,
        /// The time between two equal questions.
        period: Duration,
        /// The number of different questions that are asked in this way.
        questions: usize,
        /// The number of equal answers in a row.
        unchanged: u32,
    },
    /// The same requests are sent again and again, more often than before.
    RetryStorm {
        /// The channel.
        channel: Channel,
        /// The mean number of attempts per request in the last interval.
        attempts_per_key: f64,
        /// The mean before, without storms.
        before: f64,
        /// The number of requests behind the mean.
        keys: usize,
    },
    /// One source asserts and retracts a claim again and again. Ordinary term: flapping.
    Cancellation {
        /// The channel.
        channel: Channel,
        /// The coherence key of the claim.
        key: Arc<str>,
        /// The source of the claim.
        source: Source,
        /// The number of changes between asserting and retracting.
        turns: u32,
        /// The time of these changes.
        within: Duration,
    },
    /// The sum of the claims about one key rose above its threshold, or fell below it.
    Fringe(Fringe),
    /// One channel follows another. The last report did not have this edge.
    Related {
        /// The edge.
        edge: Box<Edge>,
    },
    /// An edge of the last report is no longer found: it fell silent, or other traffic displaced it.
    Unrelated {
        /// The channel of the causes.
        from: Channel,
        /// The channel of the effects.
        to: Channel,
        /// The kind of its evidence.
        tier: Tier,
    },
    /// There are more waves than the engine's budget. It pauses for a while.
    Sampling {
        /// The share of the traffic that it observes.
        sampling: Sampling,
    },
    /// The clock of the caller went back, or forward by more than a minute.
    ClockJumped {
        /// The number of jumps so far.
        times: u64,
    },
}

/// A periodic stream: the waves of one source on one channel, at regular intervals.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StandingWave {
    /// The channel.
    pub channel: Channel,
    /// The source.
    pub source: Source,
    /// The time between beats.
    pub period: Duration,
    /// The offset of the beats: the time since the detector's first wave, modulo the period.
    pub phase: Duration,
    /// How strictly the beats keep to period and phase, from 0 to 1: the length of the mean vector of the last 128,
    /// folded at the period. It is also small for a regular stream with a drifting clock.
    pub regularity: f32,
    /// The standard deviation of the gaps, as a share of the period.
    pub jitter: f32,
    /// The share of missing beats, estimated from gaps of several periods.
    pub missing: f32,
    /// The number of beats so far.
    pub beats: u64,
    /// Whether it has fallen silent, by itself or with others.
    pub silent: bool,
}

impl Finding {
    /// The kind of finding in snake case, for metrics and records.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Standing(_) => "standing_wave",
            Self::MissingBeat { .. } => "missing_beat",
            Self::Resumed { .. } => "resumed",
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
            Self::MissingBeat { stream, silence, phi, also_silent } => {
                write!(
                    f,
                    "missing beat: {} by {} beats every {} and has been silent for {} (phi {phi:.0})",
                    stream.channel,
                    stream.source.name(),
                    brief(stream.period),
                    brief(*silence)
                )?;
                match also_silent.len() {
                    0 => write!(f, "; check {}", stream.source.name()),
                    1 => write!(f, " with 1 other stream; check {}", stream.source.name()),
                    others if also_silent.iter().all(|other| other.source == stream.source) => {
                        write!(f, " with {others} other streams; check {}", stream.source.name())
                    }
                    others => {
                        let source = stream.source.name();
                        write!(f, " with {others} other streams; check {source}, and what they share")
                    }
                }
            }
            Self::Resumed { stream, silence, also_silent } => {
                let (channel, source) = (&stream.channel, stream.source.name());
                write!(f, "resumed: {channel} by {source} beats again after {}", brief(*silence))?;
                match also_silent {
                    0 => Ok(()),
                    1 => write!(f, ", 1 other stream is awaited"),
                    others => write!(f, ", {others} other streams are awaited"),
                }
            }
            Self::Polling { channel, source, period, questions, unchanged } => write!(
                f,
                "polling: {} asks {channel} {questions} questions every {} and got the same answer {unchanged} times in a row",
                source.name(),
                brief(*period)
            ),
            Self::RetryStorm { channel, attempts_per_key, before, keys } => write!(
                f,
                "retry storm: {channel} has {attempts_per_key:.1} attempts a request, {before:.1} before ({keys} requests)"
            ),
            Self::Cancellation { channel, key, source, turns, within } => write!(
                f,
                "cancellation: {} turned {turns} times within {} about {key:?} on {channel}",
                source.name(),
                brief(*within)
            ),
            Self::Fringe(fringe) => write!(
                f,
                "fringe {}: {:?} on {} is at {:.2} by {} sources{}",
                match fringe.kind {
                    FringeKind::Rise => "rises",
                    FringeKind::Changed => "changes",
                    FringeKind::Fall => "falls",
                    FringeKind::Forgotten => "is forgotten",
                },
                fringe.key,
                fringe.channel,
                fringe.amplitude,
                fringe.sources,
                if fringe.lit > 1 { format!(", with {} other keys", fringe.lit - 1) } else { String::new() }
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
