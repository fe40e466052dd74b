//! Stores waves in the stream of a log.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Durability;
use aether_core::medium::{MediumStatus, Stored};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::Connection;
use super::error::JetStreamError;
use super::sealing::Sealing;
use super::subjects::Subjects;
use crate::store::Entry;

/// Stores waves, each by a request of its own, many at once.
#[derive(Debug)]
pub(crate) struct Publisher {
    connection: Arc<Connection>,
    subjects: Subjects,
    /// What an acknowledgement of the server means.
    reached: Durability,
    /// Why the last wave was not stored, and when.
    failed: Arc<Mutex<Option<(Instant, JetStreamError)>>>,
}

/// A failure says nothing about the server any more after this time: nobody may have emitted since.
const LATELY: Duration = Duration::from_secs(30);

impl Publisher {
    pub(crate) fn new(connection: Arc<Connection>, subjects: Subjects, reached: Durability) -> Self {
        Self { connection, subjects, reached, failed: Arc::default() }
    }

    pub(crate) fn sealing(&self) -> &Sealing {
        &self.connection.sealing
    }

    /// Adds what was not opened, and what the server refused.
    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        self.connection.add_to(status);
    }

    /// Why the last wave could not be stored, if that was lately and not the fault of the wave.
    pub(crate) fn trouble(&self) -> Option<JetStreamError> {
        let failed = self.failed.lock();
        failed.as_ref().filter(|(at, _)| at.elapsed() < LATELY).map(|(_, error)| error.clone())
    }

    /// Stores a wave, and calls `done` with the outcome, also when nobody waits for it.
    pub(crate) fn store(
        &self,
        wave: Entry,
        done: impl FnOnce(Result<Stored, JetStreamError>) + Send + 'static,
    ) {
        let (subject, id) = (self.subjects.wave(&wave.name), format!("{:x}", wave.id));
        let (connection, reached, failed) =
            (Arc::clone(&self.connection), self.reached, Arc::clone(&self.failed));
        let stream = self.subjects.stream().to_owned();
        self.connection.runtime.spawn(async move {
            let stored =
                |position| Stored::new(NonZeroU64::new(position).unwrap_or(NonZeroU64::MIN), reached);
            let result = connection.publish(&stream, &subject, &id, wave.body).await;
            match &result {
                Ok(_) => *failed.lock() = None,
                Err(JetStreamError::TooLarge { .. }) => {}
                Err(error) => *failed.lock() = Some((Instant::now(), error.clone())),
            }
            done(result.map(stored));
        });
    }
}
