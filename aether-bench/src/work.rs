//! The work of a handler: the processor is busy for a fixed time with each message.
//!
//! Why it spins, and on a clock. It is to be short (20,000 messages a second), and no timer of an operating system is
//! that fine: a handler that sleeps 50 us sleeps 50 to 120, and the timer would be what is measured. A fixed number of
//! instructions would take longer whenever the other processor is busy, as two processors of a virtual machine are
//! often two threads of one core: then the capacity would depend on the load, and no share of it could be told. So a
//! message costs the same time at every load and for every contestant, and what a bus costs beyond it is seen in the
//! goodput. The handler has a thread of its own, which leaves the second of two processors to sender and transport; that
//! is why the sender sleeps.

use std::time::{Duration, Instant};

use crate::median::median;

/// What is done with each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// How long each message keeps the handler busy. Zero for nothing to do.
    pub service: Duration,
}

impl Work {
    /// Capacity about 20,000 a second.
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

    /// How many messages a second the handler handles when it never waits for one: the inverse of the median time that
    /// it took for a message in a quarter of a second, so that what else the machine did meanwhile counts for little.
    /// `None` if there is nothing to do, as nothing bounds it then.
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
