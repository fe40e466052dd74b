//! The foundation of a log in JetStream: a connection, a stream with known settings, and acknowledged publishing.
//!
//! Consumers, dead letters and [`JetStreamLog`](crate::JetStreamLog) are built on it. It does not know them.

mod connection;
mod error;
mod options;
mod publisher;
mod schedules;
mod settings;
mod subjects;

pub(crate) use connection::{Connection, Failure};
pub use error::JetStreamError;
pub use options::{JetStreamOptions, LogWarning};
pub(crate) use publisher::Publisher;
pub(crate) use schedules::StreamSchedules;
pub(crate) use settings::{check_consumer, check_stream, ensure_stream, side_stream, stream};
pub(crate) use subjects::Subjects;
