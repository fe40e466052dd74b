//! How a log is kept.

use std::time::Duration;

/// Which records a log drops. A segment is dropped whole, so up to one segment more is kept than the rules ask for. The
/// default keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Retention {
    /// Drops segments whose last record is older, also while nothing is stored. The segment that is being written is
    /// finished when its first record is older, so a record is dropped within twice this time.
    pub max_age: Option<Duration>,
    /// Drops the oldest segments while the log is larger, in bytes.
    pub max_bytes: Option<u64>,
    /// Drops the oldest segments while those behind them hold this many positions.
    pub max_records: Option<u64>,
}

/// Options of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) commit_window: Duration,
    pub(crate) max_queued_bytes: usize,
    pub(crate) retention: Retention,
    pub(crate) remembered_ids: usize,
}

/// An option outside of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {given}: use {allowed}")]
pub struct OptionsError {
    option: &'static str,
    given: String,
    allowed: &'static str,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            commit_window: Duration::ZERO,
            max_queued_bytes: 64 << 20,
            retention: Retention::default(),
            remembered_ids: 65_536,
        }
    }
}

impl StoreOptions {
    /// The size at which a segment is full, in bytes. Default: 64 MiB. Opening reads one segment.
    ///
    /// # Errors
    /// [`OptionsError`] below 4 KiB or above 1 GiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Result<Self, OptionsError> {
        if !(4 << 10..=1 << 30).contains(&bytes) {
            let allowed = "4 KiB to 1 GiB";
            return Err(OptionsError { option: "segment_bytes", given: bytes.to_string(), allowed });
        }
        self.segment_bytes = bytes;
        Ok(self)
    }

    /// How long records are gathered before they are written and synced together. Default: zero; records that come while a
    /// group is synced form the next one in any case. Cost: every emit on a durable channel takes this much longer, for
    /// fewer syncs.
    ///
    /// # Errors
    /// [`OptionsError`] above one second.
    pub fn commit_window(mut self, window: Duration) -> Result<Self, OptionsError> {
        if window > Duration::from_secs(1) {
            let (given, allowed) = (format!("{window:?}"), "at most 1s");
            return Err(OptionsError { option: "commit_window", given, allowed });
        }
        self.commit_window = window;
        Ok(self)
    }

    /// How many bytes may wait to be written. More are refused with [`AppendError::Behind`](super::AppendError).
    /// Default: 64 MiB.
    #[must_use]
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// What is dropped. Default: nothing.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How many ids are remembered, so that a record with the id of an earlier one is not stored again. Default:
    /// 65,536, which take about 4 MB when all are in use; 0 remembers none. After opening, the ids of the last segment
    /// are remembered, and of the last 16,384 records.
    #[must_use]
    pub fn remembered_ids(mut self, ids: usize) -> Self {
        self.remembered_ids = ids;
        self
    }
}
