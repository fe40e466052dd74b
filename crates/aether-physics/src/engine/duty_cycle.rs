//! A duty cycle: observes all waves for a while, then none, to keep to an average number of waves per second.
//!
//! Used by [`PhysicsEngine`](super::PhysicsEngine). The detectors need all waves of some seconds and can miss the
//! next ones. They cannot work with every tenth wave: a pair would be seen once in a hundred. So all waves are observed
//! on credit, and then none until the credit is repaid. Both time and waves bound an observation, so that a flood is
//! observed only for a moment.

use crate::sampling::Sampling;
use std::time::Duration;

use aether_core::clock::Instant;

/// The longest observation on credit: several times the windows of timing.
const LOOK: Duration = Duration::from_secs(8);
/// The credit in seconds of the budget: enough for a full observation at twice the budget, and the approximate maximum
/// of a pause.
const CREDIT: f64 = 8.0;

#[derive(Debug)]
pub(super) struct DutyCycle {
    a_second: f64,
    /// The number of waves that may still be observed; negative while on credit.
    budget: f64,
    /// The time of the last addition to the budget.
    at: Option<Instant>,
    /// Since when credit has been in use without a break.
    owes: Option<Instant>,
    /// The beginning of the observation; `None` before the first wave.
    since: Option<Instant>,
    /// The beginning and the end of the pause.
    away: Option<(Instant, Instant)>,
    sampling: Sampling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    No,
    /// Not observed, and a pause begins.
    PauseBegins,
}

impl DutyCycle {
    pub(super) fn new(a_second: u32) -> Self {
        let sampling = Sampling {
            seen: 0,
            shown: 0,
            looked: Duration::ZERO,
            away: Duration::ZERO,
            times_away: 0,
            lately: 1.0,
        };
        Self {
            a_second: f64::from(a_second),
            budget: 0.0,
            at: None,
            owes: None,
            since: None,
            away: None,
            sampling,
        }
    }

    /// Counts a wave. Returns whether to observe it.
    pub(super) fn shows(&mut self, now: Instant) -> Shown {
        self.sampling.seen += 1;
        if self.away.is_some() {
            return Shown::No;
        }
        // A clock that goes back adds nothing. One that leaps ahead adds no more than the credit.
        let passed = now.saturating_duration_since(self.at.unwrap_or(now)).as_secs_f64();
        self.at = Some(now);
        self.budget = (self.budget + passed * self.a_second).min(CREDIT * self.a_second);
        let since = *self.since.get_or_insert(now);
        if self.budget >= 0.0 {
            self.owes = None;
        } else {
            // After the clock went back, the earlier beginning is meaningless.
            let owes = self.owes.map_or(now, |owes| owes.min(now));
            self.owes = Some(owes);
            if self.budget <= -CREDIT * self.a_second || now.saturating_duration_since(owes) >= LOOK {
                self.look_away(since, now);
                return Shown::PauseBegins;
            }
        }
        self.budget -= 1.0;
        self.sampling.shown += 1;
        Shown::Yes
    }

    /// Charges lost waves to the budget: they cost the bus as much as those that arrived.
    pub(super) fn charge(&mut self, waves: u64) {
        if self.away.is_none() {
            self.budget -= waves as f64;
        }
    }

    fn look_away(&mut self, since: Instant, now: Instant) {
        let away = Duration::from_secs_f64(-self.budget / self.a_second);
        let looked = now.saturating_duration_since(since);
        self.away = Some((now, now + away));
        self.sampling.looked += looked;
        self.sampling.times_away += 1;
        // The time before the credit does not predict the future share.
        let on_credit = now.saturating_duration_since(self.owes.unwrap_or(since)).as_secs_f64();
        self.sampling.lately = on_credit / (on_credit + away.as_secs_f64());
    }

    /// The beginning and the end of the pause, if there is one.
    pub(super) fn away(&self) -> Option<(Instant, Instant)> {
        self.away
    }

    /// Ends the pause. Returns its beginning.
    pub(super) fn look(&mut self, now: Instant) -> Option<Instant> {
        let (from, _) = self.away.take()?;
        let away = now.saturating_duration_since(from);
        self.sampling.away += away;
        // After an early end the rest of the credit remains.
        self.budget = (self.budget + away.as_secs_f64() * self.a_second).min(0.0);
        (self.since, self.at, self.owes) = (Some(now), Some(now), None);
        Some(from)
    }

    pub(super) fn sampling(&self) -> Sampling {
        self.sampling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds an even stream of waves and resumes after each pause; returns the observed share of each second.
    fn shares(duty_cycle: &mut DutyCycle, start: Instant, a_second: u32, seconds: u32) -> Vec<f64> {
        let share = |second: u32| {
            let shown = (0..a_second)
                .filter(|wave| {
                    let now = start
                        + Duration::from_secs_f64(f64::from(second) + f64::from(*wave) / f64::from(a_second));
                    if duty_cycle.away().is_some_and(|(from, until)| now >= until || now < from) {
                        duty_cycle.look(now);
                    }
                    duty_cycle.shows(now) == Shown::Yes
                })
                .count();
            shown as f64 / f64::from(a_second)
        };
        (0..seconds).map(share).collect()
    }

    #[test]
    fn a_rate_within_the_budget_is_fully_observed() {
        let mut duty_cycle = DutyCycle::new(100);
        assert!(
            shares(&mut duty_cycle, aether_core::clock::test_now(), 99, 100)
                .iter()
                .all(|share| *share == 1.0)
        );
        assert_eq!((duty_cycle.sampling().rate(), duty_cycle.sampling().lately), (1.0, 1.0));
    }

    #[test]
    fn twice_the_budget_is_observed_for_eight_seconds_in_sixteen() {
        let mut duty_cycle = DutyCycle::new(100);
        let shares = shares(&mut duty_cycle, aether_core::clock::test_now(), 200, 160);
        assert!(shares[..8].iter().all(|share| *share > 0.99), "{shares:?}");
        assert!(shares[9..16].iter().all(|share| *share == 0.0), "{shares:?}");
        let sampling = duty_cycle.sampling();
        assert!((sampling.rate() - 0.5).abs() < 0.03 && (sampling.lately - 0.5).abs() < 0.01, "{sampling:?}");
    }

    #[test]
    fn a_flood_is_observed_for_a_moment_every_eight_seconds() {
        let mut duty_cycle = DutyCycle::new(100);
        let start = aether_core::clock::test_now();
        let shares = shares(&mut duty_cycle, start, 5_000, 80);
        // 100 a second for 8 s are 800 waves, which pass in less than two tenths of a second.
        assert!(shares.iter().all(|share| *share < 0.2), "{shares:?}");
        let sampling = duty_cycle.sampling();
        assert!((9..=10).contains(&sampling.times_away), "{sampling:?}");
        assert!(
            (sampling.rate() - 0.02).abs() < 0.003 && (sampling.lately - 0.02).abs() < 0.002,
            "{sampling:?}"
        );
        assert!(sampling.shown <= 10 * 820, "{sampling:?}");
    }

    #[test]
    fn ending_a_pause_early_does_not_exceed_the_average() {
        let mut duty_cycle = DutyCycle::new(100);
        let start = aether_core::clock::test_now();
        let mut shown = 0;
        for wave in 0..100_000 {
            let now = start + Duration::from_millis(wave);
            duty_cycle.look(now);
            shown += u32::from(duty_cycle.shows(now) == Shown::Yes);
        }
        assert!(shown <= 100 * 100 + 800, "{shown}");
    }

    #[test]
    fn a_clock_that_jumps_neither_observes_nor_pauses_forever() {
        let mut duty_cycle = DutyCycle::new(100);
        let start = aether_core::clock::test_now() + Duration::from_secs(10_000);
        shares(&mut duty_cycle, start, 1000, 20);
        let back = start - Duration::from_secs(9_000);
        let shares = shares(&mut duty_cycle, back, 1000, 400);
        let shown: f64 = shares.iter().sum::<f64>() / 400.0;
        assert!((0.05..0.15).contains(&shown), "{shown}");
    }
}
