//! Folders that last: a new name is on the disk once the folder that has it is synced.

use std::fs;
use std::io;
use std::path::Path;

use aether_files::disk::Disk;

/// Makes a folder, and those above it, so that a power cut does not take it away with what is synced in it.
pub(crate) fn make_folder(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return fs::create_dir(folder),
    };
    make_folder(disk, above)?;
    match fs::create_dir(folder) {
        // Made by another process meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    disk.sync_folder(above)
}
