//! The command `aether`: emit, listen and ask from a shell, and run the sample services.
//!
//! Each subcommand has its own file; this one parses arguments, runs the subcommand and sets the exit code: 0 done, 1
//! failed, 2 wrong usage, 3 a dead letter is gone. Results go to stdout, everything else to stderr. A closed stdout is
//! not a failure.

/// Waves are often freed on another thread than the one that made them, which can cost a lock in the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A help text about `aether bench`. It is empty in a build without that feature.
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

/// A help text about the local network. It is empty in a build without that feature.
#[cfg(feature = "lan")]
macro_rules! if_lan {
    ($line:literal) => {
        $line
    };
}
#[cfg(not(feature = "lan"))]
macro_rules! if_lan {
    ($line:literal) => {
        ""
    };
}

mod acl;
mod ask;
#[cfg(feature = "bench")]
mod bench;
mod bridge;
mod cli;
mod config;
mod connect;
mod demo;
mod describe;
mod doctor;
mod emit;
mod error;
mod field;
mod frame;
mod incident;
mod jobs;
mod keys;
#[cfg(feature = "lan")]
mod lan;
mod letters;
mod listen;
mod log;
mod map;
mod new;
mod output;
#[cfg(feature = "bench")]
mod overload_view;
mod pace;
mod physics;
mod record;
mod recorder;
mod replay;
mod report;
mod roll_call;
mod stdin;
mod stdout_watchdog;
mod table;
mod top;
mod trace;
mod up;
mod values;
mod view;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

/// The exit code for wrong usage, as used by the argument parser.
const WRONG_USAGE: u8 = 2;

/// The exit code for a dead letter that does not exist any more.
const GONE: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.prepare();
    let mut special = None;
    let code = aether_service::run(|shutdown| async {
        tokio::spawn(stdout_watchdog::run(shutdown.clone()));
        let done = match cli.run(shutdown).await {
            Err(error) if error.is_closed_pipe() => Ok(()),
            done => done,
        };
        special = match &done {
            Err(error) if error.is_wrong_usage() => Some(WRONG_USAGE),
            Err(error) if error.is_gone() => Some(GONE),
            _ => None,
        };
        done
    });
    special.map_or(code, ExitCode::from)
}
