//! Clocks: the standard library's for what users pass in or see, and a cheaper one for the ages and waiting times of
//! waves. In unit tests both are tokio's, which can be paused.
//!
//! tokio's own `Instant` equals the standard library's in a release build. If any crate of a build enables
//! `tokio/test-util`, each reading takes a lock.

#[cfg(not(test))]
pub(crate) use std::time::Instant;
#[cfg(test)]
pub(crate) use tokio::time::Instant;

/// A point in time for ages and waiting times. It is read for every wave, so it comes from the processor's time stamp
/// counter: 10 ns, against 23 ns for the standard library's clock. Where the counter is not invariant the system's
/// clock is used.
#[cfg(not(test))]
pub(crate) use quanta::Instant as Moment;
#[cfg(test)]
pub(crate) use tokio::time::Instant as Moment;

/// Converts an instant that was read elsewhere into a moment, to within 20 us.
#[cfg(not(test))]
pub(crate) fn moment_of(instant: Instant) -> Moment {
    anchor::moment_of(instant)
}
#[cfg(test)]
pub(crate) fn moment_of(instant: Instant) -> Moment {
    instant
}

/// A pair of readings taken together, from which one clock is converted to the other.
#[cfg(not(test))]
mod anchor {
    use std::cell::Cell;
    use std::time::Duration;

    use super::{Instant, Moment};

    /// How far from its reading an anchor is valid. The clocks were measured to drift apart by 12 us a second.
    const REACH: Duration = Duration::from_secs(1);

    thread_local! {
        static ANCHOR: Cell<Option<(Instant, Moment)>> = const { Cell::new(None) };
    }

    pub(super) fn moment_of(instant: Instant) -> Moment {
        let near = |anchor: &(Instant, Moment)| distance(anchor.0, instant) <= REACH;
        let (read, moment) = ANCHOR.get().filter(near).unwrap_or_else(|| {
            let anchor = read_both();
            ANCHOR.set(Some(anchor));
            anchor
        });
        let distance = distance(read, instant);
        let moved = if instant >= read { moment.checked_add(distance) } else { moment.checked_sub(distance) };
        moved.unwrap_or(moment)
    }

    fn distance(a: Instant, b: Instant) -> Duration {
        a.max(b).saturating_duration_since(a.min(b))
    }

    /// Reads both clocks at the same time: the closest of four attempts, because the thread may be preempted in one.
    fn read_both() -> (Instant, Moment) {
        let read = || {
            let before = Instant::now();
            let moment = Moment::now();
            (before.elapsed(), before, moment)
        };
        let (_, instant, moment) = (0..3).map(|_| read()).fold(read(), |closest, next| closest.min(next));
        (instant, moment)
    }
}

/// The wall clock in microseconds since 1970, as [`Sender`](crate::wire::Sender) carries it. A clock set before 1970
/// counts as 0.
#[must_use]
pub fn micros_since_1970() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}
