//! Clocks: every reading of the time in this crate.
//!
//! [`now`] is the clock that users see, [`Moment`] a cheaper one for the ages and waiting times of waves, and
//! [`wall_time`] the time of day. clippy warns about any other clock
//! in this crate (`clippy.toml`).
//!
//! All three are the machine's until [`follow_tokio`] is called, which `aether-testing` does. From then on they follow
//! tokio's clock in the whole process, so they stand still and jump with it when a test pauses it. In the unit tests of this
//! crate they always do. It is a switch at run time and no feature, because a feature would change this crate for
//! everything that is built with it: `cargo test` and `cargo build` would each compile their own copy of it, and of all
//! crates above it.

use std::ops::Add;
use std::sync::atomic::{AtomicBool, Ordering};
pub use std::time::Instant;
use std::time::{Duration, SystemTime};

static FOLLOWS_TOKIO: AtomicBool = AtomicBool::new(false);

/// Lets all clocks of this process follow tokio's from now on. For `aether-testing`, which has to turn on the feature
/// `test-util` of tokio, too: without it tokio's clock is the machine's.
///
/// While no runtime has paused its clock, nothing changes but the cost of a reading.
#[doc(hidden)]
pub fn follow_tokio() {
    FOLLOWS_TOKIO.store(true, Ordering::Relaxed);
}

/// [`now`] for tests of crates beside this one: from then on the clocks of the process follow tokio's, so that a
/// moment that is made from an instant is exact.
#[doc(hidden)]
#[must_use]
pub fn test_now() -> Instant {
    follow_tokio();
    now()
}

#[inline]
fn follows_tokio() -> bool {
    cfg!(test) || FOLLOWS_TOKIO.load(Ordering::Relaxed)
}

/// Sets the time of day of this thread: it was `time` at the instant `at`, and moves with tokio's clock from there. For a
/// simulator, whose processes share a thread and have clocks of their own.
#[doc(hidden)]
pub fn set_wall_time(at: Instant, time: SystemTime) {
    following::set_wall_time(at, time);
}

/// Keeps a paused clock where it is until it is dropped: what is awaited happens outside of the runtime, on a disk
/// for example, and takes no virtual time.
#[doc(hidden)]
#[derive(Debug)]
pub struct HeldTime {
    _ended: std::sync::mpsc::Sender<()>,
}

/// `None` outside of tests with paused time, where a clock needs no holding, and outside of a runtime.
#[doc(hidden)]
#[must_use]
pub fn hold_time() -> Option<HeldTime> {
    if !follows_tokio() {
        return None;
    }
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let (ended, until) = std::sync::mpsc::channel::<()>();
    // Tokio moves a paused clock on only while nothing of this kind runs.
    runtime.spawn_blocking(move || {
        // Ends with the sender.
        let _ = until.recv();
    });
    Some(HeldTime { _ended: ended })
}

/// A point in time for ages and waiting times. It is read for every wave, so it comes from the processor's time stamp
/// counter: 10 ns, against 23 ns for the standard library's clock. Where the counter is not invariant the system's
/// clock is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(quanta::Instant);

impl Moment {
    /// The present one.
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        if follows_tokio() { following::moment() } else { Self(quanta::Instant::now()) }
    }

    /// The time since an earlier moment; zero if it is a later one.
    #[inline]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// The moment after this time. `None` if it cannot be represented.
    #[inline]
    #[must_use]
    pub fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }

    /// The moment before this time. `None` if it cannot be represented.
    #[inline]
    #[must_use]
    pub fn checked_sub(self, time: Duration) -> Option<Self> {
        self.0.checked_sub(time).map(Self)
    }

    /// The time since this moment; zero if it lies in the future.
    #[inline]
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

/// The monotonic clock.
#[inline]
#[must_use]
pub fn now() -> Instant {
    if follows_tokio() { following::now() } else { machine::now() }
}

/// Converts an instant that was read elsewhere into a moment: to within 20 us, and exactly where the clocks follow
/// tokio's.
#[inline]
#[must_use]
pub fn moment_of(instant: Instant) -> Moment {
    if follows_tokio() { following::moment_of(instant) } else { machine::moment_of(instant) }
}

/// The time of day.
#[inline]
#[must_use]
pub fn wall_time() -> SystemTime {
    if follows_tokio() { following::wall_time() } else { machine::wall_time() }
}

/// The time since an instant; zero if it lies in the future.
#[must_use]
pub fn since(instant: Instant) -> Duration {
    now().saturating_duration_since(instant)
}

/// Waits until a moment; forever if there is none.
pub async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep(moment.saturating_duration_since(now())).await,
        None => std::future::pending().await,
    }
}

/// The wall clock in microseconds since 1970, as frames carry it. A clock set before 1970
/// counts as 0.
#[must_use]
pub fn micros_since_1970() -> u64 {
    let since_1970 = wall_time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// The clocks of the machine.
#[expect(clippy::disallowed_methods, reason = "the only place that reads them")]
mod machine {
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    use super::{Instant, Moment};

    #[inline]
    pub(super) fn now() -> Instant {
        Instant::now()
    }

    #[inline]
    pub(super) fn wall_time() -> SystemTime {
        SystemTime::now()
    }

    /// How far from its reading an anchor is valid. The clocks were measured to drift apart by 12 us a second.
    const REACH: Duration = Duration::from_secs(1);

    thread_local! {
        /// A pair of readings taken together, from which one clock is converted to the other.
        static ANCHOR: Cell<Option<(Instant, Moment)>> = const { Cell::new(None) };
    }

    pub(super) fn moment_of(instant: Instant) -> Moment {
        let near = |anchor: &(Instant, Moment)| distance(anchor.0, instant) <= REACH;
        let anchor = ANCHOR.get().filter(near).unwrap_or_else(|| {
            let anchor = read_both();
            ANCHOR.set(Some(anchor));
            anchor
        });
        converted(instant, anchor)
    }

    /// Converts an instant to the other clock of an anchor.
    pub(super) fn converted(instant: Instant, (read, moment): (Instant, Moment)) -> Moment {
        let distance = distance(read, instant);
        let moved = if instant >= read { moment.checked_add(distance) } else { moment.checked_sub(distance) };
        moved.unwrap_or(moment)
    }

    fn distance(a: Instant, b: Instant) -> Duration {
        a.max(b).saturating_duration_since(a.min(b))
    }

    /// Reads both clocks at the same time: the closest of four attempts, because the thread may be preempted in one.
    pub(super) fn read_both() -> (Instant, Moment) {
        let read = || {
            let before = Instant::now();
            let moment = Moment(quanta::Instant::now());
            (before.elapsed(), before, moment)
        };
        let (_, instant, moment) = (0..3).map(|_| read()).fold(read(), |closest, next| closest.min(next));
        (instant, moment)
    }
}

/// tokio's clock, which tests can pause. Outside of a runtime it is the machine's. Its functions are cold, so that they do
/// not lie between what a program executes.
mod following {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::time::SystemTime;

    use super::{Instant, Moment, machine};

    /// Readings of the clocks of the machine taken together, from which each is converted to the others: one for the whole
    /// process, so that differences are exact. The clocks continue from earlier readings.
    struct Anchor {
        instant: Instant,
        moment: Moment,
        time: SystemTime,
    }

    fn anchor() -> &'static Anchor {
        static ANCHOR: OnceLock<Anchor> = OnceLock::new();
        ANCHOR.get_or_init(|| {
            let (instant, moment) = machine::read_both();
            Anchor { instant, moment, time: machine::wall_time() }
        })
    }

    #[cold]
    #[inline(never)]
    pub(super) fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[cold]
    #[inline(never)]
    pub(super) fn moment() -> Moment {
        moment_of(now())
    }

    #[cold]
    #[inline(never)]
    pub(super) fn moment_of(instant: Instant) -> Moment {
        let anchor = anchor();
        machine::converted(instant, (anchor.instant, anchor.moment))
    }

    thread_local! {
        /// A time of day in place of the machine's, and when it was.
        static SET: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    }

    pub(super) fn set_wall_time(at: Instant, time: SystemTime) {
        SET.set(Some((at, time)));
    }

    /// The time of day that was set or that was at the anchor, and what tokio's clock has advanced since.
    #[cold]
    #[inline(never)]
    pub(super) fn wall_time() -> SystemTime {
        let now = now();
        let (instant, time) = SET.get().unwrap_or_else(|| {
            let anchor = anchor();
            (anchor.instant, anchor.time)
        });
        let moved = match now.checked_duration_since(instant) {
            Some(since) => time.checked_add(since),
            None => time.checked_sub(instant.saturating_duration_since(now)),
        };
        moved.unwrap_or(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_clocks_follow_a_paused_one_to_the_nanosecond() {
        let (start, started, time) = (now(), Moment::now(), wall_time());
        assert_eq!(moment_of(start), started);
        let mut passed = Duration::ZERO;
        for step in [1, 999, 1_234_567_891, 86_400_000_000_007].map(Duration::from_nanos) {
            tokio::time::advance(step).await;
            passed += step;
            assert_eq!((since(start), started.elapsed()), (passed, passed));
            assert_eq!((moment_of(now()), moment_of(start)), (Moment::now(), started));
            assert_eq!(moment_of(start + 2 * passed), started + 2 * passed);
            assert_eq!(wall_time().duration_since(time).unwrap(), passed);
        }
        assert_eq!(started.saturating_duration_since(Moment::now()), Duration::ZERO);
    }

    #[test]
    fn a_thread_may_have_a_time_of_day_of_its_own() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let hour = Duration::from_secs(3600);
        let read = std::thread::spawn(move || {
            runtime.unwrap().block_on(async {
                set_wall_time(now(), SystemTime::UNIX_EPOCH + hour);
                tokio::time::advance(hour).await;
                micros_since_1970()
            })
        });
        assert_eq!(read.join().unwrap(), 2 * 3_600_000_000);
        assert!(wall_time() > SystemTime::UNIX_EPOCH + 3 * hour, "another thread has the machine's");
    }

    #[test]
    fn without_a_runtime_they_are_those_of_the_machine() {
        let tolerance = Duration::from_secs(60);
        let (_, read) = machine::read_both();
        assert!(Moment::now().saturating_duration_since(read) < tolerance);
        assert!(read.saturating_duration_since(Moment::now()) < tolerance);
        let time = machine::wall_time();
        assert!(wall_time() < time + tolerance && time < wall_time() + tolerance);
    }
}
