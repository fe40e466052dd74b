//! `aether physics`: prints what the detectors find while waves go by.

use std::time::Duration;

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::Pattern;
use tokio::time::MissedTickBehavior;

use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::values;
use crate::watch::Watch;

/// How many waves are taken in before it is looked what they mean: a burst is seen as one.
const BURST: usize = 256;

/// Print what the waves mean together: related channels, heartbeats, missing beats, polling, retry storms
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether physics               everything
  aether physics 'orders.>'    one token or more after orders.

One line for each finding, as it is found; Ctrl-C ends it.")]
pub(crate) struct PhysicsArgs {
    /// Which channels: * stands for one token, > at the end for one or more
    #[arg(default_value = ">")]
    pattern: Pattern,

    /// How often to look for related channels
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    every: Duration,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn physics(args: PhysicsArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let mut watch = Watch::open(&args.medium, "aether-physics", &args.pattern, &shutdown).await?;
    stderr_line(format_args!("watching {}", args.pattern));
    let printed = print(&mut watch, args.every, &shutdown).await;
    watch.close().await;
    printed
}

async fn print(watch: &mut Watch, every: Duration, shutdown: &CancellationToken) -> Result<(), CommandError> {
    let mut output = Output::stdout();
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            advanced = watch.advance(BURST) => if advanced?.is_none() { return Ok(()) },
            _ = looks.tick() => drop(watch.report()),
            () = shutdown.cancelled() => return Ok(()),
        }
        for finding in watch.findings() {
            output.line(finding)?;
        }
    }
}
