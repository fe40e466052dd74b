//! Sealed streams: what the servers keep is sealed with the keys of the bus, if it has some.
//!
//! A stored message is delivered again until it is acknowledged, so repeated messages are no attack that a reader could
//! tell. A server can repeat what it keeps and leave it out; it can neither read it, nor alter it, nor move it to another
//! subject.
//!
//! With a list of signers of the bus, the waves of the log are proven like the waves of the bus. Dead letters and
//! failures are only known to be from somebody on the list: a consumer stores waves of others there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::medium::{MediumStatus, Proof};
use aether_nats::NatsOptions;
use aether_seal::{FollowedSealer, Opened, Refusal, Refusals, Role, is_sealed};
use bytes::Bytes;

use super::error::JetStreamError;

/// Seals and opens what a log stores, or passes it on if there are no keys.
#[derive(Debug, Default)]
pub(crate) struct Sealing {
    keys: Option<Arc<FollowedSealer>>,
    /// Sealed messages that were met without keys.
    without_keys: AtomicU64,
}

/// An opened message.
pub(crate) struct OpenedBody {
    pub(crate) frame: Bytes,
    /// The signer, if this process has a list of signers.
    pub(crate) proof: Option<Proof>,
}

/// Why a stored message was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unopened {
    /// It may be opened later, by a process with other keys or once this one has them.
    #[error(
        "it is sealed with a key that this process does not have, or signed by somebody who is not on its list"
    )]
    Locked,
    /// Nobody who has the keys has stored it.
    #[error(transparent)]
    Refused(Refusal),
}

impl Sealing {
    pub(crate) fn new(nats: &NatsOptions) -> Result<Self, JetStreamError> {
        let options = nats.seal_options().map_err(|error| JetStreamError::Keys(Arc::new(error)))?;
        let Some(options) = options else { return Ok(Self::default()) };
        let sealer = FollowedSealer::new(options).map_err(|error| JetStreamError::Keys(Arc::new(error)))?;
        Ok(Self { keys: Some(Arc::new(sealer)), ..Self::default() })
    }

    /// Reads the keys and the list of signers again, for a new connection.
    pub(crate) fn renew(&self) {
        if let Some(followed) = &self.keys {
            followed.renew();
        }
    }

    pub(crate) const fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Seals what is to be stored on a subject.
    pub(crate) fn seal(&self, subject: &str, body: Bytes) -> Result<Bytes, JetStreamError> {
        let Some(followed) = &self.keys else { return Ok(body) };
        let sealed = followed.sealer().seal(Role::Stored, subject, "", &body);
        sealed.map_err(|error| JetStreamError::Keys(Arc::new(error)))
    }

    /// Opens what was stored on a subject. What is not opened is counted.
    pub(crate) fn open(&self, subject: &str, body: &Bytes) -> Result<OpenedBody, Unopened> {
        let Some(followed) = &self.keys else {
            if is_sealed(body) {
                self.without_keys.fetch_add(1, Ordering::Relaxed);
                return Err(Unopened::Locked);
            }
            return Ok(OpenedBody { frame: body.clone(), proof: None });
        };
        followed.follow();
        match followed.sealer().open_again(Role::Stored, subject, body) {
            Ok(Opened { frame, proof, .. }) => Ok(OpenedBody { frame, proof }),
            Err(Refusal::UnknownKey { .. } | Refusal::UnknownSigner { .. }) => Err(Unopened::Locked),
            Err(refusal) => Err(Unopened::Refused(refusal)),
        }
    }

    /// Adds what was not opened.
    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        if let Some(followed) = &self.keys {
            followed.sealer().refusals().add_to(status);
        }
        status.refused_sealed += self.without_keys.load(Ordering::Relaxed);
    }

    /// The counts of refusals.
    pub(crate) fn refusals(&self) -> Refusals {
        self.keys.as_ref().map(|followed| followed.sealer().refusals()).unwrap_or_default()
    }
}
