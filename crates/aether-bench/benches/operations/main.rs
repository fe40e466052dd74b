//! Measures the cost of operations: metrics, traces, a reload of the configuration, accounts, and `aether top`.
//!
//! `cargo xtask bench operations` runs it, and then the paths of `bench instructions` that show whether switched-off
//! telemetry changes anything. One table, in about four minutes; it fails where a goal is missed. Linux only: the
//! system counts the processor times.
//!
//! This program runs itself as the parts that have to be processes of their own: the senders of accounts, the gateway, and
//! each mode of tracing, because telemetry is started once in a process.

mod accounts;
mod goal;
mod part;
mod reload;
mod terminal;
mod waves;

use std::path::PathBuf;
use std::process::ExitCode;

use aether_gateway::GatewayArgs;
use aether_service::CancellationToken;
use clap::Parser;

use goal::Goals;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Error>;

/// Measures what operations cost.
#[derive(Debug, Parser)]
struct Args {
    /// Only these parts: waves, reload, accounts, top.
    only: Vec<String>,
    /// The command `aether` in release, for `aether top` and the sample services.
    #[arg(long, value_name = "PROGRAM")]
    aether: Option<PathBuf>,
    /// waves: how often the processes of all modes are started again.
    #[arg(long, default_value_t = 5)]
    restarts: usize,
    /// reload: for how long waves are emitted, in seconds.
    #[arg(long, default_value_t = 10)]
    reload_seconds: u64,
    /// accounts: the number of processes.
    #[arg(long, default_value_t = 1000)]
    processes: usize,
    /// accounts: the number of vibrators of each.
    #[arg(long, default_value_t = 10)]
    vibrators: usize,
    /// accounts: for how long each of the two rounds is measured, in seconds.
    #[arg(long, default_value_t = 30)]
    account_seconds: u64,
    /// top: for how long it is measured, in seconds.
    #[arg(long, default_value_t = 30)]
    top_seconds: u64,
    /// Internal: be the senders of accounts, on this medium, with or without accounts.
    #[arg(long, hide = true, num_args = 2, value_names = ["URL", "ACCOUNTS"])]
    senders: Option<Vec<String>>,
    /// Internal: be the waves of this mode.
    #[arg(long, hide = true)]
    mode: Option<waves::Mode>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The first argument of this program when it is the gateway.
const SERVE: &str = "--serve-gateway";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all goals were reached.
fn run() -> Outcome<bool> {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    if arguments.get(1).is_some_and(|first| first == SERVE) {
        let args = GatewayArgs::parse_from([&["gateway".to_owned()], &arguments[2..]].concat());
        runtime()?.block_on(aether_gateway::main(args, CancellationToken::new()))?;
        return Ok(true);
    }
    let args = Args::parse();
    if let Some(mode) = args.mode {
        return waves::serve(mode).map(|()| true);
    }
    if let Some(senders) = &args.senders {
        let with_accounts = senders[1] == "on";
        runtime()?.block_on(accounts::send(args.processes, args.vibrators, &senders[0], with_accounts))?;
        return Ok(true);
    }
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let mut goals = Goals::default();
    // A part that fails hides no figure of the others.
    let mut is_whole = true;
    let mut note = |part: &str, measured: Outcome| {
        if let Err(error) = measured {
            eprintln!("error: {part}: {error}");
            is_whole = false;
        }
    };
    if wanted("waves") {
        note("waves", waves::measure(args.restarts, &mut goals));
    }
    if wanted("reload") {
        note("reload", runtime()?.block_on(reload::measure(args.reload_seconds, &mut goals)));
    }
    if wanted("accounts") {
        let (processes, vibrators, seconds) = (args.processes, args.vibrators, args.account_seconds);
        note("accounts", runtime()?.block_on(accounts::measure(processes, vibrators, seconds, &mut goals)));
    }
    if wanted("top") {
        note(
            "top",
            match &args.aether {
                Some(aether) => runtime()?.block_on(terminal::measure(aether, args.top_seconds, &mut goals)),
                None => Err("it is measured with --aether PROGRAM".into()),
            },
        );
    }
    print!("{}", goals.table());
    Ok(is_whole && goals.are_reached())
}
