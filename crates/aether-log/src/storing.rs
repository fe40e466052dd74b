//! Waves on their way into the log, and from there to the medium. Dropped early, they are carried all the same.

use std::sync::Arc;

use aether_core::medium::{Carried, Medium, NotStored, Offered, Settled, Stored};
use aether_core::{Durability, Wave};
use aether_link::wire::{frame_bound, record_bound};
use tokio::sync::{oneshot, watch};

use crate::keeper::{KeepError, Keeper};
use crate::store::AppendError;
use crate::stored_wave::entry;

/// Counts a wave, or several that are stored together, as being stored.
#[derive(Debug)]
pub(crate) struct Counted(Arc<watch::Sender<u64>>);

impl Counted {
    pub(crate) fn new(storing: &Arc<watch::Sender<u64>>) -> Self {
        storing.send_modify(|waves| *waves += 1);
        Self(Arc::clone(storing))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|waves| *waves -= 1);
    }
}

/// A wave that was given to the log. Dropped early, it is carried once it is stored, without waiting for room.
pub(crate) struct Storing {
    wave: Option<Wave>,
    inner: Arc<dyn Medium>,
    result: oneshot::Receiver<Result<Stored, KeepError>>,
    _counted: Counted,
}

impl Storing {
    /// Gives a wave to the log.
    pub(crate) fn begin(
        keeper: &Keeper,
        wave: Wave,
        level: Durability,
        inner: &Arc<dyn Medium>,
        storing: &Arc<watch::Sender<u64>>,
    ) -> Result<Self, NotStored> {
        let entry = match entry(&wave) {
            Ok(entry) => entry,
            Err(error) => return Err(NotStored::new(wave, false, error)),
        };
        let (answer, result) = oneshot::channel();
        let (late, carrier, counted) = (wave.clone(), Arc::clone(inner), Counted::new(storing));
        let done = Box::new(move |result: Result<Stored, KeepError>| {
            if let Err(Ok(stored)) = answer.send(result) {
                // The emit was cancelled, and the wave is stored.
                carry_now(&*carrier, late, stored);
            }
            drop(counted);
        });
        if let Err(error) = keeper.keep(vec![(entry, done)], level) {
            return Err(NotStored::new(wave, error.is_transient(), error));
        }
        let (inner, counted) = (Arc::clone(inner), Counted::new(storing));
        Ok(Self { wave: Some(wave), inner, result, _counted: counted })
    }

    /// Waits until the wave is stored.
    pub(crate) async fn stored(&mut self) -> Result<(Wave, Stored), NotStored> {
        let result = (&mut self.result).await;
        // Not before: this future may be dropped while it waits.
        let wave = self.wave.take().unwrap_or_else(blank);
        match result.unwrap_or(Err(AppendError::Closed.into())) {
            Ok(stored) => Ok((wave, stored)),
            Err(error) => Err(NotStored::new(wave, error.is_transient(), error.into_reason())),
        }
    }

    /// Stores the wave and then carries it.
    pub(crate) async fn carried(mut self) -> Result<Settled, NotStored> {
        let (wave, stored) = self.stored().await?;
        if !is_heard(&*self.inner, &wave, stored) {
            return Ok(Settled { offered: Offered::to(0), stored: Some(stored) });
        }
        let offered = match self.inner.carry(wave) {
            Ok(Carried::Done(offered)) => offered,
            Ok(Carried::Waiting(waiting)) => waiting.finish().await?.offered,
            Err(error) => not_carried(stored, &error),
        };
        Ok(Settled { offered, stored: Some(stored) })
    }
}

/// Whether a medium is to carry a wave that the log has. Not if it is larger than the medium takes, or another one than the
/// unique wave that was there; the same wave may have been stored without being carried.
pub(crate) fn is_heard(medium: &dyn Medium, wave: &Wave, stored: Stored) -> bool {
    let promises = medium.promises();
    let bytes = match promises.crosses_processes {
        true => frame_bound(Some(wave.channel())) + record_bound(wave),
        false => wave.payload().len(),
    };
    bytes <= promises.max_payload && !(stored.is_copy && wave.unique().is_some())
}

/// Carries a wave that is stored, without waiting for room.
pub(crate) fn carry_now(medium: &dyn Medium, wave: Wave, stored: Stored) {
    if is_heard(medium, &wave, stored) {
        drop(medium.carry(wave));
    }
}

/// The log has the wave, so the emit has not failed. Its consumers get the wave.
pub(crate) fn not_carried(stored: Stored, error: &impl std::fmt::Display) -> Offered {
    tracing::warn!(position = stored.position, %error, "a wave was stored, but the medium did not take it");
    Offered::UNKNOWN
}

/// A placeholder for a wave that was taken before, which does not happen.
fn blank() -> Wave {
    Wave::builder("none").build().unwrap_or_else(|_| unreachable!("a channel of one token"))
}

impl Drop for Storing {
    fn drop(&mut self) {
        let Some(wave) = self.wave.take() else { return };
        // The writing thread either finds the channel closed and carries the wave, or has answered already.
        self.result.close();
        if let Ok(Ok(stored)) = self.result.try_recv() {
            carry_now(&*self.inner, wave, stored);
        }
    }
}
