//! Presence: who is there, with a few bytes of JSON each, such as a cursor. It is never stored and in no digest.
//!
//! The process that announces a participant repeats it on `field.{name}.presence`, in weak waves. Lost announcements
//! are repeated, and an announcement that is no longer repeated expires.

mod bounds;
mod participants;
mod pending;
mod repeating;
mod state;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

pub use bounds::PresenceError;
pub use pending::PresenceUpdate;
pub(super) use repeating::{leave, repeat};
pub(super) use state::PresenceState;
pub use watch::PresenceWatch;

use super::watch::Names;

/// The participants of a field: people, tabs, devices, each with JSON of its own. A clone is another handle.
///
/// A participant has an id, which must be unique in the field. It is there for [`Presence::LIFETIME`] after its last sign
/// of life, on all replicas. If one id is announced by two processes, the later sign of life counts, so a client may move
/// from one process to another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
/// use aether_field::Field;
///
/// let aether = Aether::local();
/// let (hall, kitchen) = (Field::builder("home").join(&aether).await?, Field::builder("home").join(&aether).await?);
/// let mut people = kitchen.presence().watch();
/// hall.presence().announce("ada", &serde_json::json!({ "x": 3, "y": 4 }))?;
/// let update = people.next().await.expect("the field is open");
/// assert_eq!((update.id(), update.is_present()), ("ada", true));
/// hall.presence().leave("ada");
/// assert!(!people.next().await.expect("the field is open").is_present());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Presence {
    state: Arc<PresenceState>,
}

impl Presence {
    /// How long a participant is there after its last sign of life: 10 s.
    pub const LIFETIME: Duration = bounds::LIFETIME;

    /// The maximum size of an id: 256 bytes.
    pub const MAX_ID: usize = bounds::MAX_ID;

    /// The maximum size of the JSON of a participant: 4,096 bytes.
    pub const MAX_VALUE: usize = bounds::MAX_VALUE;

    /// The maximum number of participants that one replica announces, and of those that it keeps of all others:
    /// 10,000.
    pub const MAX_PARTICIPANTS: usize = bounds::MAX_PARTICIPANTS;

    /// The maximum size of the ids and the JSON of the participants that one replica announces, and of those that it
    /// keeps of all others: 4 MiB.
    pub const MAX_BYTES: usize = bounds::MAX_BYTES;

    pub(super) fn new(state: Arc<PresenceState>) -> Self {
        Self { state }
    }

    /// Announces a participant, replaces its JSON, or is a sign of life if the JSON is the same. Any JSON will do, also
    /// `null`.
    ///
    /// # Errors
    /// [`PresenceError`] if the id or the value is out of bounds, this replica has announced too much, or the field is
    /// closed.
    pub fn announce(&self, id: &str, value: &(impl Serialize + ?Sized)) -> Result<(), PresenceError> {
        self.announce_about(id, &[Names::of("*")], value)
    }

    /// The same for a participant that concerns only these names, such as the names of a room. All replicas get it; it
    /// is for gateways, whose clients may not read all names.
    ///
    /// # Errors
    /// As [`Presence::announce`]. The patterns count for the size of the value.
    pub fn announce_about(
        &self,
        id: &str,
        about: &[Names],
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), PresenceError> {
        let value = serde_json::to_vec(value).map_err(PresenceError::Serialize)?;
        let about = about.iter().map(|names| names.to_string().into()).collect();
        self.state.participants.lock().announce(id, (about, value.into()), Instant::now())?;
        self.state.changed.notify_one();
        Ok(())
    }

    /// A sign of life of a participant that this replica has announced. Returns whether it was still there.
    pub fn renew(&self, id: &str) -> bool {
        self.state.participants.lock().renew(id, Instant::now())
    }

    /// The participant leaves, if this replica has announced it. Returns whether it was there.
    pub fn leave(&self, id: &str) -> bool {
        let left = self.state.participants.lock().leave(id, Instant::now());
        self.state.changed.notify_one();
        left
    }

    /// All participants of the field and their JSON, in the order of their ids.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Bytes)> {
        self.state.participants.lock().list(Instant::now())
    }

    /// Watches the participants: first all that are there, then each that comes, changes or leaves, also by expiry.
    #[must_use]
    pub fn watch(&self) -> PresenceWatch {
        PresenceWatch::new(Arc::clone(&self.state), self.state.participants.lock().watch())
    }
}
