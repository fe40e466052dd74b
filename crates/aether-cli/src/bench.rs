//! `aether bench`: measures the bus on this machine.
//!
//! `aether_bench` measures; this parses the arguments and prints the results.

mod args;
mod latency;
mod overload;
mod storm;
mod throughput;

use aether_bench::ChildProgram;
use aether_service::{CancellationToken, MediumArgs};

use crate::connect::connected;
use crate::error::{BenchError, CommandError};

/// Measure the bus on this machine: throughput, latency, overload, retry storm
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bench overload                       half to ten times the capacity of a handler
  aether bench overload --peers               the same schedules through tokio's channels
  aether bench storm                          a failing service, and clients that retry
  aether bench latency --rate 50000           emit to receive, at a steady rate
  aether bench throughput --payload-bytes 16  as fast as possible
  aether bench overload --json > today.json

  Over NATS, with the receiver in a process of its own:
  aether bench overload --medium nats://127.0.0.1:4222 --peers")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BenchCommand {
    Throughput(throughput::ThroughputArgs),
    Latency(latency::LatencyArgs),
    Overload(overload::OverloadArgs),
    Storm(storm::StormArgs),
    /// The receiver process of a run over a network
    #[command(hide = true)]
    Receiver,
}

impl BenchArgs {
    fn medium(&self) -> Option<&MediumArgs> {
        match &self.command {
            BenchCommand::Throughput(args) => Some(&args.common.medium),
            BenchCommand::Latency(args) => Some(&args.common.medium),
            BenchCommand::Overload(args) => Some(&args.common.medium),
            BenchCommand::Storm(args) => Some(&args.medium),
            BenchCommand::Receiver => None,
        }
    }

    /// Reserves a processor for the handler. This must happen before the runtime starts, which has one thread per
    /// available processor.
    pub(crate) fn prepare(&self) {
        if let BenchCommand::Overload(_) = self.command {
            let _ = aether_bench::leave_one_to_the_handler();
        }
    }
}

pub(crate) async fn bench(args: BenchArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if let Some(medium) = args.medium().filter(|medium| !medium.is_local()) {
        // The runs connect by themselves and do not retry, so wait for the server here.
        let aether = connected(medium, "aether-bench", &shutdown).await?;
        aether_service::close(&aether).await;
    }
    match args.command {
        BenchCommand::Throughput(args) => throughput::throughput(args, shutdown).await,
        BenchCommand::Latency(args) => latency::latency(args, shutdown).await,
        BenchCommand::Overload(args) => overload::overload(args, shutdown).await,
        BenchCommand::Storm(args) => storm::storm(args, shutdown).await,
        BenchCommand::Receiver => Ok(aether_bench::receive(shutdown).await.map_err(BenchError::from)?),
    }
}

/// This command as a receiver process.
fn receiver() -> Result<ChildProgram, BenchError> {
    ChildProgram::this_with(["bench", "receiver"]).map_err(BenchError::Program)
}
