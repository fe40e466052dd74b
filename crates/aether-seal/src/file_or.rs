//! Where a medium takes its keys and its list of signers from.

use std::path::{Path, PathBuf};

use super::file::SealKeysError;
use super::keys::SealKeys;
use super::signers::Signers;
use super::signing_error::SigningError;
use super::signing_key::SigningKey;

/// A value, or the file that has it. A file is read when the medium connects, for each new connection, and when it has
/// changed: within a second of the next message that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileOr<T> {
    /// A file as `aether keys new` writes it, or a list of signers.
    File(PathBuf),
    /// This value.
    Value(T),
}

/// The keys of sealed waves.
pub type KeySource = FileOr<SealKeys>;

impl FileOr<SealKeys> {
    /// The keys as they are now.
    ///
    /// # Errors
    /// [`SealKeysError`] if the file cannot be used.
    pub fn read(&self) -> Result<SealKeys, SealKeysError> {
        match self {
            Self::File(path) => SealKeys::from_file(path),
            Self::Value(keys) => Ok(keys.clone()),
        }
    }
}

impl FileOr<SigningKey> {
    /// The key as it is now.
    ///
    /// # Errors
    /// [`SigningError`] if the file cannot be used.
    pub fn read(&self) -> Result<SigningKey, SigningError> {
        match self {
            Self::File(path) => SigningKey::from_file(path),
            Self::Value(key) => Ok(key.clone()),
        }
    }
}

impl FileOr<Signers> {
    /// The list as it is now.
    ///
    /// # Errors
    /// [`SigningError`] if the file cannot be used.
    pub fn read(&self) -> Result<Signers, SigningError> {
        match self {
            Self::File(path) => Signers::from_file(path),
            Self::Value(signers) => Ok(signers.clone()),
        }
    }
}

impl<T> From<PathBuf> for FileOr<T> {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl<T> From<&Path> for FileOr<T> {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl<T> From<&PathBuf> for FileOr<T> {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<SealKeys> for FileOr<SealKeys> {
    fn from(keys: SealKeys) -> Self {
        Self::Value(keys)
    }
}

impl From<SigningKey> for FileOr<SigningKey> {
    fn from(key: SigningKey) -> Self {
        Self::Value(key)
    }
}

impl From<Signers> for FileOr<Signers> {
    fn from(signers: Signers) -> Self {
        Self::Value(signers)
    }
}
