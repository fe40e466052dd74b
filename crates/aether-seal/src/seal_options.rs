//! The keys and the list of signers of a connection: their files or values, read when it connects and again for each
//! new connection.

use super::file_or::{FileOr, KeySource};
use super::keys::SealKeys;
use super::seal_options_error::SealOptionsError;
use super::sealer::Sealer;
use super::signers::Signers;
use super::signing_error::SigningError;
use super::signing_key::SigningKey;

/// Where the keys of a connection come from. For implementors of media, and for what seals beside the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "options do nothing by themselves: make a sealer of them"]
pub struct SealOptions {
    pub(super) keys: KeySource,
    pub(super) signing_key: Option<FileOr<SigningKey>>,
    pub(super) signers: Option<FileOr<Signers>>,
}

/// All of them as they are now.
type Read = (SealKeys, Option<SigningKey>, Option<Signers>);

impl SealOptions {
    /// Seals with these keys. Signs nothing and believes all that have the keys.
    pub fn new(keys: impl Into<KeySource>) -> Self {
        Self { keys: keys.into(), signing_key: None, signers: None }
    }

    /// Signs everything with this key.
    pub fn signing_key(mut self, key: impl Into<FileOr<SigningKey>>) -> Self {
        self.signing_key = Some(key.into());
        self
    }

    /// Believes only what is signed by somebody on this list, each in its names.
    pub fn signers(mut self, signers: impl Into<FileOr<Signers>>) -> Self {
        self.signers = Some(signers.into());
        self
    }

    fn read(&self) -> Result<Read, SealOptionsError> {
        let keys = self.keys.read()?;
        let signing_key = self.signing_key.as_ref().map(FileOr::<SigningKey>::read).transpose()?;
        let signers = self.signers.as_ref().map(FileOr::<Signers>::read).transpose()?;
        match (&signing_key, &signers) {
            (None, Some(_)) => return Err(SigningError::NoOwnKey.into()),
            (Some(key), Some(signers)) if !signers.knows(key.id()) => {
                return Err(SigningError::NotListed { signer: key.id() }.into());
            }
            _ => {}
        }
        Ok((keys, signing_key, signers))
    }

    /// A sealer with the keys and the list as they are now.
    ///
    /// # Errors
    /// [`SealOptionsError`] if a file cannot be used, if the key that signs is not on the list, or if there is a list and no
    /// such key.
    pub fn sealer(&self) -> Result<Sealer, SealOptionsError> {
        let (keys, signing_key, signers) = self.read()?;
        Ok(Sealer::signing(keys, signing_key, signers.as_ref())?)
    }

    /// Reads everything again. To be called for each new connection.
    ///
    /// # Errors
    /// As [`sealer`](Self::sealer); the sealer then has what it had.
    pub fn renew(&self, sealer: &Sealer) -> Result<(), SealOptionsError> {
        let (keys, signing_key, signers) = self.read()?;
        sealer.change(keys, signing_key, signers.as_ref());
        Ok(())
    }
}
