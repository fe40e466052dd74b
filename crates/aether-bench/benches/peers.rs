//! Compares four systems under overload in one run: tokio's channels, raw async-nats, and Aether in process and over
//! NATS. All use the same schedules and the same handler.
//!
//! `cargo xtask bench overload` runs the benchmark with a real NATS server and writes the results into the page on
//! benchmarks, the README and docs/overload.svg. Over NATS, the handler is a separate process: this program starts
//! itself with the argument `receiver`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_bench::{
    Address, ChildProgram, Comparison, Contestant, Overload, Profile, Work, picture, replaced, tables,
};
use aether_conformance::NatsServer;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares Aether with its peers under overload.
#[derive(Debug, Parser)]
struct Args {
    /// The loads, as multiples of the handler's capacity.
    #[arg(long, value_delimiter = ',', default_values_t = Overload::LOADS)]
    loads: Vec<f64>,
    /// How long each load is offered in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The number of rounds for each load. The median is reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The seed of the schedules.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the tables and the picture into this source folder. Without it, nothing is written.
    #[arg(long)]
    into: Option<PathBuf>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The separate process of a run over NATS.
    #[command(hide = true)]
    Receiver,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.command.is_none() {
        // Must run before the runtime is built. The runtime gets as many threads as there are processors left, and
        // the server, which is a child process, also stays off the handler's processor.
        let _ = aether_bench::leave_one_to_the_handler();
    }
    tokio::runtime::Runtime::new()?.block_on(run(args))
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    // Nothing cancels this token: Ctrl-C ends the whole program together with the receiver.
    let stop = CancellationToken::new();
    if let Some(Command::Receiver) = args.command {
        return Ok(aether_bench::receive(stop).await?);
    }
    let server = NatsServer::start().await?;
    let aether = |address| Contestant::Aether { address, profile: Profile::Overload };
    let overload = Overload {
        contestants: vec![
            Contestant::Mpsc,
            Contestant::TwoMpsc,
            Contestant::Broadcast,
            aether(Address::local()),
            Contestant::AsyncNats { url: server.url() },
            aether(Address::nats(&server.url())),
        ],
        loads: args.loads,
        lasts: Duration::try_from_secs_f64(args.seconds)?,
        rounds: args.rounds,
        strong: Overload::STRONG,
        seed: args.seed,
        work: Work { service: Work::DEFAULT_SERVICE },
        payload_bytes: aether_bench::DEFAULT_BYTES,
        step: true,
    };
    let receiver = ChildProgram::this_with(["receiver"])?;
    let begins =
        |contestant: &Contestant, load| eprintln!("{load} times the capacity: {}", contestant.name());
    let comparison = overload.run(&receiver, &stop, begins).await?;
    println!("{}", measured(&comparison));
    match args.into {
        Some(root) => write(&root, &comparison),
        None => Ok(()),
    }
}

/// The text for the page on benchmarks.
fn measured(comparison: &Comparison) -> String {
    format!(
        "{}\n\n{}\n{}\n\nThe load steps from 0.5 to 5 times the capacity; p99 of the strong messages that were due in each \
         50 ms:\n\n{}",
        tables::conditions(comparison),
        tables::compared(comparison).markdown(),
        tables::what_two_queues_lack(),
        tables::steps(comparison).markdown()
    )
}

fn write(root: &Path, comparison: &Comparison) -> Result<(), Box<dyn Error>> {
    for (name, text) in [
        ("docs/internals/benchmarks.md", measured(comparison)),
        ("README.md", tables::summary(comparison).markdown()),
    ] {
        let path = root.join(name);
        let document = replaced(&std::fs::read_to_string(&path)?, "overload", &text)?;
        std::fs::write(&path, document)?;
    }
    let docs = root.join("docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("overload.svg"), picture::svg(comparison))?;
    Ok(())
}
