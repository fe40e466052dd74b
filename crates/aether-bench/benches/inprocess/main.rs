//! Compares Aether with channels in process, in one run: tokio's, flume, kanal, async-channel and crossfire.
//!
//! `cargo xtask bench inprocess` prints the tables of docs/internals/benchmarks.md. Each cell is a rate in millions of
//! messages received a second, and in brackets its ratio to the first row: medians of several rounds, in which the
//! contestants take turns. Every channel and every inbox is bounded at 1024, and all messages arrive unless a cell has
//! the number of lost ones. A *fresh* payload is allocated for each message, a *shared* one is a clone of one `Bytes`. The
//! allocator is the system's, which users of a library have; `--mimalloc` takes another.

mod contestants;
mod latency;
mod rates;

use std::num::NonZeroUsize;

use clap::{Parser, ValueEnum};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Error>;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares Aether with channels in process.
#[derive(Debug, Parser)]
struct Args {
    /// These tables only.
    only: Vec<Table>,
    /// These sizes only, in bytes: 16, 128, 4096, 262144.
    #[arg(long = "size")]
    sizes: Vec<usize>,
    /// The number of rounds. The median is reported.
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// The number of worker threads of the runtime.
    #[arg(long, default_value = "2")]
    workers: NonZeroUsize,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// One sender, one receiver.
    One,
    /// The same, with many messages at once.
    Many,
    /// Several senders, one receiver.
    Fanin,
    /// One sender, several receivers that hear every message.
    Fanout,
    /// Several of both; every receiver hears every message.
    All,
    /// Several of both; one receiver takes each message.
    Shared,
    /// Latency where the receiver waits for each message.
    Latency,
    /// Latency at a part of the capacity.
    Loads,
}

fn main() -> Outcome {
    let args = Args::parse();
    let (workers, rounds) = (args.workers.get(), args.rounds.get());
    let wanted = |table: Table| args.only.is_empty() || args.only.contains(&table);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    println!(
        "Median of {rounds} rounds, workers of the runtime: {workers}, allocator: {}",
        aether_bench::ALLOCATOR
    );
    rates::compare(&runtime, rounds, &args.sizes, wanted)?;
    if wanted(Table::Latency) {
        latency::of_a_waiting_receiver(&runtime, rounds)?;
    }
    if wanted(Table::Loads) {
        latency::by_load(&runtime, rounds)?;
    }
    Ok(())
}
