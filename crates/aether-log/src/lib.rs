//! The durable log of Aether: waves that survive a crash, consumers that acknowledge them, and replay.
//!
//! [`Log::connect`] joins a log to a bus. An emit on a durable channel then waits until its wave is on the disk, and the
//! receipt names the position. A [`Consumer`] gets every wave of its pattern at least once, also those that were emitted
//! while it was away. `docs/guide/reliability.md` of the repository lists the promises of each level, and the tests that
//! show them.
//!
//! [`Log`] keeps the waves in a folder, which one process writes. With the feature `jetstream`, `JetStreamLog` keeps them in
//! a stream of NATS, which many processes share. Consumers and deliveries are the same; a [`DurableLog`] is either.
//!
//! The [`store`] below knows nothing of waves: records in segment files, with group commit and checksums.

#![warn(clippy::disallowed_methods)]

mod backup;
mod channels;
mod consumer;
mod dead;
mod dead_letters;
mod durable_log;
#[cfg(test)]
mod faults;
mod filter;
#[cfg(feature = "jetstream")]
mod jetstream;
#[cfg(feature = "jetstream")]
mod jetstream_log;
#[cfg(feature = "jetstream")]
mod jetstream_view;
mod keeper;
mod keeping;
mod later;
mod log;
mod log_builder;
mod log_lines;
mod log_view;
mod maintenance;
mod matching;
mod medium;
mod name;
mod reading;
mod replay;
mod resonating;
mod schedule;
mod schedules;
mod sealing;
mod snapshots;
pub mod store;
mod stored_wave;
mod storing;
mod storing_batch;
mod timers;
mod verify;
mod whole;

pub use backup::{Backup, BackupError, RestoreError, restore};
pub use consumer::{
    AckError, ConsumeError, Consumer, ConsumerLedger, ConsumerOptions, ConsumerStanding, Delivery, JobState,
    Lag, Limit, NotAcknowledged, QueueStanding, QueuedJob, Start, Tenant, WeightError,
};
#[cfg(feature = "jetstream")]
pub use dead::StreamLetters;
pub use dead::{Attempt, DeadError, DeadStore, DeadView, DeadWave, MAX_FAILED, SentAgain};
pub use dead_letters::DeadLetters;
pub use durable_log::{DurableLog, NotReady};
pub use filter::WaveFilter;
#[cfg(feature = "jetstream")]
pub use jetstream::{JetStreamError, JetStreamOptions, LogWarning};
#[cfg(feature = "jetstream")]
pub use jetstream_log::{JetStreamLog, JetStreamLogBuilder};
#[cfg(feature = "jetstream")]
pub use jetstream_view::{
    JetStreamStanding, JetStreamView, StreamConsumerStanding, StreamEffort, StreamStanding,
};
pub use log::{ForgetError, Log, LogBuilder};
pub use log_view::{Effort, LogStanding, LogView};
pub use reading::{LogItem, LogReader};
pub use replay::{Replay, ReplayError, Replayed};
pub use resonating::{ResonateDurable, ResonateError};
pub use schedule::{CronError, Schedule, Scheduled};
pub use schedules::{ScheduleError, Schedules};
pub use sealing::Unopened;
pub use snapshots::{Snapshot, SnapshotError};
pub use stored_wave::{SCHEDULE, StoredWave};
pub use timers::TimerLedger;
pub use verify::verify;
pub use whole::is_sealed;
