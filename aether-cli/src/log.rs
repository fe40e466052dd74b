//! `aether log` and `aether dead`: a durable log in a folder, and the waves that its consumers have given up.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::{Floor, Kind, Pattern};
use aether_log::store::{View, verify};
use aether_log::{Log, LogItem, LogReader, StoredWave};

use crate::connect::connected;
use crate::error::{CommandError, LogError};
use crate::output::{Output, stderr_line};
use crate::record::{Line, Record};
use crate::values;

/// The maximum number of payload characters in text output.
const MOST_CHARACTERS: usize = 4096;

/// Read, check and replay a durable log
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether log ls orders.log                      what the log holds
  aether log tail orders.log -n 20              the last 20 waves
  aether log export orders.log 'orders.>'       JSON, one wave per line
  aether log replay orders.log --speed 1 --medium nats://127.0.0.1:4222
  aether log verify orders.log                  reads everything; lists damage

All of them also work while a service writes the log.
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
    /// Print the last waves, one per line
    Tail(Chosen),
    /// Print waves as JSON, one object per line, each with its position
    Export(Chosen),
    /// Emit waves again, as new ones
    Replay(Replay),
    /// Read everything and list the damage
    Verify {
        /// The folder of the log
        folder: PathBuf,
    },
}

/// Which waves of a log.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// The folder of the log
    folder: PathBuf,

    /// The pattern
    #[arg(default_value = ">")]
    pattern: Pattern,

    /// Begin at this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,

    /// Begin with waves that were stored this long ago, such as 10min
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,

    /// Only the last N of these waves. Default of tail: 10
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    last: Option<u64>,

    /// Only waves of this kind
    #[arg(long)]
    kind: Option<Kind>,

    /// Only waves that are not weaker at their source, from 0 (all) to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = values::floor, allow_negative_numbers = true)]
    floor: Floor,

    /// Only waves of this source, by its name
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Only waves with this key
    #[arg(long)]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Replay {
    #[command(flatten)]
    chosen: Chosen,

    /// 1 for the pauses that were between the waves, 2 for half of them. Default: no pauses
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,

    #[command(flatten)]
    medium: MediumArgs,
}

fn speed(text: &str) -> Result<f64, &'static str> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or("use a number greater than 0, such as 1 or 0.5")
}

impl Chosen {
    fn takes(&self, stored: &StoredWave) -> bool {
        let wave = &stored.wave;
        let is_young = |most| SystemTime::now().duration_since(stored.at).unwrap_or_default() <= most;
        self.since.is_none_or(is_young)
            && self.kind.is_none_or(|kind| kind == wave.kind())
            && (self.floor.is_open() || Floor::at(wave.amplitude()) >= self.floor)
            && self.source.as_deref().is_none_or(|name| name == wave.source().name())
            && self.key.as_deref().is_none_or(|key| Some(key) == wave.key())
    }

    /// Calls `each` with the waves in their order. Fails at the end if anything was damaged.
    async fn each(
        &self,
        mut each: impl AsyncFnMut(StoredWave) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let view = open(&self.folder)?;
        let first = match self.last {
            // Two passes, so that any number takes no memory.
            Some(last) => {
                let mut waves = 0_u64;
                let count = async |_| {
                    waves += 1;
                    Ok(())
                };
                self.read(&view, count).await?;
                waves.saturating_sub(last)
            }
            None => 0,
        };
        let mut number = 0;
        let damaged = self
            .read(&view, async |stored| {
                number += 1;
                if number > first { each(stored).await } else { Ok(()) }
            })
            .await?;
        if damaged > 0 {
            return Err(LogError::Damaged { places: damaged }.into());
        }
        Ok(())
    }

    async fn read(
        &self,
        view: &View,
        mut each: impl AsyncFnMut(StoredWave) -> Result<(), CommandError>,
    ) -> Result<usize, CommandError> {
        let mut reader = LogReader::new(view.cursor(self.from)).only(&self.pattern);
        let mut damaged = 0;
        while let Some(item) = reader.next_item().map_err(LogError::from)? {
            match item {
                LogItem::Wave(stored) if self.takes(&stored) => each(*stored).await?,
                LogItem::Damaged(damage) => {
                    damaged += 1;
                    stderr_line(damage);
                }
                _ => {}
            }
        }
        Ok(damaged)
    }
}

fn open(folder: &Path) -> Result<View, LogError> {
    Ok(View::open(folder)?)
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
            let extent = open(&folder)?.extent();
            let (first, last, bytes, segments) = (extent.first, extent.last, extent.bytes, extent.segments);
            let line = match last < first {
                true => "no waves".to_owned(),
                false => format!("positions {first} to {last}, {bytes} bytes in {segments} segments"),
            };
            Ok(Output::stdout().line(line)?)
        }
        LogAction::Tail(chosen) => {
            let chosen = Chosen { last: chosen.last.or(Some(10)), ..chosen };
            let mut output = Output::stdout();
            let line = async |stored: StoredWave| {
                let line = Line::of(&stored.wave, MOST_CHARACTERS);
                Ok(output.line(format_args!("{:>8} {line}", stored.position))?)
            };
            until(chosen.each(line), &shutdown).await
        }
        LogAction::Export(chosen) => {
            let mut output = Output::stdout();
            let line = async |stored: StoredWave| {
                let (position, wave) = (stored.position, Record::of(&stored.wave));
                let stored = humantime::format_rfc3339_micros(stored.at).to_string();
                let mut line =
                    serde_json::to_vec(&Exported { position, stored, wave }).map_err(std::io::Error::from)?;
                line.push(b'\n');
                Ok(output.bytes(&line)?)
            };
            until(chosen.each(line), &shutdown).await
        }
        LogAction::Replay(replay) => until(replay_waves(&replay, &shutdown), &shutdown).await,
        LogAction::Verify { folder } => {
            let verified = verify(&folder).map_err(LogError::from)?;
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
    }
}

/// Ends a command when it is interrupted.
async fn until(
    command: impl Future<Output = Result<(), CommandError>>,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    tokio::select! {
        done = command => done,
        () = shutdown.cancelled() => Err(CommandError::Interrupted { before: "the end of the log" }),
    }
}

async fn replay_waves(replay: &Replay, shutdown: &CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&replay.medium, "aether-replay", shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "hear the waves" });
    }
    let emitter = aether.emitter("aether-replay").map_err(aether_core::CreateError::from)?;
    let (mut emitted, mut before) = (0_u64, None);
    let done = replay
        .chosen
        .each(async |stored| {
            let pause = before.and_then(|before| stored.at.duration_since(before).ok());
            before = Some(stored.at);
            if let (Some(speed), Some(pause)) = (replay.speed, pause) {
                let pause = Duration::try_from_secs_f64(pause.as_secs_f64() / speed).unwrap_or(Duration::MAX);
                tokio::time::sleep(pause).await;
            }
            emitter.emit(stored.wave).await?;
            emitted += 1;
            Ok(())
        })
        .await;
    aether_chassis::close(&aether).await;
    stderr_line(format_args!("{emitted} waves were emitted"));
    done
}

/// Inspect, replay and drop the waves that the consumers of a durable log have given up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The service that writes the log has to be stopped: one process at a time may open it.
`aether letters` asks running services for those that are in memory.

Examples:
  aether dead ls orders.log
  aether dead show orders.log 3
  aether dead replay orders.log 3 --medium nats://127.0.0.1:4222
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
    /// Emit its wave again, and remove it once the medium has confirmed that
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
        open(folder)?;
        Ok(Log::builder(folder).open()?)
    };
    let mut output = Output::stdout();
    match args.action {
        DeadAction::Ls { folder } => {
            let log = opened(&folder)?;
            for number in log.dead().numbers() {
                let letter = log.dead().show(number).map_err(LogError::from)?;
                let line = Line::of(&letter.stored.wave, MOST_CHARACTERS);
                let (by, attempts) = (&letter.consumer, letter.attempts);
                output.line(format_args!("{number} {by}, {attempts} attempts: {line}"))?;
            }
            Ok(())
        }
        DeadAction::Show { folder, number } => {
            let letter = opened(&folder)?.dead().show(number).map_err(LogError::from)?;
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
            let aether = connected(&medium, "aether-replay", &shutdown).await?;
            if !aether.promises().crosses_processes {
                return Err(CommandError::Alone { missing: "hear the wave" });
            }
            let emitter = aether.emitter("aether-replay").map_err(aether_core::CreateError::from)?;
            let replayed = log.dead().replay(number, &emitter).await;
            aether_chassis::close(&aether).await;
            replayed.map_err(LogError::from)?;
            Ok(output.line(format_args!("{number} was emitted again"))?)
        }
        DeadAction::Drop { folder, number } => {
            opened(&folder)?.dead().drop_letter(number).await.map_err(LogError::from)?;
            Ok(output.line(format_args!("{number} was dropped"))?)
        }
    }
}
