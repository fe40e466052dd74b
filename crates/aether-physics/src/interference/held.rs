//! The time of the claims, which is held where claims may have been missed.

use std::time::Duration;

use aether_core::clock::Instant;

/// Turns the caller's instants into earlier ones: as much as was held.
#[derive(Debug, Default)]
pub(super) struct HeldTime {
    behind: Duration,
    /// The end of what was held last, and the latest instant in held time until then: the time waits there, and does not
    /// go back.
    until: Option<(Instant, Instant)>,
}

impl HeldTime {
    /// Holds the time between two moments. Time that was held before is not held again. `latest` is the latest instant
    /// in held time.
    pub(super) fn hold(&mut self, from: Instant, now: Instant, latest: Instant) {
        let from = self.until.map_or(from, |(until, _)| until.max(from));
        self.behind = self.behind.saturating_add(now.saturating_duration_since(from));
        self.until = Some((self.until.map_or(now, |(until, _)| until.max(now)), latest));
    }

    /// The held time of an instant.
    pub(super) fn present(&self, now: Instant) -> Instant {
        let Some((until, floor)) = self.until else { return now };
        let held = now.checked_sub(self.behind).unwrap_or(now);
        // Only a caller whose clock goes back sees the time go back.
        if now >= until { held.max(floor) } else { held }
    }

    /// The caller's instant for one in held time.
    pub(super) fn instant(&self, held: Instant) -> Option<Instant> {
        held.checked_add(self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_that_was_held_does_not_pass_and_is_held_once() {
        let start = aether_core::clock::test_now() + 100 * SECOND;
        let mut time = HeldTime::default();
        assert_eq!(time.present(start + 4 * SECOND), start + 4 * SECOND);
        // The loss is reported after waves of its end were seen: the time waits for it.
        time.hold(start + SECOND, start + 4 * SECOND, start + 4 * SECOND);
        time.hold(start, start + 5 * SECOND, start + 4 * SECOND);
        assert_eq!(time.present(start + 5 * SECOND), start + 4 * SECOND);
        assert_eq!(time.present(start + 7 * SECOND), start + 4 * SECOND);
        assert_eq!(time.present(start + 10 * SECOND), start + 6 * SECOND);
        assert_eq!(time.instant(start + 6 * SECOND), Some(start + 10 * SECOND));
        // A clock that was set back is passed on.
        assert_eq!(time.present(start - 50 * SECOND), start - 54 * SECOND);
    }
}
