//! Counts the messages that a handler has seen, the same for all contestants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

/// After this long without a message, missing messages count as lost.
const SILENCE: Duration = Duration::from_secs(2);
/// The time of an arrival is noted once for this many, because a reading of the clock takes as long as a handler.
const NOTED_EACH: u64 = 256;

/// The messages that a handler of Aether has seen. Contestants run one after the other.
pub(crate) static OURS: Arrivals = Arrivals::new();
/// The arrivals of RustStream. Apart, because its subscriptions over NATS end a little later than its service.
pub(crate) static THEIRS: Arrivals = Arrivals::new();

/// A count and the wait for it.
pub(crate) struct Arrivals {
    seen: AtomicU64,
    expected: AtomicU64,
    last: Mutex<Option<Instant>>,
    complete: Notify,
}

/// The outcome of the messages of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) seen: u64,
    pub(crate) lost: u64,
    /// From the start to the last arrival.
    pub(crate) took: Duration,
}

impl Arrived {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.seen as f64 / self.took.as_secs_f64()
    }
}

impl Arrivals {
    const fn new() -> Self {
        Self {
            seen: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            last: Mutex::new(None),
            complete: Notify::const_new(),
        }
    }

    /// Begins a run of `messages` messages.
    pub(crate) fn expect(&self, messages: u64) {
        self.seen.store(0, Ordering::Relaxed);
        self.expected.store(messages, Ordering::Relaxed);
        *self.last.lock() = None;
    }

    /// Counts a message. A handler calls it.
    #[inline]
    pub(crate) fn count(&self) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen.is_multiple_of(NOTED_EACH) {
            *self.last.lock() = Some(Instant::now());
        }
        if seen == self.expected.load(Ordering::Relaxed) {
            *self.last.lock() = Some(Instant::now());
            self.complete.notify_one();
        }
    }

    /// Waits until all have arrived, or none did for a while.
    pub(crate) async fn all(&self, start: Instant) -> Arrived {
        let expected = self.expected.load(Ordering::Relaxed);
        let mut before = 0;
        loop {
            let is_over = tokio::select! {
                () = self.complete.notified() => true,
                () = sleep(SILENCE) => self.seen.load(Ordering::Relaxed) == before,
            };
            let seen = self.seen.load(Ordering::Relaxed);
            if is_over || seen >= expected {
                let last = *self.last.lock();
                let took = last.map_or(SILENCE, |last| last.saturating_duration_since(start));
                return Arrived { seen, lost: expected.saturating_sub(seen), took };
            }
            before = seen;
        }
    }
}
