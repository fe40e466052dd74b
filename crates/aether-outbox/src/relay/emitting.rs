//! How a relay emits one wave after the other, pauses, and ends.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{ConfirmError, EmitError, Emitter, Wave};
use aether_link::wire::EncodeError;
use aether_log::store::AppendError;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::settling::Fate;
use crate::error::chain;

/// The pause after the first failure of a series, which doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// When a relay ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    /// As soon as nothing waits.
    Drained,
    Now,
}

/// Why a relay does not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// It ends.
    Stopped,
    /// It tries again after a pause.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Emitting {
    emitter: Emitter,
    ending: watch::Receiver<Ending>,
    last_error: Arc<Mutex<Option<String>>>,
    pause: Duration,
}

impl Emitting {
    pub(super) const fn new(
        emitter: Emitter,
        ending: watch::Receiver<Ending>,
        last_error: Arc<Mutex<Option<String>>>,
    ) -> Self {
        Self { emitter, ending, last_error, pause: FIRST_PAUSE }
    }

    /// Emits a wave, which is `None` if its row cannot be read.
    pub(super) async fn emit(&mut self, number: u64, wave: Option<Wave>) -> Result<Fate, Halt> {
        let Some(wave) = wave else {
            return Ok(Fate::Refused("the row cannot be read as a wave".to_owned()));
        };
        // A bus that takes each wave at once would let the wait below never see the end.
        if *self.ending.borrow() == Ending::Now {
            return Err(Halt::Stopped);
        }
        let emitted = tokio::select! {
            biased;
            emitted = self.emitter.emit_identified(wave) => emitted,
            () = self.ends(Ending::Now) => return Err(Halt::Stopped),
        };
        let fate = match emitted.map_err(classified) {
            Ok(_) => Fate::Relayed,
            Err(Failed::Closed(error)) => {
                *self.last_error.lock() = Some(error);
                return Err(Halt::Stopped);
            }
            Err(Failed::Wave(reason)) => {
                tracing::error!(number, reason, "the bus will never take a wave of the outbox: it is kept");
                Fate::Refused(reason)
            }
            Err(Failed::Bus(error)) => return Err(Halt::Failed(error)),
        };
        if self.last_error.lock().take().is_some() {
            tracing::info!("the relay goes on");
            self.pause = FIRST_PAUSE;
        }
        Ok(fate)
    }

    /// Notes a failure, reports the first of a series, and pauses.
    pub(super) async fn fail(&mut self, error: String, waiting: u64) -> Result<(), Halt> {
        if self.last_error.lock().replace(error.clone()).is_none() {
            tracing::warn!(error, waiting, "the relay waits, and tries again");
        }
        let paused = self.pause;
        self.pause = paused.saturating_mul(2).min(LONGEST_PAUSE);
        tokio::select! {
            biased;
            () = self.ends(Ending::Now) => Err(Halt::Stopped),
            () = tokio::time::sleep(paused) => Ok(()),
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn ending(&self) -> Ending {
        *self.ending.borrow()
    }

    /// Waits until the relay is to end in this way or sooner. A relay that was dropped ends as well.
    pub(super) async fn ends(&self, how: Ending) {
        let _ = self.ending.clone().wait_for(|ending| *ending == Ending::Now || *ending == how).await;
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
