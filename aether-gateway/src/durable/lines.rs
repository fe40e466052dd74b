//! What is said of durable logs, as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_log::store::Retention;
use aether_log::{ConsumerStanding, LogStanding};
use serde::Serialize;
use tokio::time::Instant;

/// Why nothing is said of logs in JetStream.
const NO_JETSTREAM: &str =
    "the gateway reads folders only; nats consumer report STREAM shows the lag of consumers in JetStream";

/// One reading of all folders.
#[derive(Debug, Serialize)]
pub(crate) struct Reading {
    #[serde(skip)]
    pub(crate) began: Option<Instant>,
    /// When it was read; null if there are no folders, or they are read for the first time.
    unix_ms: Option<u64>,
    /// The time between two numbers of a history.
    history_seconds: f64,
    pub(crate) logs: Vec<LogLine>,
    /// Folders that were not looked at, as there are too many.
    more_logs: usize,
    jetstream: JetStreamLine,
}

#[derive(Debug, Serialize)]
struct JetStreamLine {
    is_observed: bool,
    reason: &'static str,
}

/// A log.
#[derive(Debug, Serialize)]
pub(crate) struct LogLine {
    pub(crate) folder: String,
    /// The last part of the folder.
    name: String,
    /// Why it cannot be read.
    pub(crate) error: Option<String>,
    /// What it holds; null if it cannot be read.
    pub(crate) held: Option<HeldLine>,
    pub(crate) consumers: Vec<ConsumerLine>,
    /// Consumers that were not read, as there are too many.
    more_consumers: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct HeldLine {
    first: u64,
    last: u64,
    pub(crate) bytes: u64,
    segments: usize,
    oldest_unix_ms: Option<u64>,
    newest_unix_ms: Option<u64>,
    /// Null if it is not known: a log does not tell it.
    retention: Option<RetentionLine>,
    /// Null if there are too many to be counted.
    pub(crate) dead_letters: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RetentionLine {
    max_age_seconds: Option<f64>,
    max_bytes: Option<u64>,
    max_waves: Option<u64>,
}

/// A consumer.
#[derive(Debug, Serialize)]
pub(crate) struct ConsumerLine {
    pub(crate) name: String,
    /// Why its files cannot be read.
    error: Option<String>,
    /// Null if its files cannot be read.
    pub(crate) standing: Option<StandingLine>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StandingLine {
    /// Null if its program ended before it had noted that.
    pattern: Option<String>,
    position: u64,
    /// Waves that wait: at least so many, unless it is exact.
    pub(crate) lag: u64,
    lag_at_most: u64,
    is_exact: bool,
    /// The lag of the last minutes, the newest last.
    lag_history: Vec<u64>,
    pub(crate) retrying: u64,
    in_flight: u64,
    acknowledged: u64,
    dead: u64,
    expired: u64,
    /// Those of its dead waves that are still kept; null if there are too many to be counted.
    dead_letters: Option<u64>,
    last_acknowledged_unix_ms: Option<u64>,
    oldest_waiting_unix_ms: Option<u64>,
    damaged_places: usize,
}

impl Reading {
    /// Nothing was read.
    pub(super) fn of_none(every: Duration) -> Self {
        let jetstream = JetStreamLine { is_observed: false, reason: NO_JETSTREAM };
        let history_seconds = every.as_secs_f64();
        Self { began: None, unix_ms: None, history_seconds, logs: Vec::new(), more_logs: 0, jetstream }
    }

    pub(super) fn of(began: Instant, every: Duration, logs: Vec<LogLine>, more_logs: usize) -> Self {
        let unix_ms = Some(unix_ms(SystemTime::now()));
        Self { began: Some(began), unix_ms, logs, more_logs, ..Self::of_none(every) }
    }
}

impl LogLine {
    /// A log that cannot be read.
    pub(super) fn unread(folder: String, name: String, error: String) -> Self {
        Self { folder, name, error: Some(error), held: None, consumers: Vec::new(), more_consumers: 0 }
    }

    pub(super) fn read(
        folder: String,
        name: String,
        standing: LogStanding,
        retention: Option<&Retention>,
    ) -> Self {
        let LogStanding { extent, oldest, newest, consumers, more_consumers, dead, .. } = standing;
        let held = HeldLine {
            first: extent.first,
            last: extent.last,
            bytes: extent.bytes,
            segments: extent.segments,
            oldest_unix_ms: oldest.map(unix_ms),
            newest_unix_ms: newest.map(unix_ms),
            retention: retention.map(RetentionLine::from),
            dead_letters: dead.as_ref().map(|letters| letters.values().sum()),
        };
        let letters = |name: &str| dead.as_ref().map(|letters| letters.get(name).copied().unwrap_or(0));
        let consumers = consumers.into_iter().map(|(name, standing)| match standing {
            Ok(standing) => {
                let standing = Some(StandingLine::of(&standing, letters(&name)));
                ConsumerLine { name, error: None, standing }
            }
            Err(error) => {
                ConsumerLine { name, error: Some(aether_chassis::error_chain(&error)), standing: None }
            }
        });
        let consumers = consumers.collect();
        Self { folder, name, error: None, held: Some(held), consumers, more_consumers }
    }
}

impl StandingLine {
    fn of(standing: &ConsumerStanding, dead_letters: Option<u64>) -> Self {
        Self {
            pattern: standing.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
            position: standing.position,
            lag: standing.lag.at_least,
            lag_at_most: standing.lag.at_most,
            is_exact: standing.lag.is_exact(),
            lag_history: Vec::new(),
            retrying: standing.retrying,
            in_flight: standing.in_flight,
            acknowledged: standing.acknowledged,
            dead: standing.dead,
            expired: standing.expired,
            dead_letters,
            last_acknowledged_unix_ms: standing.last_acknowledged.map(unix_ms),
            oldest_waiting_unix_ms: standing.oldest_waiting.map(unix_ms),
            damaged_places: standing.damaged,
        }
    }

    pub(super) fn with_history(&mut self, history: impl Iterator<Item = u64>) {
        self.lag_history = history.collect();
    }
}

impl From<&Retention> for RetentionLine {
    fn from(kept: &Retention) -> Self {
        Self {
            max_age_seconds: kept.max_age.map(|age| age.as_secs_f64()),
            max_bytes: kept.max_bytes,
            max_waves: kept.max_records,
        }
    }
}

/// A time before 1970 is shown as 1970.
fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
