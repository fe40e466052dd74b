//! How many waves a consumer finishes a second.

use tokio::time::Instant;

/// The seconds that are looked at.
const SECONDS: u64 = 10;
/// One for each of them, and one for the second that has not passed yet.
const SLOTS: usize = SECONDS as usize + 1;

/// The waves that have ended in this process, and how many of them in each of the last seconds.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    seconds: [u64; SLOTS],
    /// The second that was counted last.
    last: u64,
    done: u64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, seconds: [0; SLOTS], last: 0, done: 0 }
    }

    pub(super) fn note(&mut self, now: Instant, waves: u64) {
        let second = self.go_to(now);
        self.seconds[slot(second)] += waves;
        self.done += waves;
    }

    pub(super) const fn done(&self) -> u64 {
        self.done
    }

    /// The mean of the last seconds that have passed.
    pub(super) fn per_second(&mut self, now: Instant) -> f64 {
        let second = self.go_to(now);
        let passed = second.min(SECONDS);
        let waves: u64 = (second - passed..second).map(|second| self.seconds[slot(second)]).sum();
        if passed == 0 { 0.0 } else { waves as f64 / passed as f64 }
    }

    /// Makes room for this second.
    fn go_to(&mut self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.begun).as_secs().max(self.last);
        for passed in (self.last + 1..=second).rev().take(SLOTS) {
            self.seconds[slot(passed)] = 0;
        }
        self.last = second;
        second
    }
}

/// Where a second is counted.
fn slot(second: u64) -> usize {
    usize::try_from(second % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_pace_is_the_mean_of_the_last_ten_seconds_or_of_those_that_have_passed() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut pace = Pace::new(begun);
        (0..30).for_each(|number| pace.note(at(number), 1));
        assert_eq!(
            (pace.per_second(at(900)), pace.per_second(at(1000)), pace.per_second(at(2000))),
            (0.0, 30.0, 15.0)
        );
        pace.note(at(10_500), 20);
        assert_eq!((pace.per_second(at(10_999)), pace.per_second(at(11_000))), (3.0, 2.0));
        assert_eq!((pace.per_second(at(20_999)), pace.per_second(at(21_000)), pace.done()), (2.0, 0.0, 50));
        assert_eq!(pace.per_second(at(500_000)), 0.0);
    }
}
