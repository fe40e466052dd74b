//! The running clock of one key on one medium: who hops by it asks here what time it is.
//!
//! In process all hop by one clock. Over a network the offset to whoever keeps the clock is measured when hopping
//! begins, every half minute, and when this machine's own clocks disagree with each other (it slept, or was set). In
//! between time comes from the monotonic clock, so a wall clock that is set does not move the slots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::hop::{Clock, Hop};
use super::keeper;
use super::offset::Offset;
use crate::aether::Aether;
use crate::clock::Instant;
use crate::medium::AskError;

/// So often the offset is measured again: drift alone is 6 ms by then.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// So often this machine's two clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// Reads the wall clock, in nanoseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Why it is not known well enough what time it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// Nobody answered who keeps the clock for this key.
    #[error(
        "nobody keeps the clock for this key: one process has to call Aether::keep_clock with it, or each trust its own with HopBuilder::trust_clock"
    )]
    Unkept(#[source] AskError),
    /// The answers were not of somebody who has the key, or cannot be.
    #[error("the clock's answers are not sealed with this key, or no such times can be")]
    Implausible,
    /// It is known, but not well enough.
    #[error("the clock may be wrong by {error:?}: with a guard of {guard:?} at most half of that is allowed")]
    TooFarOff {
        /// How wrong it may be.
        error: Duration,
        /// The guard.
        guard: Duration,
    },
    /// The time has gone back to slots whose keys were forgotten.
    #[error("the time has gone back to slots whose keys are forgotten: build the hop anew if that is meant")]
    Forgotten,
}

/// The clock that one key's slots go by.
pub(crate) struct Timing {
    hop: Hop,
    /// What the monotonic clock counts from.
    anchor: Instant,
    offset: ArcSwap<Offset>,
    /// Counts the changes of the offset that matter.
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    steps: AtomicU64,
    minding: parking_lot::Mutex<Option<AbortHandle>>,
}

impl Timing {
    /// The clock, once it is known well enough.
    pub(super) async fn start(aether: &Aether, hop: &Hop) -> Result<Arc<Self>, ClockError> {
        let (anchor, anchored) = aether.hopping().anchor();
        let crosses = aether.promises().crosses_processes;
        let mono = |now: Instant| nanos(now.saturating_duration_since(anchor));
        let offset = match hop.clock() {
            _ if !crosses => Offset::known(anchored, 0, 0),
            Clock::Own { error } => {
                Offset::known((aether.hopping().wall())(), mono(Instant::now()), nanos(error))
            }
            Clock::Kept => keeper::measure(aether, hop, mono).await?,
        };
        let error = Duration::from_nanos(offset.error(mono(Instant::now())));
        if crosses && error * 2 > hop.guard() {
            return Err(ClockError::TooFarOff { error, guard: hop.guard() });
        }
        let timing = Arc::new(Self {
            hop: hop.clone(),
            anchor,
            offset: ArcSwap::from_pointee(offset.shifted(hop.clock_error())),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            steps: AtomicU64::new(0),
            minding: parking_lot::Mutex::default(),
        });
        if crosses {
            let task = tokio::spawn(mind(Arc::downgrade(&timing), aether.clone()));
            *timing.minding.lock() = Some(task.abort_handle());
        }
        Ok(timing)
    }

    fn mono(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.anchor))
    }

    /// What time it is, in nanoseconds since 1970.
    pub(super) fn at(&self, now: Instant) -> u64 {
        self.offset.load().agreed(self.mono(now))
    }

    /// When it will be.
    pub(super) fn instant(&self, agreed: u64) -> Instant {
        self.anchor + Duration::from_nanos(self.offset.load().monotonic(agreed))
    }

    /// What time it is, if that is known well enough to send.
    pub(super) fn checked(&self, now: Instant) -> Result<u64, ClockError> {
        let (offset, mono) = (self.offset.load(), self.mono(now));
        let error = Duration::from_nanos(offset.error(mono));
        if self.minding.lock().is_some() && error * 2 > self.hop.guard() {
            return Err(ClockError::TooFarOff { error, guard: self.hop.guard() });
        }
        Ok(offset.agreed(mono))
    }

    /// Changes whenever the time has made a step.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Tells of the steps.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How often the time has made a step of more than a quarter of the guard.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Takes a newer offset.
    fn take(&self, newer: Offset) {
        let newer = newer.shifted(self.hop.clock_error());
        let step = self.offset.load().step_to(newer);
        self.offset.store(Arc::new(newer));
        if step > nanos(self.hop.guard()) / 4 {
            self.steps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(step = ?Duration::from_nanos(step), "the time that slots go by has made a step");
        }
        // Also of a small one, as what was worked out from the old offset ends at another moment now.
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed.send_replace(generation);
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        if let Some(task) = self.minding.get_mut() {
            task.abort();
        }
    }
}

/// Keeps the offset right for as long as anybody hops by it.
async fn mind(timing: Weak<Timing>, aether: Aether) {
    let wall = aether.hopping().wall();
    let started = Instant::now();
    // Wall clock minus monotonic clock: constant, unless one of them was set or stood still.
    let apart = || i128::from(wall()) - i128::from(nanos(started.elapsed()));
    let mut before = apart();
    let mut measured = Instant::now();
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let Some(timing) = timing.upgrade() else { return };
        let now_apart = apart();
        let stepped = now_apart.abs_diff(before) > u128::from(nanos(timing.hop.guard()) / 4);
        if !stepped && measured.elapsed() < MEASURE_EVERY {
            continue;
        }
        let newer = match timing.hop.clock() {
            Clock::Own { error } => Ok(Offset::known(wall(), timing.mono(Instant::now()), nanos(error))),
            Clock::Kept => {
                let anchor = timing.anchor;
                keeper::measure(&aether, &timing.hop, |now| nanos(now.saturating_duration_since(anchor)))
                    .await
            }
        };
        match newer {
            Ok(newer) => {
                (before, measured) = (now_apart, Instant::now());
                timing.take(newer);
            }
            // Tried again in a second. The error grows meanwhile, until nothing is sent any more.
            Err(error) => tracing::debug!(%error, "the clock cannot be measured"),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
