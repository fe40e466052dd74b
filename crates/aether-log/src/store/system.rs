//! The writing thread's view of the machine: a disk and a clock. Tests replace both.

use std::sync::Arc;

use aether_core::clock::micros_since_1970;
use aether_files::disk::{self, Disk};

/// The machine, as a store sees it.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) disk: Arc<dyn Disk>,
    /// The time in microseconds since 1970.
    pub(crate) micros: fn() -> u64,
}

impl System {
    /// The disk of this thread, and the clock.
    pub(crate) fn current() -> Self {
        Self { disk: disk::current(), micros: micros_since_1970 }
    }
}
