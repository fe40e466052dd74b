//! Looks and looks away, so that an average of waves a second is kept. Ordinary term: a sampler with a duty cycle.
//!
//! Used by [`PhysicsEngine`](super::PhysicsEngine). Timing needs all waves of some seconds and can do without those of
//! the next, but not with every tenth wave: a pair would be seen once in a hundred. So it takes in all waves for a while,
//! on credit, and then none until what was taken is paid back. How long it looks is bounded by time and by waves,
//! whichever comes first, so that a flood is looked at only for a moment.

use std::time::Duration;

use crate::clock::Instant;

/// For how long it looks on credit: several times the windows of timing.
const LOOK: Duration = Duration::from_secs(8);
/// How much credit there is, in seconds of the budget; what a full look at twice the budget takes. So it looks away for
/// about as long at most, and up to twice the budget looks are as long as they can be.
const CREDIT: f64 = 8.0;

#[derive(Debug)]
pub(super) struct DutyCycle {
    a_second: f64,
    /// How many waves may still be shown; less than none while it owes.
    budget: f64,
    /// When the budget was added to last.
    at: Option<Instant>,
    /// Since when it owes without a break.
    owes: Option<Instant>,
    /// Since when it looks; `None` before the first wave.
    since: Option<Instant>,
    /// From when until when it looks away.
    away: Option<(Instant, Instant)>,
    sampling: Sampling,
}

/// How much of what went by was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Waves that were handed in; those that passed while an observer was away are not among them.
    pub seen: u64,
    /// Waves that were looked at.
    pub shown: u64,
    /// For how long it looked, in the looks that are over.
    pub looked: Duration,
    /// For how long it looked away.
    pub away: Duration,
    /// How often it looked away.
    pub times_away: u64,
    /// Which part of the time it looks, by the latest look and the time away that it cost; 1 while it need not look away.
    pub lately: f64,
}

impl Sampling {
    /// The part of the time that was looked at, of all looks that are over and the times away between them. It is the
    /// part of the waves too, as long as they come evenly.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let (looked, away) = (self.looked.as_secs_f64(), self.away.as_secs_f64());
        if away == 0.0 { 1.0 } else { looked / (looked + away) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    No,
    /// No, and neither the ones that follow for a while.
    LooksAway,
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

    /// Counts a wave, and says whether it is to be looked at.
    pub(super) fn shows(&mut self, now: Instant) -> Shown {
        self.sampling.seen += 1;
        if self.away.is_some() {
            return Shown::No;
        }
        // A clock that goes back adds nothing; one that leaps ahead adds no more than is worth keeping.
        let passed = now.saturating_duration_since(self.at.unwrap_or(now)).as_secs_f64();
        self.at = Some(now);
        self.budget = (self.budget + passed * self.a_second).min(CREDIT * self.a_second);
        let since = *self.since.get_or_insert(now);
        if self.budget >= 0.0 {
            self.owes = None;
        } else {
            // Of a clock that went back, what was said before means nothing.
            let owes = self.owes.map_or(now, |owes| owes.min(now));
            self.owes = Some(owes);
            if self.budget <= -CREDIT * self.a_second || now.saturating_duration_since(owes) >= LOOK {
                self.look_away(since, now);
                return Shown::LooksAway;
            }
        }
        self.budget -= 1.0;
        self.sampling.shown += 1;
        Shown::Yes
    }

    /// Takes waves off the budget that were lost on their way here: they cost the bus as much as those that arrived.
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
        // What was left over before it had to look away says nothing of how it goes on.
        let on_credit = now.saturating_duration_since(self.owes.unwrap_or(since)).as_secs_f64();
        self.sampling.lately = on_credit / (on_credit + away.as_secs_f64());
    }

    /// From when until when it looks away, if it does.
    pub(super) fn away(&self) -> Option<(Instant, Instant)> {
        self.away
    }

    /// Looks again, and says since when it did not.
    pub(super) fn look(&mut self, now: Instant) -> Option<Instant> {
        let (from, _) = self.away.take()?;
        let away = now.saturating_duration_since(from);
        self.sampling.away += away;
        // Who looks too early still owes the rest.
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

    /// Shows an even stream of waves, looking again when it is time; gives the shares shown in each second.
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
    fn a_rate_within_the_budget_is_shown_wholly() {
        let mut duty_cycle = DutyCycle::new(100);
        assert!(shares(&mut duty_cycle, Instant::now(), 99, 100).iter().all(|share| *share == 1.0));
        assert_eq!((duty_cycle.sampling().rate(), duty_cycle.sampling().lately), (1.0, 1.0));
    }

    #[test]
    fn twice_the_budget_is_shown_for_eight_seconds_in_sixteen() {
        let mut duty_cycle = DutyCycle::new(100);
        let shares = shares(&mut duty_cycle, Instant::now(), 200, 160);
        assert!(shares[..8].iter().all(|share| *share > 0.99), "{shares:?}");
        assert!(shares[9..16].iter().all(|share| *share == 0.0), "{shares:?}");
        let sampling = duty_cycle.sampling();
        assert!((sampling.rate() - 0.5).abs() < 0.03 && (sampling.lately - 0.5).abs() < 0.01, "{sampling:?}");
    }

    #[test]
    fn a_flood_is_looked_at_for_a_moment_every_eight_seconds() {
        let mut duty_cycle = DutyCycle::new(100);
        let start = Instant::now();
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
    fn looking_too_early_is_no_way_around_the_average() {
        let mut duty_cycle = DutyCycle::new(100);
        let start = Instant::now();
        let mut shown = 0;
        for wave in 0..100_000 {
            let now = start + Duration::from_millis(wave);
            duty_cycle.look(now);
            shown += u32::from(duty_cycle.shows(now) == Shown::Yes);
        }
        assert!(shown <= 100 * 100 + 800, "{shown}");
    }

    #[test]
    fn a_clock_that_jumps_neither_opens_nor_closes_it_for_ever() {
        let mut duty_cycle = DutyCycle::new(100);
        let start = Instant::now() + Duration::from_secs(10_000);
        shares(&mut duty_cycle, start, 1000, 20);
        let back = start - Duration::from_secs(9_000);
        let shares = shares(&mut duty_cycle, back, 1000, 400);
        let shown: f64 = shares.iter().sum::<f64>() / 400.0;
        assert!((0.05..0.15).contains(&shown), "{shown}");
    }
}
