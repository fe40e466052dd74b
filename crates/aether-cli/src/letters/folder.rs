//! The letters in the folder of a durable log, without its service: `aether letters --log FOLDER`.

use std::path::PathBuf;

use aether_core::echo::LetterId;
use aether_core::{Aether, Emitter, WaveError};
use aether_log::store::View;
use aether_log::{DeadError, DeadView, DeadWave, Log, LogBuilder};
use aether_service::letters::{record_of_log, store_of_log};
use aether_service::{CancellationToken, error_chain};

use super::args::{Change, Chosen, Chosens, LettersCommand, Ls, Show};
use super::print;
use crate::connect::connected;
use crate::error::{CommandError, LettersError, LogError};
use crate::log::keys_of;
use crate::output::{Output, stderr_line};

/// The folder, the store in the ids of its letters, as in the answers of its service, and its keys if it is sealed.
struct Folder {
    path: PathBuf,
    store: u64,
    keys: Option<PathBuf>,
}

pub(super) async fn letters(
    path: PathBuf,
    command: LettersCommand,
    shutdown: CancellationToken,
) -> Result<(), CommandError> {
    let store = store_of_log(&path).unwrap_or_default();
    let keys = keys_of(&path, &command.common().medium).map_err(LogError::from)?;
    let folder = Folder { path, store, keys };
    match command {
        LettersCommand::Ls(args) => folder.ls(&args),
        LettersCommand::Show(args) => folder.show(&args),
        LettersCommand::Replay(args) => folder.replay(&args, &shutdown).await,
        LettersCommand::Drop(args) => folder.drop(&args).await,
    }
}

fn of_log(error: DeadError) -> CommandError {
    LogError::from(error).into()
}

impl Folder {
    fn view(&self) -> Result<DeadView, CommandError> {
        let view = DeadView::open(&self.path).map_err(LogError::from)?;
        Ok(match &self.keys {
            Some(keys) => view.keys(keys).map_err(LogError::from)?,
            None => view,
        })
    }

    /// The log, which no other process may have open.
    fn opened(&self) -> Result<Log, CommandError> {
        // Opening would make a log where there is none.
        View::open(&self.path).map_err(LogError::from)?;
        let log = Log::builder(&self.path);
        let log = self.keys.iter().fold(log, LogBuilder::keys);
        Ok(log.open().map_err(LogError::from)?)
    }

    fn meant(&self, chosen: &Chosen) -> Result<Vec<DeadWave>, CommandError> {
        let is_meant = chosen.filter().matching().map_err(WaveError::from)?;
        let view = self.view()?;
        let mut letters = Vec::new();
        for number in view.numbers() {
            let letter = match view.show(number) {
                // The others are there all the same.
                Err(error @ DeadError::Unopened { .. }) => {
                    stderr_line(error_chain(&error));
                    continue;
                }
                letter => letter.map_err(of_log)?,
            };
            if is_meant(&letter.stored.wave, letter.at) {
                letters.push(letter);
            }
        }
        Ok(letters)
    }

    fn id(&self, number: u64) -> LetterId {
        LetterId { store: self.store, number }
    }

    fn ls(&self, args: &Ls) -> Result<(), CommandError> {
        let (letters, mut output) = (self.meant(&args.chosen)?, Output::stdout());
        for letter in &letters {
            let record = record_of_log(self.id(letter.number), letter, false);
            output.line(print::listed(args.json, &letter.consumer, &record))?;
        }
        if !args.json {
            stderr_line(format_args!("{} dead letters", letters.len()));
        }
        Ok(())
    }

    fn show(&self, args: &Show) -> Result<(), CommandError> {
        let number = args.id.in_log(self.store)?;
        let letter = match self.view()?.show(number) {
            Err(DeadError::Unknown { .. }) => return Err(LettersError::Gone { gone: 1, letters: 1 }.into()),
            letter => letter.map_err(of_log)?,
        };
        let record = record_of_log(self.id(number), &letter, true);
        let mut output = Output::stdout();
        if args.json {
            return Ok(output.line(print::json(&letter.consumer, &record))?);
        }
        output.line(print::whole(&record))?;
        Ok(output.line(format_args!("{:<10} {} of the log", "position", letter.stored.position))?)
    }

    /// Over a medium between processes live receivers get the waves as well.
    async fn replay(&self, args: &Chosens, shutdown: &CancellationToken) -> Result<(), CommandError> {
        let log = self.opened()?;
        let aether = connected(&args.common.medium, "aether-replay", shutdown).await?;
        let replayed = self.replay_on(&log, &aether, args).await;
        aether_service::close(&aether).await;
        replayed
    }

    async fn replay_on(&self, log: &Log, aether: &Aether, args: &Chosens) -> Result<(), CommandError> {
        let emitter = aether.emitter("aether-replay").map_err(aether_core::CreateError::from)?;
        let live = aether.promises().crosses_processes.then_some(&emitter);
        let replay = async |number: u64, id: &str| {
            Ok(print::replayed(args.json, id, &sent_again(log, number, live).await?))
        };
        self.each(args, Change::Replay, replay).await
    }

    async fn drop(&self, args: &Chosens) -> Result<(), CommandError> {
        let log = self.opened()?;
        let drop = async |number: u64, id: &str| {
            log.dead().drop_letter(number).await.map_err(of_log)?;
            Ok(print::dropped(args.json, id))
        };
        self.each(args, Change::Drop, drop).await
    }

    /// Changes the letters that are meant, in order, and prints what `done` returns. One that is gone ends nothing.
    async fn each(
        &self,
        args: &Chosens,
        change: Change,
        done: impl AsyncFn(u64, &str) -> Result<String, CommandError>,
    ) -> Result<(), CommandError> {
        let mut numbers = Vec::new();
        for id in &args.ids {
            numbers.push(id.in_log(self.store)?);
        }
        if args.all {
            numbers.extend(self.meant(&args.chosen)?.iter().map(|letter| letter.number));
        }
        let (letters, mut gone, mut output) = (numbers.len(), 0, Output::stdout());
        for number in numbers {
            let id = self.id(number).to_string();
            match done(number, &id).await {
                Err(CommandError::Log(LogError::Dead(DeadError::Unknown { .. }))) => {
                    gone += 1;
                    stderr_line(format_args!("dead letter {id} cannot be {}: it is gone", change.done()));
                }
                line => output.line(line?)?,
            }
        }
        if gone > 0 {
            return Err(LettersError::Gone { gone, letters }.into());
        }
        Ok(())
    }
}

/// Stores the wave in the log again and removes the letter; with an emitter the wave is emitted as well. The id of the wave.
async fn sent_again(log: &Log, number: u64, live: Option<&Emitter>) -> Result<String, CommandError> {
    if let Some(emitter) = live {
        // A wave of the log is stored there as well.
        return Ok(log.dead().replay(number, emitter).await.map_err(of_log)?.wave.to_string());
    }
    let letter = log.dead().show(number).map_err(of_log)?;
    if letter.stored.position == 0 {
        // It was never in the log, so only a live receiver can hear it.
        return Err(CommandError::Alone { missing: "hear the wave" });
    }
    log.dead().store_again(number).await.map_err(of_log)?;
    Ok(letter.stored.wave.id().to_string())
}
