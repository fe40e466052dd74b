//! Waves for later on their way into the log. No medium carries them: nobody hears them live.

use std::sync::Arc;
use std::time::SystemTime;

use aether_core::medium::{BatchSettled, NotStored, Offered, Settled, Stored, StoredRange};
use aether_core::{Durability, Wave};
use tokio::sync::{oneshot, watch};

use crate::keeper::{KeepError, Keeper};
use crate::store::AppendError;
use crate::stored_wave::entry;
use crate::storing::Counted;

/// A wave that was given to the log for later. Dropped early, it is stored all the same.
pub(crate) struct KeptForLater {
    wave: Wave,
    result: oneshot::Receiver<Result<Stored, KeepError>>,
}

impl KeptForLater {
    pub(crate) fn begin(
        keeper: &Keeper,
        wave: Wave,
        due: SystemTime,
        level: Durability,
        storing: &Arc<watch::Sender<u64>>,
    ) -> Result<Self, NotStored> {
        let entry = match entry(&wave) {
            Ok(entry) => entry,
            Err(error) => return Err(NotStored::new(wave, false, error)),
        };
        let (answer, result) = oneshot::channel();
        let counted = Counted::new(storing);
        let done = Box::new(move |stored| {
            // Nobody may wait any more.
            let _ = answer.send(stored);
            drop(counted);
        });
        match keeper.keep_for_later(entry, due, level, done) {
            Ok(()) => Ok(Self { wave, result }),
            Err(error) => Err(NotStored::new(wave, error.is_transient(), error)),
        }
    }

    pub(crate) async fn stored(self) -> Result<Settled, NotStored> {
        match self.result.await.unwrap_or(Err(AppendError::Closed.into())) {
            Ok(stored) => Ok(Settled { offered: Offered::to(0), stored: Some(stored) }),
            Err(error) => Err(NotStored::new(self.wave, error.is_transient(), error.into_reason())),
        }
    }
}

/// Waits for all of them.
pub(crate) async fn settled(kept: Vec<KeptForLater>) -> BatchSettled {
    let mut settled = BatchSettled::default();
    for wave in kept {
        match wave.stored().await {
            Ok(Settled { stored, .. }) => {
                settled.stored = stored.map(|stored| StoredRange::with(settled.stored, stored));
            }
            Err(refused) => settled.refused.push(refused),
        }
    }
    settled
}
