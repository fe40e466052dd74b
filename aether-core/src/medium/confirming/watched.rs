//! Waves whose emitters wait until the broker has them: finds out which of them the outbox sheds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::ConfirmError;
use crate::inbox::{InboxOptions, ShedReason};
use crate::medium::{EmitError, FlushError, Medium};
use crate::router::{Carried, Settled};
use crate::source::WaveId;
use crate::wave::Wave;

/// The watched waves. There are as many as emitters that wait.
#[derive(Debug, Default)]
pub(in crate::medium) struct Confirming {
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
    /// The options of an outbox that tells what it sheds.
    pub(in crate::medium) fn watching(self: &Arc<Self>, options: InboxOptions) -> InboxOptions {
        let confirming = Arc::clone(self);
        options.also_on_shed(move |wave, reason| confirming.shed(wave, reason))
    }

    /// Carries a wave and waits until `settle` has confirmed everything before it, or the outbox has shed the wave.
    pub(in crate::medium) async fn carry_and_settle(
        self: &Arc<Self>,
        medium: &(impl Medium + ?Sized),
        wave: Wave,
        settle: impl Future<Output = Result<(), FlushError>>,
    ) -> Result<Settled, ConfirmError> {
        let (watched, mut shed) = self.watch(&wave);
        let id = watched.id.clone();
        let confirmed = async {
            let offered = match medium.carry(wave)? {
                Carried::Done(offered) => offered.into(),
                Carried::Waiting(waiting) => waiting.finish().await.map_err(EmitError::from)?,
            };
            settle
                .await
                .map(|()| offered)
                .map_err(|source| ConfirmError::Unconfirmed { id: id.clone(), source })
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

    fn watch(self: &Arc<Self>, wave: &Wave) -> (Watched, oneshot::Receiver<ShedReason>) {
        let (id, (sender, shed)) = (wave.id(), oneshot::channel());
        let mut watched = self.watched.lock();
        watched.insert(id.clone(), sender);
        self.count.store(watched.len(), Ordering::Release);
        (Watched { confirming: Arc::clone(self), id }, shed)
    }

    /// Called with every wave that the outbox sheds.
    fn shed(&self, wave: &Wave, reason: ShedReason) {
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
