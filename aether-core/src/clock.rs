//! Clocks: every reading of the time in this crate.
//!
//! [`now`] is the clock that users see, [`Moment`] a cheaper one for the ages and waiting times of waves, and
//! [`wall_time`] the time of day. clippy warns about any other clock
//! in this crate (`clippy.toml`).
//!
//! In unit tests, and with the feature `test-util`, all three follow tokio's clock, so they stand still and jump with it
//! when a test pauses it. The types stay the same, because features of one build are united: a crate that knows nothing
//! of `test-util` must still compile. Each reading then takes a lock of tokio's.

pub(crate) use std::time::Instant;
use std::time::{Duration, SystemTime};

/// A point in time for ages and waiting times. It is read for every wave, so it comes from the processor's time stamp
/// counter: 10 ns, against 23 ns for the standard library's clock. Where the counter is not invariant the system's
/// clock is used.
#[cfg(not(any(test, feature = "test-util")))]
pub(crate) use quanta::Instant as Moment;
#[cfg(any(test, feature = "test-util"))]
pub(crate) use tokio::time::Instant as Moment;

#[cfg(any(test, feature = "test-util"))]
pub(crate) use paused::{moment_of, now, wall_time};
#[cfg(not(any(test, feature = "test-util")))]
pub(crate) use real::{moment_of, now, wall_time};

/// The time since an instant; zero if it lies in the future.
#[allow(dead_code, reason = "for optional parts")]
pub(crate) fn since(instant: Instant) -> Duration {
    now().saturating_duration_since(instant)
}

/// Waits until a moment; forever if there is none.
pub(crate) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep(moment.saturating_duration_since(now())).await,
        None => std::future::pending().await,
    }
}

/// The wall clock in microseconds since 1970, as [`Sender`](crate::wire::Sender) carries it. A clock set before 1970
/// counts as 0.
#[must_use]
pub fn micros_since_1970() -> u64 {
    let since_1970 = wall_time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// The clocks of the machine.
#[cfg(not(any(test, feature = "test-util")))]
#[expect(clippy::disallowed_methods, reason = "the only place that reads them")]
mod real {
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    use super::{Instant, Moment};

    #[inline]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    #[inline]
    pub(crate) fn wall_time() -> SystemTime {
        SystemTime::now()
    }

    /// How far from its reading an anchor is valid. The clocks were measured to drift apart by 12 us a second.
    const REACH: Duration = Duration::from_secs(1);

    thread_local! {
        /// A pair of readings taken together, from which one clock is converted to the other.
        static ANCHOR: Cell<Option<(Instant, Moment)>> = const { Cell::new(None) };
    }

    /// Converts an instant that was read elsewhere into a moment, to within 20 us.
    pub(crate) fn moment_of(instant: Instant) -> Moment {
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

/// tokio's clock, which tests can pause. Outside of a runtime it is the machine's.
#[cfg(any(test, feature = "test-util"))]
mod paused {
    use std::sync::OnceLock;
    use std::time::SystemTime;

    use super::{Instant, Moment};

    pub(crate) fn now() -> Instant {
        Moment::now().into_std()
    }

    pub(crate) fn moment_of(instant: Instant) -> Moment {
        Moment::from_std(instant)
    }

    /// The time of day when both clocks were first read, and what tokio's clock has advanced since.
    #[expect(clippy::disallowed_methods, reason = "the first reading comes from the machine")]
    pub(crate) fn wall_time() -> SystemTime {
        static FIRST: OnceLock<(Instant, SystemTime)> = OnceLock::new();
        let (read, time) = *FIRST.get_or_init(|| (Instant::now(), SystemTime::now()));
        let now = now();
        let moved = match now.checked_duration_since(read) {
            Some(since) => time.checked_add(since),
            None => time.checked_sub(read.saturating_duration_since(now)),
        };
        moved.unwrap_or(time)
    }
}
