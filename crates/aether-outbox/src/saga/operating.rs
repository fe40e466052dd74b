//! The work of an operator: which sagas stand still, and what becomes of them.

use std::sync::Arc;

use aether_log::DeadError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::SagaError;
use super::record::{Phase, Record, StuckSaga};
use super::sagas::Sagas;
use super::shared::Found;
use super::standing::{Standing, StandingSaga};
use crate::backend::Backend;

impl<S, B> Sagas<S, B>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    /// The sagas that could not be undone. Blocks while it reads all sagas that have not ended.
    ///
    /// # Errors
    /// [`SagaError`] if the store cannot be read.
    pub fn stuck(&self) -> Result<Vec<StuckSaga<S>>, SagaError> {
        let mut stuck = Vec::new();
        self.shared.each(&self.shared.store.begin()?, |id, found| {
            if let Found::Defined(record) = found
                && record.phase == Phase::Stuck
            {
                let Record { state, step, letter, failures, .. } = record;
                let errors = failures.into_iter().map(|failed| format!("{}: {}", failed.step, failed.error));
                stuck.push(StuckSaga { id, state, step, errors: errors.collect(), letter });
            }
            Ok(())
        })?;
        Ok(stuck)
    }

    /// The sagas that make no progress now: those that try a step again, wait for their turn, could not be undone, or
    /// have no definition in this program. Blocks while it reads all sagas that have not ended.
    ///
    /// # Errors
    /// [`SagaError`] if the store cannot be read.
    pub fn standing_still(&self) -> Result<Vec<StandingSaga>, SagaError> {
        let mut standing = Vec::new();
        let shared = &self.shared;
        shared.each(&shared.store.begin()?, |id, found| {
            let found = match found {
                Found::Defined(record) => {
                    let why = match record.phase {
                        Phase::Stuck => Standing::Stuck,
                        _ if record.attempt > 1 => Standing::Retrying,
                        _ if !shared.active.lock().contains_key(&id) => Standing::Waiting,
                        _ => return Ok(()),
                    };
                    StandingSaga::of(&shared.name, id, Some(&record), why)
                }
                Found::Undefined(head, reason) => {
                    StandingSaga::of(&shared.name, id, head.as_ref(), Standing::Undefined(reason))
                }
            };
            standing.push(found);
            Ok(())
        })?;
        Ok(standing)
    }

    /// Lets a saga that makes no progress go on at once. One that is stuck is undone from the step on that could not
    /// be undone, and its dead letter is dropped. One that pauses makes its next attempt.
    ///
    /// # Errors
    /// [`SagaError::NotStandingStill`]; [`SagaError::Undefined`] without a definition; [`SagaError::Dead`] if the letter was
    /// not dropped, although the saga goes on.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the saga may go on, and its letter may stay.
    pub async fn retry(&self, id: &str) -> Result<(), SagaError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let retried = self.shared.store.write(move |change| {
            let not_standing = |id| SagaError::NotStandingStill { saga: shared.name.clone(), id };
            let Some(record) = shared.get(change.rows(), &id)? else { return Err(not_standing(id)) };
            if let Err(reason) = shared.steps(&record) {
                return Err(SagaError::Undefined { saga: shared.name.clone(), id, reason });
            }
            let letter = record.letter;
            if record.phase == Phase::Stuck {
                let revision = record.revision + 1;
                let again = Record { phase: Phase::Back, attempt: 1, letter: None, revision, ..record };
                shared.put(change, &id, &again)?;
                shared.change_ledger(change, |ledger| {
                    ledger.stuck -= 1;
                    ledger.running += 1;
                })?;
            } else if record.attempt == 1 {
                return Err(not_standing(id));
            }
            let poked = Arc::clone(&shared);
            change.at_end(move || poked.poke(id));
            Ok(letter)
        });
        let Some(letter) = retried.await? else { return Ok(()) };
        match self.shared.log.dead().drop_letter(letter).await {
            // An operator has dropped it before.
            Ok(()) | Err(DeadError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a saga up: it is undone from its step on, as after a failure. An attempt that is under way is not
    /// interrupted, and is undone as well. Returns whether there is such a saga that is not undone already.
    ///
    /// # Errors
    /// [`SagaError::Undefined`] without a definition, because nobody knows how it is undone.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the saga may be given up.
    pub async fn give_up(&self, id: &str) -> Result<bool, SagaError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let given_up = self.shared.store.write(move |change| {
            let record = shared.get(change.rows(), &id)?;
            let Some(record) = record.filter(|record| record.phase == Phase::Forward) else {
                return Ok(false);
            };
            if let Err(reason) = shared.steps(&record) {
                return Err(SagaError::Undefined { saga: shared.name.clone(), id, reason });
            }
            shared.put(change, &id, &record.given_up("given up by an operator"))?;
            let poked = Arc::clone(&shared);
            change.at_end(move || poked.poke(id));
            Ok(true)
        });
        given_up.await
    }
}
