//! The schedule: the due time and importance of each message, fixed before the first one is sent.
//!
//! Each benchmark makes one, and the pacer follows it. It is an open loop: a slow receiver does not slow the sender,
//! and the wait of a message before it is sent counts as latency (no coordinated omission).
//!
//! ```
//! use aether_bench::{Phase, Schedule};
//! use std::time::Duration;
//!
//! let phase = Phase { rate: 1000.0, lasts: Duration::from_secs(2) };
//! let schedule = Schedule::poisson(&[phase], 0.05, 7)?;
//! assert!((1800..2200).contains(&schedule.arrivals().len()));
//! # Ok::<(), aether_bench::ScheduleError>(())
//! ```

use std::time::Duration;

use crate::clock::nanoseconds;

/// The two strengths of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strength {
    /// Important: amplitude 1.0.
    Strong,
    /// Less important: amplitude 0.25, two octaves below.
    Weak,
}

impl Strength {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Strong, Self::Weak];

    /// The amplitude of waves of this strength.
    #[must_use]
    pub const fn amplitude(self) -> f32 {
        match self {
            Self::Strong => 1.0,
            Self::Weak => 0.25,
        }
    }
}

/// One message of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it is due, in nanoseconds from the start of the run.
    pub due: u64,
    /// Its strength.
    pub strength: Strength,
}

/// An endless sequence of independent arrivals: a Poisson process.
#[derive(Debug, Clone)]
pub struct Poisson {
    random: fastrand::Rng,
    /// Mean gap in nanoseconds.
    gap: f64,
    strong: f64,
    at: f64,
}

impl Poisson {
    /// Arrivals at `rate` a second, of which the share `strong` is strong, drawn from `seed`.
    ///
    /// # Errors
    /// [`ScheduleError`] if the rate or the share is not valid.
    pub fn new(rate: f64, strong: f64, seed: u64) -> Result<Self, ScheduleError> {
        check(rate, strong)?;
        Ok(Self { random: fastrand::Rng::with_seed(seed), gap: 1e9 / rate, strong, at: 0.0 })
    }
}

impl Iterator for Poisson {
    type Item = Arrival;
    fn next(&mut self) -> Option<Arrival> {
        // The gaps of a Poisson process are exponential. f64() is below 1, so the logarithm is finite.
        self.at -= (1.0 - self.random.f64()).ln() * self.gap;
        let strong = self.random.f64() < self.strong;
        let strength = if strong { Strength::Strong } else { Strength::Weak };
        Some(Arrival { due: self.at as u64, strength })
    }
}

/// A part of a schedule with one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// Messages a second, on average.
    pub rate: f64,
    /// The duration.
    pub lasts: Duration,
}

/// A schedule that is not possible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The rate is not valid.
    #[error(
        "{given} messages a second are not possible: use a number above 0 and at most {}",
        Schedule::MOST_A_SECOND
    )]
    Rate {
        /// The given number.
        given: f64,
    },
    /// The share is not valid.
    #[error("{given} is not a share of strong messages: use a number from 0 to 1")]
    Share {
        /// The given number.
        given: f64,
    },
    /// The schedule has too many messages.
    #[error(
        "a schedule of about {about:.0} messages is too long: use fewer seconds, or a lower rate; {} fit",
        Schedule::MOST
    )]
    TooLong {
        /// The number of messages.
        about: f64,
    },
}

fn check(rate: f64, strong: f64) -> Result<(), ScheduleError> {
    if !(rate > 0.0 && rate <= Schedule::MOST_A_SECOND) {
        return Err(ScheduleError::Rate { given: rate });
    }
    if !(0.0..=1.0).contains(&strong) {
        return Err(ScheduleError::Share { given: strong });
    }
    Ok(())
}

/// All messages of a run, ordered by due time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    arrivals: Vec<Arrival>,
    length: Duration,
}

impl Schedule {
    /// The maximum number of messages; 16 bytes each.
    pub const MOST: usize = 50_000_000;
    /// The maximum rate. Beyond it the sender's own clock would be measured.
    pub const MOST_A_SECOND: f64 = 1e7;

    /// A Poisson schedule of consecutive phases. The same seed gives the same schedule.
    ///
    /// # Errors
    /// [`ScheduleError`] names the invalid value and the allowed ones.
    pub fn poisson(phases: &[Phase], strong: f64, seed: u64) -> Result<Self, ScheduleError> {
        let about = phases.iter().map(|phase| phase.rate * phase.lasts.as_secs_f64()).sum();
        // Room for random deviation; NaN is refused by the check of the rate.
        if about > 0.9 * Self::MOST as f64 {
            return Err(ScheduleError::TooLong { about });
        }
        let mut arrivals = Vec::new();
        let mut length = Duration::ZERO;
        for (number, phase) in phases.iter().enumerate() {
            let (begin, end) = (nanoseconds(length), nanoseconds(length + phase.lasts));
            // The process is memoryless, so each phase can start afresh.
            let phase_seed = seed.wrapping_add((number as u64) << 32);
            arrivals.extend(
                Poisson::new(phase.rate, strong, phase_seed)?
                    .map(|arrival| Arrival { due: begin + arrival.due, ..arrival })
                    .take_while(|arrival| arrival.due < end),
            );
            length += phase.lasts;
        }
        Ok(Self { arrivals, length })
    }

    /// The messages, by number.
    #[must_use]
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// How long it lasts.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Mean and variance of the numbers.
    fn moments(numbers: impl ExactSizeIterator<Item = f64> + Clone) -> (f64, f64) {
        let count = numbers.len() as f64;
        let mean = numbers.clone().sum::<f64>() / count;
        (mean, numbers.map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0))
    }

    #[test]
    fn gaps_are_exponential_and_counts_are_poisson() {
        let schedule = Schedule::poisson(&[Phase { rate: 10_000.0, lasts: 20 * SECOND }], 0.05, 1).unwrap();
        let due: Vec<f64> = schedule.arrivals().iter().map(|arrival| arrival.due as f64).collect();
        assert!(due.is_sorted());

        // Each within five standard deviations of its estimate, so that a fixed seed cannot be a lucky one by much.
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (mean, variance) = moments(gaps.iter().copied());
        let (n, expected) = (gaps.len() as f64, 1e5);
        assert!((mean / expected - 1.0).abs() < 5.0 / n.sqrt(), "{mean}");
        assert!((variance / expected.powi(2) - 1.0).abs() < 5.0 * (8.0 / n).sqrt(), "{variance}");

        // Counts in windows of 10 ms: mean and variance of a Poisson distribution are the same, 100.
        let mut counts = vec![0.0; 2000];
        for at in &due {
            counts[(at / 1e7) as usize] += 1.0;
        }
        let (mean, variance) = moments(counts.iter().copied());
        assert!((mean - 100.0).abs() < 5.0 * (100.0_f64 / 2000.0).sqrt(), "{mean}");
        assert!((variance / 100.0 - 1.0).abs() < 5.0 * (2.0_f64 / 2000.0).sqrt(), "{variance}");

        let strong = schedule.arrivals().iter().filter(|a| a.strength == Strength::Strong).count() as f64;
        let deviation = (due.len() as f64 * 0.05 * 0.95).sqrt();
        assert!((strong - due.len() as f64 * 0.05).abs() < 5.0 * deviation, "{strong}");
    }

    #[test]
    fn a_step_changes_the_rate_at_its_moment_and_a_seed_says_everything() {
        let phases = [Phase { rate: 1000.0, lasts: SECOND }, Phase { rate: 10_000.0, lasts: SECOND }];
        let schedule = Schedule::poisson(&phases, 0.05, 7).unwrap();
        let before = schedule.arrivals().iter().filter(|arrival| arrival.due < 1_000_000_000).count();
        let after = schedule.arrivals().len() - before;
        assert!((840..1160).contains(&before) && (9500..10_500).contains(&after), "{before} {after}");
        assert_eq!(schedule.length(), 2 * SECOND);

        assert_eq!(schedule, Schedule::poisson(&phases, 0.05, 7).unwrap());
        assert_ne!(schedule, Schedule::poisson(&phases, 0.05, 8).unwrap());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let schedule = |rate, strong, seconds| {
            Schedule::poisson(&[Phase { rate, lasts: Duration::from_secs(seconds) }], strong, 1)
                .unwrap_err()
                .to_string()
        };
        for rate in [0.0, -1.0, f64::NAN, 2e7] {
            assert!(schedule(rate, 0.05, 1).contains("above 0 and at most 10000000"), "{rate}");
        }
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(schedule(1.0, share, 1).contains("from 0 to 1"), "{share}");
        }
        assert!(schedule(1e6, 0.05, 1000).contains("50000000 fit"));
        assert!(schedule(f64::INFINITY, 0.05, 1).contains("50000000 fit"));
    }
}
