//! `aether letters`: lists, shows, replays and drops the dead letters of running services, or of a log.
//!
//! Only services that were built `.with_letters()` answer. A roster shows them; the id of a letter names its store.

mod args;
mod folder;
mod print;

pub(crate) use args::{LettersArgs, RollCall};
pub(crate) use print::{age, safe};

use std::time::Duration;

use aether_core::echo::LetterId;
use aether_core::presence::Roster;
use aether_core::{Aether, AskError, Emitter, Kind, Wave};
use aether_service::letters::{LetterAnswer, LetterQuery, LetterRecord, channel_of, stores};
use aether_service::{CancellationToken, MediumArgs};

use crate::connect::connected;
use crate::error::{CommandError, LettersError};
use crate::output::{Output, stderr_line};
use crate::roll_call;
use args::{Change, Chosen, LettersCommand, Ls, Show};

/// A connected emitter, which asks services on the channels of their letters.
pub(crate) struct Asking {
    aether: Aether,
    emitter: Emitter,
    timeout: Duration,
}

pub(crate) async fn letters(args: LettersArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if let Some(path) = args.log {
        return folder::letters(path, args.command, shutdown).await;
    }
    args.command.check_ids()?;
    let common = args.command.common();
    let asking = Asking::connect(&common.medium, common.timeout, "keep a dead letter", &shutdown).await?;
    let aether = asking.aether.clone();
    let working = async {
        match args.command {
            LettersCommand::Ls(args) => asking.ls(args).await,
            LettersCommand::Show(args) => asking.show(args).await,
            LettersCommand::Replay(args) => asking.change(Change::Replay, args).await,
            LettersCommand::Drop(args) => asking.change(Change::Drop, args).await,
        }
    };
    let done = tokio::select! {
        done = working => done,
        () = shutdown.cancelled() => Err(CommandError::Interrupted { before: "all services answered" }),
    };
    aether_service::close(&aether).await;
    done
}

impl Asking {
    pub(crate) async fn connect(
        medium: &MediumArgs,
        timeout: Duration,
        missing: &'static str,
        shutdown: &CancellationToken,
    ) -> Result<Self, CommandError> {
        let aether = connected(medium, "aether-letters", shutdown).await?;
        if !aether.promises().crosses_processes {
            return Err(CommandError::Alone { missing });
        }
        let emitter = aether.emitter("aether-letters").map_err(aether_core::CreateError::from)?;
        Ok(Self { aether, emitter, timeout })
    }

    pub(crate) async fn close(self) {
        aether_service::close(&self.aether).await;
    }

    /// The stores that answer, with the names of their services.
    pub(crate) async fn stores(&self, roll: &RollCall) -> Result<Vec<(u64, String)>, CommandError> {
        let mut roster = self.aether.roster().await?;
        let present = async |roster: &Roster| stores(roster).len();
        let again = async || std::future::pending().await;
        roll_call::wait(roll.roll_call, &mut roster, roll.expect, present, again).await;
        if roster.left_out() > 0 {
            stderr_line("more vibrators are present than are listed: some services may be missing");
        }
        let stores = stores(&roster);
        if stores.is_empty() {
            let wait = humantime::format_duration(roll.roll_call).to_string();
            return Err(LettersError::NoService { wait }.into());
        }
        Ok(stores)
    }

    /// Asks a service. `None` is an answer that cannot be read.
    pub(crate) async fn ask(
        &self,
        store: u64,
        query: &LetterQuery,
    ) -> Result<Option<LetterAnswer>, AskError> {
        let question = Wave::builder(channel_of(store)).kind(Kind::Query).json(query).build()?;
        let answer = self.emitter.ask_within(question, self.timeout).await?;
        Ok(answer.json().ok())
    }

    /// The letters that are meant, page by page, and how many services did not answer.
    async fn meant(
        &self,
        chosen: &Chosen,
        mut each: impl FnMut(&str, LetterRecord) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let stores = self.stores(&chosen.roll).await?;
        let mut silent = 0;
        for (store, name) in &stores {
            let mut after = 0;
            loop {
                let query = LetterQuery::Ls { filter: chosen.filter(), after };
                let (letters, more) = match self.ask(*store, &query).await {
                    Ok(Some(LetterAnswer::Letters { letters, more })) => (letters, more),
                    Ok(_) => return Err(LettersError::Answer.into()),
                    Err(error) => {
                        silent += 1;
                        let error = aether_service::error_chain(&error);
                        stderr_line(format_args!("{name} ({store:x}) did not answer: {error}"));
                        break;
                    }
                };
                let last = letters.last().and_then(|letter| letter.id.parse::<LetterId>().ok());
                for letter in letters {
                    each(name, letter)?;
                }
                match last.filter(|_| more) {
                    Some(last) if last.number > after => after = last.number,
                    _ => break,
                }
            }
        }
        if silent > 0 {
            return Err(LettersError::Silent { silent, services: stores.len() }.into());
        }
        Ok(())
    }

    async fn ls(&self, args: Ls) -> Result<(), CommandError> {
        let mut output = Output::stdout();
        let mut letters = 0_usize;
        let done = self
            .meant(&args.chosen, |service, letter| {
                letters += 1;
                Ok(output.line(print::listed(args.json, service, &letter))?)
            })
            .await;
        if !args.json {
            stderr_line(format_args!("{letters} dead letters"));
        }
        done
    }

    async fn show(&self, args: Show) -> Result<(), CommandError> {
        let id = args.id.of_service()?;
        match self.about(id, &LetterQuery::Show { id: id.to_string() }).await? {
            LetterAnswer::Letter(letter) => {
                let text = if args.json { print::json("", &letter) } else { print::whole(&letter) };
                Ok(Output::stdout().line(text)?)
            }
            LetterAnswer::Gone { .. } => Err(LettersError::Gone { gone: 1, letters: 1 }.into()),
            _ => Err(LettersError::Answer.into()),
        }
    }

    /// Asks about one letter. A service that is not there any more has taken its letters with it.
    async fn about(&self, id: LetterId, query: &LetterQuery) -> Result<LetterAnswer, CommandError> {
        match self.ask(id.store, query).await {
            Err(AskError::NoResonator { .. }) => {
                let hint = "no running service has it".to_owned();
                Ok(LetterAnswer::Gone { id: id.to_string(), hint })
            }
            asked => {
                let answer = asked.map_err(|source| LettersError::Ask { id, source })?;
                Ok(answer.ok_or(LettersError::Answer)?)
            }
        }
    }

    async fn change(&self, change: Change, args: args::Chosens) -> Result<(), CommandError> {
        let ids: Result<Vec<_>, _> = args.ids.iter().map(|id| id.of_service()).collect();
        let mut ids = ids?;
        // Letters of services that answer are changed also where another one does not.
        let mut done = Ok(());
        if args.all {
            done = self
                .meant(&args.chosen, |_, letter| {
                    ids.extend(letter.id.parse::<LetterId>());
                    Ok(())
                })
                .await;
        }
        let mut output = Output::stdout();
        let (letters, mut gone, mut failed) = (ids.len(), 0, 0);
        for id in ids {
            match self.about(id, &change.query(id)).await? {
                LetterAnswer::Replayed { id, wave } => output.line(print::replayed(args.json, &id, &wave))?,
                LetterAnswer::Dropped { id } => output.line(print::dropped(args.json, &id))?,
                LetterAnswer::Gone { id, hint } => {
                    gone += 1;
                    stderr_line(format_args!("dead letter {id} is gone: {hint}"));
                }
                LetterAnswer::NotSent { id, hint } => {
                    failed += 1;
                    stderr_line(format_args!("dead letter {id} was not sent and stays: {hint}"));
                }
                _ => return Err(LettersError::Answer.into()),
            }
        }
        done?;
        if failed > 0 {
            return Err(LettersError::Failed { failed, letters, done: change.done() }.into());
        }
        if gone > 0 {
            return Err(LettersError::Gone { gone, letters }.into());
        }
        Ok(())
    }
}
