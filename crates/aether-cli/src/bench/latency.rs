//! `aether bench latency`: from the moment a wave is due until it is received.

use std::sync::Arc;

use aether_bench::{Contestant, Phase, Plan, Profile, Report, RunError, Schedule, Work, run, tables};
use aether_service::CancellationToken;

use super::args::CommonArgs;
use super::receiver;
use crate::error::{BenchError, CommandError};
use crate::output::Output;
use crate::values::{self, Rate};

/// Measure the time from when a wave is due until it is received, at a fixed rate
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bench latency
  aether bench latency --rate 100000 --seconds 10
  aether bench latency --medium nats://127.0.0.1:4222    to another process")]
pub(crate) struct LatencyArgs {
    /// Waves a second, on average (Poisson)
    #[arg(long, value_name = "N", default_value = "10000", allow_negative_numbers = true)]
    rate: Rate,

    /// The random seed of the schedule
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::whole(0), allow_negative_numbers = true)]
    seed: u64,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(crate) async fn latency(args: LatencyArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let Rate(rate) = args.rate;
    let phase = Phase { rate, lasts: args.common.seconds };
    let schedule = Arc::new(Schedule::poisson(&[phase], 0.0, args.seed).map_err(BenchError::from)?);
    let plan = Plan {
        schedule,
        work: Work { service: std::time::Duration::ZERO },
        payload_bytes: args.common.payload_bytes(),
    };
    let contestant = Contestant::Aether { address: args.common.address(), profile: Profile::Interactive };
    let outcome = match run(&contestant, &plan, &receiver()?, &shutdown).await {
        Err(RunError::Stopped) => return Err(CommandError::Interrupted { before: "the end of the run" }),
        outcome => outcome.map_err(BenchError::from)?,
    };
    let report = Report::of(contestant.name(), &plan.schedule, &outcome, None).map_err(BenchError::from)?;
    let mut output = Output::stdout();
    if args.common.json {
        return Ok(output.line(serde_json::to_string(&report).map_err(BenchError::from)?)?);
    }
    Ok(output.line(tables::latencies(&report).to_string().trim_end())?)
}
