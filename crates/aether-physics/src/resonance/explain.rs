//! Separates direct from indirect relations. In a chain A, M, B the waves of B follow A as surely as they follow M,
//! and siblings follow each other. One wave of B has one cause, though.
//!
//! Each B is examined separately, with all of its candidates at once. Each wave of B is either background or caused by
//! one of the waves of the candidates before it. How likely each lag is, for each candidate, is estimated by
//! expectation maximisation. A candidate without which the others explain B nearly as well is left out, the least
//! needed first. Ordinary term: a Hawkes process with backward elimination.
//!
//! B itself is one of the candidates, and never left out: a batch that is handled wave by wave has a rhythm of its own,
//! which no other channel needs to explain.
//!
//! Pure statistics, used by [`report`](super::report) for each channel that follows others.

use super::spans::{Span, Spans, WINDOW};
use super::track::{Join, Point, TrackIndex};

/// The number of sampled effects: a hundred for each candidate, within these bounds.
const EACH: usize = 100;
const MOST: std::ops::RangeInclusive<usize> = 800..=4096;
/// The maximum number of pairs of an effect and a wave before it.
const MOST_PAIRS: f64 = 300_000.0;
/// The minimum number of effects: with fewer, nothing is explained.
const LEAST: usize = 10;
const BINS_PER_OCTAVE: f64 = 4.0;
/// The shortest lag that is distinguished from zero, in nanoseconds.
const SHORTEST: f64 = 1000.0;
/// log2(WINDOW / SHORTEST) octaves, rounded up.
const BINS: usize = 79;
/// The time on either side in which other effects count towards the local rate of the background.
const LOCAL: i64 = 3_000_000_000;
/// The share of the background that is spread evenly.
const EVEN: f64 = 0.2;
const STEPS: usize = 30;
const STEPS_AGAIN: usize = 12;
/// The smallest gain in log-likelihood of an edge, and its part for each effect.
const LEAST_GAIN: f64 = 12.0;
const LEAST_GAIN_EACH: f64 = 0.01;
/// The part of it that suffices for a candidate that was reported before.
const KNOWN: f64 = 0.5;
/// The multiple of it that a new candidate needs in a later report, because each report tests the same pairs again.
const AGAIN: f64 = 2.0;
/// The usual lags are those between these quantiles.
const USUAL: [f64; 2] = [0.05, 0.95];

/// A channel that B may follow.
pub(super) struct Candidate<'a> {
    pub(super) stream: &'a TrackIndex,
    pub(super) join: Join,
    /// Whether it was reported before. Such a candidate leaves last and needs less.
    pub(super) known: bool,
}

/// A candidate that explains a part of the effects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Explained {
    /// The index of the candidate.
    pub(super) index: usize,
    /// The log-likelihood that it adds to what the other candidates explain.
    pub(super) gain: f64,
    /// Effects for each of its waves.
    pub(super) effect: f64,
    /// The median lag, in nanoseconds.
    pub(super) lag: i64,
    /// The times of the first and the latest effect that follows one of its waves at its usual lags.
    pub(super) first: i64,
    pub(super) last: i64,
}

/// The mixture of causes of the effects of one channel.
struct Mixture {
    /// For each effect the kernel bins of the waves before it: candidate times `BINS` plus bin.
    entries: Vec<u32>,
    /// The end of the entries of each effect.
    ends: Vec<usize>,
    /// The density of the background at each effect.
    background: Vec<f64>,
    /// The factor of candidates that are joined by time, at each effect: the share of its key.
    share: Vec<f64>,
    /// One over triggers times width, for each kernel bin.
    scale: Vec<f64>,
    by_key: Vec<bool>,
}

/// The parts of a mixture.
#[derive(Clone)]
struct Fit {
    /// The effects of each kernel bin.
    mass: Vec<f64>,
    background: f64,
    likelihood: f64,
}

/// The candidates that explain the waves of `b`. `again` is whether an earlier report tested them.
pub(super) fn explain(
    spans: &Spans,
    candidates: &[Candidate<'_>],
    b: &TrackIndex,
    again: bool,
    random: &mut fastrand::Rng,
) -> Vec<Explained> {
    let from = candidates.iter().map(|candidate| candidate.stream.since).fold(b.since, i64::max);
    let spans: Vec<Span> = spans.usable(from).collect();
    let all = || spans.iter().flat_map(|span| b.effects_between(*span).iter().copied());
    let total = all().count();
    if total < LEAST || candidates.is_empty() {
        return Vec::new();
    }
    let time: i64 = spans.iter().map(|span| span.end - span.start).sum();
    let itself = candidates.len();
    let own = Candidate { stream: b, join: candidates[0].join, known: true };
    let with_itself: Vec<&Candidate<'_>> = candidates.iter().chain([&own]).collect();
    let triggers: Vec<f64> = with_itself
        .iter()
        .map(|candidate| {
            let points = spans.iter().flat_map(|span| candidate.stream.triggers_between(*span));
            points.filter(|point| point.joined(candidate.join).is_some()).count() as f64
        })
        .collect();
    let pairs_each = triggers.iter().sum::<f64>() * WINDOW as f64 / time.max(1) as f64;
    let most = (EACH * candidates.len()).clamp(*MOST.start(), *MOST.end());
    let most = most.min((MOST_PAIRS / pairs_each.max(1.0)) as usize).max(LEAST);
    let effects = random.choose_multiple(all(), most);
    let mixture = Mixture::new(&with_itself, b, &effects, &triggers, time as f64);
    let mut open: Vec<usize> = (0..candidates.len()).collect();
    let mut fit = mixture.fit(mixture.start(), STEPS);
    let mut kept: Vec<(usize, f64)> = Vec::new();
    let least = LEAST_GAIN + LEAST_GAIN_EACH * effects.len() as f64;
    while !open.is_empty() {
        let mut gains = mixture.gains(&fit);
        for (gain, _) in gains.iter_mut().zip(candidates).filter(|(_, candidate)| candidate.known) {
            *gain += least;
        }
        open.sort_unstable_by(|a, b| gains[*b].total_cmp(&gains[*a]));
        let Some(candidate) = open.pop() else { break };
        let without = mixture.fit(fit.without(candidate), STEPS_AGAIN);
        let gain = fit.likelihood - without.likelihood;
        let needed = match (candidates[candidate].known, again) {
            (true, _) => KNOWN * least,
            (false, true) => AGAIN * least,
            (false, false) => least,
        };
        if gain < needed {
            fit = without;
        } else {
            kept.push((candidate, gain));
        }
    }
    // Its own rhythm explains a batch, but not why there was one.
    let fit = mixture.fit(fit.without(itself), STEPS_AGAIN);
    kept.sort_unstable_by_key(|(index, _)| *index);
    let sampled = effects.len() as f64 / total as f64;
    kept.into_iter()
        .map(|(index, gain)| {
            let mass = fit.of(index);
            let sum: f64 = mass.iter().sum();
            let usual = USUAL.map(|part| quantile(mass, part * sum));
            let (first, last) = ends(&candidates[index], b, from, usual);
            let effect = sum / (sampled * triggers[index].max(1.0));
            Explained { index, gain, effect, lag: quantile(mass, 0.5 * sum), first, last }
        })
        .collect()
}

/// The first and the latest effect since `from` that follows a trigger at the usual lags.
fn ends(candidate: &Candidate<'_>, b: &TrackIndex, from: i64, [shortest, longest]: [i64; 2]) -> (i64, i64) {
    let span = Span::since(from);
    let follows = |effect: &&Point| {
        effect.joined(candidate.join).is_some_and(|effect| {
            let points = candidate.stream.triggers(candidate.join);
            let first = points.partition_point(|point| *point < Point { at: effect.at - longest, ..effect });
            points.get(first).is_some_and(|point| point.key == effect.key && point.at <= effect.at - shortest)
        })
    };
    let effects = b.effects_between(span);
    let first = effects.iter().find(follows).map_or(from, |effect| effect.at);
    (first, effects.iter().rev().find(follows).map_or(first, |effect| effect.at))
}

impl Mixture {
    fn new(
        candidates: &[&Candidate<'_>],
        b: &TrackIndex,
        effects: &[Point],
        triggers: &[f64],
        time: f64,
    ) -> Self {
        let mut entries = Vec::new();
        let mut ends = Vec::with_capacity(effects.len());
        let all = b.effects(Join::Time);
        let keyed = b.effects(Join::Key);
        let by_key: Vec<bool> = candidates.iter().map(|candidate| candidate.join == Join::Key).collect();
        let any_by_key = by_key.contains(&true);
        let (mut background, mut share) = (Vec::new(), Vec::new());
        for effect in effects {
            for (index, candidate) in candidates.iter().enumerate() {
                let Some(effect) = effect.joined(candidate.join) else { continue };
                let points = candidate.stream.triggers(candidate.join);
                let from =
                    points.partition_point(|point| *point < Point { at: effect.at - WINDOW, ..effect });
                let before = points[from..].iter().take_while(|point| **point < effect);
                entries.extend(before.map(|point| (index * BINS + bin(effect.at - point.at)) as u32));
            }
            ends.push(entries.len());
            let near = |at: i64| all.partition_point(|point| point.at < at);
            let around = (near(effect.at + LOCAL) - near(effect.at - LOCAL)).saturating_sub(1);
            let key_share = match effect.key {
                _ if !any_by_key => 1.0,
                0 => (all.len() - keyed.len()) as f64 / all.len() as f64,
                key => {
                    let of = |key: u32| keyed.partition_point(|point| point.key < key);
                    (of(key.saturating_add(1)) - of(key)) as f64 / all.len() as f64
                }
            };
            let local = around as f64 / (2 * LOCAL) as f64 / all.len() as f64;
            background.push((EVEN / time + (1.0 - EVEN) * local) * key_share);
            share.push(key_share);
        }
        let widths: Vec<f64> =
            (0..BINS).map(|bin| (edge(bin + 1) - if bin == 0 { 0.0 } else { edge(bin) }).max(1.0)).collect();
        let scale = triggers
            .iter()
            .flat_map(|triggers| widths.iter().map(move |width| 1.0 / (triggers.max(1.0) * width)))
            .collect();
        Self { entries, ends, background, share, scale, by_key }
    }

    /// Equal parts for each wave before an effect.
    fn start(&self) -> Fit {
        let mut mass = vec![0.0; self.scale.len()];
        let mut from = 0;
        for end in &self.ends {
            let entries = &self.entries[from..*end];
            entries.iter().for_each(|entry| mass[*entry as usize] += 1.0);
            from = *end;
        }
        let count = self.ends.len() as f64;
        let sum: f64 = mass.iter().sum::<f64>().max(1.0);
        mass.iter_mut().for_each(|mass| *mass *= 0.9 * count / sum);
        Fit { mass, background: 0.1 * count, likelihood: f64::NEG_INFINITY }
    }

    fn fit(&self, start: Fit, steps: usize) -> Fit {
        let mut fit = start;
        let mut density = vec![0.0; fit.mass.len()];
        let mut next = vec![0.0; fit.mass.len()];
        for step in 0..=steps {
            density
                .iter_mut()
                .zip(&fit.mass)
                .zip(&self.scale)
                .for_each(|((density, mass), scale)| *density = mass * scale);
            next.fill(0.0);
            let (mut background, mut likelihood, mut from) = (0.0, 0.0, 0);
            for (effect, end) in self.ends.iter().enumerate() {
                let entries = &self.entries[from..*end];
                from = *end;
                let own = fit.background * self.background[effect];
                let share = self.share[effect];
                let part = |entry: &u32| {
                    let density = density[*entry as usize];
                    if self.by_key[*entry as usize / BINS] { density } else { density * share }
                };
                let total = own + entries.iter().map(part).sum::<f64>();
                likelihood += total.max(f64::MIN_POSITIVE).ln();
                let rest = 1.0 / total.max(f64::MIN_POSITIVE);
                background += own * rest;
                for entry in entries {
                    next[*entry as usize] += part(entry) * rest;
                }
            }
            fit.likelihood = likelihood - fit.background - fit.mass.iter().sum::<f64>();
            if step == steps {
                break;
            }
            fit.background = background;
            for (mass, next) in fit.mass.chunks_mut(BINS).zip(next.chunks(BINS)) {
                smooth(mass, next);
            }
        }
        fit
    }

    /// The log-likelihood that each candidate adds while the others stay as they are.
    fn gains(&self, fit: &Fit) -> Vec<f64> {
        let candidates = fit.mass.len() / BINS;
        let mut gains: Vec<f64> = (0..candidates).map(|index| -fit.of(index).iter().sum::<f64>()).collect();
        let mut parts = vec![0.0; candidates];
        let mut from = 0;
        for (effect, end) in self.ends.iter().enumerate() {
            parts.fill(0.0);
            for entry in &self.entries[from..*end] {
                let index = *entry as usize / BINS;
                let share = if self.by_key[index] { 1.0 } else { self.share[effect] };
                parts[index] += fit.mass[*entry as usize] * self.scale[*entry as usize] * share;
            }
            from = *end;
            let total = fit.background * self.background[effect] + parts.iter().sum::<f64>();
            for (gain, part) in gains.iter_mut().zip(&parts).filter(|(_, part)| **part > 0.0) {
                *gain += (total / (total - part).max(total * 1e-12)).ln();
            }
        }
        gains
    }
}

impl Fit {
    fn of(&self, candidate: usize) -> &[f64] {
        &self.mass[candidate * BINS..(candidate + 1) * BINS]
    }

    fn without(&self, candidate: usize) -> Self {
        let mut fit = self.clone();
        let taken: f64 = self.of(candidate).iter().sum();
        fit.mass[candidate * BINS..(candidate + 1) * BINS].fill(0.0);
        fit.background += taken;
        fit
    }
}

/// Moves a quarter of each bin to each neighbour, so that few effects make no sharp peaks.
fn smooth(mass: &mut [f64], from: &[f64]) {
    let last = mass.len() - 1;
    for bin in 0..=last {
        let (below, above) = (from[bin.saturating_sub(1)], from[(bin + 1).min(last)]);
        mass[bin] = 0.25 * below + 0.5 * from[bin] + 0.25 * above;
    }
}

fn bin(lag: i64) -> usize {
    let octaves = (lag as f64 / SHORTEST).max(1.0).log2();
    ((octaves * BINS_PER_OCTAVE) as usize).min(BINS - 1)
}

/// The shortest lag of a bin.
fn edge(bin: usize) -> f64 {
    SHORTEST * (bin as f64 / BINS_PER_OCTAVE).exp2()
}

/// The lag below which this much of the mass is.
fn quantile(mass: &[f64], mut left: f64) -> i64 {
    for (bin, mass) in mass.iter().enumerate() {
        if left <= *mass && *mass > 0.0 {
            return (edge(bin) * (left / mass / BINS_PER_OCTAVE).exp2()) as i64;
        }
        left -= mass;
    }
    WINDOW
}
