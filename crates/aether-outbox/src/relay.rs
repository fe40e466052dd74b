//! The relay: emits committed waves, in the order of their commits, until the bus has confirmed them.

mod emitting;
#[cfg(feature = "postgres")]
mod postgres;
mod settling;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aether_core::Aether;
use aether_core::wave::SourceError;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::error::chain;
use crate::ledger::OutboxLedger;
use crate::shared::Shared;
use crate::store::Store;
use emitting::{Emitting, Ending, Halt};
use settling::{Settling, next_waves};

/// Why no relay was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The store has a relay. Two of them could change the order of waves.
    #[error("the store has a relay already: one store has one relay")]
    Taken,
    /// The name of the store cannot name a vibrator.
    #[error(transparent)]
    Name(#[from] SourceError),
}

/// Emits what the transactions of a store have committed. It sleeps while nothing waits, and a commit wakes it.
///
/// A wave is removed from the store once the bus has confirmed it: on a durable channel the log has it then, over NATS
/// the server. One wave after the other is confirmed, so they have the order of the commits, also where one has to be
/// repeated. After a crash the relay begins at the first wave whose removal was not committed. A wave may therefore be
/// emitted twice, with the same identity, and logs and [`Transaction::once`](crate::Transaction::once) take the second
/// for a copy.
///
/// Dropped without [`Relay::close`], it stops at once, and what waits stays in the store.
#[derive(Debug)]
#[must_use = "the relay stops when it is dropped"]
pub struct Relay {
    task: JoinHandle<()>,
    ending: watch::Sender<Ending>,
    ledger: watch::Receiver<OutboxLedger>,
    last_error: Arc<Mutex<Option<String>>>,
}

/// The result of a relay: the account of the outbox, and why something waits. Printed at the exit of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayAccount {
    /// The account of the outbox. Waiting waves are relayed when the store is opened again.
    pub ledger: OutboxLedger,
    /// The last failure, if the relay did not get past it.
    pub last_error: Option<String>,
}

impl fmt::Display for RelayAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ledger.fmt(f)?;
        match &self.last_error {
            Some(error) if self.ledger.waiting > 0 => write!(f, "; the first of those that wait: {error}"),
            _ => Ok(()),
        }
    }
}

impl Relay {
    /// Starts the relay of a store.
    ///
    /// # Errors
    /// [`RelayError::Taken`] while the store has another relay.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<B: Backend>(store: &Store<B>, aether: &Aether) -> Result<Self, RelayError> {
        let emitter = aether.emitter(store.source().name())?;
        if store.shared().has_relay.swap(true, Ordering::AcqRel) {
            return Err(RelayError::Taken);
        }
        let place = Place(Arc::clone(store.shared()));
        let (ending, ends) = watch::channel(Ending::Open);
        let last_error = Arc::default();
        let ledger = store.shared().guarded.ledger.subscribe();
        let emitting = Emitting::new(emitter, ends, Arc::clone(&last_error));
        let running = Running { store: store.clone(), emitting };
        let task = tokio::spawn(async move {
            running.run().await;
            drop(place);
        });
        Ok(Self { task, ending, ledger, last_error })
    }

    /// Waits until nothing waits any more, at most for so long, then stops, and returns the account.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the relay stops, and what waits stays in the store.
    pub async fn close(mut self, patience: Duration) -> RelayAccount {
        self.ending.send_replace(Ending::Drained);
        let ended = match tokio::time::timeout(patience, &mut self.task).await {
            Ok(ended) => ended,
            Err(_) => {
                self.ending.send_replace(Ending::Now);
                (&mut self.task).await
            }
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the relay has ended early");
        }
        let account = self.account();
        if account.ledger.waiting + account.ledger.refused > 0 {
            tracing::warn!(%account, "waves stay in the outbox");
        }
        account
    }

    /// The account now, and the last failure if the relay has not got past it.
    #[must_use]
    pub fn account(&self) -> RelayAccount {
        RelayAccount { ledger: *self.ledger.borrow(), last_error: self.last_error.lock().clone() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The place of the only relay of a store.
struct Place<B: Backend>(Arc<Shared<B>>);

impl<B: Backend> Drop for Place<B> {
    fn drop(&mut self) {
        self.0.has_relay.store(false, Ordering::Release);
    }
}

struct Running<B: Backend> {
    store: Store<B>,
    emitting: Emitting,
}

impl<B: Backend> Running<B> {
    async fn run(mut self) {
        let mut settling = Settling::default();
        while let Err(Halt::Failed(error)) = self.relay(&mut settling).await {
            if self.emitting.fail(error, self.store.ledger().waiting).await.is_err() {
                break;
            }
        }
        // Waves that the bus has confirmed must not be emitted again.
        if let Err(error) = next_waves(&self.store, settling, 0).await.1 {
            tracing::warn!(%error, "waves that were relayed stay in the outbox, and are relayed again");
        }
    }

    async fn relay(&mut self, settling: &mut Settling) -> Result<Infallible, Halt> {
        let mut ledger = self.store.shared().guarded.ledger.subscribe();
        loop {
            let (left, waves) = next_waves(&self.store, std::mem::take(settling), settling::BATCH).await;
            *settling = left;
            let waves = waves.map_err(|error| Halt::Failed(chain(&error)))?;
            if waves.is_empty() {
                tokio::select! {
                    biased;
                    // The store lives as long as this task.
                    _ = ledger.wait_for(|ledger| ledger.waiting > 0) => {}
                    () = self.emitting.ends(Ending::Drained) => return Err(Halt::Stopped),
                }
            }
            for (number, wave) in waves {
                // After a failure the same wave is the next one, so that the order stays.
                settling.settle(number, self.emitting.emit(number, wave).await?);
            }
        }
    }
}
