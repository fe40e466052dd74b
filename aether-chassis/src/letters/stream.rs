//! Answers questions about the dead letters of a durable log in JetStream. Every process that has the log open can answer: the
//! letters are at the server, and one process of them gets each question.

use aether_core::echo::LetterId;
use aether_core::{Emitter, Wave};
use aether_log::{DeadError, JetStreamLog};

use super::durable::gone;
use super::{LetterAnswer, LetterFilter, LetterQuery, PAGE, read_id, record_of_log};
use crate::{Json, Rejection, State, error_chain};

/// The letters of a log, and who sends them again.
#[derive(Debug, Clone)]
pub(crate) struct StreamClerk {
    pub(crate) log: JetStreamLog,
    pub(crate) store: u64,
    pub(crate) emitter: Emitter,
}

/// The handler.
pub(crate) async fn answer_of_stream(
    State(clerk): State<StreamClerk>,
    Json(query): Json<LetterQuery>,
    question: Wave,
) -> Result<Json<LetterAnswer>, Rejection> {
    let asker = question.source();
    Ok(Json(match query {
        LetterQuery::Ls { filter, after } => clerk.page(filter, after).await?,
        LetterQuery::Show { id } => clerk.show(id).await?,
        LetterQuery::Replay { id } => {
            tracing::info!(%asker, id, "sending a dead letter of the durable log again");
            clerk.replay(id).await
        }
        LetterQuery::Drop { id } => {
            tracing::info!(%asker, id, "dropping a dead letter of the durable log");
            clerk.drop_letter(id).await
        }
        LetterQuery::Forget { consumer } => {
            let hint = "the server keeps it: `nats consumer rm` removes it there".to_owned();
            LetterAnswer::NotSent { id: consumer, hint }
        }
    }))
}

fn unread(error: DeadError) -> Rejection {
    Rejection::caused_by("the log was not read", error)
}

impl StreamClerk {
    /// The number of a letter of this store.
    fn number(&self, id: &str) -> Option<u64> {
        read_id(id).filter(|id| id.store == self.store).map(|id| id.number)
    }

    async fn page(&self, filter: LetterFilter, mut after: u64) -> Result<LetterAnswer, Rejection> {
        let (is_meant, mut letters) = (filter.compiled()?, Vec::new());
        loop {
            let read = self.log.dead().after(after, PAGE).await.map_err(unread)?;
            let is_last = read.len() < PAGE;
            for letter in read {
                after = letter.number;
                if !is_meant(&letter.stored.wave, letter.at) {
                    continue;
                }
                if letters.len() == PAGE {
                    return Ok(LetterAnswer::Letters { letters, more: true });
                }
                let id = LetterId { store: self.store, number: letter.number };
                letters.push(record_of_log(id, &letter, false));
            }
            if is_last {
                return Ok(LetterAnswer::Letters { letters, more: false });
            }
        }
    }

    async fn show(&self, id: String) -> Result<LetterAnswer, Rejection> {
        let Some(number) = self.number(&id) else { return Ok(gone(id)) };
        match self.log.dead().show(number).await {
            Ok(letter) => {
                let id = LetterId { store: self.store, number };
                Ok(LetterAnswer::Letter(Box::new(record_of_log(id, &letter, true))))
            }
            Err(DeadError::Unknown { .. }) => Ok(gone(id)),
            Err(error) => Err(unread(error)),
        }
    }

    async fn replay(&self, id: String) -> LetterAnswer {
        let Some(number) = self.number(&id) else { return gone(id) };
        match self.log.dead().replay(number, &self.emitter).await {
            Ok(receipt) => LetterAnswer::Replayed { id, wave: self.emitter.id_of(&receipt).to_string() },
            Err(DeadError::Unknown { .. }) => gone(id),
            Err(error) => LetterAnswer::NotSent { id, hint: error_chain(&error) },
        }
    }

    async fn drop_letter(&self, id: String) -> LetterAnswer {
        let Some(number) = self.number(&id) else { return gone(id) };
        match self.log.dead().drop_letter(number).await {
            Ok(()) => LetterAnswer::Dropped { id },
            Err(error) => LetterAnswer::Gone { id, hint: error_chain(&error) },
        }
    }
}
