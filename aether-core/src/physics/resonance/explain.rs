//! Separates direct from indirect relations. In a chain A, M, B the waves of B follow those of A as surely as those of M,
//! and siblings follow each other. Only the scatter of the lag is smaller from M to B.
//!
//! Each B is examined separately. Each candidate gets the shortest range of lags that holds half of its excess. Then
//! candidates are chosen one by one: of those that explain a good share of the remaining waves of B, the one with the
//! least scatter. The waves that it explains are removed.
//!
//! Pure statistics, used by [`report`](super::report) for each channel that follows others.

use super::excess::phantom;
use super::spans::{Spans, WINDOW};
use super::track::{Join, Point, TrackIndex, any_before, lags_after};

/// The maximum number of sampled effects, and of sampled triggers.
const MOST: usize = 800;
/// The smallest share of B's waves that a chosen candidate must explain.
const LEAST_SHARE: f64 = 0.08;
const LEAST_SCORE: f64 = 4.0;

/// A channel that B may follow.
pub(super) struct Candidate<'a> {
    pub(super) stream: &'a TrackIndex,
    pub(super) join: Join,
    /// The lag of the pair, in nanoseconds.
    pub(super) lag: i64,
}

struct Range {
    scatter: i64,
    shortest: i64,
    longest: i64,
}

/// The candidates that explain the waves of `b`, by index, with the range of lags.
pub(super) fn explain(
    spans: &Spans,
    candidates: &[Candidate<'_>],
    b: &TrackIndex,
    random: &mut fastrand::Rng,
) -> Vec<usize> {
    let from = candidates.iter().map(|candidate| candidate.stream.since).fold(b.since, i64::max);
    let all = spans.usable(from).flat_map(|span| b.effects_between(span).iter().copied());
    let effects = random.choose_multiple(all, MOST);
    if effects.len() < 10 {
        return Vec::new();
    }
    let phantoms: Vec<Point> =
        effects.iter().enumerate().map(|(index, effect)| phantom(index, *effect, random)).collect();
    let mut left: Vec<(usize, Range, Vec<bool>, f64)> = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let triggers = super::excess::choose(spans, candidate.stream, b, candidate.join, MOST, random);
        let Some(range) = range(&triggers, b.effects(candidate.join), candidate.lag, random) else {
            continue;
        };
        let hit = |effect: &Point| {
            effect.joined(candidate.join).is_some_and(|effect| {
                any_before(candidate.stream.triggers(candidate.join), effect, range.shortest, range.longest)
            })
        };
        let hits: Vec<bool> = effects.iter().map(hit).collect();
        let chance = phantoms.iter().filter(|effect| hit(effect)).count() as f64 / phantoms.len() as f64;
        left.push((index, range, hits, chance));
    }
    let total = effects.len() as f64;
    let mut open = vec![true; effects.len()];
    let mut chosen = Vec::new();
    loop {
        let count = open.iter().filter(|open| **open).count() as f64;
        if count < 10.0 {
            break;
        }
        let share = |hits: &[bool], chance: f64| {
            let hit = hits.iter().zip(&open).filter(|(hit, open)| **hit && **open).count() as f64 / count;
            let share = (hit - chance) / (1.0 - chance + 1e-9) * count / total;
            let variance = (chance * (1.0 - chance) + 0.25 / total) * (1.0 / count + 1.0 / total);
            (share, (hit - chance) / variance.max(1e-9).sqrt())
        };
        let shares: Vec<f64> = left
            .iter()
            .map(|(_, _, hits, chance)| match share(hits, *chance) {
                (share, score) if share >= LEAST_SHARE && score > LEAST_SCORE => share,
                _ => 0.0,
            })
            .collect();
        let most = shares.iter().copied().fold(0.0, f64::max);
        if most == 0.0 {
            break;
        }
        let Some(next) = (0..left.len())
            .filter(|&index| shares[index] >= 0.7 * most)
            .min_by_key(|&index| left[index].1.scatter)
        else {
            break;
        };
        let (index, _, hits, _) = left.swap_remove(next);
        open.iter_mut().zip(hits).for_each(|(open, hit)| *open &= !hit);
        chosen.push(index);
    }
    chosen
}

/// The shortest range of lags that holds half of the excess around `lag`, widened to hold nearly all of it.
fn range(triggers: &[Point], effects: &[Point], lag: i64, random: &mut fastrand::Rng) -> Option<Range> {
    let (mut real, mut chance) = (Vec::new(), Vec::new());
    for (index, trigger) in triggers.iter().enumerate() {
        real.extend(lags_after(effects, *trigger, WINDOW));
        chance.extend(lags_after(effects, phantom(index, *trigger, random), WINDOW));
    }
    real.sort_unstable();
    chance.sort_unstable();
    let (low, high) = (lag as f64 / 4.0, (lag as f64 * 4.0).min(WINDOW as f64));
    const STEPS: usize = 48;
    let grid: Vec<i64> =
        (0..=STEPS).map(|step| (low * (high / low).powf(step as f64 / STEPS as f64)) as i64).collect();
    let above: Vec<i64> = grid
        .iter()
        .map(|at| {
            let below = |lags: &[i64]| lags.partition_point(|lag| lag < at) as i64;
            below(&real) - below(&chance)
        })
        .collect();
    let highest: Vec<i64> = above
        .iter()
        .scan(i64::MIN, |top, value| {
            *top = (*top).max(*value);
            Some(*top)
        })
        .collect();
    let total = highest[STEPS] - above[0];
    if total <= 5 {
        return None;
    }
    let (mut best, mut found) = ((i64::MAX, 0, 0), false);
    for from in 0..STEPS {
        let to = highest.partition_point(|value| ((*value - above[from]) as f64) < 0.5 * total as f64);
        if to > from && to <= STEPS && grid[to] - grid[from] < best.0 {
            best = (grid[to] - grid[from], grid[from], grid[to]);
            found = true;
        }
    }
    let (scatter, shortest, longest) = best;
    found.then(|| Range {
        scatter,
        shortest: (shortest - scatter * 3 / 2).max(0),
        longest: longest + scatter * 2,
    })
}
