//! The durable log of Aether: waves that survive a crash, consumers that acknowledge them, and replay.
//!
//! [`Log::connect`] joins a log to a bus. An emit on a durable channel then waits until its wave is on the disk, and the
//! receipt names the position. A [`Consumer`] gets every wave of its pattern at least once, also those that were emitted
//! while it was away. `RELIABILITY.md` of the repository says what each level promises and which test shows it.
//!
//! The [`store`] below knows nothing of waves: records in segment files, with group commit and checksums.

#![warn(clippy::disallowed_methods)]

mod channels;
mod consumer;
mod dead;
mod keeping;
mod log;
mod matching;
mod medium;
mod reading;
mod resonating;
pub mod store;
mod stored_wave;

pub use consumer::{AckError, ConsumeError, Consumer, ConsumerLedger, ConsumerOptions, Delivery, Start};
pub use dead::{Attempt, DeadError, DeadStore, DeadWave, MAX_FAILED};
pub use log::{Log, LogBuilder};
pub use reading::{LogItem, LogReader};
pub use resonating::{ResonateDurable, ResonateError};
pub use stored_wave::StoredWave;
