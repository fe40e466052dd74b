//! `aether bench overload`: from half to ten times the capacity of a handler.

use std::time::Duration;

use aether_bench::{Comparison, Contestant, Overload, Profile, Work, tables};
use aether_service::CancellationToken;

use super::args::{self, CommonArgs};
use super::receiver;
use crate::error::{BenchError, CommandError};
use crate::output::Output;
use crate::values;

/// [`Overload::LOADS`] as a command-line argument.
const LOADS: &str = "0.5,0.8,1,1.5,2,5,10";

/// Offer a handler more than it can handle, and see which waves get through
///
/// The schedule of arrivals (Poisson) is fixed in advance and never adapts to the receiver. Latencies count from the
/// moment a wave was due to the end of its handling. One wave in twenty is strong (amplitude 1.0), the others are weak
/// (0.25). The handler is busy for a fixed time with each wave; its capacity is measured first. Over a network the
/// handler runs in another process. In process the sender has priority over other threads on its processor, if
/// permitted (root). At the end the load steps from 0.5 to 5 times the capacity.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bench overload
  aether bench overload --peers             tokio mpsc (one, and two by strength) and broadcast
  aether bench overload --loads 1,10 --seconds 10 --seed 2
  aether bench overload --service 1ms       a slower handler
  aether bench overload --json | jq '.runs[] | {load, contestant, p99: .strong.p99_us}'

  Over NATS (start a server first; `cargo xtask tools` has one):
  aether bench overload --medium nats://127.0.0.1:4222 --peers    raw async-nats beside it")]
pub(crate) struct OverloadArgs {
    /// The loads, in multiples of the handler's capacity
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = LOADS, value_parser = args::load, allow_negative_numbers = true)]
    loads: Vec<f64>,

    /// The number of rounds per load; the round with the median p99 of the strong waves is reported
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::whole(1), allow_negative_numbers = true)]
    rounds: u64,

    /// The handling time of each wave
    #[arg(long, value_name = "TIME", default_value = "50us", value_parser = args::service)]
    service: Duration,

    /// The share of strong waves
    #[arg(long, value_name = "SHARE", default_value_t = Overload::STRONG, value_parser = args::share, allow_negative_numbers = true)]
    strong: f64,

    /// The random seed of the schedules
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::whole(0), allow_negative_numbers = true)]
    seed: u64,

    /// Also run the peers on the same medium: tokio's channels in process, async-nats on NATS
    #[arg(long)]
    peers: bool,

    /// Skip the step from 0.5 to 5 times the capacity
    #[arg(long)]
    no_step: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(crate) async fn overload(args: OverloadArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let mut output = Output::stdout();
    let overload = Overload {
        contestants: contestants(&args),
        loads: args.loads,
        lasts: args.common.seconds,
        // Larger values would not end either.
        rounds: usize::try_from(args.rounds).unwrap_or(usize::MAX),
        strong: args.strong,
        seed: args.seed,
        work: Work { service: args.service },
        payload_bytes: args.common.payload_bytes(),
        step: !args.no_step,
    };
    // Progress is shown only on a terminal.
    let shows = output.is_terminal() && !args.common.json;
    let mut drawn = Ok(());
    let comparison = overload
        .run(&receiver()?, &shutdown, |contestant, load| {
            if shows && drawn.is_ok() {
                drawn = output.status(format_args!("{load} times the capacity: {} ...", contestant.name()));
            }
        })
        .await
        .map_err(BenchError::from)?;
    drawn?;
    output.erase_status()?;
    if comparison.runs.is_empty() && !comparison.complete {
        return Err(CommandError::Interrupted { before: "the first load was done" });
    }
    if args.common.json {
        return Ok(output.line(serde_json::to_string(&comparison).map_err(BenchError::from)?)?);
    }
    print(&mut output, &comparison)
}

fn contestants(args: &OverloadArgs) -> Vec<Contestant> {
    let aether = Contestant::Aether { address: args.common.address(), profile: Profile::Overload };
    let peers = match args.common.server() {
        _ if !args.peers => vec![],
        None => vec![Contestant::Mpsc, Contestant::TwoMpsc, Contestant::Broadcast],
        Some(url) => vec![Contestant::AsyncNats { url: url.to_owned() }],
    };
    peers.into_iter().chain([aether]).collect()
}

fn print(output: &mut Output, comparison: &Comparison) -> Result<(), CommandError> {
    output.line(tables::conditions(comparison))?;
    output.line(format_args!("\n{}", tables::in_full(comparison)))?;
    if !comparison.steps.is_empty() {
        output.line(format_args!(
            "The load steps from 0.5 to 5 times the capacity:\n\n{}",
            tables::steps(comparison)
        ))?;
    }
    if !comparison.complete {
        output.line("interrupted: the results are incomplete")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        overload: OverloadArgs,
    }

    #[test]
    fn the_default_loads_are_those_of_the_scenario() {
        assert_eq!(Program::parse_from(["program"]).overload.loads, Overload::LOADS);
    }
}
