//! Counts the instructions and the allocations of a wave on the main paths, with the allocator that users have.
//!
//! `cargo xtask bench instructions` compares the counts with those in `crates/aether-bench/instructions.json` and fails
//! where one has grown. Counts depend on the compiler and hardly on anything else, so they show a change of one percent
//! on a machine that is busy with other work, where a clock shows nothing. They are not times: a cache miss counts as
//! one instruction.
//!
//! This program runs itself below valgrind, once for each path and for each of two numbers of waves. The difference of
//! both runs has no set-up in it. Add a path to [`paths::PATHS`].

mod callgrind;
mod paths;
mod recorded;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use callgrind::Cost;
use paths::{PATHS, Path};
use recorded::Recorded;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Counts the instructions and the allocations of a wave on the main paths.
#[derive(Debug, Parser)]
struct Args {
    /// Only the paths whose names contain one of these words.
    only: Vec<String>,
    /// The file with the recorded counts. Without it nothing is compared.
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Write the counts into that file instead of comparing them.
    #[arg(long, requires = "recorded")]
    record: bool,
    /// Run this path, without counting: what valgrind is given. Also useful below other tools.
    #[arg(long, value_name = "PATH")]
    run: Option<String>,
    /// The number of waves to run.
    #[arg(long, default_value_t = callgrind::MANY, requires = "run")]
    waves: u64,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether no count has grown.
fn measure(args: &Args) -> Result<bool, Error> {
    if let Some(name) = &args.run {
        let path = PATHS.iter().find(|path| path.name == name);
        let path = path.ok_or_else(|| format!("there is no path {name}: they are {}", names()))?;
        (path.run)(args.waves)?;
        return Ok(true);
    }
    let wanted = |path: &&Path| args.only.is_empty() || args.only.iter().any(|only| path.name.contains(only));
    let paths: Vec<_> = PATHS.iter().filter(wanted).collect();
    if paths.is_empty() {
        return Err(
            format!("no path has a name with {}: they are {}", args.only.join(" or "), names()).into()
        );
    }
    let mut recorded = match &args.recorded {
        Some(file) => Recorded::read(file)?,
        None => Recorded::default(),
    };
    println!(
        "| path | what a wave is there | instructions | recorded | allocations | recorded |\n|---|---|---|---|---|---|"
    );
    let mut worse = Vec::new();
    for path in paths {
        let cost = callgrind::cost_of(path.name)?;
        let before = recorded.of(path.name);
        let shown = |get: fn(&Cost) -> String| before.as_ref().map_or("-".to_owned(), get);
        println!(
            "| {} | {} | {:.0} | {} | {:.2} | {} |",
            path.name,
            path.wave,
            cost.instructions,
            shown(|cost| format!("{:.0}", cost.instructions)),
            cost.allocations,
            shown(|cost| format!("{:.2}", cost.allocations)),
        );
        if args.recorded.is_some() && !args.record {
            worse.extend(recorded.complaint(path.name, &cost));
        }
        recorded.note(path.name, cost);
    }
    if args.record
        && let Some(file) = &args.recorded
    {
        recorded.write(file)?;
    }
    if !worse.is_empty()
        && let Some(compiler) = recorded.other_compiler()
    {
        eprintln!("The counts were recorded with {compiler}, which is another compiler than this one.");
    }
    for complaint in &worse {
        eprintln!("{complaint}");
    }
    Ok(worse.is_empty())
}

fn names() -> String {
    PATHS.iter().map(|path| path.name).collect::<Vec<_>>().join(", ")
}
