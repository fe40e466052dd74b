//! A medium that stores the waves of durable channels before it carries them.
//!
//! `connect` of a log puts it around the medium of an address. Waves of other channels pass through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_core::medium::{
    AskError, Carried, ConfirmError, EmitError, FlushError, JoinError, Medium, MediumStatus, NotStored,
    Offered, Promises, Reach, Settled, Stored, Subscription, Waiting,
};
use aether_core::wire::{frame_bound, record_bound};
use aether_core::{Durability, Wave};
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use crate::channels::Channels;
use crate::keeper::{KeepError, Keeper};
use crate::store::AppendError;

/// How long a flush waits for waves that are being stored.
const FLUSHED_WITHIN: Duration = Duration::from_secs(30);

/// Why a wave of a durable channel was not even given to the log.
#[derive(Debug, thiserror::Error)]
#[error("a durable channel needs emit, which waits for the log: try_emit never waits")]
struct NeverWaits;

#[derive(Debug)]
pub(crate) struct DurableMedium {
    inner: Arc<dyn Medium>,
    keeper: Keeper,
    channels: Arc<Channels>,
    /// The number of waves that are being stored.
    storing: Arc<watch::Sender<u64>>,
    is_closed: AtomicBool,
}

/// Counts a wave while it is being stored.
#[derive(Debug)]
struct Counted(Arc<watch::Sender<u64>>);

impl Counted {
    fn new(storing: &Arc<watch::Sender<u64>>) -> Self {
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
struct Storing {
    wave: Option<Wave>,
    inner: Arc<dyn Medium>,
    result: oneshot::Receiver<Result<Stored, KeepError>>,
    _counted: Counted,
}

impl Storing {
    /// Waits until the wave is stored.
    async fn stored(&mut self) -> Result<(Wave, Stored), NotStored> {
        let result = (&mut self.result).await;
        // Not before: this future may be dropped while it waits.
        let wave = self.wave.take().unwrap_or_else(blank);
        match result.unwrap_or(Err(AppendError::Closed.into())) {
            Ok(stored) => Ok((wave, stored)),
            Err(error) => Err(NotStored::new(wave, error.is_transient(), error.into_reason())),
        }
    }

    /// Stores the wave and then carries it.
    async fn carried(mut self) -> Result<Settled, NotStored> {
        let (wave, stored) = self.stored().await?;
        let offered = match self.inner.carry(wave) {
            Ok(Carried::Done(offered)) => offered,
            Ok(Carried::Waiting(waiting)) => waiting.finish().await?.offered,
            Err(error) => not_carried(stored, &error),
        };
        Ok(Settled { offered, stored: Some(stored) })
    }
}

/// The log has the wave, so that is no failure of the emit. Its consumers get the wave.
fn not_carried(stored: Stored, error: &EmitError) -> Offered {
    tracing::warn!(position = stored.position, %error, "a wave was stored, but the medium did not take it");
    Offered::UNKNOWN
}

/// Stands for a wave that was taken before, which does not happen.
fn blank() -> Wave {
    Wave::builder("none").build().unwrap_or_else(|_| unreachable!("a channel of one token"))
}

impl Drop for Storing {
    fn drop(&mut self) {
        let Some(wave) = self.wave.take() else { return };
        // The writing thread either finds the channel closed and carries the wave, or has answered already.
        self.result.close();
        if let Ok(Ok(_)) = self.result.try_recv() {
            drop(self.inner.carry(wave));
        }
    }
}

impl DurableMedium {
    pub(crate) fn new(inner: Arc<dyn Medium>, keeper: Keeper, channels: Arc<Channels>) -> Self {
        let storing = Arc::new(watch::Sender::new(0));
        Self { inner, keeper, channels, storing, is_closed: AtomicBool::new(false) }
    }

    /// Gives a wave to the log.
    fn store(&self, wave: Wave, level: Durability) -> Result<Storing, EmitError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EmitError::Closed { wave });
        }
        // What is stored has to fit through the medium as well.
        let promises = self.inner.promises();
        let bytes = match promises.crosses_processes {
            true => frame_bound(Some(wave.channel())) + record_bound(&wave),
            false => wave.payload().len(),
        };
        if bytes > promises.max_payload {
            return Err(EmitError::TooLarge { wave, bytes, max_bytes: promises.max_payload });
        }
        let (answer, result) = oneshot::channel();
        let (late, inner, counted) = (wave.clone(), Arc::clone(&self.inner), Counted::new(&self.storing));
        let done = move |result: Result<Stored, KeepError>| {
            if let Err(Ok(_)) = answer.send(result) {
                // The emit was cancelled, and the wave is stored.
                drop(inner.carry(late));
            }
            drop(counted);
        };
        if let Err(error) = self.keeper.keep(&wave, level, done) {
            return Err(NotStored::new(wave, error.is_transient(), error.into_reason()).into());
        }
        let (inner, counted) = (Arc::clone(&self.inner), Counted::new(&self.storing));
        Ok(Storing { wave: Some(wave), inner, result, _counted: counted })
    }

    /// Waits until no wave is being stored.
    async fn settled(&self) -> Result<(), FlushError> {
        let mut storing = self.storing.subscribe();
        let settled = tokio::time::timeout(FLUSHED_WITHIN, storing.wait_for(|waves| *waves == 0)).await;
        let unconfirmed =
            |_| FlushError::Unconfirmed { waves: *self.storing.borrow(), patience: FLUSHED_WITHIN };
        settled.map(drop).map_err(unconfirmed)
    }
}

impl Medium for DurableMedium {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        match self.channels.durability(wave.channel()) {
            Durability::None => self.inner.carry(wave),
            level => Ok(Carried::Waiting(Waiting::for_storage(self.store(wave, level)?.carried()))),
        }
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        match self.channels.durability(wave.channel()) {
            Durability::None => self.inner.try_carry(wave),
            _ => Err(NotStored::new(wave, false, NeverWaits).into()),
        }
    }

    fn room_for(&self, wave: &Wave) -> usize {
        match self.channels.durability(wave.channel()) {
            Durability::None => self.inner.room_for(wave),
            _ => 1,
        }
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        loop {
            let is_plain = |wave: &&Wave| self.channels.durability(wave.channel()) == Durability::None;
            let plain = waves.iter().take_while(is_plain).count();
            if plain == waves.len() {
                return self.inner.carry_all(waves);
            }
            let mut first: VecDeque<_> = waves.drain(..plain).collect();
            let carried = self.inner.carry_all(&mut first);
            first.into_iter().rev().for_each(|wave| waves.push_front(wave));
            if !matches!(carried, Ok(None)) {
                return carried;
            }
            if let Some(wave) = waves.pop_front()
                && let Carried::Waiting(waiting) = self.carry(wave)?
            {
                return Ok(Some(waiting));
            }
        }
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        self.inner.join(subscription)
    }

    fn leave(&self, subscription: &Subscription) {
        self.inner.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        self.inner.ask(question, patience)
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        self.inner.notify(notices)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            let settled = self.settled().await;
            self.inner.flush().await.and(settled)
        })
    }

    fn carry_confirmed(&self, wave: Wave) -> BoxFuture<'_, Result<Settled, ConfirmError>> {
        match self.channels.durability(wave.channel()) {
            Durability::None => self.inner.carry_confirmed(wave),
            level => Box::pin(async move {
                let mut storing = self.store(wave, level)?;
                let (wave, stored) = storing.stored().await.map_err(EmitError::from)?;
                let settled = self.inner.carry_confirmed(wave).await?;
                Ok(Settled { stored: Some(stored), ..settled })
            }),
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            self.is_closed.store(true, Ordering::Release);
            let settled = self.settled().await;
            self.inner.close().await.and(settled)
        })
    }

    fn status(&self) -> MediumStatus {
        self.inner.status()
    }

    fn connection(&self) -> Option<watch::Receiver<bool>> {
        self.inner.connection()
    }
}
