//! `aether log`: a durable log in a folder, read while another process may write it; the consumers also of logs in
//! JetStream.

mod chosen;
mod consumers;
mod follow;
mod interrupt;
mod keys;
mod line;
mod opened;
mod progress;
mod replay;
mod streams;

use std::path::{Path, PathBuf};

use aether_log::store::{OpenError, Verified, View};
use aether_log::{Backup, LogView, StoredWave};
use aether_service::{CancellationToken, ConfigArgs, MediumArgs};

use self::chosen::Chosen;
use self::interrupt::until;
pub(crate) use self::keys::keys_of;
use self::line::line;
use self::progress::Progress;
use self::replay::ReplayArgs;
use crate::error::{CommandError, LogError};
use crate::output::{Output, stderr_line};
use crate::record::Record;

/// Read, check and replay a durable log
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether log ls orders.log                      what the log holds
  aether log consumers orders.log               who reads it, and how far behind
  aether log consumers nats://127.0.0.1:4222    the same of the logs in JetStream
  aether log tail orders.log -n 20              the last 20 waves
  aether log tail orders.log --follow           and those to come
  aether log export orders.log 'orders.>'       JSON, one wave per line
  aether log replay orders.log --speed 1 --medium nats://127.0.0.1:4222
  aether log verify orders.log                  reads everything; lists damage,
                                                also of consumers and dead letters
  aether log backup orders.log orders.backup    a copy, while a service writes it
  aether log restore orders.backup orders.log   a new folder, checked

All but restore also work while a service writes the log.
Exit code 1: the log is damaged, or cannot be read.")]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    action: LogAction,
}

#[derive(Debug, clap::Subcommand)]
enum LogAction {
    /// Print what a log holds
    Ls {
        /// The folder of the log
        folder: PathBuf,
    },
    /// Print its consumers, one per line, and how many waves wait for each. With the address of a NATS server, the consumers
    /// of the logs in JetStream, with the login of the configuration
    Consumers {
        /// The folder of the log, or the address of a server, such as nats://127.0.0.1:4222
        #[arg(value_name = "FOLDER|URL")]
        log: PathBuf,
        #[command(flatten)]
        config: Box<ConfigArgs>,
    },
    /// Print the last waves, one per line
    Tail {
        #[command(flatten)]
        chosen: Chosen,
        /// Print later waves as well, until Ctrl-C. On a network file system only waves of this machine are noticed
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        medium: Box<MediumArgs>,
    },
    /// Print waves as JSON, one object per line, each with its position
    Export {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        medium: Box<MediumArgs>,
    },
    /// Emit waves again, as new ones
    Replay(Box<ReplayArgs>),
    /// Read everything and list the damage. With the keys of a sealed log, open each wave and each dead letter
    Verify {
        /// The folder of the log
        folder: PathBuf,
        #[command(flatten)]
        medium: Box<MediumArgs>,
    },
    /// Copy a log into a new folder, with its consumers, dead letters and snapshots. On one file system full segments are
    /// linked, so copy the backup elsewhere
    Backup {
        /// The folder of the log
        folder: PathBuf,
        /// The folder to make
        destination: PathBuf,
    },
    /// Make a log of a backup, in a new folder. It goes on at positions that the log of the backup has never given
    Restore {
        /// The folder of the backup
        backup: PathBuf,
        /// The folder to make
        folder: PathBuf,
    },
}

/// A line of `export`.
#[derive(serde::Serialize)]
struct Exported<'a> {
    position: u64,
    stored: String,
    wave: Record<'a>,
}

pub(crate) async fn log(args: LogArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    match args.action {
        LogAction::Ls { folder } => {
            let extent = View::open(&folder).map_err(LogError::from)?.extent();
            let (first, last, bytes, segments) = (extent.first, extent.last, extent.bytes, extent.segments);
            let line = match last < first {
                true => "no waves".to_owned(),
                false => format!("positions {first} to {last}, {bytes} bytes in {segments} segments"),
            };
            Ok(Output::stdout().line(line)?)
        }
        LogAction::Consumers { log, config } => match log.to_str().filter(|text| text.contains("://")) {
            Some(url) => until(streams::consumers(url, *config), &shutdown).await,
            None => {
                let reading = tokio::task::spawn_blocking(move || consumers::consumers(&log));
                until(async { reading.await? }, &shutdown).await
            }
        },
        LogAction::Tail { chosen, follow: true, medium } => {
            let print = |output: &mut Output, stored| Ok(output.line(line(&stored))?);
            follow::follow(&chosen, &medium, Some(10), &shutdown, print).await
        }
        LogAction::Tail { chosen, medium, .. } => {
            let mut output = Output::stdout();
            let print = async |stored| Ok(output.line(line(&stored))?);
            until(chosen.each(&medium, Some(10), Progress::hidden(), None, print), &shutdown).await
        }
        LogAction::Export { chosen, medium } => {
            let mut output = Output::stdout();
            let print = async |stored: StoredWave| {
                let (position, wave) = (stored.position, Record::of(&stored.wave));
                let stored = humantime::format_rfc3339_micros(stored.at).to_string();
                let mut line =
                    serde_json::to_vec(&Exported { position, stored, wave }).map_err(std::io::Error::from)?;
                line.push(b'\n');
                Ok(output.bytes(&line)?)
            };
            until(chosen.each(&medium, None, Progress::beside_output(), None, print), &shutdown).await
        }
        LogAction::Replay(args) => until(replay::replay(&args, &shutdown), &shutdown).await,
        LogAction::Verify { folder, medium } => {
            let of_files = folder.clone();
            let reading = tokio::task::spawn_blocking(move || verify(&of_files));
            let verified = async {
                let whole = print_verified(&reading.await?.map_err(LogError::from)?);
                let opened = opened::open_all(&folder, &medium).await;
                whole.and(opened)
            };
            until(verified, &shutdown).await
        }
        // Not interrupted: half of a folder would stay.
        LogAction::Backup { folder, destination } => {
            let copying = tokio::task::spawn_blocking(move || {
                let backup = LogView::open(&folder)?.backup(&destination)?;
                Ok::<_, LogError>((backup, destination))
            });
            let (backup, folder) = copying.await??;
            print_backup(backup, &folder)
        }
        LogAction::Restore { backup, folder } => {
            let copying = tokio::task::spawn_blocking(move || {
                aether_log::restore(&backup, &folder).map(|backup| (backup, folder))
            });
            let (backup, folder) = copying.await?.map_err(LogError::from)?;
            print_backup(backup, &folder)
        }
    }
}

fn print_backup(Backup { files, bytes, .. }: Backup, folder: &Path) -> Result<(), CommandError> {
    let folder = folder.display();
    Ok(Output::stdout().line(format_args!("{files} files with {bytes} bytes in {folder}"))?)
}

fn verify(folder: &Path) -> Result<Verified, OpenError> {
    let view = View::open(folder)?;
    let progress = Progress::shown();
    progress.total(view.extent().bytes);
    aether_log::verify(folder, |bytes| progress.reached(bytes))
}

/// Fails if anything is damaged.
fn print_verified(verified: &Verified) -> Result<(), CommandError> {
    let mut output = Output::stdout();
    for damage in &verified.damaged {
        output.line(damage)?;
    }
    if let Some(torn) = &verified.torn {
        let (path, bytes, offset) = (torn.path.display(), torn.bytes, torn.offset);
        output.line(format_args!(
            "{path}: the record at {offset} is not written to its end ({bytes} bytes): its writer ended there, or is writing it"
        ))?;
    }
    let (records, bytes) = (verified.records, verified.bytes);
    stderr_line(format_args!("{records} records in {bytes} bytes are whole"));
    match verified.damaged.len() {
        0 => Ok(()),
        places => Err(LogError::Damaged { places }.into()),
    }
}
