//! The course of one saga: step after step, each outcome written before the next step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use aether_core::Wave;
use aether_log::Attempt;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::error::SagaError;
use super::record::{Ended, Limits, MAX_INTERRUPTED, Next, Phase, Record};
use super::shared::Shared;
use super::step::{Change, Run, Step, StepError};
use crate::backend::{Backend, Rows as _};
use crate::error::{StoreError, chain, panic_message};
use crate::memory::Memory;
use crate::transaction::Transaction;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One saga at work.
pub(super) struct Course<S, B: Backend> {
    shared: Arc<Shared<S, B>>,
    id: String,
    nudge: Arc<Notify>,
}

/// The result of a step: the state, and the changes that belong to it.
type Made<S, B> = Result<(S, Vec<Change<B>>), StepError>;

/// What is written after a step. Shared with the thread that writes, because it may have to be written again.
struct Outcome<S, B: Backend> {
    /// The revision of the record that it follows from.
    revision: u64,
    next: Next<S>,
    changes: Mutex<Vec<Change<B>>>,
}

/// Why an outcome was not written.
enum Unwritten {
    /// A change of the step is wrong. It would be wrong again.
    Step(String),
    /// Another runner has the saga.
    Moved,
    Store(SagaError),
}

impl From<StoreError> for Unwritten {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// The step of a saga, which is among these.
fn step<'s, S, B: Backend>(steps: &'s [Step<S, B>], record: &Record<S>) -> (usize, &'s Step<S, B>) {
    let index = steps.iter().position(|step| step.name == record.step).unwrap_or_default();
    (index, &steps[index])
}

impl<S, B> Course<S, B>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    pub(super) fn new(shared: Arc<Shared<S, B>>, id: String, nudge: Arc<Notify>) -> Self {
        Self { shared, id, nudge }
    }

    pub(super) fn saga(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Runs to the end, or until an operator ends a pause: then the runner runs it again as it is in the store.
    pub(super) async fn run(&self) -> Result<(), SagaError> {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let record = self.shared.store.write(move |change| shared.get(change.rows(), &id)).await?;
        let Some(mut record) = record else { return Ok(()) };
        // Without its steps it does not go on.
        let Ok(steps) = self.shared.steps(&record) else { return Ok(()) };
        if record.interrupted > MAX_INTERRUPTED && record.phase != Phase::Stuck {
            let times = record.interrupted;
            let made = Err(StepError::Failed(format!("the process ended {times} times during the step")));
            match self.settle(steps, record, made).await? {
                Some(Next::Step(next)) => record = next,
                Some(Next::Ended(_)) | None => return Ok(()),
            }
        }
        loop {
            if record.phase == Phase::Stuck {
                return self.bury(record).await;
            }
            let made = self.make(steps, &record).await;
            let failed = made.is_err();
            match self.settle(steps, record, made).await? {
                Some(Next::Step(next)) => record = next,
                Some(Next::Ended(_)) | None => return Ok(()),
            }
            if failed && record.attempt > 1 && record.phase != Phase::Stuck {
                let pause = step(steps, &record).1.pause_after(record.attempt - 1);
                let pause = record.time_left().map_or(pause, |left| pause.min(left));
                if timeout(pause, self.nudge.notified()).await.is_ok() {
                    return Ok(());
                }
            }
        }
    }

    /// Makes or undoes the step.
    async fn make(&self, steps: &[Step<S, B>], record: &Record<S>) -> Made<S, B> {
        if record.is_late() {
            let late = "the time of the saga is over".to_owned();
            return Err(if record.may_have_begun() {
                StepError::Failed(late)
            } else {
                StepError::Refused(late)
            });
        }
        let (_, step) = step(steps, record);
        let action = match record.phase {
            Phase::Forward => &step.action,
            Phase::Back | Phase::Stuck => match &step.undo {
                Some(undo) => undo,
                None => return Ok((record.state.clone(), Vec::new())),
            },
        };
        let (state, id, attempt) = (record.state.clone(), self.id.clone(), record.attempt);
        let run = Run { state, id, attempt, changes: Vec::new() };
        // The call is within the future, because it may panic as well.
        let made = AssertUnwindSafe(async { action(run).await }).catch_unwind();
        let within = record.time_left().map_or(step.within, |left| left.min(step.within));
        match timeout(within, made).await {
            Ok(Ok(made)) => made.map(|run| (run.state, run.changes)),
            Ok(Err(panic)) => {
                Err(StepError::Failed(format!("the step panicked: {}", panic_message(panic.as_ref()))))
            }
            Err(_) => Err(StepError::Failed(format!("no end within {within:?}"))),
        }
    }

    /// Writes the outcome of a step, for as long as it takes. `None` if another runner has the saga.
    async fn settle(
        &self,
        steps: &[Step<S, B>],
        record: Record<S>,
        made: Made<S, B>,
    ) -> Result<Option<Next<S>>, SagaError> {
        let (index, step) = step(steps, &record);
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        // Of a saga that is late there is no other attempt.
        let attempts = if record.is_late() { 0 } else { step.attempts.get() };
        let limits = Limits { attempts, undo_attempts: step.undo_attempts.get() };
        if let Err(StepError::Failed(error) | StepError::Refused(error)) = &made {
            let (saga, id, step, phase) = (&self.shared.name, &self.id, &record.step, record.phase);
            tracing::debug!(saga, id, step, ?phase, attempt = record.attempt, error, "a step was not made");
        }
        let (state, changes) =
            made.map_or_else(|error| (Err(error), Vec::new()), |(state, changes)| (Ok(state), changes));
        let next = record.clone().after(state, &names, index, limits);
        let revision = record.revision;
        let outcome = Arc::new(Outcome { revision, next, changes: Mutex::new(changes) });
        match self.write(&outcome).await {
            Ok(()) => Ok(Some(outcome.next.clone())),
            Err(Unwritten::Moved) => Ok(None),
            Err(Unwritten::Store(error)) => Err(error),
            // The step is as good as failed: what it wants to change cannot be changed.
            Err(Unwritten::Step(error)) => {
                let next = record.after(Err(StepError::Failed(error)), &names, index, limits);
                let outcome = Arc::new(Outcome { revision, next, changes: Mutex::default() });
                match self.write(&outcome).await {
                    Ok(()) => Ok(Some(outcome.next.clone())),
                    Err(Unwritten::Store(error)) => Err(error),
                    // Without changes of a step there is none that is wrong.
                    Err(Unwritten::Moved | Unwritten::Step(_)) => Ok(None),
                }
            }
        }
    }

    async fn write(&self, outcome: &Arc<Outcome<S, B>>) -> Result<(), Unwritten> {
        let mut pause = FIRST_PAUSE;
        loop {
            let (shared, id, written) = (Arc::clone(&self.shared), self.id.clone(), Arc::clone(outcome));
            let write = move |change: &Transaction<'_, B>| written.write(&shared, change, &id);
            match self.shared.store.write(write).await {
                Err(Unwritten::Store(SagaError::Store(error))) if error.is_transient() => {
                    if pause == FIRST_PAUSE {
                        let (saga, id) = (&self.shared.name, &self.id);
                        tracing::warn!(saga, id, %error, "a saga cannot be written, and tries again");
                    }
                    sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
                written => return written,
            }
        }
    }

    /// Keeps a saga that cannot be undone with the dead letters. After a crash in between there may be a second letter.
    async fn bury(&self, record: Record<S>) -> Result<(), SagaError> {
        #[derive(Serialize)]
        struct Letter<'a, S> {
            saga: &'a str,
            id: &'a str,
            step: &'a str,
            state: &'a S,
            errors: Vec<&'a str>,
        }
        if record.letter.is_some() {
            return Ok(());
        }
        let (saga, id) = (&self.shared.name, &self.id);
        tracing::error!(
            saga,
            id,
            step = record.step,
            "a saga cannot be undone, and goes to the dead letters"
        );
        let errors = record.failures.iter().map(|failed| failed.error.as_str()).collect();
        let letter = Letter { saga, id, step: &record.step, state: &record.state, errors };
        let wave = Wave::builder(format!("sagas.{saga}.stuck")).key(id).amplitude(0.9).json(&letter).build();
        let failed: Vec<_> = record
            .failures
            .iter()
            .map(|failed| {
                let mut attempt = Attempt::now(&format!("{}: {}", failed.step, failed.error));
                attempt.micros = failed.micros;
                attempt
            })
            .collect();
        let wave = wave.map_err(StoreError::from)?;
        let number = self.shared.log.dead().keep(&format!("saga-{saga}"), &wave, &failed).await?;
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let noted = move |change: &Transaction<'_, B>| {
            shared.put(change, &id, &Record { letter: Some(number), revision: record.revision + 1, ..record })
        };
        self.shared.store.write(noted).await
    }
}

impl<S, B> Outcome<S, B>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    fn write(&self, shared: &Shared<S, B>, change: &Transaction<'_, B>, id: &str) -> Result<(), Unwritten> {
        let stored = shared.get(change.rows(), id).map_err(Unwritten::Store)?;
        if stored.is_none_or(|stored| stored.revision != self.revision) {
            return Err(Unwritten::Moved);
        }
        for of_step in self.changes.lock().iter() {
            match catch_unwind(AssertUnwindSafe(|| of_step(change))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_transient() || matches!(error, StoreError::ShutDown) => {
                    return Err(error.into());
                }
                Ok(Err(error)) => return Err(Unwritten::Step(chain(&error))),
                Err(panic) => {
                    let message = panic_message(panic.as_ref());
                    return Err(Unwritten::Step(format!("a change of the step panicked: {message}")));
                }
            }
        }
        match &self.next {
            Next::Step(record) => {
                shared.put(change, id, record).map_err(Unwritten::Store)?;
                if record.phase == Phase::Stuck {
                    shared.change_ledger(change, |ledger| {
                        ledger.running -= 1;
                        ledger.stuck += 1;
                    })?;
                }
            }
            Next::Ended(ended) => {
                change.rows().remove(&shared.area, id.as_bytes())?;
                let (area, outcome) = (format!("{}.ended", shared.area), [u8::from(*ended == Ended::Undone)]);
                Memory::new(change.rows(), &area, shared.remembered).note(id.as_bytes(), &outcome)?;
                shared.change_ledger(change, |ledger| {
                    ledger.running -= 1;
                    *(if *ended == Ended::Completed { &mut ledger.completed } else { &mut ledger.undone }) +=
                        1;
                })?;
            }
        }
        Ok(())
    }
}
