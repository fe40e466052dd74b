//! Schedules of a log: waves that are delivered later or regularly, each under a key.

use std::sync::Arc;
use std::time::Duration;

use aether_core::clock::micros_since_1970;
use aether_core::{Channel, Durability, Source, Wave, WaveId};
use tokio::sync::oneshot;

use crate::channels::Channels;
#[cfg(feature = "jetstream")]
use crate::jetstream::{JetStreamError, StreamSchedules};
use crate::name::is_name;
use crate::schedule::{SHORTEST, Schedule, Scheduled, time};
use crate::store::AppendError;
use crate::stored_wave::{SCHEDULE, entry};
use crate::timers::{Change, Changed, Timer, Timers};

/// Why a schedule was not changed or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The key is not valid.
    #[error("{key:?} cannot be the key of a schedule: use 1 to 64 letters, digits, '-' and '_'")]
    Key {
        /// The key.
        key: String,
    },
    /// The interval is too short.
    #[error("a wave every {interval:?} is too often: use at least {SHORTEST:?}")]
    TooOften {
        /// The interval.
        interval: Duration,
    },
    /// The log does not keep the channel.
    #[error("the log does not keep {channel}: make it one of its channels")]
    NotKept {
        /// The channel.
        channel: Channel,
    },
    /// The wave cannot be stored, whatever the log: its metadata are full, for example.
    #[error("the wave of the schedule cannot be stored")]
    Wave(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The folder was not written or read.
    #[error(transparent)]
    Folder(#[from] AppendError),
    /// The server refuses or does not answer.
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

/// The schedules of a log, made by [`Log::schedules`](crate::Log::schedules). Cloning it bumps reference counts.
///
/// A wave that is due is appended to the log. The consumers get it as any other wave, in the order of the log; receivers
/// that listen live do not. It carries the key as [`SCHEDULE`], and has an identity of its own each time.
///
/// Times that were missed while no process had the log open are made up for by one wave, and the schedule goes on with its
/// next time. However many processes share a log, one wave comes each time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use aether_core::{Durability, Wave};
/// use aether_log::{ConsumerOptions, Log, Schedule};
///
/// # let folder = tempfile::tempdir()?; let folder = folder.path();
/// let log = Log::builder(folder).channels("jobs.>", Durability::Synced)?.open()?;
/// let report = Wave::builder("jobs.report").text("orders").build()?;
/// log.schedules().put("nightly", Schedule::cron("0 3 * * *", "Europe/Berlin")?, report.clone()).await?;
/// log.schedules().put("soon", Schedule::after(Duration::from_millis(20)), report).await?;
///
/// let jobs = log.consumer("jobs", "jobs.>", ConsumerOptions::default())?;
/// let delivery = jobs.receive().await?;
/// assert_eq!(delivery.wave().metadata().value(aether_log::SCHEDULE), Some("soon"));
/// delivery.ack().await?;
/// assert!(log.schedules().cancel("nightly").await?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Schedules {
    place: ScheduleKeeper,
    channels: Arc<Channels>,
}

#[derive(Debug, Clone)]
enum ScheduleKeeper {
    Folder(Arc<Timers>),
    #[cfg(feature = "jetstream")]
    JetStream(StreamSchedules),
}

impl Schedules {
    pub(crate) fn of_folder(timers: Arc<Timers>, channels: Arc<Channels>) -> Self {
        Self { place: ScheduleKeeper::Folder(timers), channels }
    }

    #[cfg(feature = "jetstream")]
    pub(crate) fn of_stream(stream: StreamSchedules, channels: Arc<Channels>) -> Self {
        Self { place: ScheduleKeeper::JetStream(stream), channels }
    }

    /// Delivers a wave whenever the schedule is due, in place of a schedule of the same key. Returns when it is synced to
    /// the disk, or the server has it. The source of the waves is `schedule-KEY`; a wave that was
    /// [identified](Wave::identified) keeps the name of its source.
    ///
    /// # Errors
    /// [`ScheduleError`]; the schedule before stays. A server that did not answer may have the new one.
    ///
    /// # Cancel safety
    /// Cancelled after the first poll, the schedule may have been put.
    pub async fn put(&self, key: &str, schedule: Schedule, wave: Wave) -> Result<(), ScheduleError> {
        check(key)?;
        if self.channels.durability(wave.channel()) == Durability::None {
            return Err(ScheduleError::NotKept { channel: wave.channel().clone() });
        }
        if let Some(interval) = schedule.interval().filter(|interval| *interval < SHORTEST) {
            return Err(ScheduleError::TooOften { interval });
        }
        let name = match wave.sequence() {
            0 => format!("schedule-{key}"),
            _ => wave.source().name().to_owned(),
        };
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| ScheduleError::Wave(error);
        let source = Source::new(&name).map_err(|error| unusable(error.into()))?;
        let wave = wave.identified(WaveId { source, sequence: 1 }, None).with_entry(SCHEDULE, key);
        let entry = wave
            .map_err(|error| unusable(error.into()))
            .and_then(|wave| entry(&wave).map_err(|error| unusable(error.into())))?;
        match &self.place {
            ScheduleKeeper::Folder(timers) => {
                // A day that the calendar has no more is as far as can be.
                let due = schedule.first(micros_since_1970()).unwrap_or(u64::MAX);
                let (key, timer) = (key.to_owned(), Timer { due, entry });
                changed(timers, Change::Put { key, schedule, timer }).await.map(drop)
            }
            #[cfg(feature = "jetstream")]
            ScheduleKeeper::JetStream(stream) => Ok(stream.put(key, &schedule, entry).await?),
        }
    }

    /// Ends a schedule. Returns whether there was one. A wave that is being delivered at this moment may still come.
    ///
    /// # Errors
    /// [`ScheduleError`]; the schedule may stay.
    ///
    /// # Cancel safety
    /// Cancelled after the first poll, the schedule may have been cancelled.
    pub async fn cancel(&self, key: &str) -> Result<bool, ScheduleError> {
        check(key)?;
        match &self.place {
            ScheduleKeeper::Folder(timers) => changed(timers, Change::Cancel { key: key.to_owned() }).await,
            #[cfg(feature = "jetstream")]
            ScheduleKeeper::JetStream(stream) => Ok(stream.cancel(key).await?),
        }
    }

    /// The schedules, sorted by key. Waves that were emitted for later are not among them. In JetStream it makes a request
    /// for each.
    ///
    /// # Errors
    /// [`ScheduleError`].
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn list(&self) -> Result<Vec<Scheduled>, ScheduleError> {
        match &self.place {
            ScheduleKeeper::Folder(timers) => {
                let keyed = timers.keyed().await?;
                let listed = keyed.into_iter().filter_map(|(key, keyed)| {
                    let (schedule, next) = (Schedule(keyed.rule), time(keyed.due));
                    Some(Scheduled { key, schedule, next, channel: Channel::new(&keyed.channel).ok()? })
                });
                Ok(listed.collect())
            }
            #[cfg(feature = "jetstream")]
            ScheduleKeeper::JetStream(stream) => Ok(stream.list().await?),
        }
    }
}

fn check(key: &str) -> Result<(), ScheduleError> {
    if is_name(key) { Ok(()) } else { Err(ScheduleError::Key { key: key.to_owned() }) }
}

/// Makes a change, and waits until it is synced.
async fn changed(timers: &Timers, change: Change) -> Result<bool, ScheduleError> {
    let (answer, answered) = oneshot::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    timers.change(Changed { change, done })?;
    Ok(answered.await.unwrap_or(Err(AppendError::Closed))?)
}
