//! The longest silence before a beat is missing, and the probability of a silence.
//!
//! Source: N. Hayashibara et al., *The phi accrual failure detector* (2004): the suspicion of a silence is `phi =
//! -log10(P(a gap is longer))`. Here gaps are normally distributed around the period, and the rate of skipped beats is
//! taken into account.

use std::f64::consts::TAU;

/// The suspicion at which a beat is missing.
const PHI: f64 = 8.0;
/// The deviation, in standard deviations, that is exceeded with a probability of `10^-PHI`.
const DEVIATIONS: f64 = 5.612;
/// A shorter silence, in periods, is never reported: the beat may be late because a process or a network paused.
const SHORTEST: f64 = 2.0;
/// The longest wait, in periods, for a stream that skips nothing.
const LONGEST: f64 = 2.5;
/// A gap longer than the period by this many standard deviations has a missing beat; a shorter one has a late beat. The
/// bound is at least half a period and at most three quarters.
const LATE: f64 = 5.0;
/// A longer gap, in periods, is an outage and not a habit.
const LONGEST_SKIP: f64 = 6.0;
/// The longest wait, in periods, for a stream that skips beats.
const MOST_PERIODS: f64 = 32.0;

/// The share of moments that are not beats above which a stream is noisy. In a noisy stream, a beat is at most `STRICT`
/// periods from when it is due. In others, everything at least half a period after the last beat is a beat.
const NOISY: f64 = 0.1;
const STRICT: f64 = 0.25;

/// The regularity of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Habit {
    /// The standard deviation of the gaps, as a share of the period.
    pub(super) jitter: f64,
    /// The number of gaps that it is estimated from.
    pub(super) gaps: usize,
    /// The number of beats that are missing from them.
    pub(super) missing: usize,
    /// The number of gaps shorter than half a period.
    between: usize,
}

impl Habit {
    /// Estimates from gaps between ascending moments (infinite if unknown) and their period.
    pub(super) fn of(gaps: &[f64], period: f64) -> Self {
        let turns = || gaps.iter().map(|gap| gap / period).filter(|turns| *turns < LONGEST_SKIP);
        let single = || turns().filter(|turns| (0.5..1.5).contains(turns));
        let squares: f64 = single().map(|turns| (turns - 1.0).powi(2)).sum();
        let jitter = (squares / single().count().max(1) as f64).sqrt();
        let late = (1.0 + LATE * jitter).clamp(1.5, 1.75);
        let (mut gaps, mut between, mut turned) = (0, 0, 0);
        for turns in turns() {
            gaps += 1;
            between += usize::from(turns < 0.5);
            turned += if turns > late { turns.round().max(2.0) as usize } else { usize::from(turns >= 0.5) };
        }
        // A gap of two periods before one of none is a late beat, not a missing one.
        Self { jitter, gaps, missing: turned.saturating_sub(gaps), between }
    }

    /// The share of missing beats.
    pub(super) fn missing_part(&self) -> f64 {
        self.missing as f64 / (self.gaps + self.missing).max(1) as f64
    }

    /// The largest distance of a beat from a whole number of periods after the last one, as a share of the period.
    pub(super) fn tolerance(&self) -> f64 {
        if self.between as f64 > NOISY * self.gaps as f64 { STRICT } else { 0.5 }
    }

    /// The estimated probability that a beat is skipped; 0 if none was.
    fn skips(&self) -> f64 {
        if self.missing == 0 {
            0.0
        } else {
            (self.missing + 1) as f64 / (self.gaps + self.missing + 2) as f64
        }
    }

    /// An upper bound on the deviation, which depends on the number of gaps.
    fn deviation(&self) -> f64 {
        self.jitter * (1.0 + 1.5 / (self.gaps.max(1) as f64).sqrt())
    }

    /// The number of periods after a beat at which the next one is missing.
    pub(super) fn patience(&self) -> f64 {
        let late = DEVIATIONS * self.deviation();
        if self.missing == 0 {
            return (1.0 + late).clamp(SHORTEST, LONGEST);
        }
        let periods = (PHI / -self.skips().log10()).ceil().clamp(1.0, MOST_PERIODS);
        (periods + late.min(1.0)).max(SHORTEST)
    }

    /// The suspicion after a silence, in periods.
    pub(super) fn phi(&self, periods: f64) -> f64 {
        let (skips, deviation) = (self.skips(), self.deviation().max(1e-3));
        // The next beat may be the first one, or the second with the first skipped, and so on.
        let (mut longer, mut all_before) = (0.0, 1.0);
        for beat in 1..=2 * MOST_PERIODS as u32 {
            longer += all_before * (1.0 - skips) * beyond((periods - f64::from(beat)) / deviation);
            all_before *= skips;
        }
        -(longer + all_before).max(f64::MIN_POSITIVE).log10()
    }
}

/// The probability that a normal deviate is larger. Below 3 by Abramowitz and Stegun, 26.2.17 (error below 1e-7), above
/// by the asymptote with two terms (relative error below 2 %).
fn beyond(deviations: f64) -> f64 {
    if deviations < 0.0 {
        return 1.0 - beyond(-deviations);
    }
    let density = (-deviations * deviations / 2.0).exp() / TAU.sqrt();
    if deviations >= 3.0 {
        let square = deviations * deviations;
        return density / deviations * (1.0 - 1.0 / square + 3.0 / (square * square));
    }
    const TERMS: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * deviations);
    density * t * TERMS.iter().rev().fold(0.0, |sum, term| sum * t + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_skips_nothing_is_missed_between_two_and_two_and_a_half_periods() {
        let patience = |jitter| Habit { jitter, gaps: 127, missing: 0, between: 0 }.patience();
        assert_eq!((patience(0.0), patience(0.1), patience(0.5)), (2.0, 2.0, 2.5));
        assert!(patience(0.2) > 2.2 && patience(0.2) < 2.5);
    }

    #[test]
    fn a_stream_that_skips_beats_is_missed_at_phi_eight() {
        for (gaps, missing) in [(77, 50), (126, 1), (110, 17)] {
            let habit = Habit { jitter: 0.07, gaps, missing, between: 0 };
            assert!(habit.phi(habit.patience()) >= 8.0, "{habit:?} {}", habit.patience());
            assert!(habit.phi(habit.patience() - 1.5) < 8.0, "{habit:?}");
        }
        assert!(Habit { jitter: 0.0, gaps: 1, missing: 1000, between: 0 }.patience() <= 33.0);
    }

    #[test]
    fn phi_measures_the_improbability_of_a_silence() {
        let habit = Habit { jitter: 0.2, gaps: 1_000_000, missing: 0, between: 0 };
        // Probabilities of 2.87e-7 at five standard deviations and 0.0228 at two.
        assert!((habit.phi(2.0) - 6.54).abs() < 0.03, "{}", habit.phi(2.0));
        assert!((habit.phi(1.4) - 1.642).abs() < 0.01, "{}", habit.phi(1.4));
        assert!(habit.phi(0.0) < 1e-5);
        assert!(Habit { jitter: 0.0, gaps: 5, missing: 0, between: 0 }.phi(1e9).is_finite());
    }

    #[test]
    fn habits_are_estimated_from_gaps() {
        let habit = Habit::of(&[1.0, 1.0, 2.0, 1.0, f64::INFINITY, 1.1, 93.9], 1.0);
        assert_eq!((habit.gaps, habit.missing, habit.between), (5, 1, 0));
        assert!((habit.missing_part() - 1.0 / 6.0).abs() < 1e-9 && (habit.jitter - 0.05).abs() < 1e-9);
        let late = Habit::of(&[1.0, 1.6, 0.4], 1.0);
        assert_eq!((late.missing, late.between), (0, 1), "late, not missing");
    }
}
