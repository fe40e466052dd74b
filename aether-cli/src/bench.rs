//! `aether bench`: what the bus does, measured on this machine.
//!
//! The measuring is in `aether_bench`; this parses the arguments and prints what it finds.

mod args;
mod latency;
mod overload;
mod storm;
mod throughput;

use aether_bench::{
    ChildProgram, OverloadError, ReceiverError, ReportError, RunError, ScheduleError, StormError,
};
use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::ConnectError;

use crate::connect::connected;
use crate::error::CommandError;

/// Measure the bus on this machine: throughput, latency, overload, retry storm
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bench overload                       half to ten times what a handler can take
  aether bench overload --peers               the same schedules through tokio's channels
  aether bench storm                          a service that fails, and clients that ask again
  aether bench latency --rate 50000           emit to receive, at a steady rate
  aether bench throughput --payload-bytes 16  as fast as it goes
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
    /// The other process of a run over a network
    #[command(hide = true)]
    Receiver,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Overload(#[from] OverloadError),
    #[error(transparent)]
    Storm(#[from] StormError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the accounts do not add up")]
    Report(#[from] ReportError),
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    #[error("this program does not know where it is, and cannot start itself as a receiver")]
    Program(#[source] std::io::Error),
    #[error("the result cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl BenchError {
    /// Whether the arguments were wrong, in a way that the argument parser cannot know.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        use aether_bench::ContestantError::Connect;
        match self {
            Self::Schedule(_)
            | Self::Overload(OverloadError::Schedule(_))
            | Self::Storm(StormError::Schedule(_)) => true,
            Self::Run(RunError::Contestant(Connect(error)))
            | Self::Storm(StormError::Contestant(Connect(error)))
            | Self::Overload(OverloadError::Run { source: RunError::Contestant(Connect(error)), .. }) => {
                !matches!(error, ConnectError::Unreachable { .. })
            }
            _ => false,
        }
    }
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

    /// A runtime has as many threads as there are processors for it when it is made, and one of them is the handler's.
    pub(crate) fn prepare(&self) {
        if let BenchCommand::Overload(_) = self.command {
            let _ = aether_bench::leave_one_to_the_handler();
        }
    }
}

pub(crate) async fn bench(args: BenchArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if let Some(medium) = args.medium().filter(|medium| !medium.is_local()) {
        // The runs connect themselves, and do not wait for a server.
        let aether = connected(medium, "aether-bench", &shutdown).await?;
        aether_chassis::close(&aether).await;
    }
    match args.command {
        BenchCommand::Throughput(args) => throughput::throughput(args, shutdown).await,
        BenchCommand::Latency(args) => latency::latency(args, shutdown).await,
        BenchCommand::Overload(args) => overload::overload(args, shutdown).await,
        BenchCommand::Storm(args) => storm::storm(args, shutdown).await,
        BenchCommand::Receiver => Ok(aether_bench::receive(shutdown).await.map_err(BenchError::from)?),
    }
}

/// This command again, as a receiver.
fn receiver() -> Result<ChildProgram, BenchError> {
    ChildProgram::this_with(["bench", "receiver"]).map_err(BenchError::Program)
}
