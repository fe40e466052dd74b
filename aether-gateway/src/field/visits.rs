//! The rate of requests over plain HTTP, for each address.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::limits::SecurityLimits;
use crate::bucket::TokenBucket;

/// The number of addresses that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

#[derive(Debug)]
pub(super) struct Visits {
    burst: u32,
    per_second: f64,
    left: Mutex<LruCache<IpAddr, TokenBucket>>,
}

impl Visits {
    pub(super) fn new(limits: &SecurityLimits) -> Self {
        let (burst, per_second) = (limits.messages_burst, limits.messages_per_second);
        Self { burst, per_second, left: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The time until the next one is allowed.
    pub(super) fn take(&self, source: IpAddr) -> Result<(), Duration> {
        let now = Instant::now();
        let new = || TokenBucket::new(self.burst, self.per_second, now);
        self.left.lock().get_or_insert_mut(source, new).take(now)
    }
}
