//! The sagas of one name: opening, starting, and what an operator does.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aether_log::{DeadError, Log};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::error::SagaError;
use super::ledger::SagaLedger;
use super::record::{Phase, Record, StuckSaga};
use super::runner::SagaRunner;
use super::shared::Shared;
use super::step::Step;
use crate::area::{self, is_name};
use crate::backend::{Backend, Redb, Rows as _};
use crate::memory::{Horizon, Memory};
use crate::store::Store;
use crate::transaction::Transaction;

/// The steps of sagas of one name. Made by [`Sagas::builder`].
#[derive(Debug)]
#[must_use = "nothing is opened before open()"]
pub struct SagaBuilder<S, B: Backend = Redb> {
    name: String,
    steps: Vec<Step<S, B>>,
    concurrency: NonZeroUsize,
    remembered: Horizon,
}

/// Sagas of one name. Cloning it bumps a reference count.
pub struct Sagas<S, B: Backend = Redb> {
    pub(super) shared: Arc<Shared<S, B>>,
}

impl<S, B: Backend> SagaBuilder<S, B> {
    /// Adds a step behind the others.
    pub fn step(mut self, step: Step<S, B>) -> Self {
        self.steps.push(step);
        self
    }

    /// How many sagas are at work at once, those included that pause before another attempt. Default: 16.
    pub fn concurrency(mut self, sagas: NonZeroUsize) -> Self {
        self.concurrency = sagas;
        self
    }

    /// How many ended sagas are remembered, and how long, so that a second start of the same id does nothing. Default:
    /// 65,536, and 7 days. The remarks at [`StoreBuilder::remember`](crate::StoreBuilder::remember) about waves hold
    /// here as well.
    pub fn remember(mut self, sagas: u64, age: Duration) -> Self {
        self.remembered = Horizon { ids: sagas.max(1), age };
        self
    }
}

impl<S, B> SagaBuilder<S, B>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    /// Opens the sagas, which are kept in a store. Those that cannot be undone go to the dead letters of the log.
    /// Blocks while it reads all sagas that have not ended.
    ///
    /// # Errors
    /// [`SagaError`]: a name is not valid or used twice, or a saga that has not ended cannot be read or is at a step that is
    /// not among these.
    pub fn open(self, store: &Store<B>, log: &Log) -> Result<Sagas<S, B>, SagaError> {
        let Self { name, steps, concurrency, remembered } = self;
        let named = [(&name, "saga")].into_iter().chain(steps.iter().map(|step| (&step.name, "step")));
        for (name, what) in named {
            if !is_name(name) {
                return Err(SagaError::Name { name: name.clone(), what });
            }
        }
        if steps.is_empty() {
            return Err(SagaError::NoSteps { saga: name });
        }
        for (index, step) in steps.iter().enumerate() {
            if steps[..index].iter().any(|other| other.name == step.name) {
                return Err(SagaError::SameStep { saga: name, step: step.name.clone() });
            }
        }
        let (queue, queued) = mpsc::unbounded_channel();
        let (store, log, area) = (store.clone(), log.clone(), area::saga(&name));
        let concurrency = concurrency.get();
        let (ledger, queued) = (watch::Sender::default(), Mutex::new(Some(queued)));
        let shared = Shared { name, area, steps, store, log, concurrency, remembered, ledger, queue, queued };
        let ledger = shared.count()?;
        shared.ledger.send_replace(ledger);
        Ok(Sagas { shared: Arc::new(shared) })
    }
}

impl<S, B: Backend> Clone for Sagas<S, B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S, B: Backend> fmt::Debug for Sagas<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Sagas");
        debug.field("name", &self.shared.name).field("ledger", &*self.shared.ledger.borrow());
        debug.finish_non_exhaustive()
    }
}

impl<S, B: Backend> Sagas<S, B> {
    /// Sagas by their name, which finds them again after a restart.
    pub fn builder(name: &str) -> SagaBuilder<S, B> {
        let remembered = Horizon { ids: 65_536, age: Duration::from_secs(7 * 24 * 60 * 60) };
        let concurrency = NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN);
        SagaBuilder { name: name.to_owned(), steps: Vec::new(), concurrency, remembered }
    }

    /// The account: `started = completed + undone + running + stuck`.
    #[must_use]
    pub fn ledger(&self) -> SagaLedger {
        *self.shared.ledger.borrow()
    }

    /// Waits until the sagas have an account like this, for example until none is running.
    ///
    /// # Cancel safety
    /// Cancelled at any time, nothing has changed.
    pub async fn wait_for(&self, is_reached: impl FnMut(&SagaLedger) -> bool) -> SagaLedger {
        let mut ledger = self.shared.ledger.subscribe();
        // The sagas live as long as this borrow of them.
        ledger.wait_for(is_reached).await.map_or_else(|_| self.ledger(), |ledger| *ledger)
    }
}

impl<S, B> Sagas<S, B>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    /// Starts a saga when the transaction commits, which has to be one of the store of these sagas. Returns whether it is a
    /// new one: an id that is running, or ended and is remembered, is not started again.
    ///
    /// # Errors
    /// [`SagaError`] if the id is empty or longer than 255 bytes, or the saga cannot be written.
    pub fn start(&self, change: &Transaction<'_, B>, id: &str, state: &S) -> Result<bool, SagaError> {
        let shared = &self.shared;
        if !(1..=255).contains(&id.len()) {
            return Err(SagaError::Id { id: id.to_owned() });
        }
        let rows = change.rows();
        let ended = format!("{}.ended", shared.area);
        let has_ended = Memory::new(rows, &ended, shared.remembered).recall(id.as_bytes())?.is_some();
        if has_ended || rows.get(&shared.area, id.as_bytes())?.is_some() {
            return Ok(false);
        }
        let first = shared.steps.first().map_or("", |step| step.name.as_str());
        shared.put(change, id, &Record::new(state.clone(), first))?;
        shared.change_ledger(change, |ledger| {
            ledger.started += 1;
            ledger.running += 1;
        })?;
        let (queue, id) = (shared.queue.clone(), id.to_owned());
        // Without a runner the next one finds it in the store.
        change.at_end(move || drop(queue.send(id)));
        Ok(true)
    }

    /// Runs the sagas: first those that had not ended when the process ended, each with its interrupted step.
    ///
    /// # Errors
    /// [`SagaError::Running`] while they have another runner.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(&self) -> Result<SagaRunner, SagaError> {
        SagaRunner::spawn(&self.shared)
    }

    /// The sagas that could not be undone. Blocks while it reads all sagas that have not ended.
    ///
    /// # Errors
    /// [`SagaError`] if the store cannot be read.
    pub fn stuck(&self) -> Result<Vec<StuckSaga<S>>, SagaError> {
        let mut stuck = Vec::new();
        self.shared.each(&self.shared.store.begin()?, |id, record| {
            if record.phase == Phase::Stuck {
                let Record { state, step, letter, failures, .. } = record;
                let errors = failures.into_iter().map(|failed| format!("{}: {}", failed.step, failed.error));
                stuck.push(StuckSaga { id, state, step, errors: errors.collect(), letter });
            }
            Ok(())
        })?;
        Ok(stuck)
    }

    /// Undoes a saga that is stuck, from the step on that could not be undone, and drops its dead letter.
    ///
    /// # Errors
    /// [`SagaError::NotStuck`]; [`SagaError::Dead`] if the letter was not dropped, although the saga goes on.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the saga may go on, and its letter may stay.
    pub async fn retry(&self, id: &str) -> Result<(), SagaError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let retried = self.shared.store.write(move |change| {
            let record = shared.get(change.rows(), &id)?;
            let Some(record) = record.filter(|record| record.phase == Phase::Stuck) else {
                return Err(SagaError::NotStuck { saga: shared.name.clone(), id });
            };
            let revision = record.revision + 1;
            let again = Record { phase: Phase::Back, attempt: 1, letter: None, revision, ..record.clone() };
            shared.put(change, &id, &again)?;
            shared.change_ledger(change, |ledger| {
                ledger.stuck -= 1;
                ledger.running += 1;
            })?;
            let queue = shared.queue.clone();
            change.at_end(move || drop(queue.send(id)));
            Ok(record.letter)
        });
        let Some(letter) = retried.await? else { return Ok(()) };
        match self.shared.log.dead().drop_letter(letter).await {
            // An operator has dropped it before.
            Ok(()) | Err(DeadError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
