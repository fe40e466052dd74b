//! Measures the detectors of `aether::physics` on synthetic systems whose ground truth is known.
//!
//! `cargo xtask bench physics --seeds 101..111` runs the benchmark and writes the tables and pictures of
//! docs/internals/physics.md. Arguments select the parts to run by name, and only their sections are written. Without a
//! name, all parts run. The generators use the seeds. No detector was tuned to them. The part `recorded` plays the
//! recordings of real traffic in `crates/aether-bench/recordings` instead.

#[path = "physics/interference.rs"]
mod interference;
#[path = "physics/observing.rs"]
mod observing;
#[path = "physics/page.rs"]
mod page;
#[path = "physics/pictures.rs"]
mod pictures;
#[path = "physics/random.rs"]
mod random;
#[path = "physics/recorded.rs"]
mod recorded;
#[path = "physics/requests.rs"]
mod requests;
#[path = "physics/resonance.rs"]
mod resonance;
#[path = "physics/standing.rs"]
mod standing;

use std::ops::Range;
use std::path::PathBuf;

use page::say;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A part of the benchmark: its name, and the function that runs it with the seeds.
type Part = (&'static str, fn(Range<u64>) -> Outcome);

const PARTS: [Part; 8] = [
    ("interference", interference::run),
    ("requests", requests::run),
    ("standing", standing::run),
    ("resonance", resonance::run),
    ("resonance-traps", resonance::run_hard),
    ("resonance-cost", resonance::run_cost),
    ("observing", observing::run),
    ("recorded", recorded::run),
];

fn main() -> Outcome {
    let mut names: Vec<String> = Vec::new();
    let mut seeds = 1001..1011;
    let mut into: Option<PathBuf> = None;
    // `cargo bench` adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        if argument == "--seeds" {
            let given = arguments.next().unwrap_or_default();
            let (from, to) = given.split_once("..").ok_or("use --seeds FROM..TO, such as 1001..1011")?;
            seeds = from.parse()?..to.parse()?;
        } else if argument == "--into" {
            into =
                Some(arguments.next().ok_or("use --into FOLDER, where docs/internals/physics.md is")?.into());
        } else if PARTS.iter().any(|(name, _)| *name == argument) {
            names.push(argument);
        } else {
            let parts = PARTS.map(|(name, _)| name).join(", ");
            return Err(format!("there is no part {argument:?}: use {parts}, or --seeds FROM..TO").into());
        }
    }
    if seeds.is_empty() {
        return Err("no seeds: use --seeds FROM..TO, such as 1001..1011".into());
    }
    for (name, run) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("\n{name}, seeds {seeds:?}\n");
            run(seeds.clone())?;
            let said = page::taken();
            if let Some(root) = &into {
                page::put(root, name, &said)?;
            }
        }
    }
    match into {
        // The seeds and the pictures belong to all parts.
        Some(root) if names.is_empty() => {
            page::put(&root, "seeds", &format!("Seeds {seeds:?}."))?;
            pictures::draw(&root, seeds.start)
        }
        _ => Ok(()),
    }
}

/// Prints a row of a table of goals.
fn goal(what: &str, measured: String, wanted: &str, reached: bool) {
    say!("| {what} | {measured} | {wanted} | {} |", if reached { "yes" } else { "**no**" });
}

/// The quantile of the values at the given fraction.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((part * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}
