//! Several waves on their way into the log, with one write and one sync.

use std::collections::VecDeque;
use std::sync::Arc;

use aether_core::medium::{BatchSettled, Medium, NotStored, Stored, StoredRange};
use aether_core::{Durability, Wave};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::keeper::{Done, KeepError, Keeper};
use crate::store::{AppendError, Entry};
use crate::storing::{Counted, carry_now, is_heard};

type Results = Vec<Result<Stored, KeepError>>;

/// Waves that were given to the log. Dropped early, they are carried once they are stored, without waiting for room.
pub(crate) struct StoringBatch {
    waves: VecDeque<Wave>,
    inner: Arc<dyn Medium>,
    result: oneshot::Receiver<Results>,
    /// Stored, and not carried yet.
    stored: VecDeque<Wave>,
    _counted: Counted,
}

/// The writing thread's view of a batch. Its records end one by one.
struct Ending {
    results: Vec<Option<Result<Stored, KeepError>>>,
    left: usize,
    /// Taken by the last one.
    answer: Option<Answer>,
}

/// Where the results go.
struct Answer {
    to: oneshot::Sender<Results>,
    /// For an emit that was cancelled: what carries its waves.
    waves: VecDeque<Wave>,
    inner: Arc<dyn Medium>,
    _counted: Counted,
}

impl Ending {
    fn end(&mut self, index: usize, result: Result<Stored, KeepError>) {
        self.left -= 1;
        if let Some(slot) = self.results.get_mut(index) {
            *slot = Some(result);
        }
        if self.left == 0
            && let Some(Answer { to, waves, inner, _counted }) = self.answer.take()
        {
            let results =
                self.results.drain(..).map(|result| result.unwrap_or(Err(AppendError::Closed.into())));
            if let Err(results) = to.send(results.collect()) {
                // The emit was cancelled, and these waves are stored.
                carry_stored(&*inner, waves.into_iter().zip(results));
            }
        }
    }
}

/// Carries those that were stored, without waiting for room.
fn carry_stored(inner: &dyn Medium, waves: impl Iterator<Item = (Wave, Result<Stored, KeepError>)>) {
    for (wave, result) in waves {
        if let Ok(stored) = result {
            carry_now(inner, wave, stored);
        }
    }
}

impl StoringBatch {
    /// Gives waves with their records to the log: all, or none.
    pub(crate) fn begin(
        keeper: &Keeper,
        (waves, entries): (VecDeque<Wave>, Vec<Entry>),
        level: Durability,
        inner: &Arc<dyn Medium>,
        storing: &Arc<watch::Sender<u64>>,
    ) -> Result<Self, (VecDeque<Wave>, AppendError)> {
        let (to, result) = oneshot::channel();
        let (left, waves_again, counted) = (entries.len(), waves.clone(), Counted::new(storing));
        let answer = Some(Answer { to, waves: waves_again, inner: Arc::clone(inner), _counted: counted });
        let ending = Ending { results: (0..left).map(|_| None).collect(), left, answer };
        let ending = Arc::new(Mutex::new(ending));
        let record = |(index, entry)| {
            let ending = Arc::clone(&ending);
            let done = move |result| ending.lock().end(index, result);
            (entry, Box::new(done) as Done)
        };
        if let Err(error) = keeper.keep(entries.into_iter().enumerate().map(record).collect(), level) {
            return Err((waves, error));
        }
        let (inner, counted) = (Arc::clone(inner), Counted::new(storing));
        Ok(Self { waves, inner, result, stored: VecDeque::new(), _counted: counted })
    }

    /// Stores the waves and then carries them in their order.
    pub(crate) async fn carried(mut self) -> BatchSettled {
        // A log that is closed has answered before.
        let results = (&mut self.result).await.unwrap_or_default();
        let mut settled = BatchSettled::default();
        let mut results = results.into_iter();
        while let Some(wave) = self.waves.pop_front() {
            match results.next().unwrap_or(Err(AppendError::Closed.into())) {
                Ok(stored) => {
                    settled.stored = Some(StoredRange::with(settled.stored, stored));
                    if is_heard(&*self.inner, &wave, stored) {
                        self.stored.push_back(wave);
                    }
                }
                Err(error) => {
                    settled.refused.push(NotStored::new(wave, error.is_transient(), error.into_reason()))
                }
            }
        }
        while !self.stored.is_empty() {
            match self.inner.carry_all(&mut self.stored) {
                Ok(None) => {}
                Ok(Some(waiting)) => drop(waiting.finish_all().await),
                // The log has it, so the emit has not failed. Its consumers get the wave.
                Err(error) => tracing::warn!(%error, "a wave was stored, but the medium did not take it"),
            }
        }
        settled
    }
}

impl Drop for StoringBatch {
    fn drop(&mut self) {
        self.stored.drain(..).for_each(|wave| drop(self.inner.carry(wave)));
        if self.waves.is_empty() {
            return;
        }
        // The writing thread either finds the channel closed and carries the waves, or has answered already.
        self.result.close();
        if let Ok(results) = self.result.try_recv() {
            carry_stored(&*self.inner, self.waves.drain(..).zip(results));
        }
    }
}
