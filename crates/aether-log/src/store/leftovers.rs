//! Remains of an earlier process in the folder of a log, and how opening treats them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use aether_files::disk::{self, Disk, Writing};

use super::error::OpenError;
use super::segments::last_file;

/// The end of the names of segments that are being rewritten.
pub(super) const REWRITING: &str = "rewriting";
/// There after a sync that failed: the contents of the last segment, as reported by the system, may not be on the disk,
/// and the system would not try again to write them.
const UNSYNCED: &str = "unsynced";
/// How much is copied at once, in bytes.
const CHUNK: usize = 1 << 20;

/// Notes that the last segment could not be synced, for the process that opens the log next.
pub(super) fn note_unsynced(folder: &Path) {
    if let Err(error) = File::create(folder.join(UNSYNCED)) {
        tracing::warn!(folder = %folder.display(), %error, "it was not noted that the log could not be synced");
    }
}

/// Removes segments whose rewriting did not end, and rewrites the last segment if it could not be synced.
pub(super) fn settle(disk: &dyn Disk, folder: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::io(folder, "list", source);
    for file in fs::read_dir(folder).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == REWRITING) {
            fs::remove_file(&path).map_err(|source| OpenError::io(&path, "remove", source))?;
        }
    }
    let note = folder.join(UNSYNCED);
    if !note.exists() {
        return Ok(());
    }
    if let Some(last) = last_file(folder)? {
        copy(disk, &last).map_err(|source| OpenError::io(&last, "rewrite the unsynced part of", source))?;
    }
    fs::remove_file(&note).map_err(|source| OpenError::io(&note, "remove", source))
}

/// Puts a synced copy in the place of a file.
fn copy(on: &dyn Disk, path: &Path) -> io::Result<()> {
    let new = path.with_extension(REWRITING);
    // Not by the system's own copying, which may share what was never written.
    let (mut from, to) = (File::open(path)?, disk::create(&new)?);
    let mut writing = Writing { disk: on, file: &to };
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            read => writing.write_all(&chunk[..read])?,
        }
    }
    on.sync_all(&to)?;
    fs::rename(&new, path)?;
    on.sync_folder(path.parent().unwrap_or(Path::new(".")))
}
