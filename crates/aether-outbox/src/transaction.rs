//! A transaction: a service's own change, the waves that tell of it, and the wave that caused it.

use std::cell::{Cell, RefCell};

use aether_core::wave::Origin;
use aether_core::{Wave, WaveId};

use crate::area::{ABOUT, WAVES, key};
#[cfg(feature = "sqlite")]
use crate::backend::Sqlite;
use crate::backend::{Backend, Redb, Rows};
use crate::error::StoreError;
use crate::held::{Held, LAST, count};
use crate::memory::Memory;
use crate::once::OnceKey;
use crate::shared::Shared;
use crate::stored_wave;
use crate::table::Table;

/// Runs after the commit.
type After = Box<dyn FnOnce() + Send>;

/// An open transaction of a [`Store`](crate::Store). Dropped without [`Transaction::commit`], nothing has changed. Others
/// wait until it ends, so nothing slow belongs in between.
#[must_use = "a transaction that is dropped changes nothing"]
pub struct Transaction<'a, B: Backend> {
    shared: &'a Shared<B>,
    held: Held<'a, B>,
    /// The number of the last wave, once one was emitted here.
    last: Cell<Option<u64>>,
    emitted: Cell<u64>,
    origin: RefCell<Option<Origin>>,
    after: RefCell<Vec<After>>,
    /// Run also if the commit has failed.
    at_end: RefCell<Vec<After>>,
}

impl<'a, B: Backend> Transaction<'a, B> {
    pub(crate) fn new(shared: &'a Shared<B>, held: Held<'a, B>) -> Self {
        let (origin, after, at_end) = (RefCell::new(None), RefCell::default(), RefCell::default());
        Self { shared, held, last: Cell::new(None), emitted: Cell::new(0), origin, after, at_end }
    }

    /// One of the service's own tables. It exists as soon as it has a row.
    #[must_use]
    pub fn table<V>(&self, name: &str) -> Table<'_, V, B::Rows<'a>> {
        Table::new(&self.held.rows, name)
    }

    /// Whether a job is done for the first time: true once for each identity of a wave and for each key, within what the
    /// store [remembers](crate::StoreBuilder::remember). It is remembered when the transaction commits, together with what
    /// was done, so the effect happens exactly once although it may be asked for more often. [`OnceKey`] has when to give
    /// which.
    ///
    /// # Errors
    /// [`StoreError`] if the wave has no identity, the key is empty or longer than 512 bytes, or the file cannot be read or
    /// written.
    pub fn once<'k>(&self, job: impl Into<OnceKey<'k>>) -> Result<bool, StoreError> {
        let job = job.into();
        self.is_first(job.area(), &job.bytes()?)
    }

    pub(crate) fn is_first(&self, area: &'static str, id: &[u8]) -> Result<bool, StoreError> {
        let memory = Memory::new(&self.held.rows, area, self.shared.limits.once);
        if memory.recall(id)?.is_some() {
            return Ok(false);
        }
        memory.note(id, &[])?;
        Ok(true)
    }

    /// What is emitted from here on follows from this wave: it becomes the cause, and its root, baggage and trace are passed
    /// on, as by the emitter of a handler.
    pub fn follow(&self, wave: &Wave) -> &Self {
        *self.origin.borrow_mut() = Some(Origin::from(wave));
        self
    }

    /// Commits a wave with the change, and returns its identity. A [`Relay`](crate::Relay) emits it after the commit, in the
    /// order of the commits.
    ///
    /// # Errors
    /// [`StoreError`] if the wave cannot be built or stored, its channel is reserved, or too many waves wait for the relay.
    pub fn emit<W>(&self, wave: W) -> Result<WaveId, StoreError>
    where
        W: TryInto<Wave>,
        StoreError: From<W::Error>,
    {
        let wave = stored_wave::own(wave)?;
        let waiting = self.held.ledger().waiting + self.emitted.get();
        let most = self.shared.limits.max_waiting;
        if waiting >= most {
            return Err(StoreError::Full { waiting, most });
        }
        let last = self.last.get().map_or_else(|| count(&self.held.rows, LAST), Ok)?;
        let sequence = last + 1;
        let id = WaveId { source: self.shared.source.clone(), sequence };
        let wave = wave.identified(id.clone(), self.origin.borrow().as_ref());
        self.held.rows.put(WAVES, &key(sequence), &stored_wave::write(&wave)?)?;
        self.held.rows.put(ABOUT, LAST, &key(sequence))?;
        self.last.set(Some(sequence));
        self.emitted.set(self.emitted.get() + 1);
        Ok(id)
    }

    /// Keeps everything, synced to the disk, and wakes the relay.
    ///
    /// # Errors
    /// [`StoreError`] if it was not written, for example because the disk is full. Then nothing has changed, and no wave is
    /// relayed. Only where the disk fails at the last moment the change may be found after all.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { held, emitted, after, at_end, .. } = self;
        let emitted = emitted.get();
        let finished = held.finish(|ledger| {
            ledger.committed += emitted;
            ledger.waiting += emitted;
        });
        if finished.is_ok() {
            after.into_inner().into_iter().for_each(|after| after());
        }
        at_end.into_inner().into_iter().for_each(|at_end| at_end());
        finished.map(drop)
    }

    /// Runs something short after the commit, before the next transaction, and never without the commit.
    pub(crate) fn after_commit(&self, after: impl FnOnce() + Send + 'static) {
        self.after.borrow_mut().push(Box::new(after));
    }

    /// The same, also after a commit that failed: its change may be found after all.
    pub(crate) fn at_end(&self, at_end: impl FnOnce() + Send + 'static) {
        self.at_end.borrow_mut().push(Box::new(at_end));
    }

    pub(crate) const fn rows(&self) -> &B::Rows<'a> {
        &self.held.rows
    }
}

impl Transaction<'_, Redb> {
    /// The transaction of redb, for tables with types of their own. Names that begin with `aether.` and `own.` are taken.
    #[must_use]
    pub const fn redb(&self) -> &redb::WriteTransaction {
        &self.held.rows.transaction
    }
}

#[cfg(feature = "sqlite")]
impl Transaction<'_, Sqlite> {
    /// The connection, for statements of its own, which belong to the transaction. The statements must not end it.
    #[must_use]
    pub fn sql(&self) -> &rusqlite::Connection {
        &self.held.rows.connection
    }
}
