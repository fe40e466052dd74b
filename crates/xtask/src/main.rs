//! The project's own commands. `cargo xtask test` is what CI runs, set-up included.

mod advisories;
mod apt;
mod bench;
mod book;
mod browser;
mod clients;
mod english;
mod examples;
mod faults;
mod fuzz;
mod long;
mod mdbook;
mod modules;
mod nats_server;
mod node;
mod postgres;
mod promtool;
mod python;
mod python_package;
mod release;
mod running;
mod sbom;
mod sim;
mod steps;
mod suite;
mod sync_engine;
mod timings;
mod tool;
mod tools;
mod valgrind;
mod versions;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that CI runs: tools, format check, import circles, English, documents, packages, clippy, docs,
    /// tests, doc tests, the clients for browsers and Python, examples.
    Test {
        #[command(flatten)]
        args: suite::TestArgs,
    },
    /// Install the tools, and print their paths.
    Tools,
    /// Build the browser client and put it where the gateway serves it; `test` fails if it is not there.
    Client,
    /// Build the Python package, and check and test it in a fresh environment.
    Python,
    /// Draw the module graph in ARCHITECTURE.md; `test` fails on import circles.
    Modules,
    /// Count sentences in forbidden patterns and wide comments; `test` fails on more than are recorded.
    English {
        #[command(flatten)]
        args: english::EnglishArgs,
    },
    /// Check the links of all documents, and build the book into `target/book`.
    Book,
    /// Check what a registry gets: versions, changelog, licences, advisories, packages. Writes bills of materials
    /// (CycloneDX) to target/release-check. Publishes nothing.
    Release {
        #[command(flatten)]
        args: release::ReleaseArgs,
    },
    /// Replace the carried security advisories with the current ones.
    Advisories {
        /// The RustSec database: a URL, or a folder with a clone.
        #[arg(long, value_name = "URL", default_value = advisories::UPSTREAM)]
        from: String,
    },
    /// Run the benchmarks of aether-bench.
    Bench {
        /// The benchmarks to run; all by default.
        #[arg(value_parser = bench::NAMES)]
        names: Vec<String>,
        #[command(flatten)]
        options: bench::BenchArgs,
    },
    /// Run the soak: overload over a NATS server that is killed periodically; see `cargo xtask soak --help`.
    #[command(disable_help_flag = true)]
    Soak {
        /// The arguments of the soak, such as `--minutes 1 --kill-every 10s`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Record real traffic of the samples with known faults, for the tests of the detectors. Takes 20 minutes.
    Recordings {
        /// The folder of the recordings; `crates/aether-bench/recordings` by default.
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
        /// The scenarios; all that are small enough for the repository by default.
        names: Vec<String>,
    },
    /// Run the fault tests of logs, durable handlers and outboxes for longer than `test` does: 200 kills, every changed
    /// byte.
    Faults {
        #[command(flatten)]
        options: faults::FaultsArgs,
    },
    /// Run the suites on the simulator with many seeds, in a release build. A failure prints the command that runs its seed
    /// again.
    Sim {
        #[command(flatten)]
        args: sim::SimArgs,
    },
    /// Run the command of another revision and this one against each other: waves, questions, a field, a log.
    Versions {
        #[command(flatten)]
        args: versions::VersionsArgs,
    },
    /// Run the fuzz targets, each for a bounded time.
    Fuzz {
        /// The duration of each target, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// The target to run; all by default.
        target: Option<String>,
    },
}

fn main() -> ExitCode {
    // Returned from main, an error would print a backtrace of this program, which does not help with a failed test.
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = workspace::Workspace::load()?;
    match command {
        Command::Test { args } => suite::run(&workspace, &args),
        Command::Tools => {
            println!("{}", tools::Tools::find_or_install(&workspace)?);
            Ok(())
        }
        Command::Client => clients::update(&workspace),
        Command::Python => {
            let mut steps = steps::Steps::default();
            python_package::run(&workspace, &mut steps, &tools::Tools::find_or_install(&workspace)?)?;
            print!("{}", steps.table());
            Ok(())
        }
        Command::Modules => modules::draw(&workspace),
        Command::English { args } => english::run(&workspace, &args),
        Command::Book => book::run(&workspace),
        Command::Release { args } => release::run(&workspace, &args),
        Command::Advisories { from } => advisories::refresh(&workspace, &from),
        Command::Bench { names, options } => bench::run(&workspace, &names, &options),
        Command::Soak { args } => bench::soak(&workspace, &args),
        Command::Recordings { into, names } => bench::recordings(&workspace, into, &names),
        Command::Faults { options } => faults::run(&workspace, &options),
        Command::Sim { args } => sim::run(&workspace, &args),
        Command::Versions { args } => versions::run(&workspace, &args),
        Command::Fuzz { seconds, target } => fuzz::run(&workspace, seconds, target),
    }
}
