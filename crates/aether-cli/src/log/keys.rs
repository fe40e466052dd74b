//! The keys with which a log in a folder is read.

use std::path::{Path, PathBuf};

use aether_log::store::OpenError;
use aether_service::MediumArgs;

/// The keys of the configuration, if the log is sealed. A log that is not is read without, as its service stores it.
pub(crate) fn keys_of(folder: &Path, medium: &MediumArgs) -> Result<Option<PathBuf>, OpenError> {
    let is_sealed = aether_log::is_sealed(folder)? == Some(true);
    Ok(medium.keys.clone().filter(|_| is_sealed))
}
