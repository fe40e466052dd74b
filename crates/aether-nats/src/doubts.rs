//! The waves of a process with keys of which somebody says that nobody hears them, until a second look has decided.
//!
//! The task that receives the notices adds them, the one of `second_look.rs` takes them in their order. No I/O.

use std::sync::Arc;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use aether_core::Wave;

/// How many waves may wait for a decision: what may be in flight (`outbox.rs`), four times.
const PLACES: usize = 1 << 14;

pub(super) enum Doubt {
    /// Waves of one channel.
    Waves { waves: Vec<Wave>, _places: OwnedSemaphorePermit },
    /// Told when everything before it is decided.
    Fence { passed: oneshot::Sender<()>, _place: OwnedSemaphorePermit },
}

pub(super) struct Doubts {
    /// Bounded by the places.
    sender: mpsc::UnboundedSender<Doubt>,
    places: Arc<Semaphore>,
}

impl Doubts {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Doubt>) {
        let (sender, doubts) = mpsc::unbounded_channel();
        (Self { sender, places: Arc::new(Semaphore::new(PLACES)) }, doubts)
    }

    /// Adds waves of one channel.
    ///
    /// # Errors
    ///
    /// The waves, if there is no room.
    pub(super) fn add(&self, waves: Vec<Wave>) -> Result<(), Vec<Wave>> {
        let places = u32::try_from(waves.len())
            .ok()
            .and_then(|places| Arc::clone(&self.places).try_acquire_many_owned(places).ok());
        let Some(_places) = places else { return Err(waves) };
        match self.sender.send(Doubt::Waves { waves, _places }) {
            Err(SendError(Doubt::Waves { waves, .. })) => Err(waves),
            _ => Ok(()),
        }
    }

    /// Waits until everything that was added so far is decided.
    pub(super) async fn decided(&self) {
        if self.places.available_permits() == PLACES {
            return;
        }
        // Never closed.
        let Ok(_place) = Arc::clone(&self.places).acquire_owned().await else { return };
        let (passed, is_passed) = oneshot::channel();
        let _ = self.sender.send(Doubt::Fence { passed, _place });
        // Fails if the runtime ends.
        let _ = is_passed.await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn waves(count: usize) -> Vec<Wave> {
        vec![Wave::from_bytes("a", "x").unwrap(); count]
    }

    #[test]
    fn there_is_room_for_so_many_waves_until_they_are_decided() {
        let (doubts, mut taken) = Doubts::new();
        assert!(doubts.decided().now_or_never().is_some(), "there is nothing to decide");
        doubts.add(waves(1)).unwrap();
        doubts.add(waves(PLACES - 1)).unwrap();
        assert_eq!(doubts.add(waves(1)).unwrap_err().len(), 1);
        let first = taken.try_recv().unwrap();
        assert!(doubts.add(waves(1)).is_err(), "it is not decided");
        drop(first);
        doubts.add(waves(1)).unwrap();
    }

    #[test]
    fn a_fence_is_passed_behind_what_was_added_before_it() {
        let (doubts, mut taken) = Doubts::new();
        doubts.add(waves(1)).unwrap();
        let mut decided = Box::pin(doubts.decided());
        assert!((&mut decided).now_or_never().is_none());
        assert!(matches!(taken.try_recv(), Ok(Doubt::Waves { waves, .. }) if waves.len() == 1));
        assert!((&mut decided).now_or_never().is_none());
        assert!(matches!(taken.try_recv(), Ok(Doubt::Fence { .. })));
        assert!(decided.now_or_never().is_some());
    }
}
