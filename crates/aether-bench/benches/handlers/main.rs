//! Compares the handlers of Aether with the handlers of RustStream in one run: in process and over NATS.
//!
//! `cargo xtask bench handlers` prints the tables of docs/internals/benchmarks.md. A rate is the number of messages
//! handled divided by the time until the last one was handled; the sender sends as fast as it may. RustStream's broker
//! in memory has no bound, Aether's inbox has its default. Each figure is the median of several rounds in which the
//! contestants take turns. Answers are asked for one after the other, by a runtime with one worker.

mod aether;
mod arrivals;
mod order;
mod rival;

use std::num::NonZeroUsize;

use aether_bench::median;
use aether_conformance::NatsServer;
use aether_core::Aether;
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};

use arrivals::Arrived;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Compares the handlers of Aether with the handlers of RustStream.
#[derive(Debug, Parser)]
struct Args {
    /// One table only.
    #[arg(long)]
    only: Option<Table>,
    /// The number of messages of a round in process; over NATS it is a fifth.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// The number of questions of a round.
    #[arg(long, default_value_t = 50_000)]
    questions: u64,
    /// The number of rounds. The median is reported.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// The number of worker threads of the runtime that carries messages.
    #[arg(long, default_value = "2")]
    workers: NonZeroUsize,
    /// Runs one path on one thread, for a profiler that counts instructions.
    #[arg(long, hide = true)]
    path: Option<Path>,
    /// How often the path is run.
    #[arg(long, hide = true, default_value_t = 1000)]
    times: u64,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    Process,
    Asked,
    Nats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Path {
    AetherRaw,
    AetherJson,
    AetherAsked,
    RivalRaw,
    RivalJson,
    RivalAsked,
}

/// The payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Json,
    Raw,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(path) = args.path {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(run(path, args.times));
    }
    let wanted = |table| args.only.is_none_or(|only| only == table);
    let runtime = Builder::new_multi_thread().worker_threads(args.workers.get()).enable_all().build()?;
    println!(
        "{} messages of 100 bytes, median of {} rounds, workers of the runtime: {}, allocator: {}",
        args.messages,
        args.rounds,
        args.workers,
        aether_bench::ALLOCATOR
    );
    if wanted(Table::Process) {
        in_process(&runtime, &args)?;
    }
    if wanted(Table::Asked) {
        asked(&args)?;
    }
    if wanted(Table::Nats) {
        over_nats(&runtime, &args)?;
    }
    Ok(())
}

async fn run(path: Path, times: u64) -> Outcome<()> {
    let aether = Aether::local();
    match path {
        Path::AetherRaw => drop(aether::messages(&aether, &aether, Payload::Raw, times).await?),
        Path::AetherJson => drop(aether::messages(&aether, &aether, Payload::Json, times).await?),
        Path::AetherAsked => drop(aether::questions(&aether, times).await?),
        Path::RivalRaw => drop(rival::in_memory(Payload::Raw, times).await?),
        Path::RivalJson => drop(rival::in_memory(Payload::Json, times).await?),
        Path::RivalAsked => drop(rival::questions(times).await?),
    }
    Ok(())
}

fn in_process(runtime: &Runtime, args: &Args) -> Outcome<()> {
    println!(
        "\n| in process, one handler | Aether M/s | RustStream M/s | against it | lost by Aether | by RustStream |\n|---|---|---|---|---|---|"
    );
    for (payload, name) in [(Payload::Json, "JSON"), (Payload::Raw, "raw bytes")] {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            let ours = async {
                let aether = Aether::local();
                aether::messages(&aether, &aether, payload, args.messages).await
            };
            let ours = runtime.block_on(ours)?;
            let theirs = runtime.block_on(rival::in_memory(payload, args.messages))?;
            rounds.push((ours, theirs));
        }
        row(name, &rounds);
    }
    Ok(())
}

fn over_nats(runtime: &Runtime, args: &Args) -> Outcome<()> {
    let count = args.messages / 5;
    runtime.block_on(async {
        let server = NatsServer::start().await?;
        let url = server.url();
        println!("\n| over NATS, {count} messages, one handler | Aether M/s | RustStream M/s | against it | lost by Aether | by RustStream |\n|---|---|---|---|---|---|");
        for (payload, name) in [(Payload::Json, "JSON"), (Payload::Raw, "raw bytes")] {
            let mut rounds = Vec::new();
            for _ in 0..args.rounds {
                let (here, there) = (aether::connect(&url).await?, aether::connect(&url).await?);
                let ours = aether::messages(&here, &there, payload, count).await?;
                here.close().await?;
                there.close().await?;
                rounds.push((ours, rival::over_nats(&url, payload, count).await?));
            }
            row(name, &rounds);
        }
        Ok(())
    })
}

fn row(name: &str, rounds: &[(Arrived, Arrived)]) {
    let lost = |of: fn(&(Arrived, Arrived)) -> u64| rounds.iter().map(of).max().unwrap_or(0);
    let rate = |of: fn(&(Arrived, Arrived)) -> f64| median(rounds.iter().map(of));
    println!(
        "| {name} | {:.2} | {:.2} | {:.2} | up to {} | up to {} |",
        rate(|round| round.0.rate()) / 1e6,
        rate(|round| round.1.rate()) / 1e6,
        rate(|round| round.0.rate() / round.1.rate()),
        lost(|round| round.0.lost),
        lost(|round| round.1.lost),
    );
}

fn asked(args: &Args) -> Outcome<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let aether = Aether::local();
        let count = args.questions;
        // On the worker, as a handler that asks would be.
        ours.push(runtime.block_on(runtime.spawn(async move { aether::questions(&aether, count).await }))??);
        theirs.push(runtime.block_on(runtime.spawn(async move { rival::questions(count).await }))??);
    }
    println!("\n| a question, answered by a handler | p50 us | p99 us |\n|---|---|---|");
    for (name, rounds) in [("Aether", &ours), ("RustStream", &theirs)] {
        let us = |quantile| median(rounds.iter().map(|round| us(round, quantile)));
        println!("| {name} | {:.2} | {:.2} |", us(0.5), us(0.99));
    }
    let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| us(ours, 0.5) / us(theirs, 0.5)));
    println!("\nThe p50 of Aether against the p50 of RustStream, median of the rounds: {ratio:.2}");
    Ok(())
}

fn us(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1000.0
}
