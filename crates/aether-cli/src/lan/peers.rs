//! `aether lan peers`: who is on the network.

use std::time::Duration;

use aether::lan::LanView;
use aether_service::{CancellationToken, MediumArgs};

use super::columns::{record, table};
use super::joined::{joined, measured, met};
use super::watch::watch;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::values;

/// List who is on the local network, with round trips and clocks
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether lan peers                     a table
  aether lan peers --watch             who comes, changes and leaves, as it happens
  aether lan peers --json | jq .name   one JSON object per line

A process subscribes to patterns, some of them as a member of a group. SEEN is
how long this command has seen it. CLOCK is how far its clock is ahead, to
within half of the round trip.")]
pub(crate) struct PeersArgs {
    /// Follow who comes, changes and leaves, until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    /// How long to wait if nobody is found at first
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = values::time)]
    time: Duration,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(super) async fn peers(args: PeersArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let (aether, view) = joined(&args.medium, "aether-lan-peers", &shutdown).await?;
    let done = if args.watch {
        stderr_line("watching the local network");
        watch(&view, args.json, &shutdown).await
    } else {
        match shutdown.run_until_cancelled(list(&view, &args)).await {
            Some(listed) => listed,
            None => Err(CommandError::Interrupted { before: "the peers were found" }),
        }
    };
    aether_service::close(&aether).await;
    done
}

async fn list(view: &LanView, args: &PeersArgs) -> Result<(), CommandError> {
    let peers = met(view, args.time, |peers| !peers.is_empty()).await;
    let peers = measured(view, peers).await;
    let mut output = Output::stdout();
    if peers.is_empty() {
        stderr_line(
            "nobody else is on the local network: `aether lan doctor` explains why somebody may not be seen",
        );
    } else if args.json {
        for peer in &peers {
            output.line(record(peer))?;
        }
    } else {
        output.bytes(table(&peers).as_bytes())?;
    }
    Ok(())
}
