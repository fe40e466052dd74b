//! The service map against systems whose edges are known.

#[path = "resonance/system.rs"]
mod system;
#[path = "resonance/traffic.rs"]
mod traffic;

use std::collections::BTreeSet;
use std::ops::Range;

use aether_core::physics::{Resonance, ResonanceMap, Tier};
use system::System;
use traffic::Traffic;

use super::Outcome;

/// What one map was worth.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    edges: f64,
    precision: f64,
    recall: f64,
    unrelated: f64,
}

pub(super) fn run(seeds: Range<u64>) -> Outcome {
    println!(
        "| system | waves/s | seconds | tier | edges found | of | precision | recall | unrelated | worst precision | worst recall |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let cases: [(&str, fn(&mut fastrand::Rng) -> System, f64, Traffic); 6] = [
        ("shop", |_| System::shop(), 120.0, Traffic::default()),
        ("shop", |_| System::shop(), 600.0, Traffic::default()),
        ("tree of 40", |random| System::tree(40, random), 120.0, Traffic::default()),
        ("tree of 40", |random| System::tree(40, random), 600.0, Traffic::default()),
        ("tree of 100", |random| System::tree(100, random), 600.0, Traffic::default()),
        ("tree of 40, keyed", |random| System::tree(40, random), 60.0, Traffic { rate: 40.0, keys: 200 }),
    ];
    for (name, make, seconds, traffic) in cases {
        if std::env::var("ONLY").is_ok_and(|only| only != name) {
            continue;
        }
        for causes in [false] {
            let mut scores = Vec::new();
            let (mut rate, mut truth) = (0.0, 0);
            let mut took = std::time::Duration::ZERO;
            for seed in seeds.clone() {
                let mut random = fastrand::Rng::with_seed(seed);
                let system = make(&mut random);
                let waves = traffic.waves(&system, seconds, &mut random);
                rate += waves.len() as f64 / seconds / seeds.clone().count() as f64;
                truth = system.edges.len();
                let mut resonance = Resonance::default();
                let (emitters, tuned) = system.emitters(&mut random);
                tuned.iter().for_each(|(service, patterns)| resonance.tuned(service, patterns));
                traffic::show(&system, &emitters, &waves, &mut resonance, causes);
                let start = std::time::Instant::now();
                let map = resonance.report();
                took += start.elapsed();
                if std::env::var("DBG").is_ok() {
                    eprintln!("{name} seed {seed} {:?} {:?}", score(&map, &system, Tier::Timing), map.counts);
                }
                scores.push(score(&map, &system, if causes { Tier::Cause } else { Tier::Timing }));
            }
            let mean = |part: fn(&Score) -> f64| scores.iter().map(part).sum::<f64>() / scores.len() as f64;
            let least = |part: fn(&Score) -> f64| scores.iter().map(part).fold(f64::INFINITY, f64::min);
            println!(
                "| {name} | {rate:.0} | {seconds} | {} | {:.1} | {truth} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} | {took:?}",
                if causes { "L0" } else { "L1" },
                mean(|score| score.edges),
                mean(|score| score.precision),
                mean(|score| score.recall),
                mean(|score| score.unrelated),
                least(|score| score.precision),
                least(|score| score.recall),
            );
        }
    }
    Ok(())
}

fn score(map: &ResonanceMap, system: &System, tier: Tier) -> Score {
    let exact = tier == Tier::Cause;
    let found: BTreeSet<(usize, usize)> = map
        .edges
        .iter()
        .filter(|edge| (edge.tier == Tier::Cause) == exact)
        .filter_map(|edge| Some((system.index(&edge.from)?, system.index(&edge.to)?)))
        .collect();
    let truth: BTreeSet<(usize, usize)> = system.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let right = found.intersection(&truth).count() as f64;
    let related = system.related();
    let unrelated =
        found.iter().filter(|(a, b)| !related.contains(&(*a, *b)) && !related.contains(&(*b, *a))).count();
    Score {
        edges: found.len() as f64,
        precision: right / found.len().max(1) as f64,
        recall: right / truth.len() as f64,
        unrelated: unrelated as f64 / found.len().max(1) as f64,
    }
}
