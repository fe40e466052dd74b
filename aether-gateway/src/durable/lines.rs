//! What is said of durable logs, as JSON.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_core::Pattern;
use aether_core::presence::Roster;
use aether_log::store::Retention;
use aether_log::{
    ConsumerStanding, JetStreamError, JetStreamStanding, LogStanding, StreamConsumerStanding, StreamStanding,
};
use aether_service::letters::{store_of, store_of_log};
use serde::{Serialize, Serializer};
use tokio::time::Instant;

/// One reading of all folders.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(super) began: Option<Instant>,
    /// When it was read; `None` if there are no folders, or they are read for the first time.
    unix_ms: Option<u64>,
    /// The time between two numbers of a history.
    history_seconds: f64,
    pub(super) logs: Vec<LogLine>,
    /// Folders that were not looked at, as there are too many.
    more_logs: usize,
}

/// One reading of the logs in JetStream.
#[derive(Debug, Serialize)]
pub(crate) struct StreamReading {
    #[serde(skip)]
    fresh_until: Option<Instant>,
    pub(crate) is_observed: bool,
    /// The servers; null if the gateway knows none.
    pub(crate) url: Option<String>,
    /// Why nothing is said of them.
    reason: Option<String>,
    /// When they were read.
    unix_ms: Option<u64>,
    #[serde(skip)]
    logs: Vec<LogLine>,
    /// Logs that were not read, as there are too many or the time was over.
    more_logs: usize,
}

/// All logs, those in folders first.
#[derive(Debug)]
pub(crate) struct AllLogs {
    pub(super) folders: Arc<Reading>,
    pub(super) streams: Arc<StreamReading>,
}

/// Where a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    Folder,
    JetStream,
}

/// A log.
#[derive(Debug, Serialize)]
pub(crate) struct LogLine {
    pub(crate) store: Store,
    /// Null if it is in JetStream.
    pub(crate) folder: Option<String>,
    /// The last part of the folder, or the stream.
    pub(crate) name: String,
    /// Why it cannot be read.
    pub(crate) error: Option<String>,
    /// Its extent; null if it cannot be read.
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
    /// Null if it is in JetStream.
    segments: Option<usize>,
    /// The number of servers that keep it; null if it is in a folder.
    replicas: Option<usize>,
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
    /// The position that was delivered last; null if it is not kept, as in folders.
    delivered: Option<u64>,
    /// Waves that wait: at least this number, unless it is exact.
    pub(crate) lag: u64,
    lag_at_most: u64,
    is_exact: bool,
    /// The lag of the last minutes, the newest last.
    lag_history: Vec<u64>,
    /// Null if there are too many to be counted.
    pub(crate) retrying: Option<u64>,
    pub(crate) in_flight: u64,
    /// Waves that were delivered more than once; null in folders, where only failures are.
    pub(crate) redelivered: Option<u64>,
    /// Null in JetStream, which does not count these three.
    acknowledged: Option<u64>,
    dead: Option<u64>,
    expired: Option<u64>,
    /// The number of its dead waves that are still kept; null if there are too many to count.
    dead_letters: Option<u64>,
    last_acknowledged_unix_ms: Option<u64>,
    oldest_waiting_unix_ms: Option<u64>,
    /// Null in JetStream, which has no journal.
    damaged_places: Option<usize>,
}

impl Reading {
    /// Nothing was read.
    pub(super) fn of_none(every: Duration) -> Self {
        let history_seconds = every.as_secs_f64();
        Self { began: None, unix_ms: None, history_seconds, logs: Vec::new(), more_logs: 0 }
    }

    pub(super) fn of(began: Instant, every: Duration, logs: Vec<LogLine>, more_logs: usize) -> Self {
        let unix_ms = Some(unix_ms(SystemTime::now()));
        Self { began: Some(began), unix_ms, logs, more_logs, ..Self::of_none(every) }
    }
}

impl StreamReading {
    /// Nothing was read.
    pub(super) fn of_none(url: Option<String>, reason: impl Into<String>) -> Self {
        let reason = Some(reason.into());
        let (logs, more_logs) = (Vec::new(), 0);
        Self { fresh_until: None, is_observed: false, url, reason, unix_ms: None, logs, more_logs }
    }

    pub(super) fn of(url: String, standing: JetStreamStanding) -> Self {
        let JetStreamStanding { logs, more_logs, .. } = standing;
        Self {
            is_observed: true,
            reason: None,
            unix_ms: Some(unix_ms(SystemTime::now())),
            logs: logs.into_iter().map(|(name, log)| LogLine::of_stream(name, log)).collect(),
            more_logs,
            ..Self::of_none(Some(url), "")
        }
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &LogLine> {
        self.logs.iter()
    }

    pub(super) fn fresh_until(mut self, until: Instant) -> Self {
        self.fresh_until = Some(until);
        self
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|until| Instant::now() < until)
    }
}

/// All logs, and the folders of those whose programs answer for them.
#[derive(Debug, Serialize)]
pub(crate) struct Answering<'a> {
    #[serde(flatten)]
    all: &'a AllLogs,
    /// The folders of logs whose program drops consumers on request.
    answering: Vec<&'a str>,
}

impl AllLogs {
    /// Adds which programs answer for their logs.
    pub(crate) fn answering(&self, roster: &Roster) -> Answering<'_> {
        let heard: BTreeSet<u64> = roster
            .vibrators()
            .iter()
            .flat_map(|announced| announced.heard.iter().filter_map(|heard| store_of(heard.pattern.as_str())))
            .collect();
        let folders = self.logs().filter_map(|log| log.folder.as_deref());
        let answers =
            |folder: &&str| store_of_log(Path::new(folder)).is_some_and(|store| heard.contains(&store));
        Answering { all: self, answering: folders.filter(answers).collect() }
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = &LogLine> {
        self.folders.logs.iter().chain(&self.streams.logs)
    }

    /// The consumers that have begun, with their log and their pattern.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = (&str, &str, Pattern)> {
        self.logs().flat_map(|log| {
            log.consumers.iter().filter_map(|consumer| {
                let (pattern, _) = consumer.standing.as_ref()?.place()?;
                Some((&*log.name, &*consumer.name, pattern))
            })
        })
    }

    pub(crate) fn streams(&self) -> &StreamReading {
        &self.streams
    }
}

impl Serialize for AllLogs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            unix_ms: Option<u64>,
            history_seconds: f64,
            logs: Vec<&'a LogLine>,
            more_logs: usize,
            jetstream: &'a StreamReading,
        }
        let Reading { unix_ms, history_seconds, more_logs, .. } = *self.folders;
        let logs = self.logs().collect();
        Line { unix_ms, history_seconds, logs, more_logs, jetstream: &self.streams }.serialize(serializer)
    }
}

impl LogLine {
    fn new(store: Store, folder: Option<String>, name: String) -> Self {
        Self { store, folder, name, error: None, held: None, consumers: Vec::new(), more_consumers: 0 }
    }

    /// A log in a folder that cannot be read.
    pub(super) fn unread(folder: String, name: String, error: String) -> Self {
        Self { error: Some(error), ..Self::new(Store::Folder, Some(folder), name) }
    }

    /// A log in JetStream.
    fn of_stream(name: String, standing: Result<StreamStanding, JetStreamError>) -> Self {
        let line = Self::new(Store::JetStream, None, name);
        match standing {
            Ok(standing) => Self {
                held: Some(HeldLine::of_stream(&standing)),
                more_consumers: standing.more_consumers,
                consumers: standing.consumers.into_iter().map(ConsumerLine::of_stream).collect(),
                ..line
            },
            Err(error) => Self { error: Some(aether_service::error_chain(&error)), ..line },
        }
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
            segments: Some(extent.segments),
            replicas: None,
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
                ConsumerLine { name, error: Some(aether_service::error_chain(&error)), standing: None }
            }
        });
        let consumers = consumers.collect();
        Self { held: Some(held), consumers, more_consumers, ..Self::new(Store::Folder, Some(folder), name) }
    }
}

impl HeldLine {
    fn of_stream(standing: &StreamStanding) -> Self {
        Self {
            first: standing.first,
            last: standing.last,
            bytes: standing.bytes,
            segments: None,
            replicas: Some(standing.replicas),
            oldest_unix_ms: standing.oldest.map(unix_ms),
            newest_unix_ms: standing.newest.map(unix_ms),
            retention: Some(RetentionLine {
                max_age_seconds: standing.max_age.map(|age| age.as_secs_f64()),
                max_bytes: standing.max_bytes,
                max_waves: standing.max_waves,
            }),
            dead_letters: standing.dead,
        }
    }
}

impl ConsumerLine {
    fn of_stream(standing: StreamConsumerStanding) -> Self {
        let line = StandingLine {
            pattern: standing.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
            position: standing.position,
            delivered: Some(standing.delivered),
            lag: standing.lag,
            lag_at_most: standing.lag,
            is_exact: true,
            lag_history: Vec::new(),
            retrying: standing.retrying,
            in_flight: standing.in_flight,
            redelivered: Some(standing.redelivered),
            acknowledged: None,
            dead: None,
            expired: None,
            dead_letters: standing.dead,
            last_acknowledged_unix_ms: standing.last_acknowledged.map(unix_ms),
            oldest_waiting_unix_ms: None,
            damaged_places: None,
        };
        Self { name: standing.name, error: None, standing: Some(line) }
    }
}

impl StandingLine {
    fn of(standing: &ConsumerStanding, dead_letters: Option<u64>) -> Self {
        Self {
            pattern: standing.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
            position: standing.position,
            delivered: None,
            lag: standing.lag.at_least,
            lag_at_most: standing.lag.at_most,
            is_exact: standing.lag.is_exact(),
            lag_history: Vec::new(),
            retrying: Some(standing.retrying),
            in_flight: standing.in_flight,
            redelivered: None,
            acknowledged: Some(standing.acknowledged),
            dead: Some(standing.dead),
            expired: Some(standing.expired),
            dead_letters,
            last_acknowledged_unix_ms: standing.last_acknowledged.map(unix_ms),
            oldest_waiting_unix_ms: standing.oldest_waiting.map(unix_ms),
            damaged_places: Some(standing.damaged),
        }
    }

    /// The pattern of the consumer, and the position behind its own; `None` if it has not begun.
    pub(super) fn place(&self) -> Option<(Pattern, u64)> {
        let pattern = self.pattern.as_deref()?;
        Some((Pattern::new(pattern).ok()?, self.position.saturating_add(1)))
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
