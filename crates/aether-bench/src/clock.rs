//! The clock of a measurement: nanoseconds that are the same in all processes of this machine.
//!
//! The sender reads it for due times, and the handler, possibly in another process, for end times. It is not a time of
//! day.

/// Nanoseconds since some moment in the past, the same moment for all processes.
///
/// Source: `CLOCK_MONOTONIC`, which is the same for all processes and unaffected by corrections of the time of day.
#[cfg(unix)]
#[must_use]
pub fn now() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // It cannot fail: the clock always exists, and the result goes to valid memory.
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

/// A time as whole nanoseconds, at most 584 years.
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
