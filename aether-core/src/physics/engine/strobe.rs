//! Looks and looks away, so that an average of waves a second is kept. Ordinary term: a sampler with a duty cycle.
//!
//! Used by [`PhysicsEngine`](super::PhysicsEngine). Timing needs all waves of some seconds and can do without those of
//! the next, but not with every tenth wave: a pair would be seen once in a hundred.

use std::time::Duration;

use crate::clock::Instant;

/// The shortest time to look: several times the windows of timing.
const LOOK: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(super) struct Strobe {
    a_second: f64,
    /// How many waves may still be shown; less than none while it owes.
    budget: f64,
    /// When the budget was added to last.
    at: Option<Instant>,
    /// Since when it looks; `None` while it looks away.
    since: Option<Instant>,
    sampling: Sampling,
    /// Of the cycle under way: seen and shown.
    cycle: (u64, u64),
}

/// How many of the waves were looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// All waves.
    pub seen: u64,
    /// Those that were looked at.
    pub shown: u64,
    /// The share of waves looked at in the latest look and the time away before it; 1 while it need not look away.
    pub lately: f64,
}

impl Sampling {
    /// The share of waves looked at, of all.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.seen == 0 { 1.0 } else { self.shown as f64 / self.seen as f64 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    No,
    /// No, and neither the ones that follow for a while.
    LooksAway,
}

impl Strobe {
    pub(super) fn new(a_second: u32) -> Self {
        Self {
            a_second: f64::from(a_second),
            budget: 0.0,
            at: None,
            since: None,
            sampling: Sampling { seen: 0, shown: 0, lately: 1.0 },
            cycle: (0, 0),
        }
    }

    pub(super) fn shows(&mut self, now: Instant) -> Shown {
        let at = *self.at.get_or_insert(now);
        // A clock that goes back adds nothing; one that leaps ahead adds no more than is worth keeping.
        let passed = now.saturating_duration_since(at).as_secs_f64();
        self.at = Some(now);
        self.budget = (self.budget + passed * self.a_second).min(LOOK.as_secs_f64() * self.a_second);
        self.sampling.seen += 1;
        self.cycle.0 += 1;
        let since = match self.since {
            Some(since) if now < since => now,
            Some(since) => since,
            None if self.budget < 0.0 => return Shown::No,
            None => {
                if self.cycle.0 > 1 {
                    self.sampling.lately = self.cycle.1 as f64 / self.cycle.0 as f64;
                }
                self.cycle = (1, 0);
                now
            }
        };
        self.since = Some(since);
        if self.budget < 0.0 && now.saturating_duration_since(since) >= LOOK {
            self.since = None;
            return Shown::LooksAway;
        }
        self.budget -= 1.0;
        self.sampling.shown += 1;
        self.cycle.1 += 1;
        Shown::Yes
    }

    pub(super) fn sampling(&self) -> Sampling {
        self.sampling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows an even stream of waves; gives the shares shown in each second.
    fn shares(strobe: &mut Strobe, start: Instant, a_second: u32, seconds: u32) -> Vec<f64> {
        let share = |second: u32| {
            let shown = (0..a_second)
                .filter(|wave| {
                    let now = start
                        + Duration::from_secs_f64(f64::from(second) + f64::from(*wave) / f64::from(a_second));
                    strobe.shows(now) == Shown::Yes
                })
                .count();
            shown as f64 / f64::from(a_second)
        };
        (0..seconds).map(share).collect()
    }

    #[test]
    fn a_rate_within_the_budget_is_shown_wholly() {
        let mut strobe = Strobe::new(100);
        assert!(shares(&mut strobe, Instant::now(), 99, 100).iter().all(|share| *share == 1.0));
        assert_eq!(strobe.sampling().rate(), 1.0);
    }

    #[test]
    fn ten_times_the_budget_is_shown_for_eight_seconds_in_eighty() {
        let mut strobe = Strobe::new(100);
        let shares = shares(&mut strobe, Instant::now(), 1000, 400);
        assert!(
            shares[..8].iter().all(|share| *share == 1.0) && shares[9..70].iter().all(|share| *share == 0.0)
        );
        assert_eq!(shares.iter().filter(|share| **share == 1.0).count(), 5 * 8);
        assert!((strobe.sampling().rate() - 0.1).abs() < 0.01);
        assert!((strobe.sampling().lately - 0.1).abs() < 0.01);
    }

    #[test]
    fn a_clock_that_jumps_neither_opens_nor_closes_it_for_ever() {
        let mut strobe = Strobe::new(100);
        let start = Instant::now() + Duration::from_secs(10_000);
        shares(&mut strobe, start, 1000, 20);
        let back = start - Duration::from_secs(9_000);
        let shares = shares(&mut strobe, back, 1000, 400);
        let shown: f64 = shares.iter().sum::<f64>() / 400.0;
        assert!((0.05..0.15).contains(&shown), "{shown}");
    }
}
