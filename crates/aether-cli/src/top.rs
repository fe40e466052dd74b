//! `aether top`: the work and the losses of every process on the medium, in a terminal that is redrawn each second, or
//! once as plain text.

mod draw;
mod plain;
mod screen;
mod snapshot;
mod terminal;

use std::time::Duration;

use aether_service::{CancellationToken, MediumArgs, logging};
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::time::MissedTickBehavior;

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::Output;
use crate::values;
use screen::{Next, Screen};
use snapshot::Watched;
use terminal::Terminal;

/// How often the screen is redrawn.
const REDRAW: Duration = Duration::from_secs(1);

/// Show what every process on the medium does and loses, live
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether top                       live; q quits, ? shows the keys
  aether top --once                a plain table, after six seconds
  aether top --once --for 12s | awk '$5 > 0'    the processes that lost waves

Each process tells its account every five seconds ([account] every). Processes
that have gone keep their last account for ten minutes, marked. Without a
terminal it prints the plain table. NATS does not authenticate accounts: a peer
that may publish can make some up; those that do not add up are counted.")]
pub(crate) struct TopArgs {
    /// Print a plain table and end
    #[arg(long)]
    once: bool,

    /// How long to listen before the plain table is printed
    #[arg(long = "for", value_name = "TIME", default_value = "6s", value_parser = values::time)]
    time: Duration,

    /// Do not observe the waves: no incidents and no map, and next to no cost on a busy medium
    #[arg(long)]
    no_physics: bool,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(crate) async fn top(args: TopArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-top", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "tell its account" });
    }
    let is_plain = args.once || !Output::stdout().is_terminal();
    let mut watched = Watched::open(&aether, !is_plain && !args.no_physics).await?;
    let done = if is_plain {
        tokio::select! {
            () = tokio::time::sleep(args.time) => {}
            () = shutdown.cancelled() => {}
        }
        Output::stdout().bytes(plain::table(&watched.snapshot()).as_bytes()).map_err(CommandError::from)
    } else {
        live(&mut watched, &args.medium.to_string(), &shutdown).await
    };
    drop(watched);
    aether_service::close(&aether).await;
    done
}

/// Draws until the user or a signal ends it. The terminal is restored whatever happens.
async fn live(watched: &mut Watched, medium: &str, shutdown: &CancellationToken) -> Result<(), CommandError> {
    // The log goes to the same terminal.
    let _silence = logging::silence_terminal();
    let mut terminal = Terminal::open()?;
    let mut screen = Screen::new(medium);
    let (mut events, mut redraws) = (EventStream::new(), tokio::time::interval(REDRAW));
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut snapshot = watched.snapshot();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = redraws.tick() => snapshot = watched.snapshot(),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => match screen.press(key, &snapshot) {
                    Next::Quit => return Ok(()),
                    Next::Draw => {}
                    Next::Nothing => continue,
                },
                Some(Ok(Event::Resize(..))) => {}
                Some(Ok(_)) => continue,
                // The terminal has gone.
                Some(Err(_)) | None => return Ok(()),
            },
            taken = watched.observe() => {
                taken?;
                continue;
            }
        }
        terminal.draw(|frame| draw::draw(frame, &mut screen, &snapshot))?;
    }
}
