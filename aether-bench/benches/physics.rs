//! The detectors of `aether_core::physics` against made-up systems whose truth is known.
//!
//! `cargo bench -p aether-bench --bench physics -- standing --seeds 101..111` prints the tables of PHYSICS.md. The names
//! of parts choose what is run, all when none is named; the seeds are those of the generators, and nothing in the
//! detectors was chosen by them.

#[path = "physics/interference.rs"]
mod interference;
#[path = "physics/random.rs"]
mod random;
#[path = "physics/resonance.rs"]
mod resonance;
#[path = "physics/standing.rs"]
mod standing;

use std::ops::Range;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A part of the benchmark: its name and what it does with the seeds.
type Part = (&'static str, fn(Range<u64>) -> Outcome);

const PARTS: [Part; 4] = [
    ("interference", interference::run),
    ("standing", standing::run),
    ("resonance", resonance::run),
    ("resonance-cost", resonance::run_cost),
];

fn main() -> Outcome {
    let mut names: Vec<String> = Vec::new();
    let mut seeds = 1001..1011;
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        if argument == "--seeds" {
            let given = arguments.next().unwrap_or_default();
            let (from, to) = given.split_once("..").ok_or("use --seeds FROM..TO, such as 1001..1011")?;
            seeds = from.parse()?..to.parse()?;
        } else if PARTS.iter().any(|(name, _)| *name == argument) {
            names.push(argument);
        } else {
            let parts = PARTS.map(|(name, _)| name).join(", ");
            return Err(format!("{argument:?} is no part: use {parts}, or --seeds FROM..TO").into());
        }
    }
    if seeds.is_empty() {
        return Err("no seeds: use --seeds FROM..TO, such as 1001..1011".into());
    }
    for (name, run) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("\n{name}, seeds {seeds:?}\n");
            run(seeds.clone())?;
        }
    }
    Ok(())
}

/// A line of a table of goals.
fn goal(what: &str, measured: String, wanted: &str, reached: bool) {
    println!("| {what} | {measured} | {wanted} | {} |", if reached { "yes" } else { "**no**" });
}

/// The smallest value that a part of all values do not exceed.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((part * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}
