//! Answers questions about the dead letters of a process. A service runs it as a set of handlers of its own.

use aether_core::echo::{DeadLetter, LetterId, ReplayError};
use aether_core::{DeadLetters, Emitter, Wave};
use aether_log::DurableLog;

use super::{LetterAnswer, LetterFilter, LetterQuery, LetterRecord, PAGE, read_id};
use crate::jobs::{JobQuery, answer_jobs, no_jobs};
use crate::{Json, Rejection, State, error_chain};

/// The letters of a process, and who sends them again.
#[derive(Debug, Clone)]
pub(crate) struct Clerk {
    pub(crate) letters: DeadLetters,
    /// Not the emitter of the service, which does not hear its own waves.
    pub(crate) emitter: Emitter,
    /// Whose queues it answers for as well.
    pub(crate) log: Option<DurableLog>,
}

/// The handler.
pub(crate) async fn answer(
    State(clerk): State<Clerk>,
    Json(query): Json<LetterQuery>,
    question: Wave,
) -> Result<Json<LetterAnswer>, Rejection> {
    let asker = question.source();
    Ok(Json(match query {
        LetterQuery::Ls { filter, after } => clerk.page(filter, after)?,
        LetterQuery::Show { id } => match clerk.find(&id) {
            Some(letter) => LetterAnswer::Letter(Box::new(LetterRecord::whole(&letter))),
            None => gone(id),
        },
        LetterQuery::Replay { id } => match clerk.id(&id) {
            Some(letter) => {
                tracing::info!(%asker, id, "sending a dead letter again");
                clerk.replay(letter).await
            }
            None => gone(id),
        },
        LetterQuery::Drop { id } => {
            match clerk.id(&id).and_then(|letter| clerk.letters.take(letter.number)) {
                Some(_) => {
                    tracing::info!(%asker, id, "dropped a dead letter");
                    LetterAnswer::Dropped { id }
                }
                None => gone(id),
            }
        }
        LetterQuery::Forget { consumer } => {
            let hint = "letters in memory have no consumers".to_owned();
            LetterAnswer::Gone { id: consumer, hint }
        }
        LetterQuery::Jobs(query) => {
            if !matches!(query, JobQuery::Ls { .. } | JobQuery::Show { .. } | JobQuery::Schedules { .. }) {
                tracing::info!(%asker, ?query, "steering a queue");
            }
            LetterAnswer::Jobs(match &clerk.log {
                Some(log) => answer_jobs(log, query).await?,
                None => no_jobs(&query),
            })
        }
    }))
}

fn gone(id: String) -> LetterAnswer {
    let hint = "it was replayed, dropped, taken or evicted, or is being replayed".to_owned();
    LetterAnswer::Gone { id, hint }
}

impl Clerk {
    /// The id of a letter of this store.
    fn id(&self, id: &str) -> Option<LetterId> {
        read_id(id).filter(|id| id.store == self.letters.store())
    }

    fn find(&self, id: &str) -> Option<DeadLetter> {
        self.letters.find(self.id(id)?.number)
    }

    fn page(&self, filter: LetterFilter, after: u64) -> Result<LetterAnswer, Rejection> {
        let is_meant = super::read_filter(filter)?;
        let all = self.letters.list();
        let mut meant =
            all.iter().filter(|letter| letter.number > after && is_meant(&letter.wave, letter.at));
        let letters = meant.by_ref().take(PAGE).map(LetterRecord::of).collect();
        Ok(LetterAnswer::Letters { letters, more: meant.next().is_some() })
    }

    async fn replay(&self, letter: LetterId) -> LetterAnswer {
        let id = letter.to_string();
        match self.letters.replay(letter.number, &self.emitter).await {
            Ok(receipt) => LetterAnswer::Replayed { id, wave: self.emitter.id_of(&receipt).to_string() },
            Err(ReplayError::Unknown { .. }) => gone(id),
            Err(error) => LetterAnswer::NotSent { id, hint: error_chain(&error) },
        }
    }
}
