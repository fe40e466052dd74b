//! The state of logs, as reported by a server.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aether_core::Pattern;
use async_nats::jetstream::consumer::Info as ConsumerInfo;
use async_nats::jetstream::stream::Info;

use crate::jetstream::{JetStreamError, Subjects};

/// The logs of a server.
#[derive(Debug)]
#[non_exhaustive]
pub struct JetStreamStanding {
    /// The logs by name, or why one cannot be read.
    pub logs: BTreeMap<String, Result<StreamStanding, JetStreamError>>,
    /// The number of logs that were not read.
    pub more_logs: usize,
}

/// How a log in JetStream and its consumers stand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStanding {
    /// The position of the first wave.
    pub first: u64,
    /// The position of the last wave; smaller than `first` if there is none.
    pub last: u64,
    /// The number of waves.
    pub waves: u64,
    /// Their size with what JetStream keeps beside them, in bytes.
    pub bytes: u64,
    /// When the first wave was stored; `None` if there is none.
    pub oldest: Option<SystemTime>,
    /// When the last wave was stored; `None` if there is none.
    pub newest: Option<SystemTime>,
    /// The age at which waves are dropped.
    pub max_age: Option<Duration>,
    /// The size at which waves are refused.
    pub max_bytes: Option<u64>,
    /// The number of waves at which others are refused.
    pub max_waves: Option<u64>,
    /// The number of servers that keep the log.
    pub replicas: usize,
    /// The consumers in the order of their names.
    pub consumers: Vec<StreamConsumerStanding>,
    /// The number of consumers that were not read.
    pub more_consumers: usize,
    /// The number of dead letters; `None` if they are too many to be counted, or the user may not count them.
    pub dead: Option<u64>,
}

/// The state of a consumer in JetStream, as known to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConsumerStanding {
    /// Its name.
    pub name: String,
    /// Its pattern; `None` if it does not belong to a log of Aether.
    pub pattern: Option<Pattern>,
    /// Everything up to this position is acknowledged.
    pub position: u64,
    /// The position that was delivered last.
    pub delivered: u64,
    /// Waves that wait, those that are in flight included.
    pub lag: u64,
    /// Of these, waves that were delivered to a process and are not acknowledged. A process holds some ahead.
    pub in_flight: u64,
    /// Of these, waves that were delivered more than once.
    pub redelivered: u64,
    /// Of these, waves that have failed and are delivered again; `None` if there are too many to be counted.
    pub retrying: Option<u64>,
    /// Its dead letters that are kept; `None` if there are too many to be counted.
    pub dead: Option<u64>,
    /// When a wave was acknowledged last; `None` if the server has started since, or nothing was acknowledged.
    pub last_acknowledged: Option<SystemTime>,
}

/// The numbers of dead letters and of waves that have failed, by consumer.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) dead: BTreeMap<String, u64>,
    pub(super) failed: BTreeMap<String, u64>,
}

impl StreamStanding {
    pub(super) fn new(
        info: &Info,
        subjects: &Subjects,
        consumers: &[ConsumerInfo],
        more_consumers: usize,
        beside: Option<&Beside>,
    ) -> Self {
        let (state, config) = (&info.state, &info.config);
        let is_empty = state.messages == 0;
        let time = |at| if is_empty { None } else { time(at) };
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        Self {
            first: state.first_sequence,
            last: state.last_sequence,
            waves: state.messages,
            bytes: state.bytes,
            oldest: time(micros(state.first_timestamp.unix_timestamp_nanos())),
            newest: time(micros(state.last_timestamp.unix_timestamp_nanos())),
            max_age: (!config.max_age.is_zero()).then_some(config.max_age),
            max_bytes: limit(config.max_bytes),
            max_waves: limit(config.max_messages),
            replicas: config.num_replicas,
            consumers: consumers
                .iter()
                .map(|info| StreamConsumerStanding::new(info, subjects, beside))
                .collect(),
            more_consumers,
            dead: beside.map(|beside| beside.dead.values().sum()),
        }
    }
}

impl StreamConsumerStanding {
    fn new(info: &ConsumerInfo, subjects: &Subjects, beside: Option<&Beside>) -> Self {
        let in_flight = info.num_ack_pending as u64;
        let of = |numbers: &BTreeMap<String, u64>| numbers.get(&info.name).copied().unwrap_or(0);
        Self {
            name: info.name.clone(),
            pattern: subjects
                .name(&info.config.filter_subject)
                .and_then(|pattern| Pattern::new(pattern).ok()),
            position: info.ack_floor.stream_sequence,
            delivered: info.delivered.stream_sequence,
            lag: info.num_pending.saturating_add(in_flight),
            in_flight,
            redelivered: info.num_redelivered as u64,
            retrying: beside.map(|beside| of(&beside.failed)),
            dead: beside.map(|beside| of(&beside.dead)),
            last_acknowledged: info
                .ack_floor
                .last_active
                .and_then(|at| time(micros(at.unix_timestamp_nanos()))),
        }
    }
}

/// Microseconds since 1970; 0 for what is before.
fn micros(nanos: i128) -> u64 {
    u64::try_from(nanos / 1000).unwrap_or(0)
}

/// 0 means none: a server writes the year 1 for it.
fn time(micros: u64) -> Option<SystemTime> {
    (micros > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
}
