//! `aether jobs`: lists and steers the queues of running services, and their schedules.
//!
//! A queue is what one process sees of a consumer of a durable log. Each process that was built `.with_letters()` answers on
//! the channel of its letters; what is changed is changed in all of them.

mod args;
mod print;

pub(crate) use args::JobsArgs;

use std::collections::BTreeMap;

use aether_core::AskError;
use aether_service::CancellationToken;
use aether_service::jobs::{JobAnswer, JobQuery, QueueRecord, ScheduleRecord};
use aether_service::letters::{LetterAnswer, LetterQuery};

use crate::error::{CommandError, LettersError};
use crate::letters::Asking;
use crate::output::{Output, stderr_line};
use args::{JobOptions, JobsCommand, Named};

/// A queue, and the process that has it.
struct FoundQueue {
    store: u64,
    service: String,
    queue: QueueRecord,
}

/// The services that are asked.
struct AskedServices {
    asking: Asking,
    stores: Vec<(u64, String)>,
    /// Those that did not answer.
    silent: usize,
}

pub(crate) async fn jobs(args: JobsArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let common = args.command.common();
    let asking = Asking::connect(&common.medium, common.timeout, "have a queue", &shutdown).await?;
    let stores = async { asking.stores(&common.roll).await };
    let interrupted = || CommandError::Interrupted { before: "all services answered" };
    let stores = tokio::select! {
        stores = stores => stores,
        () = shutdown.cancelled() => Err(interrupted()),
    };
    let mut asked = match stores {
        Ok(stores) => AskedServices { asking, stores, silent: 0 },
        Err(error) => {
            asking.close().await;
            return Err(error);
        }
    };
    let done = tokio::select! {
        done = asked.run(&args.command) => done,
        () = shutdown.cancelled() => Err(interrupted()),
    };
    let (silent, services) = (asked.silent, asked.stores.len());
    asked.asking.close().await;
    done?;
    if silent > 0 {
        return Err(LettersError::Silent { silent, services }.into());
    }
    Ok(())
}

impl AskedServices {
    async fn run(&mut self, command: &JobsCommand) -> Result<(), CommandError> {
        match command {
            JobsCommand::Ls(args) => {
                let found = self.queues(&args.common).await?;
                print::queues(args.json, &found)
            }
            JobsCommand::Show(args) => self.show(&args.named.consumer, args.json, &args.named.common).await,
            JobsCommand::Pause(args) => {
                let query = |consumer| JobQuery::Pause { consumer };
                self.change(args, "paused", query).await
            }
            JobsCommand::Resume(args) => {
                let query = |consumer| JobQuery::Resume { consumer };
                self.change(args, "resumed", query).await
            }
            JobsCommand::Retry(args) => {
                let positions = args.ids.iter().copied().map(Some);
                let positions: Vec<_> = if args.all { vec![None] } else { positions.collect() };
                let query = |consumer, position| JobQuery::Retry { consumer, position };
                self.change_each(&args.named, &positions, "due now", query).await
            }
            JobsCommand::Cancel(args) => {
                let query = |consumer, position| JobQuery::Cancel { consumer, position };
                self.change_each(&args.named, &args.ids, "cancelled", query).await
            }
            JobsCommand::Schedules(args) => {
                let schedules = self.schedules(&args.common).await?;
                print::schedules(args.json, schedules.values().map(|(_, schedule)| schedule))
            }
            JobsCommand::Unschedule(args) => self.unschedule(&args.key, &args.common).await,
        }
    }

    /// Asks one process. `None` if it does not answer, which is counted.
    async fn ask(
        &mut self,
        store: u64,
        service: &str,
        query: JobQuery,
    ) -> Result<Option<JobAnswer>, CommandError> {
        match self.asking.ask(store, &LetterQuery::Jobs(query)).await {
            Ok(Some(LetterAnswer::Jobs(answer))) => Ok(Some(answer)),
            Ok(_) => Err(LettersError::Answer.into()),
            // It has ended since.
            Err(AskError::NoResonator { .. }) => Ok(None),
            Err(error) => {
                self.silent += 1;
                let error = aether_service::error_chain(&error);
                stderr_line(format_args!("{service} ({store:x}) did not answer: {error}"));
                Ok(None)
            }
        }
    }

    /// Everything that the processes list by name, with the process and its service.
    async fn listed<T>(
        &mut self,
        query: impl Fn(String) -> JobQuery,
        page: impl Fn(JobAnswer) -> Option<(Vec<T>, bool)>,
        name: impl Fn(&T) -> &str,
    ) -> Result<Vec<(u64, String, T)>, CommandError> {
        let mut all = Vec::new();
        for (store, service) in self.stores.clone() {
            let mut after = String::new();
            while let Some(answer) = self.ask(store, &service, query(after.clone())).await? {
                let (listed, more) = page(answer).ok_or(LettersError::Answer)?;
                let last = listed.last().map(|last| name(last).to_owned());
                all.extend(listed.into_iter().map(|listed| (store, service.clone(), listed)));
                match last.filter(|last| more && *last > after) {
                    Some(last) => after = last,
                    None => break,
                }
            }
        }
        Ok(all)
    }

    async fn queues(&mut self, common: &JobOptions) -> Result<Vec<FoundQueue>, CommandError> {
        let page = |answer| match answer {
            JobAnswer::Queues { queues, more } => Some((queues, more)),
            _ => None,
        };
        let listed = self.listed(|after| JobQuery::Ls { after }, page, |queue| &queue.consumer).await?;
        let found = listed.into_iter().map(|(store, service, queue)| FoundQueue { store, service, queue });
        Ok(found.filter(|found| common.means(&found.queue.log)).collect())
    }

    /// The processes with this consumer, which is in one log.
    async fn of(&mut self, consumer: &str, common: &JobOptions) -> Result<Vec<FoundQueue>, CommandError> {
        let mut found = self.queues(common).await?;
        found.retain(|found| found.queue.consumer == consumer);
        one_log(consumer, found.iter().map(|found| &*found.queue.log))?;
        Ok(found)
    }

    async fn show(&mut self, consumer: &str, as_json: bool, common: &JobOptions) -> Result<(), CommandError> {
        let found = self.of(consumer, common).await?;
        if !as_json {
            print::queues(false, &found)?;
        }
        for FoundQueue { store, service, .. } in &found {
            let mut after = 0;
            loop {
                let query = JobQuery::Show { consumer: consumer.to_owned(), after };
                let (jobs, more) = match self.ask(*store, service, query).await? {
                    Some(JobAnswer::Jobs { jobs, more }) => (jobs, more),
                    Some(_) => return Err(LettersError::Answer.into()),
                    None => break,
                };
                print::jobs(as_json, service, &jobs)?;
                match jobs.last().filter(|last| more && last.position > after) {
                    Some(last) => after = last.position,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Asks all these processes for a change. Returns how much was changed.
    async fn change_in(&mut self, found: &[FoundQueue], query: &JobQuery) -> Result<u64, CommandError> {
        let mut changed = 0;
        for FoundQueue { store, service, .. } in found {
            match self.ask(*store, service, query.clone()).await? {
                Some(JobAnswer::Changed { number }) => changed += number,
                Some(_) => return Err(LettersError::Answer.into()),
                None => {}
            }
        }
        Ok(changed)
    }

    async fn change(
        &mut self,
        Named { consumer, common }: &Named,
        done: &str,
        query: impl Fn(String) -> JobQuery,
    ) -> Result<(), CommandError> {
        let found = self.of(consumer, common).await?;
        let processes = self.change_in(&found, &query(consumer.clone())).await?;
        Ok(Output::stdout()
            .line(format_args!("{consumer} {done} in {processes} of {} processes", found.len()))?)
    }

    async fn change_each<T: Copy>(
        &mut self,
        Named { consumer, common }: &Named,
        positions: &[T],
        done: &str,
        query: impl Fn(String, T) -> JobQuery,
    ) -> Result<(), CommandError> {
        let (found, mut changed) = (self.of(consumer, common).await?, 0);
        for position in positions {
            changed += self.change_in(&found, &query(consumer.clone(), *position)).await?;
        }
        Output::stdout().line(format_args!("{changed} {done}"))?;
        if changed < positions.len() as u64 {
            let why = "some of these waves neither wait nor pause, or are in flight";
            return Err(LettersError::Unchanged { why }.into());
        }
        Ok(())
    }

    /// The schedules by log and key, each with a process that answers for it.
    async fn schedules(
        &mut self,
        common: &JobOptions,
    ) -> Result<BTreeMap<(String, String), (u64, ScheduleRecord)>, CommandError> {
        let page = |answer| match answer {
            JobAnswer::Schedules { schedules, more } => Some((schedules, more)),
            _ => None,
        };
        let query = |after| JobQuery::Schedules { after };
        let mut all = BTreeMap::new();
        for (store, _, schedule) in self.listed(query, page, |schedule| &schedule.key).await? {
            if common.means(&schedule.log) {
                all.entry((schedule.log.clone(), schedule.key.clone())).or_insert((store, schedule));
            }
        }
        Ok(all)
    }

    async fn unschedule(&mut self, key: &str, common: &JobOptions) -> Result<(), CommandError> {
        let mut schedules = self.schedules(common).await?;
        schedules.retain(|(_, other), _| other == key);
        one_log(key, schedules.keys().map(|(log, _)| &**log))?;
        let Some((store, _)) = schedules.into_values().next() else { return Ok(()) };
        let query = JobQuery::Unschedule { key: key.to_owned() };
        match self.ask(store, key, query).await? {
            Some(JobAnswer::Changed { number: 1.. }) => {
                Ok(Output::stdout().line(format_args!("{key} ended"))?)
            }
            Some(JobAnswer::Changed { .. }) => {
                Err(LettersError::Unchanged { why: "the schedule has ended before" }.into())
            }
            Some(_) => Err(LettersError::Answer.into()),
            None => Ok(()),
        }
    }
}

/// Refuses a name that is in no log, or in several.
fn one_log<'a>(name: &str, logs: impl Iterator<Item = &'a str>) -> Result<(), LettersError> {
    let mut logs: Vec<_> = logs.collect();
    logs.sort_unstable();
    logs.dedup();
    match logs.len() {
        0 => Err(LettersError::NoQueue { name: name.to_owned() }),
        1 => Ok(()),
        _ => Err(LettersError::Several { name: name.to_owned(), logs: logs.join(", ") }),
    }
}
