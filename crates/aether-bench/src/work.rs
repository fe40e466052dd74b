//! The work of a handler: the processor is busy for a fixed time with each message.
//!
//! It spins on a clock. The work has to be short (20,000 messages a second), and no timer of an operating system is
//! that precise: a sleep of 50 us takes 50 to 120, so the timer would be measured. A fixed number of instructions would
//! take longer whenever the other processor is busy, because two processors of a virtual machine are often two threads
//! of one core; then the capacity would depend on the load. With the clock, a message costs the same time at every load
//! and for every contestant, and the overhead of a bus shows in the goodput. The handler has its own thread, which
//! leaves the second of two processors to sender and transport. For the same reason the sender sleeps.

use std::time::{Duration, Instant};

use crate::median::median;

/// The work done for each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The handling time of each message. Zero for no work.
    pub service: Duration,
}

impl Work {
    /// 50 us: a capacity of about 20,000 messages a second.
    pub const DEFAULT_SERVICE: Duration = Duration::from_micros(50);

    /// Handles one message: the thread is busy until the service time has passed.
    pub fn handle(self) {
        if self.service.is_zero() {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < self.service {
            std::hint::spin_loop();
        }
    }

    /// The capacity in messages a second: the inverse of the median handling time over a quarter of a second. The
    /// median limits the effect of other load. `None` without work, because then nothing bounds it.
    #[must_use]
    pub fn capacity(self) -> Option<f64> {
        const MEASURED: Duration = Duration::from_millis(250);
        if self.service.is_zero() {
            return None;
        }
        let start = Instant::now();
        let mut took = Vec::new();
        while start.elapsed() < MEASURED || took.is_empty() {
            let begun = Instant::now();
            self.handle();
            took.push(begun.elapsed().as_secs_f64());
        }
        Some(1.0 / median(took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_its_time_and_bounds_the_capacity() {
        let work = Work { service: Duration::from_millis(2) };
        let start = Instant::now();
        work.handle();
        assert!(start.elapsed() >= work.service);
        let capacity = work.capacity().unwrap();
        assert!(capacity > 0.0 && capacity <= 500.0, "{capacity}");
        assert_eq!(Work { service: Duration::ZERO }.capacity(), None);
    }
}
