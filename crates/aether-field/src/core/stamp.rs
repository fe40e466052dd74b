//! Stamps: the order of all changes, from a hybrid logical clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The identity of one writer. A replica takes a new one whenever it starts, so that a crash that loses its last changes
/// cannot make two changes with one stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterId(pub u64);

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The position of a change in the order of all changes: by time, then by a counter, then by writer.
///
/// No two changes have the same stamp, because a writer never repeats one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Microseconds since 1970, by the clock of the writer or by the newest stamp it had seen.
    pub micros: u64,
    /// The number of changes that the writer made or saw in the same microsecond.
    pub logical: u32,
    /// The writer.
    pub writer: WriterId,
}

impl Stamp {
    /// The greatest stamp that is smaller; `None` for the first of all.
    #[must_use]
    pub fn predecessor(self) -> Option<Self> {
        let Self { micros, logical, writer } = self;
        if let Some(writer) = writer.0.checked_sub(1) {
            return Some(Self { writer: WriterId(writer), ..self });
        }
        let (micros, logical) = match logical.checked_sub(1) {
            Some(logical) => (micros, logical),
            None => (micros.checked_sub(1)?, u32::MAX),
        };
        Some(Self { micros, logical, writer: WriterId(u64::MAX) })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.micros, self.logical, self.writer)
    }
}

/// A stamp lies further in the future than the bound allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stamp is {ahead:?} ahead of this replica's clock; {allowed:?} are allowed")]
pub struct FromFuture {
    /// How far the stamp is ahead.
    pub ahead: Duration,
    /// The bound.
    pub allowed: Duration,
}

impl FromFuture {
    pub(super) fn check(stamp: Stamp, wall: u64, allowed: Duration) -> Result<(), Self> {
        let ahead = Duration::from_micros(stamp.micros.saturating_sub(wall));
        if ahead > allowed { Err(Self { ahead, allowed }) } else { Ok(()) }
    }
}

/// A hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): close to the wall clock, and later than
/// every stamp that it has seen.
///
/// Time is an argument everywhere; the clock itself reads nothing.
#[derive(Debug, Clone)]
pub struct HybridClock {
    writer: WriterId,
    last: Stamp,
    max_drift: Duration,
}

impl HybridClock {
    /// A clock for this writer. Its first stamp is later than `last`, the newest stamp that the replica has stored.
    #[must_use]
    pub const fn new(writer: WriterId, last: Stamp, max_drift: Duration) -> Self {
        Self { writer, last, max_drift }
    }

    /// The writer of this clock's stamps.
    #[must_use]
    pub const fn writer(&self) -> WriterId {
        self.writer
    }

    /// The newest stamp made or seen.
    #[must_use]
    pub const fn last(&self) -> Stamp {
        self.last
    }

    /// Makes the stamp of a new change. `wall` is in microseconds since 1970. A wall clock may go back: the stamps
    /// still increase.
    pub const fn tick(&mut self, wall: u64) -> Stamp {
        let (micros, logical) = if wall > self.last.micros {
            (wall, 0)
        } else if self.last.logical == u32::MAX {
            (self.last.micros.saturating_add(1), 0)
        } else {
            (self.last.micros, self.last.logical + 1)
        };
        self.last = Stamp { micros, logical, writer: self.writer };
        self.last
    }

    /// Takes note of a stamp of another writer, so that the next stamp is later.
    ///
    /// # Errors
    /// [`FromFuture`] if the stamp is ahead of the wall clock by more than the bound. The clock does not change then:
    /// one wrong clock must not move the others.
    pub fn observe(&mut self, stamp: Stamp, wall: u64) -> Result<(), FromFuture> {
        FromFuture::check(stamp, wall, self.max_drift)?;
        self.last = self.last.max(stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIFT: Duration = Duration::from_secs(60);

    #[test]
    fn stamps_increase_whatever_the_wall_clock_does() {
        let mut clock = HybridClock::new(WriterId(1), Stamp::default(), DRIFT);
        let stamps = [5, 5, 3, 9, 0, u64::MAX, u64::MAX].map(|wall| clock.tick(wall));
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    }

    #[test]
    fn a_stamp_follows_every_stamp_that_was_seen() {
        let mut clock = HybridClock::new(WriterId(1), Stamp::default(), DRIFT);
        let seen = Stamp { micros: 500, logical: 7, writer: WriterId(9) };
        clock.observe(seen, 490).unwrap();
        assert!(clock.tick(400) > seen);
    }

    #[test]
    fn a_stamp_from_the_future_is_refused_and_moves_nothing() {
        let mut clock = HybridClock::new(WriterId(1), Stamp::default(), DRIFT);
        let hour = Stamp { micros: 3_600_000_000, logical: 0, writer: WriterId(9) };
        let refusal = clock.observe(hour, 0).unwrap_err();
        assert_eq!(refusal, FromFuture { ahead: Duration::from_secs(3600), allowed: DRIFT });
        assert_eq!(clock.tick(7).micros, 7);
    }

    #[test]
    fn nothing_is_between_a_stamp_and_the_one_before() {
        let stamp = |micros, logical, writer| Stamp { micros, logical, writer: WriterId(writer) };
        assert_eq!(stamp(3, 2, 1).predecessor(), Some(stamp(3, 2, 0)));
        assert_eq!(stamp(3, 2, 0).predecessor(), Some(stamp(3, 1, u64::MAX)));
        assert_eq!(stamp(3, 0, 0).predecessor(), Some(stamp(2, u32::MAX, u64::MAX)));
        assert_eq!(Stamp::default().predecessor(), None);
    }

    #[test]
    fn a_full_counter_goes_on_in_the_next_microsecond() {
        let last = Stamp { micros: 10, logical: u32::MAX, writer: WriterId(2) };
        let mut clock = HybridClock::new(WriterId(1), last, DRIFT);
        assert_eq!(clock.tick(4), Stamp { micros: 11, logical: 0, writer: WriterId(1) });
    }
}
