//! Waves whose emitters wait until the server has them: finds out which of them the outbox sheds.
//!
//! [`Nats::carry_confirmed`](crate::medium::Medium::carry_confirmed) watches a wave for as long as it waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Nats;
use crate::inbox::ShedReason;
use crate::medium::{ConfirmError, Medium};
use crate::router::{Carried, Offered};
use crate::source::WaveId;
use crate::wave::Wave;

/// The watched waves. There are as many as emitters that wait.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    watched: Mutex<HashMap<WaveId, oneshot::Sender<ShedReason>>>,
    /// The number of watched waves, so that an overload that sheds many waves does not look each of them up.
    count: AtomicUsize,
}

/// Watches one wave until it is dropped.
struct Watched {
    confirming: Arc<Confirming>,
    id: WaveId,
}

impl Confirming {
    fn watch(self: &Arc<Self>, wave: &Wave) -> (Watched, oneshot::Receiver<ShedReason>) {
        let (id, (sender, shed)) = (wave.id(), oneshot::channel());
        let mut watched = self.watched.lock();
        watched.insert(id.clone(), sender);
        self.count.store(watched.len(), Ordering::Release);
        (Watched { confirming: Arc::clone(self), id }, shed)
    }

    /// Called with every wave that the outbox sheds.
    pub(super) fn shed(&self, wave: &Wave, reason: ShedReason) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(emitter) = self.watched.lock().remove(&wave.id()) {
            // Fails if the emitter no longer waits.
            let _ = emitter.send(reason);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watched = self.confirming.watched.lock();
        watched.remove(&self.id);
        self.confirming.count.store(watched.len(), Ordering::Release);
    }
}

impl Nats {
    /// Accepts a wave and waits until the server has confirmed it, or the outbox has shed it.
    pub(super) async fn carry_and_settle(&self, wave: Wave) -> Result<Offered, ConfirmError> {
        let (watched, mut shed) = self.confirming.watch(&wave);
        let id = watched.id.clone();
        let confirmed = async {
            let offered = match self.carry(wave)? {
                Carried::Done(offered) => offered,
                Carried::Waiting(waiting) => waiting.finish().await,
            };
            let settled = self.settle().await;
            settled.map(|()| offered).map_err(|source| ConfirmError::Unconfirmed { id: id.clone(), source })
        };
        tokio::select! {
            // What was shed is not confirmed, although everything else may be.
            biased;
            Ok(reason) = &mut shed => Err(ConfirmError::Shed { id: id.clone(), reason: Some(reason) }),
            confirmed = confirmed => match shed.try_recv() {
                Ok(reason) => Err(ConfirmError::Shed { id, reason: Some(reason) }),
                Err(_) => confirmed,
            },
        }
    }
}
