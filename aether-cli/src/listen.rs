//! `aether listen`: prints the waves of a pattern.

use std::io;

use aether_chassis::{CancellationToken, MediumArgs, Received};
use aether_core::{
    Channel, Floor, InboxOptions, Ledger, Pattern, ServeOrder, Vibrator, Wave, medium::MediumStatus,
};

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::record::{Line, Record};
use crate::values;

/// Print the waves of a pattern, one a line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether listen 'orders.*'                 one token after orders.
  aether listen 'orders.>'                 one token or more
  aether listen '>' --floor 0.7            only what is important
  aether listen '>' --json | jq .payload   JSON for programs
  aether listen 'jobs.>' --group workers   each wave to one of all listeners of this group
  aether listen 'orders.>' --count 1       ends after one wave

Quote the pattern: shells know * and > too.

At its end it says on stderr what may be missing.
Exit code 1: waves that were sent here were lost.")]
pub(crate) struct ListenArgs {
    /// Which channels: * stands for one token, > at the end for one or more
    pattern: Pattern,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,

    /// End after so many waves
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    count: Option<u64>,

    /// Do not hear weaker waves, from 0 (hear all) to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = values::floor, allow_negative_numbers = true)]
    floor: Floor,

    /// Share the waves with the other members of this group, whatever patterns they listen to
    #[arg(long, value_name = "NAME")]
    group: Option<Channel>,

    /// Who listens
    #[arg(long, value_name = "NAME", default_value = "aether-listen", value_parser = values::name)]
    name: String,

    #[command(flatten)]
    medium: MediumArgs,
}

/// How many characters of a payload are shown to people.
const MOST_CHARACTERS: usize = 4096;

pub(crate) async fn listen(args: ListenArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-listen", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { nobody_would: "emit anything" });
    }
    // As the waves came, for a log that is read from top to bottom; when it is full it still sheds the weakest.
    let inbox = InboxOptions::interactive().order(ServeOrder::Arrival);
    let builder = Vibrator::builder(&args.name).inbox(inbox).floor(args.floor);
    // Alone it only watches; a member of a group takes waves from the others.
    let builder = if args.group.is_some() { builder } else { builder.observe() };
    let mut vibrator = builder.create(&aether).await?;
    match &args.group {
        Some(group) => vibrator.resonate_in_group(&args.pattern, group.as_str()).await?,
        None => vibrator.resonate_on(&args.pattern).await?,
    }
    stderr_line(format_args!("listening on {}", args.pattern));
    let printed = print(&args, &mut vibrator, &shutdown).await;
    let had_all = matches!(printed, Ok(true));
    let missing = Missing { status: aether.status(), ledger: vibrator.ledger() };
    missing.print(had_all);
    drop(vibrator);
    aether_chassis::close(&aether).await;
    printed?;
    missing.check()
}

/// Prints what comes; whether it has ended because there were as many as were wanted.
async fn print(
    args: &ListenArgs,
    vibrator: &mut Vibrator,
    shutdown: &CancellationToken,
) -> Result<bool, CommandError> {
    let mut output = Output::stdout();
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        let received = tokio::select! {
            received = vibrator.receive() => received,
            () = shutdown.cancelled() => None,
        };
        let Some(wave) = received else { return Ok(false) };
        write(&mut output, &wave, args.json)?;
    }
    Ok(true)
}

fn write(output: &mut Output, wave: &Wave, json: bool) -> io::Result<()> {
    if json {
        let mut line = serde_json::to_vec(&Record::of(wave))?;
        line.push(b'\n');
        output.bytes(&line)
    } else {
        output.line(Line::of(wave, MOST_CHARACTERS))
    }
}

/// What this listener has not printed and may have been sent to it.
struct Missing {
    status: MediumStatus,
    ledger: Ledger,
}

impl Missing {
    /// Says what is missing, if there is anything, and why. A listener that had all that it wanted does not miss what came
    /// after that.
    fn print(&self, had_all: bool) {
        let Self { status, ledger } = self;
        if ledger.lost() > 0 || ledger.queued > 0 && !had_all {
            stderr_line(Received::of(*ledger));
        }
        if status.dropped_by_client + status.malformed > 0 {
            stderr_line(format_args!(
                "messages: {} dropped by the broker's client, {} malformed",
                status.dropped_by_client, status.malformed
            ));
        }
        if status.connects > 1 {
            stderr_line(format_args!(
                "the connection broke {} times: what was missed then is counted as lost upstream where more came from the \
                 same source on the same channel, and else not at all",
                status.connects - 1
            ));
        }
        if had_all {
            return;
        }
        let unread = status.untaken.saturating_sub(status.dropped_by_client);
        if unread > 0 {
            stderr_line(format_args!("messages: up to {unread} had come and were not read yet"));
        }
        if !status.connected {
            stderr_line(
                "the server was away at the end: what was emitted since then is missing, and not counted",
            );
        }
    }

    /// An error if waves are known to be missing that should have been printed.
    fn check(&self) -> Result<(), CommandError> {
        match Received::of(self.ledger).missed() + self.status.dropped_by_client {
            0 => Ok(()),
            missed => Err(CommandError::Missed { missed }),
        }
    }
}
