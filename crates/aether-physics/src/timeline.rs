//! The time of a detector: the caller's instants, made monotonic.
//!
//! A `now` that goes back is counted, and the detector's time does not move for that call. After a large step back the
//! clock must have been set, and time continues from there. After a small one, waves of several threads arrived out of
//! order, and time continues when the clock has caught up. A leap forward cannot be distinguished from a long silence
//! and counts as one.

use std::time::Duration;

use aether_core::clock::Instant;

/// A larger step back means that the clock was set.
const TURNED_BACK: Duration = Duration::from_secs(10);

/// A moment on a [`Timeline`]: nanoseconds since its first, negative before it. The range is 292 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Moment(i64);

impl Moment {
    pub(crate) fn nanos(self) -> i64 {
        self.0
    }

    pub(crate) fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    pub(crate) fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }

    /// The time since an earlier moment; zero if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Saturates at 64 bits; on the path of every wave.
pub(crate) fn nanos(duration: Duration) -> i64 {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(duration.subsec_nanos()))
}

/// Turns the caller's instants into monotonic moments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    latest: Moment,
    seen: Option<Instant>,
    jumps_back: u64,
}

impl Timeline {
    /// The moment of `now`, never before the latest one.
    pub(crate) fn advance(&mut self, now: Instant) -> Moment {
        let Some(seen) = self.seen else {
            self.seen = Some(now);
            return self.latest;
        };
        // A tick often has the time of the wave before.
        if now > seen {
            self.latest = self.latest.plus(now.saturating_duration_since(seen));
            self.seen = Some(now);
        } else if now < seen {
            self.jumps_back += 1;
            if seen.saturating_duration_since(now) >= TURNED_BACK {
                self.seen = Some(now);
            }
        }
        self.latest
    }

    /// Like [`Timeline::advance`], but without advancing.
    pub(crate) fn peek(&self, now: Instant) -> Moment {
        let passed = self.seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        self.latest.plus(passed)
    }

    /// The latest moment.
    pub(crate) fn latest(&self) -> Moment {
        self.latest
    }

    /// The caller's instant for a moment; `None` before the first call, or if its clock cannot represent it.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        let seen = self.seen?;
        if moment >= self.latest {
            seen.checked_add(moment.since(self.latest))
        } else {
            seen.checked_sub(self.latest.since(moment))
        }
    }

    /// The number of times that the caller's clock went back.
    pub(crate) fn jumps_back(&self) -> u64 {
        self.jumps_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_continues_after_a_jump_back() {
        let start = aether_core::clock::test_now() + 1000 * SECOND;
        let mut timeline = Timeline::default();
        assert_eq!(timeline.instant(Moment::default()), None);
        let first = timeline.advance(start);
        assert_eq!(timeline.advance(start + SECOND).since(first), SECOND);
        assert_eq!(timeline.advance(start - 500 * SECOND).since(first), SECOND, "it does not advance");
        assert_eq!(timeline.jumps_back(), 1);
        let later = timeline.advance(start - 499 * SECOND);
        assert_eq!(later.since(first), 2 * SECOND, "and continues");
        assert_eq!(timeline.instant(later.plus(SECOND)), Some(start - 498 * SECOND));
        assert_eq!(timeline.instant(later.minus(SECOND)), Some(start - 500 * SECOND));
    }

    #[test]
    fn calls_out_of_order_do_not_stretch_time() {
        let start = aether_core::clock::test_now();
        let mut timeline = Timeline::default();
        let first = timeline.advance(start);
        for step in 1..=100 {
            timeline.advance(start + SECOND * step);
            assert_eq!(timeline.advance(start + SECOND * step - SECOND / 2).since(first), SECOND * step);
        }
        assert_eq!(timeline.jumps_back(), 100);
    }

    #[test]
    fn moments_saturate() {
        let far = Moment::default().plus(Duration::MAX);
        assert_eq!(far.plus(SECOND), far);
        assert_eq!(Moment::default().minus(Duration::MAX).minus(Duration::MAX).since(far), Duration::ZERO);
    }
}
