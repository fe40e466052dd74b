//! The clock of one life of a process, and the time of the simulation.

use std::time::Duration;

use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch {
    instant: Instant,
    time: Duration,
}

impl Epoch {
    /// The present moment of the runtime that is entered, at a time of the simulation.
    pub(super) fn at(time: Duration) -> Self {
        Self { instant: Instant::now(), time }
    }

    /// The time of the simulation, by the runtime that is entered.
    pub(super) fn now(self) -> Duration {
        self.time + self.instant.elapsed()
    }

    /// A later time of the simulation on the clock of the process.
    pub(super) fn instant_of(self, time: Duration) -> Instant {
        self.instant + (time - self.time)
    }
}
