//! Measures the medium of a local network beside raw Zenoh, in one run.
//!
//! `cargo xtask bench lan` prints the tables of docs/internals/benchmarks.md. Each side is a process of its own: this
//! program again. The contestants take turns in each round, with new processes; a figure is the median of the rounds,
//! with the least and the greatest. Raw Zenoh and Aether have the same kind of session: peers, one TCP connection over
//! loopback, no multicast. The parts [`start`] and [`overload`] use two network namespaces with a cable between them,
//! which needs root.

mod goal;
mod overload;
mod round_trip;
mod session;
mod side;
mod start;
mod throughput;

use aether_conformance::Cable;
use clap::{Parser, ValueEnum};

use goal::Goals;
use side::{Job, Outcome, Role};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the medium of a local network beside raw Zenoh.
#[derive(Debug, Parser)]
struct Args {
    /// Only these parts.
    parts: Vec<Part>,
    /// The number of rounds of throughput and round trip.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// The number of starts.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Messages of a round of throughput.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Questions of a round of round trips.
    #[arg(long, default_value_t = 10_000)]
    questions: u64,
    /// How long the overload lasts, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    job: Job,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Throughput,
    RoundTrip,
    Start,
    Overload,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(role) = args.job.role {
        // As many workers as a service has by default.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(work(role, &args.job));
    }
    let wanted = |part: Part| args.parts.is_empty() || args.parts.contains(&part);
    let mut goals = Goals::default();
    println!("Allocator: {}\n", aether_bench::ALLOCATOR);
    if wanted(Part::Throughput) {
        throughput::compare(args.rounds, args.messages, &mut goals)?;
    }
    if wanted(Part::RoundTrip) {
        round_trip::compare(args.rounds, args.questions, &mut goals)?;
    }
    if wanted(Part::Start) || wanted(Part::Overload) {
        let cable = Cable::lay().unwrap_or_else(|error| {
            eprintln!("{error}");
            None
        });
        if wanted(Part::Start) {
            start::measure(cable.as_ref(), args.starts, &mut goals)?;
        }
        match &cable {
            Some(cable) if wanted(Part::Overload) => overload::measure(cable, args.seconds, &mut goals)?,
            None if wanted(Part::Overload) => println!("Not measured without network namespaces: overload\n"),
            _ => {}
        }
    }
    println!("{}", goals.table());
    if goals.are_reached() { Ok(()) } else { Err("a goal is missed".into()) }
}

async fn work(role: Role, job: &Job) -> Outcome<()> {
    match role {
        Role::Receive => throughput::receive(job).await,
        Role::Send => throughput::send(job).await,
        Role::Answer => round_trip::answer(job).await,
        Role::Ask => round_trip::ask(job).await,
        Role::Hear => start::hear(job).await,
        Role::Join => start::join(job).await,
        Role::Drain => overload::drain(job).await,
        Role::Flood => overload::flood(job).await,
    }
}
