//! The clocks of hopping: one for each key on each bus.
//!
//! Within a process all vibrators share one clock. Over a network, the offset to the clock keeper is measured when
//! hopping begins, every 30 seconds, and whenever the wall clock and the monotonic clock of this machine diverge
//! (because the machine slept or a clock was set). Between measurements the monotonic clock gives the time, so setting
//! the wall clock does not move the slots.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, UNIX_EPOCH};

use aether_core::Aether;
use aether_core::bus::Bus;
use aether_core::clock::{self, Instant};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::clock_offset::{ClockError, Offset, measure, nanos};
use crate::hop::{ClockSource, Hop};

/// The interval between measurements of the offset. Drift adds up to 6 ms in that time.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// The interval between comparisons of the wall clock with the monotonic clock.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Reads the wall clock, in nanoseconds since 1970.
type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// All clocks of one [`Aether`], in its extensions.
pub(crate) struct Clocks {
    /// The origin of monotonic time, and the wall clock time at that instant.
    origin: OnceLock<(Instant, u64)>,
    wall: Mutex<WallClock>,
    /// A clock is locked while it is measured, so a measurement does not delay other keys.
    by_hop: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<Weak<HopClock>>>>>,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { origin: OnceLock::new(), wall: Mutex::new(Arc::new(wall_clock)), by_hop: Mutex::default() }
    }
}

impl Clocks {
    /// The clocks of this bus.
    pub(crate) fn of(aether: &Aether) -> Arc<Self> {
        aether.extension()
    }

    fn origin(&self) -> (Instant, u64) {
        *self.origin.get_or_init(|| (clock::now(), self.wall_time()))
    }

    fn wall(&self) -> WallClock {
        Arc::clone(&self.wall.lock())
    }

    pub(crate) fn wall_time(&self) -> u64 {
        (self.wall())()
    }

    /// Replaces the wall clock, for tests.
    #[cfg(test)]
    pub(crate) fn set_wall(&self, wall: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.wall.lock() = Arc::new(wall);
    }

    /// The clock of a key, shared by all its senders and receivers on this bus.
    pub(crate) async fn clock(&self, bus: &Bus, hop: &Hop) -> Result<Arc<HopClock>, ClockError> {
        let shared = {
            let mut by_hop = self.by_hop.lock();
            // A clock that is being measured or awaited has other owners.
            by_hop.retain(|_, clock| {
                Arc::strong_count(clock) > 1 || clock.try_lock().is_ok_and(|clock| clock.strong_count() > 0)
            });
            Arc::clone(by_hop.entry(hop.id()).or_default())
        };
        let mut shared = shared.lock().await;
        if let Some(clock) = shared.upgrade() {
            return Ok(clock);
        }
        let clock = HopClock::start(self, bus, hop).await?;
        *shared = Arc::downgrade(&clock);
        Ok(clock)
    }
}

/// The clock of one key. It determines when slots begin and end.
pub(crate) struct HopClock {
    hop: Hop,
    /// The origin of monotonic time.
    origin: Instant,
    offset: ArcSwap<Offset>,
    /// The number of changes of the offset.
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    steps: AtomicU64,
    /// Measures the offset repeatedly; `None` on a medium within the process.
    task: Mutex<Option<AbortHandle>>,
}

impl HopClock {
    /// Starts the clock once its error is small enough for the guard.
    async fn start(clocks: &Clocks, bus: &Bus, hop: &Hop) -> Result<Arc<Self>, ClockError> {
        let (origin, wall_at_origin) = clocks.origin();
        let crosses = bus.medium().promises().crosses_processes;
        let monotonic = |now: Instant| nanos(now.saturating_duration_since(origin));
        let offset = match hop.clock() {
            _ if !crosses => Offset::known(wall_at_origin, 0, 0),
            ClockSource::Own { error } => {
                Offset::known(clocks.wall_time(), monotonic(clock::now()), nanos(error))
            }
            ClockSource::Kept => measure(bus, hop, monotonic).await?,
        };
        let error = Duration::from_nanos(offset.error(monotonic(clock::now())));
        if crosses && error * 2 > hop.guard() {
            return Err(ClockError::TooFarOff { error, guard: hop.guard() });
        }
        let clock = Arc::new(Self {
            hop: hop.clone(),
            origin,
            offset: ArcSwap::from_pointee(offset.shifted(hop.clock_error())),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            steps: AtomicU64::new(0),
            task: Mutex::default(),
        });
        if crosses {
            let task = tokio::spawn(keep_measuring(Arc::downgrade(&clock), bus.clone(), clocks.wall()));
            *clock.task.lock() = Some(task.abort_handle());
        }
        Ok(clock)
    }

    fn monotonic(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    /// Converts an instant to agreed time, in nanoseconds since 1970.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        self.offset.load().agreed(self.monotonic(now))
    }

    /// Converts an agreed time to an instant.
    pub(crate) fn instant(&self, agreed: u64) -> Instant {
        self.origin + Duration::from_nanos(self.offset.load().monotonic(agreed))
    }

    /// The agreed time, if the clock is accurate enough to send.
    pub(crate) fn checked(&self, now: Instant) -> Result<u64, ClockError> {
        let (offset, monotonic) = (self.offset.load(), self.monotonic(now));
        let error = Duration::from_nanos(offset.error(monotonic));
        if self.task.lock().is_some() && error * 2 > self.hop.guard() {
            return Err(ClockError::TooFarOff { error, guard: self.hop.guard() });
        }
        Ok(offset.agreed(monotonic))
    }

    /// A number that grows with every change of the offset.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns a receiver that is notified of every change of the offset.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The number of clock steps larger than a quarter of the guard.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Replaces the offset with a newer one.
    fn set(&self, newer: Offset) {
        let newer = newer.shifted(self.hop.clock_error());
        let step = self.offset.load().step_to(newer);
        self.offset.store(Arc::new(newer));
        if step > nanos(self.hop.guard()) / 4 {
            self.steps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(step = ?Duration::from_nanos(step), "hopping clock stepped");
        }
        // Small steps count too, because they move the ends of slots computed from the old offset.
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed.send_replace(generation);
    }
}

impl Drop for HopClock {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Measures the offset at each interval, and whenever one of the clocks was set, until the clock is dropped.
async fn keep_measuring(clock: Weak<HopClock>, bus: Bus, wall: WallClock) {
    let started = clock::now();
    // Wall clock minus monotonic clock. Constant unless one of them was set or stopped.
    let difference = || i128::from(wall()) - i128::from(nanos(clock::since(started)));
    let mut before = difference();
    let mut measured = clock::now();
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let Some(clock) = clock.upgrade() else { return };
        let now = difference();
        let stepped = now.abs_diff(before) > u128::from(nanos(clock.hop.guard()) / 4);
        if !stepped && clock::since(measured) < MEASURE_EVERY {
            continue;
        }
        let newer = match clock.hop.clock() {
            ClockSource::Own { error } => {
                Ok(Offset::known(wall(), clock.monotonic(clock::now()), nanos(error)))
            }
            ClockSource::Kept => {
                let origin = clock.origin;
                measure(&bus, &clock.hop, |now| nanos(now.saturating_duration_since(origin))).await
            }
        };
        match newer {
            Ok(newer) => {
                (before, measured) = (now, clock::now());
                clock.set(newer);
            }
            // Retried in a second. Meanwhile the error grows, and once it is too large, sending is refused.
            Err(error) => tracing::debug!(%error, "cannot measure the clock offset; retrying in a second"),
        }
    }
}

/// Nanoseconds since 1970, or 0 if the clock is set to an earlier time.
fn wall_clock() -> u64 {
    nanos(clock::wall_time().duration_since(UNIX_EPOCH).unwrap_or_default())
}
