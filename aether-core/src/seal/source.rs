//! Where a medium takes its keys from.

use std::path::{Path, PathBuf};

use super::file::SealKeysError;
use super::keys::SealKeys;

/// Keys, or the file that has them. A file is read when the medium connects and again for each new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// A file as `aether keys new` writes it.
    File(PathBuf),
    /// These keys.
    Keys(SealKeys),
}

impl KeySource {
    /// The keys as they are now.
    ///
    /// # Errors
    /// [`SealKeysError`] if the file cannot be used.
    pub fn read(&self) -> Result<SealKeys, SealKeysError> {
        match self {
            Self::File(path) => SealKeys::from_file(path),
            Self::Keys(keys) => Ok(keys.clone()),
        }
    }
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for KeySource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for KeySource {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<SealKeys> for KeySource {
    fn from(keys: SealKeys) -> Self {
        Self::Keys(keys)
    }
}
