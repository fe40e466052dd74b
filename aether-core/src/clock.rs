//! The clock that everything reads: the standard library's, in unit tests tokio's, which can be paused.
//!
//! tokio's own `Instant` is the same in a release build, but where any crate of a build turns on `tokio/test-util` each
//! reading takes a lock.

#[cfg(not(test))]
pub(crate) use std::time::Instant;
#[cfg(test)]
pub(crate) use tokio::time::Instant;
