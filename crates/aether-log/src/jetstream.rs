//! The foundation of a log in JetStream: a connection, a stream with known settings, and acknowledged publishing.
//!
//! Consumers, dead letters and [`JetStreamLog`](crate::JetStreamLog) are built on it. It does not know them.

mod connection;
mod error;
mod in_parts;
mod options;
mod parts;
mod publisher;
mod schedules;
mod settings;
mod subjects;

pub(crate) use connection::{Connection, Failure};
pub use error::JetStreamError;
pub(crate) use in_parts::InParts;
pub use options::{JetStreamOptions, LogWarning};
pub(crate) use parts::{Incomplete, Parts};
pub(crate) use publisher::Publisher;
pub(crate) use schedules::StreamSchedules;
pub(crate) use settings::{check_consumer, check_stream, ensure_stream, side_stream, stream};
pub(crate) use subjects::Subjects;
