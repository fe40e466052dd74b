//! Reading everything in the folder of a log to find damage: the waves, and what is kept beside them.

use std::fs;
use std::path::Path;

use crate::dead;
use crate::log_builder::CONSUMERS;
use crate::snapshots;
use crate::store::{Damage, OpenError, Verified, verify_with};
use crate::timers;

/// Reads a whole log, the journals of its consumers, its dead letters, its waves for later and its snapshots, and changes
/// nothing. Another process may be writing them. The numbers count the waves of the log; the damage is of all files.
/// `progress` gets the number of bytes of these waves read so far.
///
/// # Errors
/// [`OpenError`] if there is no log, or it cannot be read.
pub fn verify(folder: &Path, progress: impl FnMut(u64)) -> Result<Verified, OpenError> {
    let mut verified = verify_with(folder, progress)?;
    verified.damaged.extend(beside(folder)?);
    Ok(verified)
}

/// The damage of what is kept beside the waves.
pub(crate) fn beside(folder: &Path) -> Result<Vec<Damage>, OpenError> {
    let mut damaged = Vec::new();
    let mut beside = vec![folder.join(dead::FOLDER), folder.join(timers::FOLDER)];
    let consumers = folder.join(CONSUMERS);
    if consumers.is_dir() {
        let failed = |source| OpenError::io(&consumers, "list", source);
        for consumer in fs::read_dir(&consumers).map_err(failed)? {
            beside.push(consumer.map_err(failed)?.path());
        }
    }
    beside.sort();
    // A consumer may be forgotten meanwhile.
    for folder in beside.iter().filter(|folder| folder.is_dir()) {
        damaged.extend(verify_with(folder, |_| {})?.damaged);
    }
    damaged.extend(snapshots::damaged(folder)?);
    Ok(damaged)
}
