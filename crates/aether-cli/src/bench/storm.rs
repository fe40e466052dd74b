//! `aether bench storm`: a service fails for a while, and its clients retry.

use std::time::Duration;

use aether_bench::{Address, Storm, Storms, tables};
use aether_service::{CancellationToken, MediumArgs};

use super::args;
use crate::error::{BenchError, CommandError};
use crate::output::Output;
use crate::values;

/// Let a service fail for a while, and see whether it recovers while its clients retry
///
/// There are two runs with the same questions. In one the clients retry like `aether_service::Asker`: each time half as
/// strong, at most 10 % of the first questions and one a second, after growing random pauses. In the other they retry
/// without these rules. Goodput is the share of questions answered within 200 ms of their due time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bench storm
  aether bench storm --load 0.9 --fault 10s
  aether bench storm --json | jq '.reports[] | {retries, attempts, back_after_s}'
  aether bench storm --medium nats://127.0.0.1:4222    over a NATS server")]
pub(crate) struct StormArgs {
    /// The rate of first questions, in multiples of the service's capacity
    #[arg(long, value_name = "N", default_value = "0.8", value_parser = args::load, allow_negative_numbers = true)]
    load: f64,

    /// The time before the fault
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::time)]
    before: Duration,

    /// The duration of the fault
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    fault: Duration,

    /// The time after the fault
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    after: Duration,

    /// The random seed of the schedule
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::whole(0), allow_negative_numbers = true)]
    seed: u64,

    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) medium: MediumArgs,
}

pub(crate) async fn storm(args: StormArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let storm = Storm {
        address: Address::from(&args.medium),
        load: args.load,
        before: args.before,
        fault: args.fault,
        after: args.after,
        seed: args.seed,
    };
    let mut output = Output::stdout();
    let shows = output.is_terminal() && !args.json;
    let mut drawn = Ok(());
    let storms = storm
        .run(&shutdown, |retries| {
            if shows && drawn.is_ok() {
                drawn = output.status(format_args!("{} retries ...", retries.as_str()));
            }
        })
        .await
        .map_err(BenchError::from)?;
    drawn?;
    output.erase_status()?;
    if args.json {
        return Ok(output.line(serde_json::to_string(&storms).map_err(BenchError::from)?)?);
    }
    print(&mut output, &storms)
}

fn print(output: &mut Output, storms: &Storms) -> Result<(), CommandError> {
    let Storms { capacity, load, fault_s, seed, .. } = storms;
    output.line(format_args!(
        "A service with a capacity of {capacity:.0} questions a second is offered {load} times that and fails for {fault_s} s; seed {seed}.\n"
    ))?;
    output.line(tables::storm_windows(storms))?;
    output.line(tables::storm_ends(storms).to_string().trim_end())?;
    if !storms.complete {
        output.line("interrupted: the results are incomplete")?;
    }
    Ok(())
}
