//! The steps of a saga, and what a step works on.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Wave;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::backend::{Backend, Redb};
use crate::error::{StoreError, chain};
use crate::transaction::Transaction;

pub(super) type Change<B> = Box<dyn Fn(&Transaction<'_, B>) -> Result<(), StoreError> + Send>;
type Action<S, B> = Arc<dyn Fn(Run<S, B>) -> BoxFuture<'static, Result<Run<S, B>, StepError>> + Send + Sync>;

/// The input of a step: the state of its saga. The step returns it, changed; a step that fails changes nothing.
#[must_use = "a step returns its run"]
pub struct Run<S, B: Backend = Redb> {
    /// The state, as the step before left it.
    pub state: S,
    pub(super) id: String,
    pub(super) attempt: u32,
    pub(super) changes: Vec<Change<B>>,
}

impl<S, B: Backend> Run<S, B> {
    /// The id of the saga.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Which attempt at this step it is, from 1. Attempts that ended with the process are not counted, up to 20.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Changes the store in the transaction that ends the step: it happens once, however often the step is made. The change
    /// itself may be called again where the transaction fails, so it does nothing else.
    pub fn change(
        &mut self,
        change: impl Fn(&Transaction<'_, B>) -> Result<(), StoreError> + Send + 'static,
    ) -> &mut Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Emits a wave in the transaction that ends the step, by the outbox of the store.
    pub fn emit(&mut self, wave: Wave) -> &mut Self {
        self.change(move |change| change.emit(wave.clone()).map(drop))
    }
}

impl<S: fmt::Debug, B: Backend> fmt::Debug for Run<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Run");
        debug.field("id", &self.id).field("state", &self.state).field("attempt", &self.attempt);
        debug.finish_non_exhaustive()
    }
}

/// Why a step was not made. Every error becomes [`StepError::Failed`] by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// The step was refused, and nothing was done: the steps before it are undone at once, and this one is not.
    Refused(String),
    /// Nobody knows whether the step was made. It is made again, and at last undone with the steps before it.
    Failed(String),
}

impl StepError {
    /// The step was refused, and nothing was done.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    /// Nobody knows whether the step was made.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }
}

impl<E: std::error::Error> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Failed(chain(&error))
    }
}

/// A step of a saga, and how it is undone.
pub struct Step<S, B: Backend = Redb> {
    pub(super) name: String,
    pub(super) action: Action<S, B>,
    pub(super) undo: Option<Action<S, B>>,
    pub(super) within: Duration,
    pub(super) attempts: NonZeroU32,
    pub(super) undo_attempts: NonZeroU32,
    pub(super) pauses: (Duration, Duration),
}

impl<S: Send + 'static, B: Backend> Step<S, B> {
    /// A step by its name, which finds it again after a restart.
    pub fn new<F>(name: &str, action: impl Fn(Run<S, B>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Run<S, B>, StepError>> + Send + 'static,
    {
        Self {
            name: name.to_owned(),
            action: Arc::new(move |run| action(run).boxed()),
            undo: None,
            within: Duration::from_secs(30),
            attempts: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            undo_attempts: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            pauses: (Duration::from_millis(100), Duration::from_secs(10)),
        }
    }

    /// How the step is undone. It is called also where nobody knows whether the step was made. Default: there is nothing to
    /// undo.
    #[must_use]
    pub fn undo<F>(mut self, undo: impl Fn(Run<S, B>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Run<S, B>, StepError>> + Send + 'static,
    {
        self.undo = Some(Arc::new(move |run| undo(run).boxed()));
        self
    }

    /// How long an attempt may take, also at undoing. Default: 30 s.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// How many attempts there are before the saga is undone, and how many at undoing before it is stuck. Default: 3 and 10.
    #[must_use]
    pub fn attempts(mut self, forwards: NonZeroU32, undoing: NonZeroU32) -> Self {
        (self.attempts, self.undo_attempts) = (forwards, undoing);
        self
    }

    /// The pause before the second attempt, which doubles with each further one, and its maximum. Default: 100 ms, and 10 s.
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.pauses = (first, longest);
        self
    }

    /// The pause after this many failures.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        let (first, longest) = self.pauses;
        first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
    }
}

impl<S, B: Backend> fmt::Debug for Step<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Step");
        debug.field("name", &self.name).field("undo", &self.undo.is_some()).field("within", &self.within);
        debug.finish_non_exhaustive()
    }
}
