//! The relay: emits committed waves, in the order of their commits, until the bus has confirmed them.

mod settling;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aether_core::wave::SourceError;
use aether_core::{Aether, ConfirmError, EmitError, Emitter};
use aether_link::wire::EncodeError;
use aether_log::store::AppendError;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::error::chain;
use crate::ledger::OutboxLedger;
use crate::shared::Shared;
use crate::store::Store;
use settling::{Fate, Settling, next_waves};

/// The pause after the first failure of a series, which doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    stop: watch::Sender<bool>,
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
        let (stop, stopped) = watch::channel(false);
        let last_error = Arc::default();
        let ledger = store.shared().guarded.ledger.subscribe();
        let running = Running { store: store.clone(), emitter, last_error: Arc::clone(&last_error), stopped };
        let task = tokio::spawn(async move {
            running.run().await;
            drop(place);
        });
        Ok(Self { task, stop, ledger, last_error })
    }

    /// Waits until nothing waits any more, at most for so long, then stops, and returns the account.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the relay stops, and what waits stays in the store.
    pub async fn close(mut self, patience: Duration) -> RelayAccount {
        let task = &mut self.task;
        let ledger = &mut self.ledger;
        let drained = async { drop(ledger.wait_for(|ledger| ledger.waiting == 0).await) };
        tokio::select! {
            biased;
            _ = &mut *task => {}
            _ = tokio::time::timeout(patience, drained) => {}
        }
        self.stop.send_replace(true);
        if !self.task.is_finished()
            && let Err(error) = (&mut self.task).await
        {
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
    emitter: Emitter,
    last_error: Arc<Mutex<Option<String>>>,
    stopped: watch::Receiver<bool>,
}

/// Ends the relay.
struct Stopped;

impl<B: Backend> Running<B> {
    async fn run(mut self) {
        let mut settling = Settling::default();
        let Err(Stopped) = self.relay(&mut settling).await;
        // Waves that the bus has confirmed must not be emitted again.
        if let Err(error) = next_waves(&self.store, settling, 0).await.1 {
            tracing::warn!(%error, "waves that were relayed stay in the outbox, and are relayed again");
        }
    }

    async fn relay(&mut self, settling: &mut Settling) -> Result<std::convert::Infallible, Stopped> {
        let mut ledger = self.store.shared().guarded.ledger.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let (left, waves) = next_waves(&self.store, std::mem::take(settling), settling::BATCH).await;
            *settling = left;
            let waves = match waves {
                Ok(waves) => waves,
                Err(error) => {
                    self.fail(chain(&error), &mut pause).await?;
                    continue;
                }
            };
            if waves.is_empty() {
                tokio::select! {
                    biased;
                    stopped = self.is_stopped() => return Err(stopped),
                    // The store lives as long as this task.
                    _ = ledger.wait_for(|ledger| ledger.waiting > 0) => {}
                }
                continue;
            }
            for (number, wave) in waves {
                let Some(wave) = wave else {
                    settling.settle(number, Fate::Refused("the row cannot be read as a wave".to_owned()));
                    continue;
                };
                // A bus that takes each wave at once would let the wait below never see the end.
                if *self.stopped.borrow() {
                    return Err(Stopped);
                }
                let emitted = tokio::select! {
                    biased;
                    emitted = self.emitter.emit_identified(wave) => emitted,
                    stopped = self.is_stopped() => return Err(stopped),
                };
                match emitted.map_err(classified) {
                    Ok(_) => settling.settle(number, Fate::Relayed),
                    Err(Failed::Closed(error)) => {
                        *self.last_error.lock() = Some(error);
                        return Err(Stopped);
                    }
                    Err(Failed::Wave(reason)) => {
                        tracing::error!(
                            number,
                            reason,
                            "the bus will never take a wave of the outbox: it is kept"
                        );
                        settling.settle(number, Fate::Refused(reason));
                    }
                    // This wave first, so that the order stays.
                    Err(Failed::Bus(error)) => {
                        self.fail(error, &mut pause).await?;
                        break;
                    }
                }
                if self.last_error.lock().take().is_some() {
                    tracing::info!("the relay goes on");
                    pause = FIRST_PAUSE;
                }
            }
        }
    }

    /// Notes a failure, reports the first of a series, and pauses.
    async fn fail(&mut self, error: String, pause: &mut Duration) -> Result<(), Stopped> {
        if self.last_error.lock().replace(error.clone()).is_none() {
            let waiting = self.store.ledger().waiting;
            tracing::warn!(error, waiting, "the relay waits, and tries again");
        }
        let paused = *pause;
        *pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        tokio::select! {
            biased;
            stopped = self.is_stopped() => Err(stopped),
            () = tokio::time::sleep(paused) => Ok(()),
        }
    }

    async fn is_stopped(&self) -> Stopped {
        // A relay that was dropped stops as well.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
        Stopped
    }
}

/// Why a wave was not relayed.
enum Failed {
    /// The bus is closed for good.
    Closed(String),
    /// The bus will never take this wave.
    Wave(String),
    /// The bus may take it later.
    Bus(String),
}

fn classified(error: ConfirmError) -> Failed {
    match &error {
        ConfirmError::Emit(EmitError::Closed { .. }) => Failed::Closed(chain(&error)),
        ConfirmError::Emit(
            EmitError::TooLarge { .. }
            | EmitError::TooFar { .. }
            | EmitError::Reserved { .. }
            | EmitError::Invalid(_),
        ) => Failed::Wave(chain(&error)),
        // A log that has failed takes the wave after it was opened again, so only what is wrong with the wave counts.
        ConfirmError::Emit(EmitError::NotStored(refused))
            if matches!(refused.source.downcast_ref(), Some(AppendError::TooLarge { .. }))
                || refused.source.is::<EncodeError>() =>
        {
            Failed::Wave(chain(&error))
        }
        _ => Failed::Bus(chain(&error)),
    }
}
