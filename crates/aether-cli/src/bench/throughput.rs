//! `aether bench throughput`: as many waves as possible.

use aether_bench::{RunError, Table, ThroughputPlan};
use aether_service::CancellationToken;

use super::args::CommonArgs;
use super::receiver;
use crate::error::{BenchError, CommandError};
use crate::output::Output;

/// Measure the waves a second from one sender to one receiver
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether bench throughput
  aether bench throughput --payload-bytes 16 --seconds 10
  aether bench throughput --medium nats://127.0.0.1:4222    to another process")]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(crate) async fn throughput(
    args: ThroughputArgs,
    shutdown: CancellationToken,
) -> Result<(), CommandError> {
    let plan = ThroughputPlan {
        address: args.common.address(),
        lasts: args.common.seconds,
        payload_bytes: args.common.payload_bytes(),
    };
    let throughput = match plan.run(&receiver()?, &shutdown).await {
        Err(RunError::Stopped) => {
            return Err(CommandError::Interrupted { before: "the receiver had everything" });
        }
        throughput => throughput.map_err(BenchError::from)?,
    };
    let mut output = Output::stdout();
    if args.common.json {
        return Ok(output.line(serde_json::to_string(&throughput).map_err(BenchError::from)?)?);
    }
    let mut table = Table::new(&["by", "offered", "delivered", "lost", "waves/s", "MiB/s"]);
    table.row([
        throughput.contestant.clone(),
        throughput.offered.to_string(),
        throughput.delivered.to_string(),
        throughput.lost.to_string(),
        format!("{:.0}", throughput.per_second),
        format!("{:.1}", throughput.mib_per_second),
    ]);
    Ok(output.line(table.to_string().trim_end())?)
}
