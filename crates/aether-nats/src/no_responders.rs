//! Emitted waves without receivers: those whose source is notified in that case are kept here until that is known.
//!
//! An inquiry is sent ahead of the waves to the subject that potential responders subscribe to, with a reply subject
//! of its own. The server immediately replies there if the inquiry has no receiver (status 503), and otherwise does
//! not reply. It processes the messages of one client in order. If the marker behind an inquiry returns without that
//! reply, the inquiry has a receiver. [`ConnectionState`](super::state::ConnectionState) owns the table of inquiries,
//! because it has both.
//!
//! A process with keys does not believe the reply at once. The task that receives the replies adds the waves to
//! [`Unverified`], and [`verify_waves`](super::reach::verify_waves) takes them in their order. This module does no
//! I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::{Message, StatusCode};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::authentication::Tokens;
use aether_core::Wave;

/// How many waves may wait for a decision: what may be in flight (`outbox.rs`), four times.
const PLACES: usize = 1 << 14;

/// The number of an inquiry that, according to a server reply, has no receiver. The reply subject ends with that number
/// and its token. `Some(None)` if they are not ours, which means that the reply is not from the server.
pub(super) fn unheard(word: &Message, tokens: &Tokens) -> Option<Option<u64>> {
    let is_unheard = word.status == Some(StatusCode::NO_RESPONDERS);
    is_unheard.then(|| tokens.read(word.subject.rsplit('.').next()?))
}

/// The open inquiries of the sending task.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    last: u64,
    /// In ascending order. At most as many as there are batches in flight and channels in them.
    open: VecDeque<(u64, Vec<Wave>)>,
}

impl Inquiries {
    /// Opens an inquiry about waves, and returns its number.
    pub(super) fn open(&mut self, waves: Vec<Wave>) -> u64 {
        self.last += 1;
        self.open.push_back((self.last, waves));
        self.last
    }

    /// The number of the latest inquiry.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Closes an inquiry that, according to the server, has no receiver. Returns the waves it was about, or none if it
    /// is already closed.
    pub(super) fn take(&mut self, number: u64) -> Vec<Wave> {
        let place = self.open.binary_search_by_key(&number, |(open, _)| *open);
        place.ok().and_then(|place| self.open.remove(place)).map(|(_, waves)| waves).unwrap_or_default()
    }

    /// Closes all inquiries up to a number. They have receivers, because the server has not reported otherwise.
    pub(super) fn close(&mut self, number: u64) {
        while self.open.pop_front_if(|(open, _)| *open <= number).is_some() {}
    }

    /// Closes all inquiries, because the server's replies will not arrive any more.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

/// Waves that wait for a verification, or a barrier behind them.
pub(super) enum UnverifiedEntry {
    /// Waves of one channel.
    Waves { waves: Vec<Wave>, _places: OwnedSemaphorePermit },
    /// Completes when everything before it is decided.
    Barrier { passed: oneshot::Sender<()>, _place: OwnedSemaphorePermit },
}

/// The queue of waves whose no-responders reports are not verified yet.
pub(super) struct Unverified {
    /// Bounded by the places.
    sender: mpsc::UnboundedSender<UnverifiedEntry>,
    places: Arc<Semaphore>,
}

impl Unverified {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<UnverifiedEntry>) {
        let (sender, entries) = mpsc::unbounded_channel();
        (Self { sender, places: Arc::new(Semaphore::new(PLACES)) }, entries)
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
        match self.sender.send(UnverifiedEntry::Waves { waves, _places }) {
            Err(SendError(UnverifiedEntry::Waves { waves, .. })) => Err(waves),
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
        let _ = self.sender.send(UnverifiedEntry::Barrier { passed, _place });
        // Fails if the runtime ends.
        let _ = is_passed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn waves(texts: &[&str]) -> Vec<Wave> {
        texts.iter().map(|text| Wave::from_bytes("a", (*text).to_owned()).unwrap()).collect()
    }

    fn texts(waves: &[Wave]) -> Vec<&str> {
        waves.iter().map(|wave| wave.text().unwrap()).collect()
    }

    #[test]
    fn an_inquiry_ends_with_the_first_word_about_it() {
        let mut inquiries = Inquiries::default();
        let numbers = [&["1"][..], &["2", "3"], &["4"], &["5"]].map(|texts| inquiries.open(waves(texts)));
        assert_eq!((numbers, inquiries.last()), ([1, 2, 3, 4], 4));
        assert_eq!(texts(&inquiries.take(2)), ["2", "3"]);
        assert!(inquiries.take(2).is_empty(), "the inquiry is closed");
        inquiries.close(3);
        assert!(inquiries.take(1).is_empty() && inquiries.take(3).is_empty(), "the inquiries have receivers");
        assert_eq!(texts(&inquiries.take(4)), ["5"]);
        let lost = inquiries.open(waves(&["6"]));
        inquiries.clear();
        assert!(inquiries.take(lost).is_empty() && inquiries.take(99).is_empty());
    }

    fn equal(count: usize) -> Vec<Wave> {
        vec![Wave::from_bytes("a", "x").unwrap(); count]
    }

    #[test]
    fn there_is_room_for_so_many_waves_until_they_are_decided() {
        let (unverified, mut taken) = Unverified::new();
        assert!(unverified.decided().now_or_never().is_some(), "there is nothing to decide");
        unverified.add(equal(1)).unwrap();
        unverified.add(equal(PLACES - 1)).unwrap();
        assert_eq!(unverified.add(equal(1)).unwrap_err().len(), 1);
        let first = taken.try_recv().unwrap();
        assert!(unverified.add(equal(1)).is_err(), "it is not decided");
        drop(first);
        unverified.add(equal(1)).unwrap();
    }

    #[test]
    fn a_barrier_is_passed_behind_what_was_added_before_it() {
        let (unverified, mut taken) = Unverified::new();
        unverified.add(equal(1)).unwrap();
        let mut decided = Box::pin(unverified.decided());
        assert!((&mut decided).now_or_never().is_none());
        assert!(matches!(taken.try_recv(), Ok(UnverifiedEntry::Waves { waves, .. }) if waves.len() == 1));
        assert!((&mut decided).now_or_never().is_none());
        assert!(matches!(taken.try_recv(), Ok(UnverifiedEntry::Barrier { .. })));
        assert!(decided.now_or_never().is_some());
    }
}
