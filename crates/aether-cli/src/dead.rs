//! `aether dead`: the waves that the consumers of a durable log have given up.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aether_log::store::View;
use aether_log::{DeadView, Log};
use aether_service::{CancellationToken, MediumArgs};

use crate::connect::connected;
use crate::error::{CommandError, LogError};
use crate::log::MOST_CHARACTERS;
use crate::output::Output;
use crate::record::Line;

/// Inspect, replay and drop the waves that the consumers of a durable log have given up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
ls and show also work while a service writes the log. For replay and drop it
has to be stopped: one process at a time may write a log. While it runs,
`aether letters` does the same if the service is built .with_letters().

Examples:
  aether dead ls orders.log
  aether dead show orders.log 3
  aether dead replay orders.log 3              its consumers get it again
  aether dead replay orders.log 3 --medium nats://127.0.0.1:4222
                                               live receivers as well
  aether dead drop orders.log 3")]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    action: DeadAction,
}

#[derive(Debug, clap::Subcommand)]
enum DeadAction {
    /// List them, one per line
    Ls {
        /// The folder of the log
        folder: PathBuf,
    },
    /// Print one with its failed attempts
    Show {
        /// The folder of the log
        folder: PathBuf,
        /// Its number
        number: u64,
    },
    /// Store its wave in the log again, and remove it. With a medium between processes the wave is emitted there as well
    Replay {
        /// The folder of the log
        folder: PathBuf,
        /// Its number
        number: u64,
        #[command(flatten)]
        medium: Box<MediumArgs>,
    },
    /// Remove it
    Drop {
        /// The folder of the log
        folder: PathBuf,
        /// Its number
        number: u64,
    },
}

pub(crate) async fn dead(args: DeadArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let opened = |folder: &Path| -> Result<Log, LogError> {
        // Opening would make a log where there is none.
        View::open(folder)?;
        Ok(Log::builder(folder).open()?)
    };
    let mut output = Output::stdout();
    match args.action {
        DeadAction::Ls { folder } => {
            let dead = DeadView::open(&folder).map_err(LogError::from)?;
            for number in dead.numbers() {
                let letter = dead.show(number).map_err(LogError::from)?;
                let line = Line::of(&letter.stored.wave, MOST_CHARACTERS);
                let (by, attempts) = (&letter.consumer, letter.attempts);
                output.line(format_args!("{number} {by}, {attempts} attempts: {line}"))?;
            }
            Ok(())
        }
        DeadAction::Show { folder, number } => {
            let letter = DeadView::open(&folder).map_err(LogError::from)?.show(number);
            let letter = letter.map_err(LogError::from)?;
            output.line(Line::of(&letter.stored.wave, MOST_CHARACTERS))?;
            output.line(format_args!("position {} of the log", letter.stored.position))?;
            let at = humantime::format_rfc3339_seconds(letter.at);
            output.line(format_args!(
                "given up by {} at {at} after {} attempts",
                letter.consumer, letter.attempts
            ))?;
            for attempt in &letter.failed {
                let at = SystemTime::UNIX_EPOCH + Duration::from_micros(attempt.micros);
                output.line(format_args!("{} {}", humantime::format_rfc3339_seconds(at), attempt.error))?;
            }
            Ok(())
        }
        DeadAction::Replay { folder, number, medium } => {
            let log = opened(&folder)?;
            let letter = log.dead().show(number).map_err(LogError::from)?;
            let aether = connected(&medium, "aether-replay", &shutdown).await?;
            let is_live = aether.promises().crosses_processes;
            let text = if is_live {
                let emitter = aether.emitter("aether-replay").map_err(aether_core::CreateError::from)?;
                // A wave of the log is stored there as well.
                let replayed = log.dead().replay(number, &emitter).await;
                aether_service::close(&aether).await;
                replayed.map_err(LogError::from)?;
                format!("{number} was emitted again")
            } else if letter.stored.position > 0 {
                let position = log.dead().store_again(number).await.map_err(LogError::from)?;
                format!("{number} is in the log again, at position {position}")
            } else {
                return Err(CommandError::Alone { missing: "hear the wave" });
            };
            Ok(output.line(text)?)
        }
        DeadAction::Drop { folder, number } => {
            opened(&folder)?.dead().drop_letter(number).await.map_err(LogError::from)?;
            Ok(output.line(format_args!("{number} was dropped"))?)
        }
    }
}
