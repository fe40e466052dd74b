//! The command `aether`: emit, listen and ask from a shell, and run the sample services.
//!
//! Each subcommand is a file of its own; this one parses, runs and says how it went. Exit codes: 0 done, 1 failed,
//! 2 wrong usage. Results go to stdout, everything else to stderr, and a reader of stdout that goes away is no failure.

/// Waves are made on one thread and freed on another; the system's allocator may take a lock for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A line of help about `aether bench`: empty in a build without it.
#[cfg(feature = "bench")]
macro_rules! if_bench {
    ($line:literal) => {
        $line
    };
}
#[cfg(not(feature = "bench"))]
macro_rules! if_bench {
    ($line:literal) => {
        ""
    };
}

mod ask;
#[cfg(feature = "bench")]
mod bench;
mod cli;
mod connect;
mod emit;
mod error;
mod frame;
mod listen;
mod map;
mod output;
#[cfg(feature = "bench")]
mod overload_view;
mod pace;
mod physics;
mod record;
mod stdin;
mod stdout_watchdog;
mod up;
mod values;
mod view;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::error::CommandError;

/// The exit code for wrong usage, the same as that of the argument parser.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.prepare();
    let mut wrong_usage = false;
    let code = aether_chassis::run(|shutdown| async {
        tokio::spawn(stdout_watchdog::run(shutdown.clone()));
        let done = match cli.run(shutdown).await {
            Err(error) if error.is_closed_pipe() => Ok(()),
            done => done,
        };
        wrong_usage = done.as_ref().is_err_and(CommandError::is_wrong_usage);
        done
    });
    if wrong_usage { ExitCode::from(WRONG_USAGE) } else { code }
}
