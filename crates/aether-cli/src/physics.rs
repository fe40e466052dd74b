//! `aether physics`: prints incidents, and on request the findings of the detectors.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aether::physics::Finding;
use aether_core::Pattern;
use aether_service::{CancellationToken, MediumArgs};
use tokio::time::MissedTickBehavior;

use crate::error::CommandError;
use crate::incident::TestArgs;
use crate::output::{Output, stderr_line};
use crate::record::printable;
use crate::values;
use crate::watch::Watch;

/// The maximum number of waves per step, so that a burst is analysed as a whole.
const BURST: usize = 256;

/// Print incidents: services that stopped, hang or are slow, and what follows from it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether physics                       what an operator should know
  aether physics --details             also related channels, heartbeats, polling and more
  aether physics --replay today.rec    a recording of `aether record`, in seconds
  aether physics --replay today.rec --incident 2 --as-test tests/incident_2.rs
                                       a test in which its second incident happens again

Prints a line when an incident begins and when it ends, until Ctrl-C. It knows the
habits of a service after 12 to 64 waves and 20 seconds.")]
pub(crate) struct PhysicsArgs {
    /// The pattern: * matches one token, > at the end one or more
    #[arg(default_value = ">")]
    pattern: Pattern,

    /// Also print each finding of the detectors
    #[arg(long)]
    details: bool,

    /// The interval of the search for related channels
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    every: Duration,

    /// Analyse a recording of `aether record` instead of a running bus, and end
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pattern", "every"])]
    replay: Option<PathBuf>,

    #[command(flatten)]
    test: TestArgs,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn physics(args: PhysicsArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if let Some(file) = &args.replay {
        if args.test.write(file)? {
            return Ok(());
        }
        return crate::replay::replay(file, args.details);
    }
    let mut watch = Watch::open(&args.medium, "aether-physics", &args.pattern, &shutdown).await?;
    stderr_line(format_args!("watching {}", args.pattern));
    let printed = print(&mut watch, &args, &shutdown).await;
    watch.close().await;
    printed
}

async fn print(
    watch: &mut Watch,
    args: &PhysicsArgs,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let (mut output, mut is_sampled) = (Output::stdout(), false);
    let mut looks = tokio::time::interval(args.every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            advanced = watch.advance(BURST) => if advanced?.is_none() { return Ok(()) },
            _ = looks.tick() => drop(watch.report()),
            () = shutdown.cancelled() => return Ok(()),
        }
        for finding in watch.findings() {
            if args.details {
                output.line(printable(&finding.to_string(), usize::MAX))?;
            } else if matches!(finding, Finding::Sampling { .. }) && !std::mem::replace(&mut is_sampled, true)
            {
                // The user should know that incidents may be missed.
                stderr_line(finding);
            }
        }
        for incident in watch.incidents() {
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            let text = printable(&incident.to_string(), usize::MAX);
            output.line(format_args!("{now} {}: {text}", incident.severity))?;
        }
    }
}
