//! The longest silence before a beat is missing, and the probability of a silence.
//!
//! Source: N. Hayashibara et al., *The phi accrual failure detector* (2004): the suspicion of a silence is `phi =
//! -log10(P(a gap is longer))`. Here gaps are normally distributed around the period, beats are lost at the stream's own
//! rate, and the stream pauses as it did before. A pause exceeds `x` times the longest of `n` with a probability of
//! `(n + 1)^-x`, as if pauses were exponentially distributed.

use std::f64::consts::TAU;

use super::history::History;

/// The suspicion at which beats in a row are not lost but missing.
const PHI: f64 = 5.0;
/// At least this many beats in a row must be missing.
const FEWEST_MISSING: f64 = 2.0;
/// The last of them is missing when it is late by this many standard deviations, within bounds in periods.
const DEVIATIONS: f64 = 3.0;
const LEAST_LATE: f64 = 0.1;
const MOST_LATE: f64 = 0.4;
/// A gap longer than the period by this many standard deviations has a missing beat; a shorter one has a late beat. The
/// bound is at least half a period and at most three quarters.
const LATE: f64 = 5.0;
/// A longer gap, in periods, is an outage and not a habit.
const LONGEST_SKIP: f64 = 6.0;
/// The maximum number of beats in a row that are lost and not missing.
const MOST_PERIODS: f64 = 32.0;
/// The next pause of a stream that pauses habitually is at most this many times as long as its longest.
const LONGER_PAUSE: f64 = 2.0;
/// A stream that pauses habitually for longer, in periods, stops and goes. It is never missing.
const STOP_AND_GO: f64 = 512.0;

/// The share of moments that are not beats above which a stream is noisy. In a noisy stream, a beat is at most `STRICT`
/// periods from when it is due. In others, everything at least half a period after the last beat is a beat.
const NOISY: f64 = 0.1;
const STRICT: f64 = 0.25;

/// The regularity of a stream's latest moments.
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
        let mut habit = Self { jitter, ..Self::default() };
        let (late, mut turned) = (habit.late(), 0);
        for turns in turns() {
            habit.gaps += 1;
            habit.between += usize::from(turns < 0.5);
            turned += if turns > late { turns.round().max(2.0) as usize } else { usize::from(turns >= 0.5) };
        }
        // A gap of two periods before one of none is a late beat, not a missing one.
        habit.missing = turned.saturating_sub(habit.gaps);
        habit
    }

    /// The share of missing beats.
    pub(super) fn missing_part(&self) -> f64 {
        self.missing as f64 / (self.gaps + self.missing).max(1) as f64
    }

    /// The largest distance of a beat from a whole number of periods after the last one, as a share of the period.
    pub(super) fn tolerance(&self) -> f64 {
        if self.between as f64 > NOISY * self.gaps as f64 { STRICT } else { 0.5 }
    }

    /// A longer gap, in periods, is not a late beat.
    pub(super) fn late(&self) -> f64 {
        (1.0 + LATE * self.jitter).clamp(1.5, 1.75)
    }

    /// An upper bound on the deviation, which depends on the number of gaps.
    fn deviation(&self) -> f64 {
        self.jitter * (1.0 + 1.5 / (self.gaps.max(1) as f64).sqrt())
    }

    /// The delay beyond which a beat is not just late, in periods.
    pub(super) fn lateness(&self) -> f64 {
        (DEVIATIONS * self.deviation()).clamp(LEAST_LATE, MOST_LATE)
    }

    /// The number of periods after a beat at which the next one is missing; `None` for a stream that stops and goes.
    pub(super) fn patience(&self, history: &History) -> Option<f64> {
        let missing = (PHI / -history.loss().log10()).ceil().clamp(FEWEST_MISSING, MOST_PERIODS);
        let patience = missing + self.lateness();
        let Some((_, _, longest)) = history.pauses() else { return Some(patience) };
        (longest <= STOP_AND_GO).then(|| patience.max(1.0 + self.lateness() + LONGER_PAUSE * longest))
    }

    /// The suspicion after a silence, in periods.
    pub(super) fn phi(&self, history: &History, periods: f64) -> f64 {
        let (loss, deviation) = (history.loss(), self.deviation().max(1e-3));
        // The next beat may be the first one, or the second with the first lost, and so on.
        let (mut longer, mut all_before) = (0.0, 1.0);
        for beat in 1..=2 * MOST_PERIODS as u32 {
            longer += all_before * (1.0 - loss) * beyond((periods - f64::from(beat)) / deviation);
            all_before *= loss;
        }
        if let Some((share, pauses, longest)) = history.pauses() {
            longer += share * (pauses + 1.0).powf(-(periods - 1.0).max(0.0) / longest.max(1e-3));
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

    fn habit(jitter: f64) -> Habit {
        Habit { jitter, gaps: 127, ..Habit::default() }
    }

    fn history(gaps: impl IntoIterator<Item = f64>) -> History {
        let mut history = History::default();
        gaps.into_iter().for_each(|gap| history.note(gap, 1.5));
        history
    }

    fn losing(one_in: u32, beats: u32) -> History {
        history((1..=beats).map(|beat| if beat % one_in == 0 { 2.0 } else { 1.0 }))
    }

    #[test]
    fn three_beats_must_be_missing_and_two_of_a_stream_that_never_lost_one() {
        assert_eq!(habit(0.0).patience(&losing(1000, 20)), Some(3.1));
        assert_eq!(habit(0.0).patience(&losing(1000, 500)), Some(2.1));
        for jitter in [0.1, 0.2, 0.5] {
            assert_eq!(habit(jitter).patience(&losing(100, 4000)).map(|periods| periods.ceil()), Some(4.0));
            assert!(habit(jitter).patience(&losing(100, 4000)).unwrap() <= 3.4);
        }
    }

    #[test]
    fn a_stream_that_loses_beats_is_missing_at_phi_five() {
        for one_in in [2, 3, 5, 20, 100] {
            let (habit, history) = (habit(0.07), losing(one_in, 1000));
            let patience = habit.patience(&history).unwrap();
            assert!(habit.phi(&history, patience) >= PHI, "one in {one_in}: {patience}");
            assert!(habit.phi(&history, patience - 1.5) < PHI, "one in {one_in}: {patience}");
        }
        assert!(habit(0.0).patience(&history([6.0; 1000])).unwrap() <= MOST_PERIODS + 1.0);
    }

    #[test]
    fn a_stream_that_pauses_gets_twice_its_longest_pause() {
        let pausing = history((1..=400).map(|beat| if beat % 20 == 0 { 3.5 } else { 1.0 }));
        assert_eq!(habit(0.0).patience(&pausing), Some(1.1 + 2.0 * 2.5));
        assert!(habit(0.0).phi(&pausing, 3.0) < 3.0, "such a pause is nothing new");
        let stop_and_go = history((1..=400).map(|beat| if beat % 20 == 0 { 1000.0 } else { 1.0 }));
        assert_eq!(habit(0.0).patience(&stop_and_go), None);
    }

    #[test]
    fn phi_measures_the_improbability_of_a_silence() {
        let habit = Habit { jitter: 0.2, gaps: 1_000_000, ..Habit::default() };
        let never = losing(u32::MAX, 4000);
        // A probability of 0.0228 at two standard deviations, and of 2.4e-4 for a loss before.
        assert!((habit.phi(&never, 1.4) - 1.642).abs() < 0.02, "{}", habit.phi(&never, 1.4));
        assert!((habit.phi(&never, 2.4) - 5.26).abs() < 0.1, "{}", habit.phi(&never, 2.4));
        assert!(habit.phi(&never, 0.0) < 1e-5);
        assert!(Habit::default().phi(&never, 1e9).is_finite());
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
