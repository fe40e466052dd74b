//! The store of the waves of durable channels: a folder, or a stream of a server.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use aether_core::Durability;
use aether_core::medium::{Details, MediumStatus, Stored};

#[cfg(feature = "jetstream")]
use crate::jetstream::{JetStreamError, Publisher};
use crate::schedule::micros;
use crate::sealing::{NotSealed, Sealing};
use crate::store::{AppendError, Appended, Entry, Store};
use crate::stored_wave::sealed;
use crate::timers::{Change, Changed, Timer, Timers};

/// Keeps waves.
#[derive(Debug, Clone)]
pub(crate) enum Keeper {
    Folder(Arc<Store>, Arc<Timers>, Arc<Sealing>),
    #[cfg(feature = "jetstream")]
    JetStream(Arc<Publisher>),
}

/// Why a wave was not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

impl KeepError {
    /// The reason itself, as users look for it.
    pub(crate) fn into_reason(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Append(error) => error.into(),
            // The fault of the wave, wherever the log is.
            #[cfg(feature = "jetstream")]
            Self::JetStream(JetStreamError::TooLarge { bytes, limit, .. }) => {
                AppendError::TooLarge { bytes, limit }.into()
            }
            #[cfg(feature = "jetstream")]
            Self::JetStream(error) => error.into(),
        }
    }

    pub(crate) const fn is_transient(&self) -> bool {
        match self {
            Self::Append(error) => error.is_transient(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(error) => error.is_transient(),
        }
    }
}

/// Is called with the outcome, or dropped when the program ends before that.
pub(crate) type Done = Box<dyn FnOnce(Result<Stored, KeepError>) + Send>;

/// The function that the store calls with the place of a record.
fn positioned(done: Done, level: Durability) -> Box<dyn FnOnce(Result<Appended, AppendError>) + Send> {
    let stored = move |appended: Appended| appended.stored(level);
    Box::new(move |result| done(result.map(stored).map_err(Into::into)))
}

impl Keeper {
    /// The largest number of waves of one emit that are given to it at once. JetStream gets them one after the other,
    /// because requests that are under way at once may be stored in any order.
    pub(crate) const fn max_batch(&self) -> usize {
        match self {
            Self::Folder(..) => 4096,
            #[cfg(feature = "jetstream")]
            Self::JetStream(_) => 1,
        }
    }

    /// Adds the messages that are sealed with keys that this process lacks, or forged, and what the server refused.
    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        match self {
            Self::Folder(.., sealing) => sealing.add_to(status),
            #[cfg(feature = "jetstream")]
            Self::JetStream(publisher) => publisher.add_to(status),
        }
    }

    /// Adds what it knows beyond the status: what waits for later, or what a stream refused.
    pub(crate) fn details(&self, into: &mut Details) {
        match self {
            Self::Folder(_, timers, sealing) => {
                into.add(timers.ledger());
                sealing.details(into);
            }
            #[cfg(feature = "jetstream")]
            Self::JetStream(publisher) => publisher.sealing().details(into),
        }
    }

    /// Begins to keep waves, which are given as [entries](crate::stored_wave::entry): all, or none. In a folder they
    /// share one write and one sync.
    pub(crate) fn keep(&self, waves: Vec<(Entry, Done)>, level: Durability) -> Result<(), AppendError> {
        match self {
            Self::Folder(store, _, sealing) => {
                let record = |(entry, done)| Ok((sealed(entry, sealing)?, positioned(done, level)));
                store.append_all(waves.into_iter().map(record).collect::<Result<_, NotSealed>>()?, level)
            }
            #[cfg(feature = "jetstream")]
            Self::JetStream(publisher) => {
                for (entry, done) in waves {
                    publisher.store(entry, move |result| done(result.map_err(Into::into)));
                }
                Ok(())
            }
        }
    }

    /// Begins to keep a wave until it is due.
    pub(crate) fn keep_for_later(
        &self,
        entry: Entry,
        due: SystemTime,
        level: Durability,
        done: Done,
    ) -> Result<(), AppendError> {
        match self {
            Self::Folder(store, timers, _) => {
                let last = store.last_position();
                let done = Box::new(move |result: Result<bool, AppendError>| {
                    let before = NonZeroU64::new(*last.borrow()).unwrap_or(NonZeroU64::MIN);
                    done(result.map(|_| Stored::new(before, level)).map_err(Into::into));
                });
                timers.change(Changed { change: Change::Keep(Timer { due: micros(due), entry }), done })
            }
            #[cfg(feature = "jetstream")]
            Self::JetStream(publisher) => {
                publisher.store_for_later(entry, due, move |result| done(result.map_err(Into::into)));
                Ok(())
            }
        }
    }
}
