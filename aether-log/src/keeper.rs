//! What keeps the waves of durable channels: a folder, or a stream of a server.

use std::num::NonZeroU64;
use std::sync::Arc;

use aether_core::medium::Stored;
use aether_core::wire::EncodeError;
use aether_core::{Durability, Wave};

#[cfg(feature = "jetstream")]
use crate::jetstream::{JetStreamError, Publisher};
use crate::store::{AppendError, Store};
use crate::stored_wave::entry;

/// Keeps waves.
#[derive(Debug, Clone)]
pub(crate) enum Keeper {
    Folder(Arc<Store>),
    #[cfg(feature = "jetstream")]
    JetStream(Arc<Publisher>),
}

/// Why a wave was not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

impl KeepError {
    /// The reason itself, as users look for it.
    pub(crate) fn into_reason(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Append(error) => error.into(),
            Self::Encode(error) => error.into(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(error) => error.into(),
        }
    }

    pub(crate) const fn is_transient(&self) -> bool {
        match self {
            Self::Append(error) => error.is_transient(),
            Self::Encode(_) => false,
            #[cfg(feature = "jetstream")]
            Self::JetStream(error) => error.is_transient(),
        }
    }
}

impl Keeper {
    /// Begins to keep a wave. `done` is called with the outcome, or dropped when the program ends before that.
    pub(crate) fn keep(
        &self,
        wave: &Wave,
        level: Durability,
        done: impl FnOnce(Result<Stored, KeepError>) + Send + 'static,
    ) -> Result<(), KeepError> {
        match self {
            Self::Folder(store) => {
                let stored =
                    move |position| Stored::new(NonZeroU64::new(position).unwrap_or(NonZeroU64::MIN), level);
                let done = Box::new(move |result: Result<u64, AppendError>| {
                    done(result.map(stored).map_err(Into::into))
                });
                Ok(store.append(entry(wave)?, level, done)?)
            }
            #[cfg(feature = "jetstream")]
            Self::JetStream(publisher) => {
                Ok(publisher.store(wave, move |result| done(result.map_err(Into::into)))?)
            }
        }
    }
}
