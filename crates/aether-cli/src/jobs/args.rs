//! The arguments of `aether jobs`.

use std::time::Duration;

use aether_service::MediumArgs;
use clap::Subcommand;

use crate::letters::RollCall;
use crate::values;

/// List and steer the queues of running services: waves of durable logs that wait, run and pause
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether jobs ls                        the queues of all services
  aether jobs show mailer               what runs, and what pauses after failures
  aether jobs pause mailer              take no more waves; what runs goes on
  aether jobs resume mailer
  aether jobs retry mailer 17           due now; --all: all that pause
  aether jobs cancel mailer 17          not handled: it becomes a dead letter
  aether jobs schedules                 what comes later or regularly, by key
  aether jobs unschedule nightly

A queue is a consumer of a durable log in one process. Only services that are
built .with_letters() answer. A pause holds in all processes that run now, and
ends with them. A wave is named by its position in the log.

Exit codes: 0 done, 1 failed or a service did not answer, 2 wrong usage,
3 a wave was not changed, as it does not wait or pause.")]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(super) command: JobsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
    /// One line for each queue of each process
    Ls(Listed),
    /// The waves of a consumer that run or pause after a failure
    Show(Shown),
    /// Take no more waves; those that run go on
    Pause(Named),
    /// Take waves again
    Resume(Named),
    /// Make waves due now that pause after a failure
    Retry(Retry),
    /// Make waves dead letters that wait or pause, without handling them
    Cancel(Cancel),
    /// One line for each schedule
    Schedules(Listed),
    /// End a schedule
    Unschedule(Unschedule),
}

/// Options of all commands about jobs.
#[derive(Debug, clap::Args)]
pub(super) struct JobOptions {
    /// Only queues and schedules of this log: its folder, or its name in JetStream
    #[arg(long, value_name = "LOG")]
    log: Option<String>,

    #[command(flatten)]
    pub(super) roll: RollCall,

    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    pub(super) timeout: Duration,

    #[command(flatten)]
    pub(super) medium: MediumArgs,
}

impl JobOptions {
    pub(super) fn means(&self, log: &str) -> bool {
        self.log.as_ref().is_none_or(|meant| meant == log)
    }
}

impl JobsCommand {
    pub(super) const fn common(&self) -> &JobOptions {
        match self {
            Self::Ls(args) | Self::Schedules(args) => &args.common,
            Self::Show(args) => &args.named.common,
            Self::Pause(args) | Self::Resume(args) => &args.common,
            Self::Retry(args) => &args.named.common,
            Self::Cancel(args) => &args.named.common,
            Self::Unschedule(args) => &args.common,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Listed {
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) common: JobOptions,
}

#[derive(Debug, clap::Args)]
pub(super) struct Shown {
    #[command(flatten)]
    pub(super) named: Named,

    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The name of the consumer
    pub(super) consumer: String,

    #[command(flatten)]
    pub(super) common: JobOptions,
}

#[derive(Debug, clap::Args)]
pub(super) struct Retry {
    #[command(flatten)]
    pub(super) named: Named,

    /// The positions of the waves, as `show` prints them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(super) ids: Vec<u64>,

    /// All that pause after a failure
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    pub(super) named: Named,

    /// The positions of the waves
    #[arg(value_name = "ID", required = true)]
    pub(super) ids: Vec<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Unschedule {
    /// The key of the schedule
    pub(super) key: String,

    #[command(flatten)]
    pub(super) common: JobOptions,
}
