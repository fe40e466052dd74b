//! The rows of a store while one transaction holds it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::area::{ABOUT, REFUSED, WAVES, number};
use crate::backend::{Backend, Rows};
use crate::error::StoreError;
use crate::ledger::OutboxLedger;

/// A file, and the account of the waves in it.
#[derive(Debug)]
pub(crate) struct Guarded<B> {
    pub(crate) backend: B,
    /// Held from the beginning of a transaction until the account has changed, so that the account and the file agree for
    /// whoever holds it.
    gate: Mutex<()>,
    /// A commit has failed, and nobody knows whether it is in the file.
    is_doubtful: AtomicBool,
    pub(crate) ledger: watch::Sender<OutboxLedger>,
}

/// An open transaction.
pub(crate) struct Held<'a, B: Backend> {
    pub(crate) rows: B::Rows<'a>,
    ledger: &'a watch::Sender<OutboxLedger>,
    is_doubtful: &'a AtomicBool,
    /// Below the rows, which are dropped first.
    gate: MutexGuard<'a, ()>,
}

impl<B: Backend> Guarded<B> {
    pub(crate) fn new(backend: B, ledger: OutboxLedger) -> Self {
        Self {
            backend,
            gate: Mutex::new(()),
            is_doubtful: AtomicBool::new(false),
            ledger: watch::Sender::new(ledger),
        }
    }

    pub(crate) fn hold(&self) -> Result<Held<'_, B>, StoreError> {
        let gate = self.gate.lock();
        let rows = self.backend.begin()?;
        if self.is_doubtful.load(Ordering::Relaxed) {
            self.ledger.send_replace(read_ledger(&rows)?);
            self.is_doubtful.store(false, Ordering::Relaxed);
        }
        Ok(Held { rows, ledger: &self.ledger, is_doubtful: &self.is_doubtful, gate })
    }
}

impl<'a, B: Backend> Held<'a, B> {
    pub(crate) fn ledger(&self) -> OutboxLedger {
        *self.ledger.borrow()
    }

    /// Commits, and then changes the account. The next transaction begins when the guard is dropped.
    pub(crate) fn finish(
        self,
        change: impl FnOnce(&mut OutboxLedger),
    ) -> Result<MutexGuard<'a, ()>, StoreError> {
        let Self { rows, ledger, is_doubtful, gate } = self;
        rows.commit().inspect_err(|_| is_doubtful.store(true, Ordering::Relaxed))?;
        ledger.send_if_modified(|ledger| {
            let before = *ledger;
            change(ledger);
            *ledger != before
        });
        Ok(gate)
    }
}

/// The number of the last wave.
pub(crate) const LAST: &[u8] = b"last";
pub(crate) const RELAYED: &[u8] = b"relayed";
pub(crate) const DROPPED: &[u8] = b"dropped";

/// A number of the file; 0 if it was never written.
pub(crate) fn count(rows: &impl Rows, name: &[u8]) -> Result<u64, StoreError> {
    Ok(rows.get(ABOUT, name)?.and_then(|row| number(&row)).unwrap_or_default())
}

/// The account as the file has it.
pub(crate) fn read_ledger(rows: &impl Rows) -> Result<OutboxLedger, StoreError> {
    Ok(OutboxLedger {
        committed: count(rows, LAST)?,
        relayed: count(rows, RELAYED)?,
        waiting: rows.count(WAVES)?,
        refused: rows.count(REFUSED)?,
        dropped: count(rows, DROPPED)?,
    })
}
