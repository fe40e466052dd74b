//! The state that the handles, the runner and the courses of sagas share: the steps, the store, and the account.

use aether_log::Log;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

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
    pub(super) steps: Vec<Step<S, B>>,
    pub(super) store: Store<B>,
    pub(super) log: Log,
    pub(super) concurrency: usize,
    pub(super) remembered: Horizon,
    pub(super) ledger: watch::Sender<SagaLedger>,
    pub(super) queue: mpsc::UnboundedSender<String>,
    /// Taken by the runner.
    pub(super) queued: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
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
        mut call: impl FnMut(String, Record<S>) -> Result<(), SagaError>,
    ) -> Result<(), SagaError> {
        let mut from = Vec::new();
        loop {
            let page = change.rows().from(&self.area, &from, 256)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            // The smallest key behind the last one.
            from = [last, &[0][..]].concat();
            for (id, row) in page {
                let id = String::from_utf8_lossy(&id).into_owned();
                let record = self.read(&id, &row)?;
                call(id, record)?;
            }
        }
    }

    /// Counts the sagas, and makes sure that each is at a step of this program.
    pub(super) fn count(&self) -> Result<SagaLedger, SagaError> {
        let change = self.store.begin()?;
        let row = change.rows().get(ABOUT, &self.ledger_key())?;
        let mut ledger: SagaLedger =
            row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        (ledger.running, ledger.stuck) = (0, 0);
        self.each(&change, |id, record| {
            *(if record.phase == Phase::Stuck { &mut ledger.stuck } else { &mut ledger.running }) += 1;
            if self.steps.iter().any(|step| step.name == record.step) {
                return Ok(());
            }
            Err(SagaError::UnknownStep { saga: self.name.clone(), id, step: record.step })
        })?;
        Ok(ledger)
    }
}
