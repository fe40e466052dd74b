//! Hopping: a channel whose subject changes from slot to slot, by a key. Ordinary term: rotating subject names.
//!
//! Vibrators that share a [`Hop`] send and hear a channel on lanes and under names that nobody without the key can
//! predict or link: `hop.LANE.TOKEN`, another one in each slot. A receiver sees the waves under the channel they belong
//! to; the router and the inbox treat them like all others. An adaptive channel leaves out lanes on which much is lost.
//!
//! The pure parts take the time as an argument: [`sequence`] and [`ratchet`] (names from keys), [`schedule`] (when what
//! is heard), [`past`] (what was), [`lanes`], [`survey`], [`course`], [`views`] (the adaptive map), [`offset`] (the clock). The thin parts
//! around them do: [`sending`], [`follower`], [`reports`], [`ears`], [`timing`], [`keeper`].
//!
//! What it does not do: it hides neither volume nor timing, and nothing from whoever runs the broker or hears all of its
//! subjects. It encrypts nothing, and does not say that a wave on the right lane is of somebody who has the key.

mod account;
mod course;
mod ears;
mod follower;
mod hop;
mod keeper;
#[cfg(test)]
mod known_answers;
mod lanes;
mod offset;
mod past;
mod ratchet;
mod reports;
mod said;
mod schedule;
mod sending;
mod sequence;
mod survey;
mod timing;
mod views;

pub use account::{HopAccount, HopView};
pub(crate) use ears::Tuned;
pub use follower::HopJoinError;
pub(crate) use follower::{Following, Listening};
pub use hop::{Hop, HopBuilder, HopError, MIN_KEY_BYTES};
pub use keeper::ClockKeeper;
pub(crate) use keeper::keep;
pub(crate) use sending::Sending;
pub use timing::ClockError;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use lru::LruCache;
use parking_lot::Mutex;

use crate::aether::Aether;
use crate::clock::Instant;
use timing::{Timing, WallClock};

/// Seeds that are remembered; more than anybody needs.
const SEEDS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(64).unwrap();

/// The clocks of one [`Aether`], one for each key that is hopped by.
pub(crate) struct Hopping {
    anchor: OnceLock<(Instant, u64)>,
    wall: Mutex<WallClock>,
    /// Each locked while it is measured, so that who waits for one key's clock holds up nobody with another key.
    timings: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<Weak<Timing>>>>>,
    /// The hops without a key, so that one seed is one hop.
    by_seed: Mutex<LruCache<u64, Hop>>,
}

impl Hopping {
    pub(crate) fn new() -> Self {
        Self {
            anchor: OnceLock::new(),
            wall: Mutex::new(Arc::new(wall_clock)),
            timings: Mutex::default(),
            by_seed: Mutex::new(LruCache::new(SEEDS)),
        }
    }

    /// What monotonic time is counted from, and the wall clock at that moment.
    fn anchor(&self) -> (Instant, u64) {
        *self.anchor.get_or_init(|| (Instant::now(), (self.wall())()))
    }

    fn wall(&self) -> WallClock {
        Arc::clone(&self.wall.lock())
    }

    /// For tests: another wall clock.
    #[cfg(test)]
    fn set_wall(&self, wall: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.wall.lock() = Arc::new(wall);
    }

    /// The hop of a seed, with default values.
    pub(crate) fn by_seed(&self, seed: u64) -> Hop {
        self.by_seed.lock().get_or_insert(seed, || Hop::of_seed(seed)).clone()
    }

    /// The clock of a key, shared by all who hop by it here.
    async fn timing(&self, aether: &Aether, hop: &Hop) -> Result<Arc<Timing>, ClockError> {
        let shared = {
            let mut timings = self.timings.lock();
            // Who else holds one waits for it or measures it.
            timings.retain(|_, timing| {
                Arc::strong_count(timing) > 1
                    || timing.try_lock().is_ok_and(|timing| timing.strong_count() > 0)
            });
            Arc::clone(timings.entry(hop.id()).or_default())
        };
        let mut shared = shared.lock().await;
        if let Some(timing) = shared.upgrade() {
            return Ok(timing);
        }
        let timing = Timing::start(aether, hop).await?;
        *shared = Arc::downgrade(&timing);
        Ok(timing)
    }
}

/// Nanoseconds since 1970. A clock set before 1970 counts as 0.
fn wall_clock() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
