//! Sealed logs: what a server or a folder keeps is sealed with the keys of the bus, if the log has some.
//!
//! A stored message is delivered again until it is acknowledged, so repeated messages are no attack that a reader could
//! tell. A server can repeat what it keeps and leave it out; it can neither read it, nor alter it, nor move it to another
//! subject. The same is true of a folder and the channels in it.
//!
//! With a list of signers of the bus, the waves of a log in JetStream are proven like the waves of the bus. Dead letters and
//! failures are only known to be from somebody on the list: a consumer stores waves of others there. One process writes a
//! folder, which therefore signs nothing.

use std::error::Error;
#[cfg(feature = "seal")]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::medium::{Details, MediumStatus, Proof};
use aether_link::wire::is_sealed;
#[cfg(feature = "seal")]
use aether_seal::{FollowedSealer, KeySource, Opened, Refusal, Refusals, Role, SealOptions};
use bytes::Bytes;

use crate::store::AppendError;
#[cfg(feature = "seal")]
use crate::store::OpenError;

/// Seals and opens what a log stores, or passes it on if there are no keys.
#[derive(Debug, Default)]
pub(crate) struct Sealing {
    #[cfg(feature = "seal")]
    keys: Option<Arc<FollowedSealer>>,
    /// Sealed messages that were met without keys.
    without_keys: AtomicU64,
}

/// An opened message.
pub(crate) struct OpenedBody {
    pub(crate) frame: Bytes,
    /// The signer, if this process has a list of signers.
    #[cfg_attr(not(feature = "jetstream"), expect(dead_code, reason = "nothing in a folder is signed"))]
    pub(crate) proof: Option<Proof>,
}

/// Why a stored message was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unopened {
    /// It may be opened later, by a process with other keys or once this one has them.
    #[error(
        "it is sealed with a key that this process does not have, or signed by somebody who is not on its list"
    )]
    Locked,
    /// Nobody who has the keys has stored it.
    #[cfg(feature = "seal")]
    #[error(transparent)]
    Refused(Refusal),
}

/// Why nothing is sealed: the keys cannot be used, or the operating system gave no random numbers to seal with.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub(crate) struct NotSealed(pub(crate) Arc<dyn Error + Send + Sync>);

impl From<NotSealed> for AppendError {
    fn from(NotSealed(reason): NotSealed) -> Self {
        Self::Keys(reason)
    }
}

#[cfg(feature = "seal")]
impl Sealing {
    /// With the keys of these options, if there are some.
    pub(crate) fn new(options: Option<SealOptions>) -> Result<Self, NotSealed> {
        let sealer =
            options.map(FollowedSealer::new).transpose().map_err(|error| NotSealed(Arc::new(error)))?;
        Ok(Self { keys: sealer.map(Arc::new), ..Self::default() })
    }

    /// With the keys of a folder.
    pub(crate) fn of_folder(path: &Path, keys: KeySource) -> Result<Self, OpenError> {
        let keys = Self::new(Some(SealOptions::new(keys)));
        keys.map_err(|NotSealed(source)| OpenError::Keys { path: path.to_owned(), source })
    }

    /// Reads the keys and the list of signers again, for a new connection.
    #[cfg(feature = "jetstream")]
    pub(crate) fn renew(&self) {
        if let Some(followed) = &self.keys {
            followed.renew();
        }
    }

    pub(crate) const fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Seals what is to be stored on a subject, or at an address in a folder.
    pub(crate) fn seal(&self, subject: &str, body: Bytes) -> Result<Bytes, NotSealed> {
        let Some(followed) = &self.keys else { return Ok(body) };
        followed.follow();
        let sealed = followed.sealer().seal(Role::Stored, subject, "", &body);
        sealed.map_err(|error| NotSealed(Arc::new(error)))
    }

    /// Opens what was stored on a subject, or at an address in a folder. What is not opened is counted.
    pub(crate) fn open(&self, subject: &str, body: &Bytes) -> Result<OpenedBody, Unopened> {
        let Some(followed) = &self.keys else { return self.open_plain(body) };
        followed.follow();
        opened(followed.sealer().open_again(Role::Stored, subject, body))
    }

    /// The same for what is opened once more later: nothing is counted.
    pub(crate) fn peek(&self, subject: &str, body: &Bytes) -> Option<Bytes> {
        let Some(followed) = &self.keys else { return Some(body).filter(|body| !is_sealed(body)).cloned() };
        followed.follow();
        followed.sealer().peek(Role::Stored, subject, body).ok().map(|opened| opened.frame)
    }

    /// Adds what was not opened.
    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        self.refusals().add_to(status);
        status.refused_sealed += self.without_keys.load(Ordering::Relaxed);
    }

    /// Adds the counts of refusals.
    pub(crate) fn details(&self, into: &mut Details) {
        into.add(self.refusals());
    }

    fn refusals(&self) -> Refusals {
        self.keys.as_ref().map(|followed| followed.sealer().refusals()).unwrap_or_default()
    }
}

#[cfg(feature = "seal")]
fn opened(opened: Result<Opened, Refusal>) -> Result<OpenedBody, Unopened> {
    match opened {
        Ok(Opened { frame, proof, .. }) => Ok(OpenedBody { frame, proof }),
        Err(Refusal::UnknownKey { .. } | Refusal::UnknownSigner { .. }) => Err(Unopened::Locked),
        Err(refusal) => Err(Unopened::Refused(refusal)),
    }
}

#[cfg(not(feature = "seal"))]
impl Sealing {
    #[expect(clippy::unused_self, reason = "as with the feature `seal`")]
    pub(crate) const fn has_keys(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with the feature `seal`")]
    pub(crate) fn seal(&self, _: &str, body: Bytes) -> Result<Bytes, NotSealed> {
        Ok(body)
    }

    pub(crate) fn open(&self, _: &str, body: &Bytes) -> Result<OpenedBody, Unopened> {
        self.open_plain(body)
    }

    #[expect(clippy::unused_self, reason = "as with the feature `seal`")]
    pub(crate) fn peek(&self, _: &str, body: &Bytes) -> Option<Bytes> {
        Some(body).filter(|body| !is_sealed(body)).cloned()
    }

    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        status.refused_sealed += self.without_keys.load(Ordering::Relaxed);
    }

    #[expect(clippy::unused_self, reason = "as with the feature `seal`")]
    pub(crate) const fn details(&self, _: &mut Details) {}
}

impl Sealing {
    fn open_plain(&self, body: &Bytes) -> Result<OpenedBody, Unopened> {
        if is_sealed(body) {
            self.without_keys.fetch_add(1, Ordering::Relaxed);
            return Err(Unopened::Locked);
        }
        Ok(OpenedBody { frame: body.clone(), proof: None })
    }
}
