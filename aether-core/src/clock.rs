//! The clock that everything reads: the standard library's, in unit tests tokio's, which can be paused.
//!
//! tokio's own `Instant` is the same in a release build, but where any crate of a build turns on `tokio/test-util` each
//! reading takes a lock.

#[cfg(not(test))]
pub(crate) use std::time::Instant;
#[cfg(test)]
pub(crate) use tokio::time::Instant;

/// The wall clock in microseconds since 1970, as frames carry it. A clock set before 1970 counts as 0.
#[cfg(feature = "nats")]
pub(crate) fn micros_since_1970() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}
