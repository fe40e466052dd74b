//! The plan of the faults: those in force and their counts, shared by all media that they are in front of.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::counts::FaultCounts;
use super::fate::Active;
use crate::seed::SEED_VARIABLE;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) started: Instant,
    pub(super) plan: Mutex<Plan>,
    /// Notified when a fault was healed.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) active: Active,
    pub(super) counts: FaultCounts,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        let plan = Plan { active: Active::new(seed), counts: FaultCounts::default() };
        Self { seed, started: Instant::now(), plan: Mutex::new(plan), changed: Notify::new() }
    }

    /// Changes the counts. The lock is held for as long as `change` takes.
    pub(super) fn count<T>(&self, change: impl FnOnce(&mut FaultCounts) -> T) -> T {
        change(&mut self.plan.lock().counts)
    }

    /// The time since the faults were made, from which their windows count.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let plan = self.plan.get_mut();
        if std::thread::panicking() && plan.active.was_used() {
            let (seed, counts) = (self.seed, plan.counts);
            eprintln!("the faults had the seed {seed}; {SEED_VARIABLE}={seed} runs them again ({counts})");
        }
    }
}
