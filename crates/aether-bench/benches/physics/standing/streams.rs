//! Generators of streams with and without a period.

use std::fmt;

use fastrand::Rng;

use super::super::random::{exponential, normal, poisson, uniform};

/// A stream with a period.
#[derive(Clone, Copy)]
pub(super) struct Periodic {
    /// Whether jitter accumulates from beat to beat, as in a loop that sleeps. Otherwise each beat follows the clock.
    drifts: bool,
    /// The standard deviation of a beat, as a fraction of the period.
    jitter: f64,
    /// The fraction of beats that are missing.
    missing: f64,
    /// The fraction of waves that are not beats.
    noise: f64,
}

impl Periodic {
    /// All kinds of streams that are tested.
    pub(super) const ALL: [Self; 14] = {
        let mut all = [Self { drifts: false, jitter: 0.05, missing: 0.0, noise: 0.0 }; 14];
        let mut index = 0;
        while index < 14 {
            all[index].drifts = index % 2 == 1;
            match index / 2 {
                0 => all[index].jitter = 0.02,
                1 => all[index].jitter = 0.1,
                2 => all[index].jitter = 0.2,
                3 => all[index].missing = 0.2,
                4 => all[index].missing = 0.4,
                5 => all[index].noise = 0.3,
                _ => all[index].noise = 0.5,
            }
            index += 1;
        }
        all
    };

    /// The kinds that are watched for missing beats.
    pub(super) const WATCHED: [Self; 6] =
        [Self::ALL[0], Self::ALL[2], Self::ALL[3], Self::ALL[4], Self::ALL[6], Self::ALL[8]];

    /// Whether the project has a goal for this kind.
    pub(super) fn is_goal(&self) -> bool {
        self.jitter == 0.1 || self.missing == 0.4
    }

    pub(super) fn skips(&self) -> bool {
        self.missing > 0.0
    }

    /// Generates the given number of moments, in seconds.
    pub(super) fn beats(&self, count: usize, period: f64, random: &mut Rng) -> Vec<f64> {
        // Jitter may put a beat before the first one.
        let mut clock = period * (2.0 + random.f64());
        let mut times = Vec::new();
        let noise = (1.0 - self.missing) * self.noise / (1.0 - self.noise);
        while times.len() < 2 * count {
            let at = if self.drifts {
                clock += period * (1.0 + self.jitter * normal(random)).max(0.05);
                clock
            } else {
                clock += period;
                clock + period * self.jitter * normal(random)
            };
            if random.f64() >= self.missing {
                times.push(at);
            }
            for _ in 0..poisson(random, noise) {
                times.push(clock + period * random.f64());
            }
        }
        sorted(times, count)
    }
}

impl fmt::Display for Periodic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.drifts { "drifting" } else { "locked" };
        write!(f, "{kind}, {:.0} % jitter", 100.0 * self.jitter)?;
        if self.missing > 0.0 {
            write!(f, ", {:.0} % missing", 100.0 * self.missing)?;
        }
        if self.noise > 0.0 {
            write!(f, ", {:.0} % noise", 100.0 * self.noise)?;
        }
        Ok(())
    }
}

/// Generates a number of moments of a stream without a period.
type Generate = fn(usize, &mut Rng) -> Vec<f64>;

/// The kinds of streams without a period.
pub(super) const NULLS: [(&str, Generate); 6] = [
    ("by chance (Poisson)", |count, random| renewals(count, || exponential(random, 1.0))),
    ("gamma gaps of shape 4", |count, random| {
        renewals(count, || (0..4).map(|_| exponential(random, 0.25)).sum())
    }),
    ("log-normal gaps", |count, random| renewals(count, || (1.5 * normal(random)).exp())),
    ("bursts", |count, random| {
        let (mut times, mut clock) = (Vec::new(), 0.0);
        while times.len() < 2 * count {
            clock += exponential(random, 1.0);
            times.extend((0..=poisson(random, 4.0)).map(|_| clock + exponential(random, 0.05)));
        }
        sorted(times, count)
    }),
    ("rates that change", |count, random| {
        let (mut times, mut clock) = (Vec::new(), 0.0);
        while times.len() < count {
            let rate = if random.bool() { 0.5 } else { 8.0 };
            let until = clock + exponential(random, 4.0);
            let mut at = clock + exponential(random, 1.0 / rate);
            while at < until {
                times.push(at);
                at += exponential(random, 1.0 / rate);
            }
            clock = until;
        }
        sorted(times, count)
    }),
    ("retries with back-off", |count, random| {
        let (mut times, mut clock) = (Vec::new(), 0.0);
        while times.len() < 2 * count {
            clock += exponential(random, 2.0);
            let mut at = clock;
            for attempt in 0..5 {
                at += 0.1 * f64::from(1 << attempt) * uniform(random, 0.8, 1.2);
                times.push(at);
            }
        }
        sorted(times, count)
    }),
];

fn renewals(count: usize, mut gap: impl FnMut() -> f64) -> Vec<f64> {
    let mut clock = 0.0;
    (0..count)
        .map(|_| {
            clock += gap();
            clock
        })
        .collect()
}

fn sorted(mut times: Vec<f64>, count: usize) -> Vec<f64> {
    times.sort_unstable_by(f64::total_cmp);
    times.truncate(count);
    times
}
