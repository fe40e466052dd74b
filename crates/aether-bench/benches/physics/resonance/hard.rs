//! Measures the map on [`Trap`]s, and whether it stays the same in steady traffic.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use aether::physics::Resonance;

use super::system::System;
use super::traffic::{Shown, Traffic, show_until};
use super::trap::{SECONDS, Trap};
use crate::Outcome;
use crate::page::say;

/// A trap, and the goals for its map: edges that are false in a run, precision and recall.
struct Case {
    name: &'static str,
    make: fn(&mut fastrand::Rng) -> Trap,
    most_false: Option<f64>,
    least: Option<(f64, f64)>,
}

const fn bursts(name: &'static str, make: fn(&mut fastrand::Rng) -> Trap) -> Case {
    Case { name, make, most_false: Some(1.0), least: None }
}

const fn edges(name: &'static str, make: fn(&mut fastrand::Rng) -> Trap) -> Case {
    Case { name, make, most_false: None, least: Some((1.0, 0.9)) }
}

const CASES: [Case; 14] = [
    bursts("60 unrelated, bursts of 30 ms", |random| Trap::bursts(0.03, 8.0, 3.0, random)),
    bursts("60 unrelated, bursts of 100 ms", |random| Trap::bursts(0.1, 8.0, 3.0, random)),
    bursts("60 unrelated, bursts of 500 ms", |random| Trap::bursts(0.5, 8.0, 3.0, random)),
    bursts("60 unrelated, bursts of 2 s", |random| Trap::bursts(2.0, 8.0, 5.0, random)),
    bursts("60 unrelated, rare bursts of 100 ms", |random| Trap::bursts(0.1, 40.0, 1.5, random)),
    bursts("60 unrelated, dense bursts of 200 ms", |random| Trap::bursts(0.2, 4.0, 10.0, random)),
    edges("20 edges beside bursts of 30 ms", |random| Trap::bursts_beside_edges(0.03, random)),
    edges("20 edges beside bursts of 500 ms", |random| Trap::bursts_beside_edges(0.5, random)),
    edges("diamonds", Trap::diamonds),
    edges("questions with answers", Trap::questions),
    edges("effects within 10 µs", Trap::at_once),
    edges("batches of ten", Trap::batches),
    edges("imports", Trap::imports),
    edges("hubs of forty", Trap::hubs),
];

pub(crate) fn run(seeds: Range<u64>) -> Outcome {
    say!("Seeds {seeds:?}. Traps, {SECONDS} s each, by timing alone (L1):\n");
    say!("| trap | true edges | false edges a run (most) | precision | recall (least) | goal |");
    say!("|---|---|---|---|---|---|");
    for case in &CASES {
        let trials: Vec<Trial> = seeds.clone().map(|seed| trial(case, seed)).collect();
        let count = trials.len() as f64;
        let mean = |part: &dyn Fn(&Trial) -> f64| trials.iter().map(part).sum::<f64>() / count;
        let wrong = mean(&|trial| trial.wrong as f64);
        let most = trials.iter().map(|trial| trial.wrong).max().unwrap_or(0);
        let (found, right) = (mean(&|trial| trial.found as f64), mean(&|trial| trial.right as f64));
        let (precision, recall) = (right / found, mean(&Trial::recall));
        let least = trials.iter().map(Trial::recall).fold(f64::INFINITY, f64::min);
        let few = case.most_false.is_none_or(|most| wrong <= most);
        let good = case.least.is_none_or(|(least_precision, least_recall)| {
            (precision * 1000.0).round() >= least_precision * 1000.0 && recall >= least_recall
        });
        let (precision, recall) = match case.least {
            Some(_) => (format!("{precision:.3}"), format!("{recall:.3} ({least:.2})")),
            None => (String::new(), String::new()),
        };
        say!(
            "| {} | {} | {wrong:.1} ({most}) | {precision} | {recall} | {} |",
            case.name,
            trials[0].truth,
            if few && good { "reached" } else { "missed" }
        );
    }
    say!("\nThe map in 30 min of steady traffic, a report every 30 s, by timing alone:\n");
    say!(
        "| system | edges at the end of true | precision | recall | entered after 5 min | left | come and go | goal |"
    );
    say!("|---|---|---|---|---|---|---|---|");
    let systems: [(&str, MakeSystem); 2] =
        [("shop", |_| System::shop()), ("tree of 40", |random| System::tree(40, random))];
    for (name, make) in systems {
        let runs: Vec<Steady> = seeds.clone().map(|seed| steady(make, seed)).collect();
        let mean =
            |part: fn(&Steady) -> usize| runs.iter().map(part).sum::<usize>() as f64 / runs.len() as f64;
        let most = runs.iter().map(|run| run.entered_late + run.left).max().unwrap_or(0);
        let (found, right, truth) = (mean(|run| run.found), mean(|run| run.right), mean(|run| run.truth));
        let (late, left) = (mean(|run| run.entered_late), mean(|run| run.left));
        say!(
            "| {name} | {found:.1} of {truth:.1} | {:.3} | {:.3} | {late:.1} | {left:.1} | {:.1} (most {most}) | {} |",
            right / found,
            right / truth,
            late + left,
            if late + left <= 2.0 { "reached" } else { "missed" }
        );
    }
    Ok(())
}

struct Trial {
    truth: usize,
    found: usize,
    right: usize,
    wrong: usize,
}

impl Trial {
    fn recall(&self) -> f64 {
        self.right as f64 / self.truth.max(1) as f64
    }
}

fn trial(case: &Case, seed: u64) -> Trial {
    let mut random = fastrand::Rng::with_seed(seed);
    let trap = (case.make)(&mut random);
    let mut resonance = Resonance::default();
    trap.show(&mut resonance, &mut random);
    let map = resonance.report();
    let place = |channel| trap.channels.iter().position(|known| known == channel);
    let found: BTreeSet<(usize, usize)> =
        map.edges.iter().filter_map(|edge| Some((place(&edge.from)?, place(&edge.to)?))).collect();
    let right = found.intersection(&trap.truth).count();
    Trial { truth: trap.truth.len(), found: found.len(), right, wrong: found.len() - right }
}

type MakeSystem = fn(&mut fastrand::Rng) -> System;

/// How the map of a steady system changed.
struct Steady {
    truth: usize,
    found: usize,
    right: usize,
    entered_late: usize,
    left: usize,
}

fn steady(make: MakeSystem, seed: u64) -> Steady {
    const MINUTES: u64 = 30;
    const SETTLES: Duration = Duration::from_secs(300);
    const EVERY: Duration = Duration::from_secs(30);
    let mut random = fastrand::Rng::with_seed(seed);
    let system = make(&mut random);
    let waves = Traffic { a_second: None, keys: 0 }.waves(&system, 60.0 * MINUTES as f64, &mut random);
    let mut resonance = Resonance::default();
    let mut known: BTreeSet<(usize, usize)> = BTreeSet::new();
    let (mut entered_late, mut left) = (0, 0);
    let shown = Shown { causes: false, announcements: true };
    let mut next = EVERY;
    let mut look = |resonance: &mut Resonance, at: Duration| {
        let map = resonance.report();
        let now: BTreeSet<(usize, usize)> = map
            .edges
            .iter()
            .filter_map(|edge| Some((system.index(&edge.from)?, system.index(&edge.to)?)))
            .collect();
        if at > SETTLES {
            entered_late += now.difference(&known).count();
        }
        left += known.difference(&now).count();
        known = now;
    };
    show_until(&system, &waves, &mut resonance, shown, &mut random, |resonance, at| {
        while at >= next {
            look(resonance, next);
            next += EVERY;
        }
    });
    let truth: BTreeSet<(usize, usize)> = system.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    Steady {
        truth: truth.len(),
        found: known.len(),
        right: known.intersection(&truth).count(),
        entered_late,
        left,
    }
}
