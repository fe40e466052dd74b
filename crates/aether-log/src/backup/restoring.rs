//! A log from a backup.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::manifest::{FILE, Manifest};
use super::{Backup, RestoreError, Unfinished};
use crate::dead::FOLDER as DEAD;
use crate::store::skip_positions;

/// How many positions are left out behind the last one of a backup. The log that it was made of may have given them since.
const LEFT_OUT: u64 = 1 << 32;

/// Restores a [backup](crate::LogView::backup) into a new folder, which appears when all files were checked. Blocks.
///
/// The log goes on 4,294,967,296 positions later, and the numbers of dead letters as well, because the log that the backup
/// was made of may have given those in between. A consumer gets again what it had not settled when the backup was made.
///
/// # Errors
/// [`RestoreError`]: the folder exists, the backup is damaged, or a file cannot be read or written. Nothing is left then.
pub fn restore(backup: &Path, folder: &Path) -> Result<Backup, RestoreError> {
    if folder.symlink_metadata().is_ok() {
        return Err(RestoreError::Exists { path: folder.to_owned() });
    }
    let list = backup.join(FILE);
    let text = match fs::read_to_string(&list) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
            return Err(RestoreError::Manifest { path: list });
        }
        text => text.map_err(RestoreError::io(&list, "read"))?,
    };
    let manifest = Manifest::read(&list, &text)?;
    let unfinished = Unfinished::new(folder).map_err(RestoreError::io(folder, "make"))?;
    for (path, entry) in manifest.files() {
        let from = backup.join(path);
        let file = match File::open(&from) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(RestoreError::Damaged { path: from });
            }
            file => file.map_err(RestoreError::io(&from, "read"))?,
        };
        let modified = file.metadata().and_then(|about| about.modified());
        // A linked segment may have grown since, if no other one could be begun behind it.
        let copied = modified.and_then(|at| unfinished.copy(file.take(entry.length), Some(at), path));
        if copied.map_err(RestoreError::io(&from, "copy"))? != entry {
            return Err(RestoreError::Damaged { path: from });
        }
    }
    skip_positions(&unfinished.path, LEFT_OUT)?;
    if unfinished.path.join(DEAD).is_dir() {
        skip_positions(&unfinished.path.join(DEAD), LEFT_OUT)?;
    }
    unfinished.finish(&manifest.folders()).map_err(RestoreError::io(folder, "finish"))?;
    Ok(manifest.size())
}
