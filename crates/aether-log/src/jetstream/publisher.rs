//! Stores waves in the stream of a log.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use aether_core::Durability;
use aether_core::medium::{MediumStatus, Stored};

use super::connection::Connection;
use super::error::JetStreamError;
use super::parts::Parts;
use super::schedules::StreamSchedules;
use super::subjects::Subjects;
use crate::sealing::Sealing;
use crate::store::Entry;

/// Stores waves, each by a request of its own, many at once.
#[derive(Debug)]
pub(crate) struct Publisher {
    connection: Arc<Connection>,
    parts: Parts,
    schedules: StreamSchedules,
    /// The level that an acknowledgement of the server means.
    reached: Durability,
}

impl Publisher {
    pub(crate) fn new(
        connection: Arc<Connection>,
        subjects: Subjects,
        schedules: StreamSchedules,
        reached: Durability,
    ) -> Self {
        let parts = Parts::new(Arc::clone(&connection), subjects);
        Self { connection, parts, schedules, reached }
    }

    pub(crate) const fn schedules(&self) -> &StreamSchedules {
        &self.schedules
    }

    /// Stores a wave that is due later, as [`Self::store`].
    pub(crate) fn store_for_later(
        &self,
        wave: Entry,
        due: SystemTime,
        done: impl FnOnce(Result<Stored, JetStreamError>) + Send + 'static,
    ) {
        let (connection, schedules, reached) =
            (Arc::clone(&self.connection), self.schedules.clone(), self.reached);
        self.connection.runtime.spawn(async move {
            let kept = schedules.keep(due, wave).await;
            connection.note(&kept);
            // The other stream has numbers of its own.
            done(kept.map(|()| Stored::new(NonZeroU64::MIN, reached)));
        });
    }

    pub(crate) fn sealing(&self) -> &Sealing {
        &self.connection.sealing
    }

    /// Adds what was not opened, and what the server refused.
    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        self.connection.add_to(status);
    }

    /// Stores a wave, and calls `done` with the outcome, also when nobody waits for it.
    pub(crate) fn store(
        &self,
        wave: Entry,
        done: impl FnOnce(Result<Stored, JetStreamError>) + Send + 'static,
    ) {
        let (connection, parts, reached) = (Arc::clone(&self.connection), self.parts.clone(), self.reached);
        self.connection.runtime.spawn(async move {
            let id = format!("{:x}", wave.id);
            let published = parts.store(wave, &id).await;
            connection.note(&published);
            done(published.map(|wave| wave.stored(reached)));
        });
    }
}
