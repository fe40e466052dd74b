//! Confirmation: the bounded wait until the broker has what was emitted, and the waves that the outbox sheds or the
//! broker refuses while their emitters wait.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use aether_core::medium::{Carried, Medium, Settled};
use aether_core::{Channel, ConfirmError, EmitError, FlushError, InboxOptions, ShedReason, Wave, WaveId};

/// Flushing and closing give up after this long even with continuous progress. An outbox that is emptied this slowly is not
/// empty before the person ending the process loses patience.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// The watched waves. There are as many as emitters that wait.
#[derive(Debug, Default)]
pub struct Confirming {
    watched: Mutex<HashMap<WaveId, Emitter>>,
    /// The number of watched waves, so that an overload that sheds many waves does not look each of them up.
    count: AtomicUsize,
}

/// The emitter of a watched wave.
#[derive(Debug)]
struct Emitter {
    channel: Channel,
    told: oneshot::Sender<Lost>,
}

/// Why a watched wave will not be confirmed.
#[derive(Debug)]
enum Lost {
    Shed(ShedReason),
    NotPermitted(Channel),
}

impl Lost {
    fn error(self, id: WaveId) -> ConfirmError {
        match self {
            Self::Shed(reason) => ConfirmError::Shed { id, reason: Some(reason) },
            Self::NotPermitted(channel) => ConfirmError::NotPermitted { id, channel },
        }
    }
}

/// Watches one wave until it is dropped.
struct Watched {
    confirming: Arc<Confirming>,
    id: WaveId,
}

impl Confirming {
    /// The options of an outbox that tells what it sheds.
    pub fn watching(self: &Arc<Self>, options: InboxOptions) -> InboxOptions {
        let confirming = Arc::clone(self);
        options.also_on_shed(move |wave, reason| confirming.shed(wave, reason))
    }

    /// Carries a wave and waits until `settle` has confirmed everything before it, or the outbox has shed the wave, or the
    /// broker has refused it.
    pub async fn carry_and_settle(
        self: &Arc<Self>,
        medium: &(impl Medium + ?Sized),
        wave: Wave,
        settle: impl Future<Output = Result<(), FlushError>>,
    ) -> Result<Settled, ConfirmError> {
        let (watched, mut lost) = self.watch(&wave);
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
            // A lost wave is not confirmed, although everything else may be.
            biased;
            Ok(lost) = &mut lost => Err(lost.error(id.clone())),
            confirmed = confirmed => match lost.try_recv() {
                Ok(lost) => Err(lost.error(id)),
                Err(_) => confirmed,
            },
        }
    }

    fn watch(self: &Arc<Self>, wave: &Wave) -> (Watched, oneshot::Receiver<Lost>) {
        let (id, (told, lost)) = (wave.id(), oneshot::channel());
        let mut watched = self.watched.lock();
        watched.insert(id.clone(), Emitter { channel: wave.channel().clone(), told });
        self.count.store(watched.len(), Ordering::Release);
        (Watched { confirming: Arc::clone(self), id }, lost)
    }

    /// Called with every wave that the outbox sheds.
    fn shed(&self, wave: &Wave, reason: ShedReason) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(emitter) = self.watched.lock().remove(&wave.id()) {
            // Fails if the emitter no longer waits.
            let _ = emitter.told.send(Lost::Shed(reason));
        }
    }

    /// Called when the broker has refused a message of a channel. It does not say which one, and refuses all of them.
    pub fn not_permitted(&self, channel: &str) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut watched = self.watched.lock();
        let mut refused: Vec<_> =
            watched.extract_if(|_, emitter| emitter.channel.as_str() == channel).collect();
        // The emitters are woken in the same order in each run.
        refused.sort_by_key(|(id, _)| (id.source.instance(), id.sequence));
        for (_, emitter) in refused {
            let _ = emitter.told.send(Lost::NotPermitted(emitter.channel));
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

/// Waits for something. Gives up when there is no progress for the `patience` of that moment, and after
/// `SETTLE_WITHIN` in any case. The error is the time limit that was exceeded. `moved` returns a wait for all progress
/// after it was called.
///
/// Cancel safety: as `wait`.
pub async fn within<T, M: Future>(
    moved: impl Fn() -> M,
    patience: impl Fn() -> Duration,
    wait: impl Future<Output = T>,
) -> Result<T, Duration> {
    let waiting = async {
        let mut wait = pin!(wait);
        loop {
            let (moved, patience) = (moved(), patience());
            tokio::select! {
                biased;
                done = &mut wait => return Ok(done),
                moved = timeout(patience, moved) => if moved.is_err() { return Err(patience) },
            }
        }
    };
    timeout(SETTLE_WITHIN, waiting).await.unwrap_or(Err(SETTLE_WITHIN))
}
