//! The state that the handles, the runner and the courses of sagas share: the steps, the store, and the account.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aether_log::Log;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::{Notify, mpsc, watch};

use super::error::SagaError;
use super::ledger::SagaLedger;
use super::record::{Phase, Record};
use super::step::Step;
use crate::area::ABOUT;
use crate::backend::{Backend, Rows};
use crate::error::StoreError;
use crate::memory::Horizon;
use crate::store::Store;
use crate::transaction::Transaction;

pub(super) struct Shared<S, B: Backend> {
    pub(super) name: String,
    pub(super) area: String,
    /// The steps of each version.
    pub(super) definitions: BTreeMap<u32, Vec<Step<S, B>>>,
    pub(super) within: Option<Duration>,
    pub(super) store: Store<B>,
    pub(super) log: Log,
    pub(super) concurrency: usize,
    pub(super) remembered: Horizon,
    pub(super) ledger: watch::Sender<SagaLedger>,
    pub(super) queue: mpsc::UnboundedSender<String>,
    /// Taken by the runner.
    pub(super) queued: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    pub(super) active: Mutex<HashMap<String, Active>>,
}

/// A saga that the runner has at work.
#[derive(Default)]
pub(super) struct Active {
    /// It is to be looked at again.
    pub(super) again: bool,
    /// Ends the pause before another attempt.
    pub(super) nudge: Arc<Notify>,
}

/// A saga as it is found in the store.
pub(super) enum Found<S> {
    Defined(Record<S>),
    /// Without its state, and the reason. `None` if nothing of it can be read.
    Undefined(Option<Record<IgnoredAny>>, String),
}

impl<S, B> Shared<S, B>
where
    S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    B: Backend,
{
    pub(super) fn get(&self, rows: &impl Rows, id: &str) -> Result<Option<Record<S>>, SagaError> {
        rows.get(&self.area, id.as_bytes())?.map(|row| self.read(id, &row)).transpose()
    }

    fn read(&self, id: &str, row: &[u8]) -> Result<Record<S>, SagaError> {
        serde_json::from_slice(row).map_err(|source| self.unfit(id, source))
    }

    pub(super) fn put(
        &self,
        change: &Transaction<'_, B>,
        id: &str,
        record: &Record<S>,
    ) -> Result<(), SagaError> {
        let row = serde_json::to_vec(record).map_err(|source| self.unfit(id, source))?;
        Ok(change.rows().put(&self.area, id.as_bytes(), &row)?)
    }

    /// The steps of a saga; the reason if this program does not have its version, or its step.
    pub(super) fn steps<T>(&self, record: &Record<T>) -> Result<&[Step<S, B>], String> {
        let (version, step) = (record.version, &record.step);
        let Some(steps) = self.definitions.get(&version) else {
            return Err(format!("this program has no version {version} of its definition"));
        };
        if steps.iter().any(|known| known.name == *step) {
            return Ok(steps);
        }
        Err(format!("version {version} of its definition has no step {step} in this program"))
    }

    fn find(&self, row: &[u8]) -> Found<S> {
        let head: Option<Record<IgnoredAny>> = serde_json::from_slice(row).ok();
        if let Some(Err(reason)) = head.as_ref().map(|head| self.steps(head)) {
            return Found::Undefined(head, reason);
        }
        match serde_json::from_slice(row) {
            Ok(record) => Found::Defined(record),
            Err(error) => {
                Found::Undefined(head, format!("its state has another type than this program's: {error}"))
            }
        }
    }

    /// Lets the runner look at a saga, also if it pauses.
    pub(super) fn poke(&self, id: String) {
        let nudge = self.active.lock().get(&id).map(|active| Arc::clone(&active.nudge));
        // Without a runner the next one finds it in the store.
        let _ = self.queue.send(id);
        if let Some(nudge) = nudge {
            nudge.notify_one();
        }
    }

    fn unfit(&self, id: &str, source: serde_json::Error) -> SagaError {
        SagaError::State { saga: self.name.clone(), id: id.to_owned(), source }
    }

    fn ledger_key(&self) -> Vec<u8> {
        format!("saga.{}", self.name).into_bytes()
    }

    /// Changes the account with the transaction, here and in the store.
    pub(super) fn change_ledger(
        &self,
        change: &Transaction<'_, B>,
        with: impl FnOnce(&mut SagaLedger),
    ) -> Result<(), StoreError> {
        let rows = change.rows();
        let stored = rows.get(ABOUT, &self.ledger_key())?;
        let mut ledger = stored.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        with(&mut ledger);
        let row = serde_json::to_vec(&ledger).unwrap_or_default();
        rows.put(ABOUT, &self.ledger_key(), &row)?;
        let shown = self.ledger.clone();
        change.after_commit(move || {
            shown.send_replace(ledger);
        });
        Ok(())
    }

    /// Calls back for each saga that has not ended.
    pub(super) fn each(
        &self,
        change: &Transaction<'_, B>,
        mut call: impl FnMut(String, Found<S>) -> Result<(), SagaError>,
    ) -> Result<(), SagaError> {
        let mut from = Vec::new();
        loop {
            let page = change.rows().scan(&self.area, &from, 256)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            // The smallest key behind the last one.
            from = [last, &[0][..]].concat();
            for (id, row) in page {
                let id = String::from_utf8_lossy(&id).into_owned();
                call(id, self.find(&row))?;
            }
        }
    }

    /// Counts the sagas, and reports those for which this program has no definition.
    pub(super) fn count(&self) -> Result<SagaLedger, SagaError> {
        let change = self.store.begin()?;
        let row = change.rows().get(ABOUT, &self.ledger_key())?;
        let stored: SagaLedger = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        let mut ledger = SagaLedger { running: 0, stuck: 0, undefined: 0, ..stored };
        let mut first = None;
        self.each(&change, |id, found| {
            match found {
                Found::Defined(record) if record.phase == Phase::Stuck => ledger.stuck += 1,
                Found::Defined(_) => ledger.running += 1,
                Found::Undefined(_, reason) => {
                    ledger.undefined += 1;
                    first.get_or_insert((id, reason));
                }
            }
            Ok(())
        })?;
        if let Some((id, reason)) = first {
            let (saga, sagas) = (&self.name, ledger.undefined);
            tracing::warn!(
                saga,
                sagas,
                id,
                reason,
                "sagas stand still, because this program has no definition for them"
            );
        }
        if ledger != stored {
            self.change_ledger(&change, |stored| *stored = ledger)?;
            change.commit()?;
        }
        Ok(ledger)
    }
}
