//! The excess of B after A over chance: real windows against phantom windows.
//!
//! After each trigger (a wave of A) the waves of B are counted by lag, in bins of half an octave. The same is done after
//! a phantom of the trigger: a copy shifted by one to two windows, back and forward in turn. Load that A and B share fills
//! both equally. A remaining difference is removed by difference-in-differences: the ratio of real to phantom *outside* of
//! the lags in question is the ratio by chance inside of them.
//!
//! Short bursts that A and B share are removed by a second control: the waves of B *before* A at the same lags. Shared
//! bursts put as many there as behind A. The difference is tested by its variance over blocks of seconds (Student's t),
//! because the waves of one burst are no independent evidence.
//!
//! Pure statistics, used by [`report`](super::report) for each pair.

use super::spans::{REACH, Spans, WINDOW};
use super::track::{Join, Point, TrackIndex, lags_after, lags_before};

/// The shortest lag that is distinguished from zero, in nanoseconds. Shorter ones share the first bin.
const SHORTEST: f64 = 976.5625;
const BINS_PER_OCTAVE: f64 = 2.0;
/// log2(WINDOW / SHORTEST) octaves, rounded up, and one for the end.
const BINS: usize = 41;
/// The widths of the lag ranges that are tried, in bins.
const WIDTHS: [usize; 3] = [2, 3, 4];
/// How many bins on each side of a range count neither as inside nor as outside.
const MARGIN: usize = 2;
/// Added to the counts outside, so that few waves cannot make a large ratio.
const PRIOR: f64 = 10.0;
/// The blocks of the second control: as many as this, if they then take a time between the bounds, in nanoseconds.
const BLOCKS: i64 = 40;
const SHORTEST_BLOCK: i64 = 1_000_000_000;
const LONGEST_BLOCK: i64 = 4_000_000_000;
/// The number of ranges of lags that the second control is tried on, as a correction of its probability.
const TRIALS_BEFORE: f64 = 4.0;
/// The evidence is divided into this many windows in time. All but one must agree.
const WINDOWS: usize = 4;

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

/// The waves with which the waves of B after A are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// The waves of B after phantoms. For relations without direction.
    Phantoms,
    /// Also the waves of B before A.
    PhantomsAndBefore,
}

/// Counts and tests. `None` if there is nothing to test.
pub(super) fn excess(
    triggers: &[Point],
    effects: &[Point],
    control: Control,
    random: &mut fastrand::Rng,
) -> Option<Excess> {
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
    let mut ranges = Vec::new();
    for width in WIDTHS {
        for start in 0..=BINS - width {
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
            ranges.push(Range { start, end, inside, expected, score });
        }
    }
    // Half of the ranges: neighbours overlap, so they are not independent trials. The first control chooses the range,
    // so the second is tried far less often.
    let trials = ranges.len() as f64 / 2.0;
    let easier = (2.0 * (trials / TRIALS_BEFORE).ln()).sqrt();
    let mut best =
        Excess { p_value: 1.0, score: 0.0, effect: 0.0, lift: 0.0, lag: 0, triggers: triggers.len() };
    ranges.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
    let mut before = None;
    for mut range in ranges {
        if range.score <= best.score {
            break;
        }
        if control == Control::PhantomsAndBefore {
            let before = before.get_or_insert_with(|| Before::new(triggers, effects));
            let (score, expected) = before.score(range.start, range.end);
            range.score = range.score.min(score.hypot(easier).copysign(score));
            range.expected = range.expected.max(expected);
        }
        if range.score > best.score {
            best.score = range.score;
            best.effect = (range.inside - range.expected) / triggers.len() as f64;
            best.lift = range.inside / range.expected;
            best.lag = lag_at((range.start + range.end) as f64 / 2.0);
        }
    }
    best.p_value = (normal_tail(best.score) * trials).min(1.0);
    Some(best)
}

/// A range of lags, in bins, and the waves of B in it.
struct Range {
    start: usize,
    end: usize,
    inside: f64,
    expected: f64,
    score: f64,
}

/// The waves of B before and after A, by block and lag.
struct Before {
    /// For each block: those after less those before, in all bins below each bin.
    differences: Vec<[f32; BINS + 1]>,
    before: [f64; BINS],
    after: [f64; BINS],
}

impl Before {
    fn new(triggers: &[Point], effects: &[Point]) -> Self {
        let first = triggers.iter().map(|trigger| trigger.at).min().unwrap_or(0);
        let last = triggers.iter().map(|trigger| trigger.at).max().unwrap_or(0);
        let length = ((last - first) / BLOCKS).clamp(SHORTEST_BLOCK, LONGEST_BLOCK);
        let block = |trigger: &Point| (trigger.at - first) / length;
        let mut blocks: Vec<i64> = triggers.iter().map(block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let mut differences = vec![[0.0; BINS + 1]; blocks.len()];
        let (mut before, mut after) = ([0.0; BINS], [0.0; BINS]);
        for trigger in triggers {
            let block = blocks.partition_point(|known| *known < block(trigger));
            let difference = &mut differences[block];
            for bin in lags_after(effects, *trigger, WINDOW).map(bin) {
                difference[bin + 1] += 1.0;
                after[bin] += 1.0;
            }
            for bin in lags_before(effects, *trigger, WINDOW).map(bin) {
                difference[bin + 1] -= 1.0;
                before[bin] += 1.0;
            }
        }
        for difference in &mut differences {
            for bin in 0..BINS {
                difference[bin + 1] += difference[bin];
            }
        }
        Self { differences, before, after }
    }

    /// How improbable the difference is by chance, in standard deviations, and the waves before.
    fn score(&self, start: usize, end: usize) -> (f64, f64) {
        let (before, after) = (sum(&self.before, start, end), sum(&self.after, start, end));
        let count = self.differences.len() as f64;
        let difference = |block: &[f32; BINS + 1]| f64::from(block[end] - block[start]);
        let window = self.differences.len().div_ceil(WINDOWS).max(1);
        let agreeing =
            self.differences.chunks(window).filter(|blocks| blocks.iter().map(difference).sum::<f64>() > 0.0);
        if self.differences.len() < WINDOWS || agreeing.count() + 1 < WINDOWS {
            return (0.0, before);
        }
        let mean = (after - before) / count;
        let squares: f64 = self.differences.iter().map(|block| (difference(block) - mean).powi(2)).sum();
        // Few waves vary at least as much as a Poisson process.
        let variance = (squares * count / (count - 1.0)).max(after + before);
        (normal_score((after - before) / variance.max(1.0).sqrt(), count - 1.0), before)
    }
}

/// The standard normal value that is as improbable as the value of Student's t with this many degrees of freedom.
/// Wallace's approximation of 1959.
fn normal_score(t: f64, freedom: f64) -> f64 {
    let factor = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    t.signum() * factor * (freedom * (t * t / freedom).ln_1p()).sqrt()
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
    fn a_value_of_student_is_as_improbable_as_the_normal_one() {
        // The two-sided 5 %, 1 % and 0.1 % points of the tables.
        for (t, freedom, z) in [(2.571, 5.0, 1.960), (3.169, 10.0, 2.576), (3.646, 30.0, 3.291)] {
            assert!((normal_score(t, freedom) - z).abs() < 0.02, "{t}, {freedom}");
            assert!((normal_score(-t, freedom) + z).abs() < 0.02, "{t}, {freedom}");
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
        assert_eq!((bin(0), bin(976), bin(1954), bin(62_500)), (0, 0, 2, 12));
        assert!(bin(WINDOW) < BINS && lag_at(BINS as f64) > WINDOW);
        assert_eq!(bin(lag_at(7.5)), 7);
    }
}
