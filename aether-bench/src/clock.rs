//! The clock of a measurement: nanoseconds that every process of this machine counts alike.
//!
//! Read by the sender, which says when a message was due, and by the handler, which may be another process. It is no
//! time of day.

/// Nanoseconds since some moment in the past, the same moment for all processes.
///
/// Source: `CLOCK_MONOTONIC`, which the kernel keeps once for all processes and which no correction of the time of day
/// makes jump.
#[cfg(unix)]
#[must_use]
pub fn now() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // It cannot fail: the clock is always there, and the time goes to memory of our own.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    nanoseconds(time)
}

/// Nanoseconds since some moment in the past, the same moment for all processes.
///
/// Source: the time of day, as `std` has no other clock that two processes share. A correction of it during a run is an
/// error of the run.
#[cfg(not(unix))]
#[must_use]
pub fn now() -> u64 {
    nanoseconds(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// A time as whole nanoseconds; 584 years are the most.
pub(crate) fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_run_backwards() {
        let mut last = now();
        assert!(last > 0);
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }
}
