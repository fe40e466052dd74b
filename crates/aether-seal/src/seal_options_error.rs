//! Why a connection cannot be sealed.

use super::error::SealError;
use super::file::SealKeysError;
use super::signing_error::SigningError;

/// Why a connection cannot be sealed or signed. Keys are never part of it.
#[derive(Debug, thiserror::Error)]
pub enum SealOptionsError {
    /// The keys of sealed waves cannot be used.
    #[error(transparent)]
    Keys(#[from] SealKeysError),
    /// The key that signs or the list of signers cannot be used.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Random(#[from] SealError),
}
