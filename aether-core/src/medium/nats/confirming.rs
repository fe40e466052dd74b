//! Waves whose emitters wait until the server has them: finds out which of them the outbox sheds.
//!
//! [`settling`](super::settling) watches a wave for as long as its emitter waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::inbox::ShedReason;
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
pub(super) struct Watched {
    confirming: Arc<Confirming>,
    pub(super) id: WaveId,
}

impl Confirming {
    pub(super) fn watch(self: &Arc<Self>, wave: &Wave) -> (Watched, oneshot::Receiver<ShedReason>) {
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
