//! `aether listen`: prints the waves of a pattern.

use std::io;
use std::time::Duration;

use aether_core::{
    Channel, Floor, InboxOptions, Ledger, Pattern, ServeOrder, Vibrator, Wave, WhenFull, medium::MediumStatus,
};
use aether_service::{CancellationToken, MediumArgs, Received, Refused};

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};
use crate::record::{Line, Record};
use crate::values;

/// Print the waves of a pattern, one per line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether listen 'orders.*'                 one token after orders.
  aether listen 'orders.>'                 one token or more
  aether listen '>' --floor 0.7            only important waves
  aether listen '>' --json | jq .payload   JSON for programs
  aether listen 'jobs.>' --group workers   each wave goes to one member of the group
  aether listen 'orders.>' --count 1       ends after one wave

Alone it only watches: it slows nobody, and sheds and counts what it cannot print once
1048576 waves or 512 MiB wait. A member of a group makes emitters wait instead, for
up to 5 s.

Quote the pattern: shells know * and > too.

When it ends, it reports on stderr what may be missing.
Exit code 1: waves sent to this listener were lost.")]
pub(crate) struct ListenArgs {
    /// The pattern: * matches one token, > at the end one or more
    pattern: Pattern,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    /// Print the id of each wave in place of its source, for `aether trace`
    #[arg(long)]
    ids: bool,

    /// End after this many waves
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    count: Option<u64>,

    /// The floor: do not receive weaker waves, from 0 (receive all) to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = values::floor, allow_negative_numbers = true)]
    floor: Floor,

    /// Share the waves with the other members of this group, whatever their patterns
    #[arg(long, value_name = "NAME")]
    group: Option<Channel>,

    /// The name of the listener
    #[arg(long, value_name = "NAME", default_value = "aether-listen", value_parser = values::name)]
    name: String,

    #[command(flatten)]
    medium: MediumArgs,
}

/// The room for a burst where no sender waits for the output. Memory is allocated as waves arrive.
const WATCHED_WAVES: usize = 1 << 20;
const WATCHED_BYTES: usize = 512 << 20;

/// How long the senders of a group wait for the reader of stdout. A pager, or a shell on a busy machine, takes longer
/// than a service.
const READER_PATIENCE: Duration = Duration::from_secs(5);

/// The maximum number of payload characters in text output.
const MOST_CHARACTERS: usize = 4096;

pub(crate) async fn listen(args: ListenArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-listen", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "emit a wave" });
    }
    // In order of arrival, because the output is a log. A full inbox still sheds the weakest.
    let inbox = InboxOptions::interactive().order(ServeOrder::Arrival);
    // An observer makes no sender wait, so it has room for a burst of its own.
    let inbox = match args.group {
        Some(_) => inbox.when_full(WhenFull::Wait { patience: READER_PATIENCE }),
        None => inbox.max_waves(WATCHED_WAVES).max_bytes(WATCHED_BYTES),
    };
    let builder = Vibrator::builder(&args.name).inbox(inbox).floor(args.floor);
    // Without a group it only observes. A member of a group takes waves from the others.
    let builder = if args.group.is_some() { builder } else { builder.observe() };
    let mut vibrator = builder.create(&aether).await?;
    match &args.group {
        Some(group) => vibrator.resonate_in_group(&args.pattern, group.as_str()).await?,
        None => vibrator.resonate_on(&args.pattern).await?,
    }
    stderr_line(format_args!("listening on {}", args.pattern));
    let printed = print(&args, &mut vibrator, &shutdown).await;
    // A reader that has closed stdout, as `head` does, has had all that it wants.
    let had_all = match &printed {
        Ok(had_all) => *had_all,
        Err(error) => error.is_closed_pipe(),
    };
    let missing = Missing { status: aether.status(), ledger: vibrator.ledger() };
    missing.print(had_all);
    drop(vibrator);
    aether_service::close(&aether).await;
    printed?;
    missing.check()
}

/// Prints waves. Returns whether it has reached the requested count.
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
        write(&mut output, &wave, args)?;
    }
    Ok(true)
}

fn write(output: &mut Output, wave: &Wave, args: &ListenArgs) -> io::Result<()> {
    if args.json {
        let mut line = serde_json::to_vec(&Record::of(wave))?;
        line.push(b'\n');
        output.bytes(&line)
    } else {
        let line = Line::of(wave, MOST_CHARACTERS);
        output.line(if args.ids { line.with_id(wave) } else { line })
    }
}

/// The waves that were sent to this listener and not printed, as far as known.
struct Missing {
    status: MediumStatus,
    ledger: Ledger,
}

impl Missing {
    /// Reports missing waves and the reasons. A listener that has reached its count, or whose reader has gone, does not
    /// miss later waves.
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
        if status.forgotten_streams > 0 {
            stderr_line(format_args!(
                "losses may be missing here: {} streams of senders were forgotten, because there were too many",
                status.forgotten_streams
            ));
        }
        if status.refused() > 0 {
            stderr_line(Refused::of(*status));
        }
        if status.connects > 1 {
            stderr_line(format_args!(
                "the connection broke {} times; waves missed then count as lost upstream if later ones came from the same source on the same channel, otherwise they are not counted",
                status.connects - 1
            ));
        }
        if had_all {
            return;
        }
        let unread = status.untaken.saturating_sub(status.dropped_by_client);
        if unread > 0 {
            stderr_line(format_args!("messages: up to {unread} received but not read"));
        }
        if !status.connected {
            stderr_line(
                "the server was away at the end; waves emitted since then are missing and not counted",
            );
        }
    }

    /// An error if waves are known to be missing.
    fn check(&self) -> Result<(), CommandError> {
        match Received::of(self.ledger).missed() + self.status.dropped_by_client {
            0 => Ok(()),
            missed => Err(CommandError::Missed { missed }),
        }
    }
}
