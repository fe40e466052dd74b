//! An incident: what it is about, and how it reads.

use std::fmt;
use std::time::Duration;

use crate::duration::brief;
use crate::finding::Finding;
use aether_core::Channel;
use aether_core::clock::Instant;

/// Something that an operator should know: one fault, with everything that follows from it.
///
/// Its [`Display`](fmt::Display) is one sentence with the fault and the remedy.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Incident {
    /// Its number, from 1: the same when it begins and when it ends.
    pub id: u64,
    /// What is wrong.
    pub cause: Cause,
    /// How urgent it is.
    pub severity: Severity,
    /// When it began, as far as it was observed: before it was found.
    pub since: Instant,
    /// When it ended; `None` while it lasts.
    pub until: Option<Instant>,
    /// How long it lasted, until this report.
    pub lasted: Duration,
    /// The services at fault, by name: the one nearest to the cause first. Empty for the medium.
    pub services: Vec<String>,
    /// The streams of these services that are silent, at most 32.
    pub streams: Vec<Channel>,
    /// The channels of other services that are silent because of it, at most 32.
    pub followers: Vec<Channel>,
    /// The services that wait for an answer, at most 32.
    pub waiting: Vec<String>,
    /// The findings that belong to it, the first 16.
    pub findings: Vec<Finding>,
    /// The channels that go on and reach the services no more, since their processes were lost; at most 32.
    pub unheard: Vec<Channel>,
}

/// The cause of an incident.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// A service has fallen silent: it was stopped, it crashed, or it hangs.
    Stopped,
    /// A service lives, and no longer answers questions on a channel.
    NotAnswering {
        /// The channel.
        channel: Channel,
    },
    /// A service answers much later than before.
    Slow {
        /// The channel of the questions.
        channel: Channel,
        /// The median time of an answer.
        takes: Duration,
        /// The median before.
        before: Duration,
    },
    /// One regular stream of a service stopped, while the service lives.
    StreamStopped {
        /// The channel.
        channel: Channel,
    },
    /// The observer has lost its connection.
    Disconnected,
    /// All services fell silent at once: the medium, the network or the observer is at fault.
    AllSilent,
    /// Requests are repeated more and more often.
    RetryStorm {
        /// The channel.
        channel: Channel,
    },
    /// Enough sources assert a claim; see [`Interfere`](crate::Interfere).
    Claim {
        /// The channel.
        channel: Channel,
        /// The coherence key.
        key: String,
    },
    /// The observer loses waves for a while, so findings may be missing.
    Losses,
}

/// How urgent an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Somebody should look at it during the day.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// All severities, in ascending order.
    pub const ALL: [Self; 2] = [Self::Warning, Self::Critical];

    /// `warning` or `critical`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Cause {
    /// The kind of cause in snake case, for metrics and records.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::NotAnswering { .. } => "not_answering",
            Self::Slow { .. } => "slow",
            Self::StreamStopped { .. } => "stream_stopped",
            Self::Disconnected => "disconnected",
            Self::AllSilent => "all_silent",
            Self::RetryStorm { .. } => "retry_storm",
            Self::Claim { .. } => "claim",
            Self::Losses => "losses",
        }
    }
}

/// One sentence for people.
impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = || self.services.join(", ");
        if self.until.is_some() {
            let what = match &self.cause {
                Cause::Stopped => format!("{} sent nothing", who()),
                Cause::NotAnswering { channel } => format!("{} did not answer {channel}", who()),
                Cause::Slow { channel, .. } => format!("{} was slow to answer {channel}", who()),
                Cause::StreamStopped { channel } => format!("{channel} by {} was silent", who()),
                Cause::Disconnected => "the observer had no connection".to_owned(),
                Cause::AllSilent => "all services were silent".to_owned(),
                Cause::RetryStorm { channel } => format!("requests on {channel} were repeated"),
                Cause::Claim { channel, key } => format!("{key:?} was claimed on {channel}"),
                Cause::Losses => "the observer lost waves".to_owned(),
            };
            return write!(f, "ended: {what} for {}", brief(self.lasted));
        }
        let lasted = brief(self.lasted);
        match &self.cause {
            Cause::Stopped => {
                write!(f, "{} stopped: {} silent for {lasted}", who(), self.silent())?;
                match self.unheard.len() {
                    0 => {}
                    1 => write!(f, " while {} goes on", self.unheard[0])?,
                    several => write!(f, " while {several} channels that it hears go on")?,
                }
                self.consequences(f)?;
                f.write_str(if self.services.len() > 1 {
                    "; check their host"
                } else {
                    "; check the process"
                })
            }
            Cause::NotAnswering { channel } => {
                write!(f, "{} lives, and has not answered {channel} for {lasted}", who())?;
                self.consequences(f)?;
                f.write_str("; check its handlers")
            }
            Cause::Slow { channel, takes, before } => write!(
                f,
                "{} is slow: {channel} is answered after {} instead of {}; check its load",
                who(),
                brief(*takes),
                brief(*before)
            ),
            Cause::StreamStopped { channel } => write!(
                f,
                "{channel} by {} is silent for {lasted}, while the service lives; check the job that emits it",
                who()
            ),
            Cause::Disconnected => write!(
                f,
                "the observer has no connection for {lasted} and sees nothing; check the broker and the network"
            ),
            Cause::AllSilent => write!(
                f,
                "all services fell silent at once, {lasted} ago; check the broker, the network and this observer"
            ),
            Cause::RetryStorm { channel } => {
                write!(f, "requests on {channel} are repeated more and more; check who answers them")
            }
            Cause::Claim { channel, key } => {
                write!(f, "enough sources claim {key:?} on {channel}; check what it names")
            }
            Cause::Losses => {
                write!(f, "the observer loses waves for {lasted}, so findings may be missing; check its load")
            }
        }
    }
}

impl Incident {
    fn silent(&self) -> String {
        match self.streams.len() {
            0 => "it is".to_owned(),
            1 => format!("its stream {} is", self.streams[0]),
            several => format!("its {several} streams are"),
        }
    }

    fn consequences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.followers.len() {
            0 => {}
            1 => write!(f, ", so is {} that follows", self.followers[0])?,
            several => write!(f, ", so are {several} channels that follow")?,
        }
        if !self.waiting.is_empty() {
            let verb = if self.waiting.len() == 1 { "waits" } else { "wait" };
            write!(f, ", and {} {verb} for answers", self.waiting.join(", "))?;
        }
        Ok(())
    }
}
