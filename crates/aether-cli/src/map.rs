//! `aether map`: watches for a while and prints the service map.

use std::time::Duration;

use aether_core::Pattern;
use aether_service::{CancellationToken, MediumArgs};
use clap::ValueEnum;

use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::values;
use crate::watch::Watch;

/// The maximum number of waves per step.
const BURST: usize = 256;

/// Print the service map: which channels are related, after watching for a while
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether map                            Mermaid, after 10 seconds
  aether map --for 5m --format dot | dot -Tsvg > map.svg
  aether map --format json | jq '.edges[] | {from, to, median_lag_ms}'
  aether map 'orders.>' --count 1000    after a thousand waves

Ctrl-C prints the map so far. Edges come from the causes that waves name (L0);
waves without causes are related by their timing (L1, L1k, with how sure the
edge is). Timing needs about twenty effects of an edge.")]
pub(crate) struct MapArgs {
    /// The pattern: * matches one token, > at the end one or more
    #[arg(default_value = ">")]
    pattern: Pattern,

    /// Also show the channels on which programs talk about themselves: descriptions, dead letters, replicas of fields
    #[arg(long)]
    all: bool,

    /// The format of the map
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,

    /// How long to watch
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = values::time)]
    time: Duration,

    /// End after this many waves
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    count: Option<u64>,

    #[command(flatten)]
    medium: MediumArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Graphviz
    Dot,
    /// For programs
    Json,
    /// For Markdown
    Mermaid,
}

pub(crate) async fn map(args: MapArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let mut watch = Watch::open(&args.medium, "aether-map", &args.pattern, &shutdown).await?;
    stderr_line(format_args!("watching {} for {}", args.pattern, humantime::format_duration(args.time)));
    let taking = async {
        let mut missing = args.count.unwrap_or(u64::MAX);
        while missing > 0 {
            // A count beyond `usize` is limited by the step anyway.
            let Some(taken) = watch.advance(usize::try_from(missing).unwrap_or(BURST).min(BURST)).await?
            else {
                break;
            };
            missing = missing.saturating_sub(taken as u64);
            // The map does not use the findings, so drop them.
            watch.findings().for_each(drop);
        }
        Ok::<(), CommandError>(())
    };
    tokio::select! {
        taken = taking => taken?,
        () = tokio::time::sleep(args.time) => {}
        () = shutdown.cancelled() => {}
    }
    let report = watch.report();
    watch.close().await;
    let map = if args.all { report.map } else { report.map.without_plumbing() };
    let text = match args.format {
        Format::Dot => map.to_dot(),
        Format::Json => format!("{:#}\n", map.to_json()),
        Format::Mermaid => map.to_mermaid(),
    };
    stderr_line(format_args!("{} waves, {} edges", report.sampling.seen, map.edges.len()));
    Ok(Output::stdout().bytes(text.as_bytes())?)
}
