//! The excess of B after A over chance: real windows against phantom windows.
//!
//! After each trigger (a wave of A) the waves of B are counted by lag, in bins of half an octave. The same is done after
//! a phantom of the trigger: a copy shifted by one to two windows, back and forward in turn. Load that A and B share fills
//! both equally. A remaining difference is removed by difference-in-differences: the ratio of real to phantom *outside* of
//! the lags in question is the ratio by chance inside of them.
//!
//! Pure statistics, used by [`report`](super::report) for each pair.

use super::spans::{REACH, Spans, WINDOW};
use super::track::{Join, Point, TrackIndex, lags_after};

/// The shortest lag that is distinguished from zero, in nanoseconds. Shorter ones share the first bin.
const SHORTEST: f64 = 62_500.0;
const BINS_PER_OCTAVE: f64 = 2.0;
/// log2(WINDOW / SHORTEST) octaves, rounded up, and one for the end.
const BINS: usize = 29;
/// The widths of the lag ranges that are tried, in bins.
const WIDTHS: [usize; 3] = [2, 3, 4];
/// How many bins on each side of a range count neither as inside nor as outside.
const MARGIN: usize = 2;
/// Added to the counts outside, so that few waves cannot make a large ratio.
const PRIOR: f64 = 10.0;

/// The excess of B after A over chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Excess {
    /// The probability of such an excess anywhere if A and B were unrelated.
    pub(super) p_value: f64,
    /// The same in standard deviations, which distinguishes probabilities that round to 0.
    pub(super) score: f64,
    /// Waves of B for each wave of A above chance.
    pub(super) effect: f64,
    /// The ratio of the waves of B to those expected by chance.
    pub(super) lift: f64,
    /// The middle of the range of lags, in nanoseconds.
    pub(super) lag: i64,
    /// The number of triggers examined.
    pub(super) triggers: usize,
}

/// The triggers of a pair that can be examined: a random choice of at most `most`.
pub(super) fn choose(
    spans: &Spans,
    a: &TrackIndex,
    b: &TrackIndex,
    join: Join,
    most: usize,
    random: &mut fastrand::Rng,
) -> Vec<Point> {
    let from = a.since.max(b.since);
    let all = spans.usable(from).flat_map(|span| a.triggers_between(span).iter().copied());
    let mut chosen = random.choose_multiple(all.filter_map(|point| point.joined(join)), most);
    chosen.sort_unstable();
    chosen
}

/// A copy of a trigger at another time.
pub(super) fn phantom(index: usize, trigger: Point, random: &mut fastrand::Rng) -> Point {
    let by = random.i64(WINDOW..REACH * WINDOW);
    Point { at: trigger.at + if index.is_multiple_of(2) { -by } else { by }, ..trigger }
}

/// Counts and tests. `None` if there is nothing to test.
pub(super) fn excess(triggers: &[Point], effects: &[Point], random: &mut fastrand::Rng) -> Option<Excess> {
    let (mut real, mut chance) = ([0.0; BINS], [0.0; BINS]);
    for (index, trigger) in triggers.iter().enumerate() {
        lags_after(effects, *trigger, WINDOW).for_each(|lag| real[bin(lag)] += 1.0);
        let phantom = phantom(index, *trigger, random);
        lags_after(effects, phantom, WINDOW).for_each(|lag| chance[bin(lag)] += 1.0);
    }
    let (all_real, all_chance) = (real.iter().sum::<f64>(), chance.iter().sum::<f64>());
    if all_real == 0.0 {
        return None;
    }
    let mut best =
        Excess { p_value: 1.0, score: 0.0, effect: 0.0, lift: 0.0, lag: 0, triggers: triggers.len() };
    let (mut strongest, mut trials) = (0.0, 0.0);
    for width in WIDTHS {
        for start in 0..=BINS - width {
            trials += 1.0;
            let end = start + width;
            let (inside, by_chance) = (sum(&real, start, end), sum(&chance, start, end));
            let (low, high) = (start.saturating_sub(MARGIN), (end + MARGIN).min(BINS));
            let outside = all_real - sum(&real, low, high) + PRIOR;
            let outside_by_chance = all_chance - sum(&chance, low, high) + PRIOR;
            let load = (outside / outside_by_chance).max(1.0);
            let expected = load * (by_chance + 0.5);
            let variance =
                expected + load * expected + expected * expected * (1.0 / outside + 1.0 / outside_by_chance);
            let score = (inside - expected) / variance.sqrt();
            if score > strongest {
                strongest = score;
                best.effect = (inside - expected) / triggers.len() as f64;
                best.lift = inside / expected;
                best.lag = lag_at(start as f64 + width as f64 / 2.0);
            }
        }
    }
    best.score = strongest;
    // Half of the ranges: neighbours overlap, so they are not independent trials.
    best.p_value = (normal_tail(strongest) * trials / 2.0).min(1.0);
    Some(best)
}

fn bin(lag: i64) -> usize {
    let octaves = (lag as f64 / SHORTEST).max(1.0).log2();
    ((octaves * BINS_PER_OCTAVE) as usize).min(BINS - 1)
}

fn lag_at(bin: f64) -> i64 {
    (SHORTEST * (bin / BINS_PER_OCTAVE).exp2()) as i64
}

fn sum(bins: &[f64], start: usize, end: usize) -> f64 {
    bins[start..end].iter().sum()
}

/// The probability that a standard normal variable exceeds `z`.
fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

/// Benjamini-Hochberg: the q-value of each p-value, the smallest false discovery rate at which it is accepted.
pub(super) fn q_values(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[b].total_cmp(&p_values[a]));
    let mut q_values = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (back, &index) in order.iter().enumerate() {
        let rank = (p_values.len() - back) as f64;
        least = least.min(p_values[index] * p_values.len() as f64 / rank);
        q_values[index] = least;
    }
    q_values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        for (z, expected) in [(0.0, 0.5), (1.0, 0.158_655_25), (1.96, 0.024_997_9), (6.0, 9.865_876e-10)] {
            assert!((normal_tail(z) / expected - 1.0).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn q_values_follow_benjamini_and_hochberg() {
        // Their own example of 1995: at 5 % the first four of these fifteen are accepted.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        let q = q_values(&p);
        assert_eq!(q.iter().filter(|q| **q <= 0.05).count(), 4);
        assert!((q[0] - 0.0015).abs() < 1e-12 && (q[3] - 0.0095 * 15.0 / 4.0).abs() < 1e-12);
        assert!(q.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(q_values(&[]).is_empty());
    }

    #[test]
    fn bins_are_half_octaves_and_cover_the_window() {
        assert_eq!((bin(0), bin(62_500), bin(125_000)), (0, 0, 2));
        assert!(bin(WINDOW) < BINS && lag_at(BINS as f64) > WINDOW);
        assert_eq!(bin(lag_at(7.5)), 7);
    }
}
