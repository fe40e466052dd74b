//! Errors of files of registers.

use std::io;
use std::path::PathBuf;

/// A file cannot be imported as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("{} cannot be read", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{skipped} records were skipped, as stated above; the others were imported")]
    Skipped { skipped: usize },
    #[error("{} is neither JSON lines of registers nor a snapshot that can be read", path.display())]
    Format { path: PathBuf, source: aether_field::ledger::LedgerError },
}
