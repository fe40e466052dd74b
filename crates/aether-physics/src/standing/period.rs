//! Finds the period of a series of moments.
//!
//! Two tests, either of which suffices. *Regular gaps*: the median absolute deviation of the gaps is a small part of
//! their median, as for a timer that skips nothing. *Folding*: wrapped around a circle of one period, the moments
//! concentrate on one side (Rayleigh's test). This tolerates missing and additional beats. Candidates for folding are
//! the peaks of a histogram of the intervals between each moment and the next six. A period must hold for most of the
//! time, and not only for most of the moments: inside of bursts, moments are as regular as with a timer.
//!
//! Sources: Rayleigh's test after Mardia and Jupp, *Directional Statistics* (2000), 6.3.1. The thresholds
//! are from simulation (`cargo xtask bench physics`), and so is the choice of the lowest frequency with sufficient power:
//! multiples of a frequency fold equally well or better.

use std::f64::consts::TAU;

use super::series::Series;

/// The minimum number of moments; that few are judged by their gaps only.
pub(super) const FEWEST: usize = 12;
/// The maximum number of moments, and the number needed for folding: with half of it, bursts look periodic.
pub(super) const MOST: usize = 128;

/// Gaps are regular if their median absolute deviation is below this share of their median. Fewer than 128 gaps are
/// less certain, so their bound is tighter: 0.042 for 12 moments, 0.11 for 90.
const REGULAR: f64 = 0.15;
const REGULAR_MARGIN: f64 = 2.5;
/// A gap longer than this many medians is a pause. If more than one gap in this many is a pause, only the spacing
/// inside of bursts is regular.
const PAUSE: f64 = 4.0;
const BURSTS: usize = 10;
/// Gaps of up to [`PAUSE`] periods fill at least this share of the time.
const FILLED: f64 = 0.5;
/// A changed period needs this many of sixteen gaps that agree, within this share of their median and at most within the
/// other.
const AGREEING: usize = 13;
const AGREEMENT: f64 = 0.15;
const MOST_AGREEMENT: f64 = 0.35;
/// A smaller change, as a share of the period, is left to the correction of the period, unless few moments are known.
const CHANGE: f64 = 0.05;
const CORRECTION: f64 = 0.02;
/// The probability that moments without a period pass the folding test, over all trials.
const CHANCE: f64 = 1e-4;
/// A lower frequency is preferred if it has this share of the best power.
const ENOUGH_POWER: f64 = 0.6;
/// Candidates come from the intervals between moments up to this many apart.
const ORDERS: usize = 6;
/// The width of the histogram's bins, in logarithms; candidates are searched a little further around.
const BIN: f64 = 0.05;
const BINS: usize = 128;
const AROUND: f64 = 0.06;
/// The number of histogram peaks that are tried, and for how many of them half the interval is tried as well.
const PEAKS: usize = 5;
const HALVED: usize = 3;
/// The maximum number of frequencies tried around one candidate.
const STEPS: usize = 256;
/// The moments must span this many periods of a candidate, or any circle fits.
const TURNS: f64 = 6.0;

/// The period of a series of moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rhythm {
    /// The period in seconds.
    pub(super) period: f64,
    /// The length of the mean vector of all moments folded at the period, from 0 (no order) to 1.
    pub(super) order: f64,
}

/// A period search with reusable memory, so that a search does not allocate.
#[derive(Debug, Default)]
pub(super) struct Finder {
    gaps: Vec<f64>,
    sorted: Vec<f64>,
    distinct: Vec<f64>,
    candidates: Vec<f64>,
    peaks: Vec<Peak>,
    lanes: Vec<Lanes>,
}

/// The best frequency near a candidate.
#[derive(Debug, Clone, Copy)]
struct Peak {
    frequency: f64,
    /// Rayleigh's statistic: twice the number of moments times the squared mean vector.
    power: f64,
}

const LANES: usize = 8;

/// Eight moments as points on the circle, with their rotation for one step of frequency. In single precision: after 256
/// steps the error is 2e-5 of a turn, and twice as many fit into a register.
#[derive(Debug, Clone, Copy, Default)]
struct Lanes {
    re: [f32; LANES],
    im: [f32; LANES],
    step_re: [f32; LANES],
    step_im: [f32; LANES],
}

impl Finder {
    /// Finds the rhythm of at most [`MOST`] moments.
    pub(super) fn find(&mut self, series: &Series) -> Option<Rhythm> {
        let times = series.times.as_slice();
        self.gaps.clear();
        self.gaps.extend(series.gaps.iter().filter(|gap| gap.is_finite()));
        let judged = self.gaps.len() + 1;
        if judged < FEWEST {
            return None;
        }
        let (median, deviation) = median_and_deviation(&self.gaps, &mut self.sorted);
        let few = judged < MOST;
        let bound = REGULAR * if few { 1.0 - REGULAR_MARGIN / (judged as f64).sqrt() } else { 1.0 };
        let silences = self.gaps.iter().chain(&series.silences);
        let pauses = silences.filter(|&&silence| silence > PAUSE * median).count();
        let regular = median > 0.0
            && deviation < bound * median
            && pauses * BURSTS <= series.gaps.len()
            && fills(&self.gaps, median)
            // Short observations miss the longest gaps, which makes the others look regular.
            && PAUSE * median <= series.look;
        // Regular observations fold at their own period, so only fully observed moments are folded.
        let folded = if few { None } else { self.fold(times, median) };
        let period = match folded {
            Some(period) => period,
            None if regular => median,
            None => return None,
        };
        let period = refined(times, &series.gaps, period);
        Some(Rhythm { period, order: order(times, 1.0 / period) })
    }

    /// Finds a period at which the moments fold significantly.
    fn fold(&mut self, times: &[f64], median: f64) -> Option<f64> {
        self.find_candidates(times, median);
        let candidates = std::mem::take(&mut self.candidates);
        self.peaks.clear();
        // The halves as well: a drifting clock loses its phase over the whole.
        for part in parts(times) {
            let span = part[part.len() - 1] - part[0];
            for &period in candidates.iter().filter(|&&period| span >= TURNS * period) {
                let (low, high) = (1.0 / (period * (1.0 + AROUND)), 1.0 / (period * (1.0 - AROUND)));
                let step = 1.0 / (4.0 * span);
                let steps = (((high - low) / step).ceil() as usize).clamp(1, STEPS);
                let peak = self.scan(part, low, step, steps);
                self.peaks.push(peak);
            }
        }
        self.candidates = candidates;
        let tried = self.peaks.len();
        let gaps = &self.gaps;
        self.peaks.retain(|peak| fills(gaps, 1.0 / peak.frequency));
        let best = self.peaks.iter().map(|peak| peak.power).fold(0.0, f64::max);
        let strong = self.peaks.iter().filter(|peak| peak.power >= ENOUGH_POWER * best);
        let taken = *strong.min_by(|a, b| a.frequency.total_cmp(&b.frequency))?;
        let trials = times.len() as f64 * tried as f64 / 2.0;
        (chance(trials, taken.power) < CHANCE && self.survives_without_bursts(times, taken.frequency))
            .then_some(1.0 / taken.frequency)
    }

    /// Whether the order remains after bursts are reduced to their first moment: a burst by itself points to one side
    /// of the circle.
    fn survives_without_bursts(&mut self, times: &[f64], frequency: f64) -> bool {
        let apart = 1.0 / (8.0 * frequency);
        let mut distinct = std::mem::take(&mut self.distinct);
        distinct.clear();
        distinct.push(times[0]);
        distinct.extend(times.windows(2).filter(|pair| pair[1] - pair[0] > apart).map(|pair| pair[1]));
        let mut power = 0.0;
        if distinct.len() >= 10 {
            const STEPS: usize = 33;
            for part in parts(&distinct) {
                let peak = self.scan(part, 0.98 * frequency, 0.04 * frequency / (STEPS - 1) as f64, STEPS);
                power = f64::max(power, peak.power);
            }
        }
        self.distinct = distinct;
        chance(2.0 * times.len() as f64, power) < 10.0 * CHANCE
    }

    /// Collects candidate periods: the median gap, the intervals that are more frequent than their neighbours, and
    /// halves of the most frequent ones, which appear in a stream with many missing beats. At least a quarter of the
    /// beats expected at a period must exist.
    fn find_candidates(&mut self, times: &[f64], median: f64) {
        let span = times[times.len() - 1] - times[0];
        let (shortest, longest) = (span / times.len() as f64 / 4.0, span / 8.0);
        self.candidates.clear();
        if span <= 0.0 {
            return;
        }
        let mut counts = [0.0f64; BINS];
        let zero = shortest.ln() - 8.0 * BIN;
        for apart in 1..=ORDERS {
            for pair in times.windows(apart + 1) {
                let interval = pair[apart] - pair[0];
                if interval > shortest && interval < longest {
                    // 8 bins are free on the left, and with at most 128 moments more than 8 on the right.
                    let bin = ((interval.ln() - zero) / BIN) as usize;
                    counts[bin.min(BINS - 1)] += 1.0;
                }
            }
        }
        let mut scores = [(0.0f64, 0usize); BINS];
        for (bin, score) in scores.iter_mut().enumerate().take(BINS - 8).skip(8) {
            let near: f64 = counts[bin - 1..=bin + 1].iter().sum();
            let around: f64 = counts[bin - 7..=bin + 7].iter().sum();
            *score = (near / (around / 5.0).max(1.0).sqrt(), bin);
        }
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let peaks = scores[..PEAKS].iter().filter(|score| score.0 > 0.0);
        let peaks = peaks.map(|&(_, bin)| (zero + (bin as f64 + 0.5) * BIN).exp());
        let halves = peaks.clone().take(HALVED).map(|period| period / 2.0);
        for candidate in [median].into_iter().chain(peaks).chain(halves) {
            // Neighbouring candidates are found from one of them.
            let known = |other: &f64| (candidate / other).ln().abs() < BIN / 2.0;
            if candidate >= shortest && !self.candidates.iter().any(known) {
                self.candidates.push(candidate);
            }
        }
    }

    /// The best of `steps` frequencies.
    fn scan(&mut self, times: &[f64], from: f64, step: f64, steps: usize) -> Peak {
        self.lanes.clear();
        self.lanes.resize(times.len().div_ceil(LANES), Lanes::default());
        for (index, time) in times.iter().enumerate() {
            let (lanes, lane) = (&mut self.lanes[index / LANES], index % LANES);
            let circle = |frequency: f64| (TAU * ((time - times[0]) * frequency).fract()).sin_cos();
            let ((im, re), (step_im, step_re)) = (circle(from), circle(step));
            (lanes.re[lane], lanes.im[lane]) = (re as f32, im as f32);
            (lanes.step_re[lane], lanes.step_im[lane]) = (step_re as f32, step_im as f32);
        }
        let (mut best, mut at) = (-1.0, 0);
        for index in 0..steps {
            let (mut re, mut im) = ([0.0f32; LANES], [0.0f32; LANES]);
            for lanes in &mut self.lanes {
                for lane in 0..LANES {
                    let (a, b) = (lanes.re[lane], lanes.im[lane]);
                    re[lane] += a;
                    im[lane] += b;
                    lanes.re[lane] = a * lanes.step_re[lane] - b * lanes.step_im[lane];
                    lanes.im[lane] = a * lanes.step_im[lane] + b * lanes.step_re[lane];
                }
            }
            let (re, im): (f32, f32) = (re.iter().sum(), im.iter().sum());
            let power = re * re + im * im;
            if power > best {
                (best, at) = (power, index);
            }
        }
        Peak { frequency: from + step * at as f64, power: 2.0 * f64::from(best) / times.len() as f64 }
    }
}

/// The probability that one of `trials` trials reaches this power by chance.
fn chance(trials: f64, power: f64) -> f64 {
    trials * (-power / 2.0).exp()
}

/// The whole and its halves.
fn parts(times: &[f64]) -> [&[f64]; 3] {
    let half = times.len() / 2;
    [times, &times[times.len() - half..], &times[..half]]
}

/// The length of the mean vector of the moments folded at a frequency.
pub(super) fn order(times: &[f64], frequency: f64) -> f64 {
    let (im, re) = times.iter().fold((0.0, 0.0), |(im, re), time| {
        let (sin, cos) = (TAU * ((time - times[0]) * frequency).fract()).sin_cos();
        (im + sin, re + cos)
    });
    f64::hypot(im, re) / times.len() as f64
}

/// Refines a period: averages the intervals close to whole multiples of it, divided by their multiples.
pub(super) fn refined(times: &[f64], gaps: &[f64], period: f64) -> f64 {
    let (mut spans, mut periods, mut used) = (0.0, 0.0, 0);
    for apart in 1..=3 {
        let known = |(_, gaps): &(&[f64], &[f64])| gaps.iter().all(|gap| gap.is_finite());
        for (pair, _) in times.windows(apart + 1).zip(gaps.windows(apart)).filter(known) {
            let interval = pair[apart] - pair[0];
            let multiple = (interval / period).round();
            if (1.0..=6.0).contains(&multiple) && (interval - multiple * period).abs() < 0.2 * period {
                spans += interval;
                periods += multiple;
                used += 1;
            }
        }
    }
    if used < 5 { period } else { spans / periods }
}

/// The new period if these gaps agree on another than `period`. A rhythm of few moments is corrected by less.
pub(super) fn changed(gaps: &[f64; 16], period: f64, jitter: f64, few: bool) -> Option<f64> {
    let least = if few { CORRECTION } else { CHANGE.max(1.5 * jitter) };
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    // The usual case.
    if (mean / period - 1.0).abs() < least.min(CHANGE) {
        return None;
    }
    let (_, &mut median, _) = gaps.clone().select_nth_unstable_by(8, f64::total_cmp);
    let near = (2.5 * jitter).clamp(AGREEMENT, MOST_AGREEMENT) * median;
    let agrees = |gap: &&f64| (*gap - median).abs() <= near;
    if gaps.iter().filter(agrees).count() < AGREEING {
        return None;
    }
    // All since the change, because a late beat makes one gap longer and the next one shorter.
    let since = gaps.iter().position(|gap| agrees(&gap))?;
    let spans: f64 = gaps[since..].iter().sum();
    let periods: f64 = gaps[since..].iter().map(|gap| (gap / median).round()).sum();
    let new = spans / periods;
    (new > 0.0 && new.is_finite() && (new / period - 1.0).abs() > least).then_some(new)
}

/// Whether gaps that a period explains fill most of the time.
fn fills(gaps: &[f64], period: f64) -> bool {
    let (mut filled, mut all) = (0.0, 0.0);
    for gap in gaps {
        all += gap;
        filled += if *gap <= PAUSE * period { *gap } else { 0.0 };
    }
    filled >= FILLED * all
}

/// The median of some numbers, and the median of their distances from it.
fn median_and_deviation(numbers: &[f64], sorted: &mut Vec<f64>) -> (f64, f64) {
    sorted.clear();
    sorted.extend_from_slice(numbers);
    let middle = sorted.len() / 2;
    let median = *sorted.select_nth_unstable_by(middle, f64::total_cmp).1;
    for number in sorted.iter_mut() {
        *number = (*number - median).abs();
    }
    (median, *sorted.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(random: &mut fastrand::Rng) -> f64 {
        (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
    }

    /// Beats of a timer with a period in seconds, jitter, and missing beats.
    fn beats(seed: u64, period: f64, jitter: f64, missing: f64) -> Vec<f64> {
        let (mut random, mut drops) = (fastrand::Rng::with_seed(seed), fastrand::Rng::with_seed(!seed));
        (0..)
            .map(|beat| (f64::from(beat) + jitter * normal(&mut random)) * period)
            .filter(|_| drops.f64() >= missing)
            .take(MOST)
            .collect::<Vec<_>>()
    }

    fn sorted(mut times: Vec<f64>) -> Vec<f64> {
        times.sort_unstable_by(f64::total_cmp);
        times
    }

    #[test]
    fn a_timer_is_found_from_twelve_beats_on() {
        let times: Vec<f64> = (0..12).map(|beat| f64::from(beat) * 0.25).collect();
        let mut finder = Finder::default();
        assert_eq!(finder.find(&Series::whole(&times[..11])), None);
        let rhythm = finder.find(&Series::whole(&times)).unwrap();
        assert!((rhythm.period - 0.25).abs() < 1e-9 && rhythm.order > 0.999, "{rhythm:?}");
    }

    #[test]
    fn periods_of_all_sizes_are_found_through_jitter_and_missing_beats() {
        let mut finder = Finder::default();
        for (seed, period) in [1e-4, 0.07, 1.0, 60.0, 86_400.0].into_iter().enumerate() {
            for (jitter, missing) in [(0.02, 0.0), (0.1, 0.0), (0.05, 0.4)] {
                let times = sorted(beats(seed as u64, period, jitter, missing));
                let rhythm = finder.find(&Series::whole(&times)).unwrap();
                assert!(
                    (rhythm.period / period - 1.0).abs() < 0.03,
                    "{period} {jitter} {missing}: {rhythm:?}"
                );
            }
        }
    }

    #[test]
    fn a_clock_that_drifts_by_a_random_walk_is_found() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut time = 0.0;
        let times: Vec<f64> = (0..MOST)
            .map(|_| {
                time += 1.0 + 0.1 * normal(&mut random);
                time
            })
            .collect();
        let rhythm = Finder::default().find(&Series::whole(&times)).unwrap();
        assert!((rhythm.period - 1.0).abs() < 0.03, "{rhythm:?}");
    }

    #[test]
    fn random_moments_and_bursts_have_no_period() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut finder = Finder::default();
        for _ in 0..50 {
            let mut time = 0.0;
            let by_chance: Vec<f64> = (0..MOST)
                .map(|_| {
                    time -= random.f64().max(1e-12).ln();
                    time
                })
                .collect();
            assert_eq!(finder.find(&Series::whole(&by_chance)), None);
            let bursts: Vec<f64> = by_chance
                .iter()
                .step_by(4)
                .flat_map(|start| (0..4).map(move |n| start + f64::from(n) * 0.01))
                .collect();
            assert_eq!(finder.find(&Series::whole(&sorted(bursts))), None);
        }
    }

    #[test]
    fn equal_moments_are_survived() {
        let mut finder = Finder::default();
        assert_eq!(finder.find(&Series::whole(&[7.0; MOST])), None);
        let mut mostly_one = [7.0; MOST];
        mostly_one[MOST - 1] = 1e9;
        assert_eq!(finder.find(&Series::whole(&mostly_one)), None);
    }
}
