//! The sagas of one name: opening and starting.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aether_log::Log;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::error::SagaError;
use super::ledger::SagaLedger;
use super::record::{Record, first_version};
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
    definitions: BTreeMap<u32, Vec<Step<S, B>>>,
    /// Of the steps that are added.
    version: u32,
    within: Option<Duration>,
    concurrency: NonZeroUsize,
    remembered: Horizon,
}

/// Sagas of one name. Cloning it bumps a reference count.
pub struct Sagas<S, B: Backend = Redb> {
    pub(super) shared: Arc<Shared<S, B>>,
}

impl<S, B: Backend> SagaBuilder<S, B> {
    /// Adds a step behind the others of the version.
    pub fn step(mut self, step: Step<S, B>) -> Self {
        self.definitions.entry(self.version).or_default().push(step);
        self
    }

    /// The version of the steps that are added from here on. Default: 1. A saga keeps the version that was the
    /// greatest one when it started. So a program that changes the steps has the new ones under a new version, and
    /// keeps the old ones until [`Sagas::standing_still`] and the account show that those sagas have ended. All
    /// versions have one type of state.
    ///
    /// ```
    /// # use aether_outbox::{Run, Sagas, Step};
    /// # let step = |name| Step::new(name, |run: Run<String>| async move { Ok(run) });
    /// let orders = Sagas::<String>::builder("orders").step(step("pay")).step(step("ship"));
    /// let orders = orders.version(2).step(step("pay")).step(step("pack")).step(step("ship"));
    /// ```
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self.definitions.entry(version).or_default();
        self
    }

    /// How long a saga may take from its start on, also over restarts, by the clock of the day. Then it is undone as
    /// after a failure: an attempt that is under way is ended, and its step is undone with those before it. A step
    /// that has not begun is not undone; after a restart nobody knows that, so it is. A saga that waits for its turn
    /// is undone at its turn. Undoing has no limit, nor has a saga that was started before there was one. Default: no
    /// limit.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
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
    /// A saga for which there is no definition, because its version or its step is not among these or its state has
    /// another type, does not go on: it is counted as `undefined`, listed by [`Sagas::standing_still`], and the others
    /// go on.
    ///
    /// # Errors
    /// [`SagaError`]: a name is not valid or used twice, a version has no steps, or the store cannot be read.
    pub fn open(self, store: &Store<B>, log: &Log) -> Result<Sagas<S, B>, SagaError> {
        let Self { name, definitions, version: _, within, concurrency, remembered } = self;
        if !is_name(&name) {
            return Err(SagaError::Name { name, what: "saga" });
        }
        if definitions.is_empty() {
            return Err(SagaError::NoSteps { saga: name });
        }
        for steps in definitions.values() {
            if steps.is_empty() {
                return Err(SagaError::NoSteps { saga: name });
            }
            for (index, step) in steps.iter().enumerate() {
                if !is_name(&step.name) {
                    return Err(SagaError::Name { name: step.name.clone(), what: "step" });
                }
                if steps[..index].iter().any(|other| other.name == step.name) {
                    return Err(SagaError::SameStep { saga: name, step: step.name.clone() });
                }
            }
        }
        let (queue, queued) = mpsc::unbounded_channel();
        let (store, log, area) = (store.clone(), log.clone(), area::saga(&name));
        let concurrency = concurrency.get();
        let (ledger, queued) = (watch::Sender::default(), Mutex::new(Some(queued)));
        let active = Mutex::default();
        let shared = Shared {
            name,
            area,
            definitions,
            within,
            store,
            log,
            concurrency,
            remembered,
            ledger,
            queue,
            queued,
            active,
        };
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
        let (definitions, version) = (BTreeMap::new(), first_version());
        SagaBuilder { name: name.to_owned(), definitions, version, within: None, concurrency, remembered }
    }

    /// The account: `started = completed + undone + running + stuck + undefined`.
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
    /// Starts a saga when the transaction commits, which has to be one of the store of these sagas. Returns whether it
    /// is a new one: an id that is running, or ended and is remembered, is not started again.
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
        let newest = shared.definitions.last_key_value();
        let Some((version, first)) = newest.and_then(|(version, steps)| Some((version, steps.first()?)))
        else {
            return Err(SagaError::NoSteps { saga: shared.name.clone() });
        };
        let record = Record::new(state.clone(), &first.name, *version, shared.within);
        shared.put(change, id, &record)?;
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
}
