//! Queues over the bus: a service answers questions about the consumers of its durable log, and steers them.
//!
//! Services that are built [`with_letters`](crate::ServiceBuilder::with_letters) answer these questions on the channel of
//! the [letters](crate::letters) of their process: a queue is what one process sees of a consumer. `aether jobs` and the
//! gateway ask all processes. A pause ends with the process, and a process that starts later is not paused.

use aether_log::{ConsumeError, Consumer, DurableLog, JobState, QueueStanding, QueuedJob, Scheduled};
use serde::{Deserialize, Serialize};

use crate::Rejection;
use crate::age::{age_ms, millis};

/// The maximum number of entries in one answer.
const PAGE: usize = 128;

/// A question about queues, as JSON within a [`LetterQuery`](crate::letters::LetterQuery):
/// `{"op":"jobs","do":"pause","consumer":"mailer"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobQuery {
    /// The queues of the process, by name.
    Ls {
        /// Only consumers behind this name.
        #[serde(default)]
        after: String,
    },
    /// The waves of a queue that are in flight or pause after a failure, by position.
    Show {
        /// The consumer.
        consumer: String,
        /// Only positions behind this one.
        #[serde(default)]
        after: u64,
    },
    /// Take no more waves.
    Pause {
        /// The consumer.
        consumer: String,
    },
    /// Take waves again.
    Resume {
        /// The consumer.
        consumer: String,
    },
    /// Make waves due that pause after a failure.
    Retry {
        /// The consumer.
        consumer: String,
        /// The position of one wave; all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u64>,
    },
    /// Make a wave that waits or pauses a dead letter.
    Cancel {
        /// The consumer.
        consumer: String,
        /// The position of the wave.
        position: u64,
    },
    /// The schedules of the log, by key.
    Schedules {
        /// Only keys behind this one.
        #[serde(default)]
        after: String,
    },
    /// End a schedule.
    Unschedule {
        /// Its key.
        key: String,
    },
}

/// The answer to a [`JobQuery`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "has", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobAnswer {
    /// To `ls`: at most 128.
    Queues {
        /// The queues.
        queues: Vec<QueueRecord>,
        /// Whether there are more.
        more: bool,
    },
    /// To `show`: at most 128.
    Jobs {
        /// The waves.
        jobs: Vec<JobRecord>,
        /// Whether there are more.
        more: bool,
    },
    /// To `schedules`: at most 128.
    Schedules {
        /// The schedules.
        schedules: Vec<ScheduleRecord>,
        /// Whether there are more.
        more: bool,
    },
    /// To all that change something: how much was changed. 0 if there was nothing to change in this process.
    Changed {
        /// The number of queues, waves or schedules.
        number: u64,
    },
}

/// A consumer of a durable log in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueRecord {
    /// The name of the consumer.
    pub consumer: String,
    /// The log: its folder, or its name in JetStream.
    pub log: String,
    /// The pattern of its waves.
    pub pattern: String,
    /// Whether waves of one key are handled one after the other.
    pub by_key: bool,
    /// Whether it is paused in this process.
    pub paused: bool,
    /// Waves that wait. In JetStream those in flight in other processes are among them.
    pub waiting: u64,
    /// Of these, the ones that wait for a [limit](aether_log::ConsumerOptions::limit).
    #[serde(default)]
    pub limited: u64,
    /// Positions of the log that were not looked at yet: each may be a wave that waits.
    pub unseen: u64,
    /// For how long the oldest one has waited, of those that were looked at.
    #[serde(default)]
    pub oldest_ms: Option<u64>,
    /// Waves that pause after a failure.
    pub retrying: u64,
    /// The time until the next one of these is due.
    #[serde(default)]
    pub due_ms: Option<u64>,
    /// Waves that are being handled in this process.
    pub in_flight: u64,
    /// For how long the first one of these has been handled.
    #[serde(default)]
    pub longest_ms: Option<u64>,
    /// The dead letters of the consumer.
    pub letters: u64,
    /// Waves that have ended in this process.
    pub done: u64,
    /// How many a second, in the last ten seconds.
    pub per_second: f64,
}

/// A wave in flight, or one that pauses after a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its position in the log, by which it is named.
    pub position: u64,
    /// The id of the wave; empty if the log has it no more.
    pub wave: String,
    /// Its channel.
    pub channel: String,
    /// Its key.
    #[serde(default)]
    pub key: Option<String>,
    /// The number of this attempt, or of the next one.
    pub attempt: u32,
    /// For how long it has been handled; null if it pauses.
    #[serde(default)]
    pub running_ms: Option<u64>,
    /// The time until it is due; null if it is in flight.
    #[serde(default)]
    pub due_ms: Option<u64>,
    /// Why the last attempt failed.
    #[serde(default)]
    pub error: Option<String>,
}

/// A schedule of a durable log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Its key.
    pub key: String,
    /// The log: its folder, or its name in JetStream.
    pub log: String,
    /// When its waves are due, as text.
    pub schedule: String,
    /// The channel of its waves.
    pub channel: String,
    /// The next time, in milliseconds since 1970.
    pub next_unix_ms: u64,
}

/// Answers for the log of a process.
pub(crate) async fn answer_jobs(log: &DurableLog, query: JobQuery) -> Result<JobAnswer, Rejection> {
    let of = |name: &str| log.consumers().into_iter().find(|consumer| consumer.name() == name);
    let changed = |number| Ok(JobAnswer::Changed { number });
    match query {
        JobQuery::Ls { after } => queues(log, &after).await,
        JobQuery::Show { consumer, after } => {
            let jobs = match of(&consumer) {
                Some(consumer) => consumer.jobs(after, PAGE + 1).await.map_err(unread)?,
                None => Vec::new(),
            };
            let more = jobs.len() > PAGE;
            Ok(JobAnswer::Jobs { jobs: jobs.into_iter().take(PAGE).map(JobRecord::of).collect(), more })
        }
        JobQuery::Pause { consumer } => changed(of(&consumer).map_or(0, |consumer| {
            consumer.pause();
            1
        })),
        JobQuery::Resume { consumer } => changed(of(&consumer).map_or(0, |consumer| {
            consumer.resume();
            1
        })),
        JobQuery::Retry { consumer, position } => match of(&consumer) {
            Some(consumer) => changed(consumer.retry(position).await),
            None => changed(0),
        },
        JobQuery::Cancel { consumer, position } => match of(&consumer) {
            Some(consumer) => changed(consumer.cancel(position).await.map_err(unread)?.into()),
            None => changed(0),
        },
        JobQuery::Schedules { after } => {
            let all = log.schedules().list().await;
            let all = all.map_err(|error| Rejection::caused_by("the schedules were not read", error))?;
            let mut meant = all.into_iter().filter(|scheduled| scheduled.key > after);
            let name = name_of(log);
            let schedules = meant.by_ref().take(PAGE).map(|scheduled| ScheduleRecord::of(scheduled, &name));
            let schedules = schedules.collect();
            Ok(JobAnswer::Schedules { schedules, more: meant.next().is_some() })
        }
        JobQuery::Unschedule { key } => {
            let ended = log.schedules().cancel(&key).await;
            let ended = ended.map_err(|error| Rejection::caused_by("the schedule stays", error))?;
            changed(ended.into())
        }
    }
}

/// The answer of a process, or of a store, that has no queues.
pub(crate) fn no_jobs(query: &JobQuery) -> JobAnswer {
    match query {
        JobQuery::Ls { .. } => JobAnswer::Queues { queues: Vec::new(), more: false },
        JobQuery::Show { .. } => JobAnswer::Jobs { jobs: Vec::new(), more: false },
        JobQuery::Schedules { .. } => JobAnswer::Schedules { schedules: Vec::new(), more: false },
        _ => JobAnswer::Changed { number: 0 },
    }
}

async fn queues(log: &DurableLog, after: &str) -> Result<JobAnswer, Rejection> {
    let (name, mut queues) = (name_of(log), Vec::new());
    let consumers: Vec<Consumer> =
        log.consumers().into_iter().filter(|consumer| consumer.name() > after).collect();
    for consumer in consumers.iter().take(PAGE) {
        let queue = consumer.queue().await.map_err(unread)?;
        queues.push(QueueRecord::of(consumer.name(), &name, &queue));
    }
    Ok(JobAnswer::Queues { queues, more: consumers.len() > PAGE })
}

fn unread(error: ConsumeError) -> Rejection {
    Rejection::caused_by("the queue was not read or changed", error)
}

fn name_of(log: &DurableLog) -> String {
    match log {
        DurableLog::Folder(log) => log.folder().display().to_string(),
        #[cfg(feature = "jetstream")]
        DurableLog::JetStream(log) => log.name().to_owned(),
        _ => String::new(),
    }
}

impl QueueRecord {
    fn of(consumer: &str, log: &str, queue: &QueueStanding) -> Self {
        Self {
            consumer: consumer.to_owned(),
            log: log.to_owned(),
            pattern: queue.pattern.to_string(),
            by_key: queue.by_key,
            paused: queue.is_paused,
            waiting: queue.waiting,
            limited: queue.limited,
            unseen: queue.unseen,
            oldest_ms: queue.oldest_waiting.map(age_ms),
            retrying: queue.retrying,
            due_ms: queue.next_due.map(millis),
            in_flight: queue.in_flight,
            longest_ms: queue.longest.map(millis),
            letters: queue.letters,
            done: queue.done,
            per_second: queue.per_second,
        }
    }
}

impl JobRecord {
    fn of(job: QueuedJob) -> Self {
        let (running, due) = match job.state {
            JobState::InFlight(since) => (Some(millis(since)), None),
            JobState::Retrying(due) => (None, Some(millis(due))),
            _ => (None, None),
        };
        let wave = job.wave.as_ref();
        Self {
            position: job.position,
            wave: wave.map(|wave| wave.id().to_string()).unwrap_or_default(),
            channel: wave.map(|wave| wave.channel().to_string()).unwrap_or_default(),
            key: wave.and_then(|wave| wave.key().map(str::to_owned)),
            attempt: job.attempt,
            running_ms: running,
            due_ms: due,
            error: job.error,
        }
    }
}

impl ScheduleRecord {
    fn of(scheduled: Scheduled, log: &str) -> Self {
        let next = scheduled.next.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            key: scheduled.key,
            log: log.to_owned(),
            schedule: scheduled.schedule.to_string(),
            channel: scheduled.channel.to_string(),
            next_unix_ms: millis(next),
        }
    }
}
