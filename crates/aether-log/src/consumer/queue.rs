//! A consumer as a queue of jobs: what waits, runs and pauses in this process.

use std::time::{Duration, SystemTime};

use aether_core::{Pattern, Wave};

use crate::consumer::options::ConsumerOptions;

/// The queue of a consumer, as this process sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueStanding {
    /// The pattern of its waves.
    pub pattern: Pattern,
    /// Whether waves of one key are handled one after the other.
    pub by_key: bool,
    /// Whether it was [paused](crate::Consumer::pause).
    pub is_paused: bool,
    /// Waves that wait for their turn. In JetStream those in flight in other processes are among them.
    pub waiting: u64,
    /// Of these, waves whose tenants are over their [limit](crate::ConsumerOptions::limit), of those that this process has
    /// looked at. By key the ones behind them are not among these.
    pub limited: u64,
    /// Positions of a log in a folder that were not looked at yet: each may be a wave that waits.
    pub unseen: u64,
    /// When the oldest one that waits was stored, of those that this process has looked at.
    pub oldest_waiting: Option<SystemTime>,
    /// Waves that pause after a failure. In JetStream of this process.
    pub retrying: u64,
    /// The time until the next one of these is due.
    pub next_due: Option<Duration>,
    /// Waves that are being handled in this process.
    pub in_flight: u64,
    /// For how long the first one of these has been handled.
    pub longest: Option<Duration>,
    /// Its dead letters.
    pub letters: u64,
    /// Waves that were acknowledged or given up in this process since it opened the consumer.
    pub done: u64,
    /// How many a second, in the last ten seconds.
    pub per_second: f64,
}

/// A wave of a consumer that is being handled, or pauses after a failure.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueuedJob {
    /// Its position in the log.
    pub position: u64,
    /// The wave; `None` if the log has it no more.
    pub wave: Option<Wave>,
    /// The number of this attempt, or of the next one.
    pub attempt: u32,
    /// Whether it is being handled.
    pub state: JobState,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// The state of a [`QueuedJob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobState {
    /// It has been handled for this time.
    InFlight(Duration),
    /// It is due after this time.
    Retrying(Duration),
}

/// The numbers of a window.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) is_paused: bool,
    pub(super) ready: u64,
    pub(super) limited: u64,
    pub(super) retrying: u64,
    pub(super) in_flight: u64,
    pub(super) oldest_waiting: Option<SystemTime>,
    pub(super) next_due: Option<Duration>,
    pub(super) longest: Option<Duration>,
    pub(super) done: u64,
    pub(super) per_second: f64,
}

impl Tally {
    /// The standing of a consumer with these waves waiting, and these not looked at.
    pub(super) fn standing(
        self,
        pattern: &Pattern,
        options: &ConsumerOptions,
        (waiting, unseen): (u64, u64),
        letters: u64,
    ) -> QueueStanding {
        QueueStanding {
            pattern: pattern.clone(),
            by_key: options.by_key,
            is_paused: self.is_paused,
            waiting,
            limited: self.limited,
            unseen,
            oldest_waiting: self.oldest_waiting,
            retrying: self.retrying,
            next_due: self.next_due,
            in_flight: self.in_flight,
            longest: self.longest,
            letters,
            done: self.done,
            per_second: self.per_second,
        }
    }
}
