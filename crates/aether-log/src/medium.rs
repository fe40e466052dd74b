//! A medium that stores the waves of durable channels before it carries them.
//!
//! `connect` of a log puts it around the medium of an address. Waves of other channels pass through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aether_core::medium::{
    Carried, Details, Medium, MediumStatus, NotStored, Offered, Promises, Reach, Settled, Subscription,
    Waiting,
};
use aether_core::{AskError, Channel, ConfirmError, Durability, EmitError, FlushError, JoinError, Wave};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::channels::Channels;
use crate::keeper::Keeper;
use crate::later::{KeptForLater, settled};
use crate::stored_wave::{MAX_PAYLOAD, entry};
use crate::storing::{Storing, is_heard, not_carried};
use crate::storing_batch::StoringBatch;

/// The largest number of bytes of waves that are stored together. One wave more may be in it.
const MAX_BATCH_BYTES: usize = 4 << 20;

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

impl DurableMedium {
    pub(crate) fn new(inner: Arc<dyn Medium>, keeper: Keeper, channels: Arc<Channels>) -> Self {
        let storing = Arc::new(watch::Sender::new(0));
        Self { inner, keeper, channels, storing, is_closed: AtomicBool::new(false) }
    }

    /// Refuses waves that cannot be stored.
    fn check(&self, wave: Wave) -> Result<Wave, EmitError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EmitError::Closed { wave });
        }
        let bytes = wave.payload().len();
        if bytes > MAX_PAYLOAD {
            return Err(EmitError::TooLarge { wave, bytes, max_bytes: MAX_PAYLOAD });
        }
        Ok(wave)
    }

    /// Gives a wave to the log.
    fn store(&self, wave: Wave, level: Durability) -> Result<Storing, EmitError> {
        let wave = self.check(wave)?;
        Ok(Storing::begin(&self.keeper, wave, level, &self.inner, &self.storing)?)
    }

    /// Gives a wave to the log that is not due yet.
    fn store_for_later(
        &self,
        wave: Wave,
        due: SystemTime,
        level: Durability,
    ) -> Result<KeptForLater, EmitError> {
        let wave = self.check(wave)?;
        Ok(KeptForLater::begin(&self.keeper, wave, due, level, &self.storing)?)
    }

    /// Gives the first waves to the log that are not due yet and of this level, as [`Self::store_all`].
    fn store_all_for_later(
        &self,
        waves: &mut VecDeque<Wave>,
        level: Durability,
    ) -> Result<Option<Waiting>, EmitError> {
        let mut begun = Vec::new();
        while let Some(wave) = waves.pop_front() {
            let due = wave.due_later().filter(|_| self.channels.durability(wave.channel()) == level);
            let Some(due) = due.filter(|_| begun.len() < self.keeper.max_batch()) else {
                waves.push_front(wave);
                break;
            };
            match self.store_for_later(wave, due, level) {
                Ok(kept) => begun.push(kept),
                Err(error) if begun.is_empty() => return Err(error),
                Err(error) => {
                    error.into_wave().into_iter().for_each(|wave| waves.push_front(wave));
                    break;
                }
            }
        }
        Ok((!begun.is_empty()).then(|| Waiting::for_batch(settled(begun))))
    }

    /// Gives the first waves to the log that are of this level. The first one that is refused stays, or is returned if there
    /// are none before it.
    fn store_all(&self, waves: &mut VecDeque<Wave>, level: Durability) -> Result<Option<Waiting>, EmitError> {
        let most = self.keeper.max_batch();
        let (mut batch, mut entries, mut bytes) = (VecDeque::new(), Vec::new(), 0);
        while let Some(wave) = waves.pop_front() {
            if batch.len() == most
                || bytes > MAX_BATCH_BYTES
                || self.channels.durability(wave.channel()) != level
                || wave.due_later().is_some()
            {
                waves.push_front(wave);
                break;
            }
            let checked = self.check(wave).and_then(|wave| match entry(&wave) {
                Ok(entry) => Ok((wave, entry)),
                Err(error) => Err(NotStored::new(wave, false, error).into()),
            });
            match checked {
                Ok((wave, entry)) => {
                    bytes += entry.body.len();
                    batch.push_back(wave);
                    entries.push(entry);
                }
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    error.into_wave().into_iter().for_each(|wave| waves.push_front(wave));
                    break;
                }
            }
        }
        let begun = StoringBatch::begin(&self.keeper, (batch, entries), level, &self.inner, &self.storing);
        match begun {
            Ok(storing) => Ok(Some(Waiting::for_batch(storing.carried()))),
            Err((mut batch, error)) => {
                let Some(first) = batch.pop_front() else { return Ok(None) };
                batch.into_iter().rev().for_each(|wave| waves.push_front(wave));
                Err(NotStored::new(first, error.is_transient(), error).into())
            }
        }
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
            level => Ok(Carried::Waiting(match wave.due_later() {
                None => Waiting::for_storage(self.store(wave, level)?.carried()),
                Some(due) => Waiting::for_storage(self.store_for_later(wave, due, level)?.stored()),
            })),
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
            _ => self.keeper.max_batch(),
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
            if let Some(wave) = waves.front() {
                let level = self.channels.durability(wave.channel());
                // One that was due a moment ago may be due now.
                if wave.due_later().is_some()
                    && let Some(waiting) = self.store_all_for_later(waves, level)?
                {
                    return Ok(Some(waiting));
                }
                return self.store_all(waves, level);
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
                if let Some(due) = wave.due_later() {
                    let kept = self.store_for_later(wave, due, level)?;
                    return Ok(kept.stored().await.map_err(EmitError::from)?);
                }
                let mut storing = self.store(wave, level)?;
                let (wave, stored) = storing.stored().await.map_err(EmitError::from)?;
                // The log has it, and that is what is confirmed.
                if !is_heard(&*self.inner, &wave, stored) {
                    return Ok(Settled { offered: Offered::to(0), stored: Some(stored) });
                }
                let offered = match self.inner.carry_confirmed(wave).await {
                    Ok(settled) => settled.offered,
                    Err(error) => not_carried(stored, &error),
                };
                Ok(Settled { offered, stored: Some(stored) })
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
        let mut status = self.inner.status();
        self.keeper.add_to(&mut status);
        status
    }

    fn keeps(&self, channel: &Channel) -> bool {
        self.channels.durability(channel) != Durability::None || self.inner.keeps(channel)
    }

    fn details(&self, into: &mut Details) {
        self.inner.details(into);
        self.keeper.details(into);
    }

    fn connection(&self) -> Option<watch::Receiver<bool>> {
        self.inner.connection()
    }

    fn reaches_others(&self) -> Option<watch::Receiver<bool>> {
        self.inner.reaches_others()
    }
}
