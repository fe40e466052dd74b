//! The state that the handles and the task of presence share.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::participants::Participants;
use crate::core::WriterId;
use crate::replica::wire;

/// The participants, and how the task learns of changes.
#[derive(Debug)]
pub(in crate::replica) struct PresenceState {
    pub(super) participants: Mutex<Participants>,
    /// Something has to be sent, or to expire at another time.
    pub(super) changed: Notify,
}

impl PresenceState {
    pub(in crate::replica) fn new(own: WriterId) -> Self {
        Self { participants: Mutex::new(Participants::new(own)), changed: Notify::new() }
    }

    /// A replica has come that knows nobody.
    pub(in crate::replica) fn asked(&self) {
        self.participants.lock().asked = true;
        self.changed.notify_one();
    }

    /// Takes in an announcement of another replica. Returns how much of it was refused.
    pub(in crate::replica) fn heard(&self, said: wire::Participants) -> u64 {
        let refused = self.participants.lock().heard(said, Instant::now());
        self.changed.notify_one();
        refused
    }

    /// The number of participants.
    pub(in crate::replica) fn len(&self) -> usize {
        self.participants.lock().len()
    }

    pub(in crate::replica) fn close(&self) {
        self.participants.lock().close();
    }
}
