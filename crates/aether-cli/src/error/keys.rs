//! Errors of `aether keys`.

use std::path::PathBuf;

use aether::seal::{SealError, SealKeysError, SigningError};

/// Why keys were not made, shown or rotated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error(transparent)]
    File(#[from] SealKeysError),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Random(#[from] SealError),
    #[error("{} has one key only: add another with `aether keys rotate` first, and hand it to all programs", path.display())]
    OneKey { path: PathBuf },
    #[error("{} already seals with its newest key: `--drop` is the next step, or `aether keys rotate` without it the first of the next rotation", path.display())]
    Sealing { path: PathBuf },
}
