//! The project's own commands. `cargo xtask test` is what CI runs, set-up included.

mod api;
mod bench;
mod examples;
mod fuzz;
mod modules;
mod nats_server;
mod promtool;
mod steps;
mod suite;
mod tool;
mod workspace;

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
    /// Put the tools in place, then format check, clippy, docs, tests, doc tests and examples.
    Test {
        /// Leave out the documentation build and the examples.
        #[arg(long)]
        fast: bool,
    },
    /// Only put the tools in place, and print where they are.
    Tools,
    /// Draw which module imports which into ARCHITECTURE.md; `test` fails where imports go in circles.
    Modules,
    /// Write the public API of each library to docs/api.
    Api,
    /// Run the benchmarks of aether-bench.
    Bench {
        /// Which ones; all when none is named.
        #[arg(value_parser = bench::NAMES)]
        names: Vec<String>,
        #[command(flatten)]
        options: bench::BenchArgs,
    },
    /// Sender and receiver under overload over a NATS server that is killed now and then; `--help` says more.
    #[command(disable_help_flag = true)]
    Soak {
        /// Of the soak, such as `--minutes 1 --kill-every 10s`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the fuzz targets of aether-core, each for a bounded time.
    Fuzz {
        /// How long each target runs, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Which target; all when none is named.
        target: Option<String>,
    },
}

fn main() -> ExitCode {
    // Returned from main, an error would drag a backtrace of this program behind it: that is no help with a red test.
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
        Command::Test { fast } => suite::run(&workspace, fast),
        Command::Tools => {
            println!("nats-server: {}", nats_server::find_or_install(&workspace)?);
            println!("promtool: {}", promtool::find_or_install(&workspace)?);
            Ok(())
        }
        Command::Modules => modules::draw(&workspace),
        Command::Api => api::run(&workspace),
        Command::Bench { names, options } => bench::run(&workspace, &names, &options),
        Command::Soak { args } => bench::soak(&workspace, &args),
        Command::Fuzz { seconds, target } => fuzz::run(&workspace, seconds, target),
    }
}
