//! Backups of a log, made while another process writes it, and restored into a new folder.
//!
//! A backup has everything that was in the log when it began. The order of copying makes that so:
//!
//! 1. The segments of the log. A wave that retention drops from now on stays in the backup.
//! 2. The consumers. Of the waves that were dropped before, they have noted by now which ones they have settled.
//! 3. The dead letters. A letter is there before its consumer notes that it gave up the wave.
//! 4. The snapshots, which need no wave that was dropped before the first step.
//! 5. The waves for later. One that is noted there as delivered is in the log by then.
//! 6. The waves that the log got since. A letter is replayed into the log before it is dropped, so it is in one of them,
//!    and no snapshot is ahead of the log. Where retention has dropped some of these meanwhile, their consumers have noted
//!    more than step 2 copied, so it begins again.
//!
//! A full segment never changes, so it is linked where the file system can do that. The last one is copied up to the end
//! of its last whole record.

mod error;
mod manifest;
mod restoring;
mod size;

pub use self::size::Backup;
pub use error::{BackupError, RestoreError};
pub use restoring::restore;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aether_files::disk::{self, Disk, Writing};

use self::manifest::{FileEntry, Manifest};
use crate::consumer::ATTEMPTS;
use crate::dead::FOLDER as DEAD;
use crate::log_builder::CONSUMERS;
use crate::name::is_name;
use crate::snapshots;
use crate::store::{OpenError, SegmentFile, make_folder};
use crate::timers::FOLDER as TIMERS;

/// How much is copied at once, in bytes.
const CHUNK: usize = 1 << 20;
/// How often the segments of a store are listed again because its writer has dropped one of them meanwhile.
const LISTS: usize = 1000;
/// How often a backup begins again because retention was faster. Then waves that came after its beginning are missing.
const ROUNDS: usize = 20;

/// A folder that gets its name when it is complete. Dropped before that, it is removed.
#[derive(Debug)]
struct Unfinished {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    to: PathBuf,
}

impl Unfinished {
    fn new(to: &Path) -> io::Result<Self> {
        let mut name = to.file_name().map_or_else(OsString::new, OsString::from);
        name.push(format!(".{:08x}.unfinished", fastrand::u32(..)));
        let (disk, path) = (disk::current(), to.with_file_name(name));
        if let Some(above) = to.parent().filter(|above| !above.as_os_str().is_empty()) {
            make_folder(&*disk, above)?;
        }
        fs::create_dir(&path)?;
        Ok(Self { disk, path, to: to.to_owned() })
    }

    /// Copies a part of a file, or all of it, and returns what was copied.
    fn copy(&self, from: impl Read, modified: Option<SystemTime>, path: &Path) -> io::Result<FileEntry> {
        let to = self.path.join(path);
        make_folder(&*self.disk, to.parent().unwrap_or(&self.path))?;
        let file = disk::create(&to)?;
        let copied = FileEntry::of(from, Writing { disk: &*self.disk, file: &file })?;
        // The age of a segment is read from its file.
        modified.map_or(Ok(()), |at| file.set_modified(at))?;
        self.disk.sync_all(&file)?;
        Ok(copied)
    }

    /// Gives the folder its name. All folders in it were named.
    fn finish(self, folders: &BTreeSet<PathBuf>) -> io::Result<()> {
        for folder in folders {
            self.disk.sync_folder(&self.path.join(folder))?;
        }
        self.disk.sync_folder(&self.path)?;
        fs::rename(&self.path, &self.to)?;
        let above = self.to.parent().filter(|above| !above.as_os_str().is_empty());
        self.disk.sync_folder(above.unwrap_or(Path::new(".")))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there any more if it has its name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A backup that is being made.
#[derive(Debug)]
struct Making<'a> {
    log: &'a Path,
    folder: Unfinished,
    manifest: Manifest,
    /// Full segments that are there already.
    full: BTreeSet<PathBuf>,
}

/// Makes a backup of the log in this folder. Blocks.
pub(crate) fn back_up(log: &Path, to: &Path) -> Result<Backup, BackupError> {
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let folder = Unfinished::new(to).map_err(BackupError::io(to, "make"))?;
    let mut making = Making { log, folder, manifest: Manifest::default(), full: BTreeSet::new() };
    making.everything(Making::beside)?;
    making.finish(to)
}

impl Making<'_> {
    /// Copies the waves, what is beside them, and the waves since. Between two copies of the waves none is missing.
    fn everything(
        &mut self,
        mut beside: impl FnMut(&mut Self) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        for _ in 0..ROUNDS {
            let first = self.segments(Path::new(""))?;
            beside(self)?;
            let then = self.segments(Path::new(""))?;
            if first.last().is_none_or(|last| then.contains(last)) {
                break;
            }
        }
        Ok(())
    }

    /// Copies everything that is beside the waves, in the place of an earlier copy.
    fn beside(&mut self) -> Result<(), BackupError> {
        for below in [CONSUMERS, DEAD, snapshots::SNAPSHOTS, TIMERS] {
            self.forget(Path::new(below));
        }
        self.consumers()?;
        if self.log.join(DEAD).is_dir() {
            self.segments(Path::new(DEAD))?;
        }
        self.snapshots()?;
        self.timers()
    }

    /// Copies below a folder count no more.
    fn forget(&mut self, below: &Path) {
        self.manifest.remove(below);
        self.full.retain(|path| !path.starts_with(below));
    }

    /// Copies what a store has now, and returns its segments. Called again, it copies what the store got since.
    fn segments(&mut self, below: &Path) -> Result<Vec<PathBuf>, BackupError> {
        for _ in 1..LISTS {
            match self.segments_once(below) {
                // Its writer has dropped one of them.
                Err(error) if error.is_missing() => {}
                done => return done,
            }
        }
        self.segments_once(below)
    }

    fn segments_once(&mut self, below: &Path) -> Result<Vec<PathBuf>, BackupError> {
        let mut all = Vec::new();
        for segment in SegmentFile::all(&self.log.join(below))? {
            let path = below.join(segment.path.file_name().unwrap_or_default());
            all.push(path.clone());
            if self.full.contains(&path) {
                continue;
            }
            let failed = BackupError::io(&segment.path, "read");
            if !segment.is_last {
                self.link(&path)?;
                self.full.insert(path);
                continue;
            }
            match segment.whole_bytes().map_err(failed)? {
                0 => {}
                bytes => self.copy(&path, bytes)?,
            }
        }
        Ok(all)
    }

    /// Links a file that never changes, or copies it.
    fn link(&mut self, path: &Path) -> Result<(), BackupError> {
        let (from, to) = (self.log.join(path), self.folder.path.join(path));
        let failed = BackupError::io(&to, "link");
        make_folder(&*self.folder.disk, to.parent().unwrap_or(&to)).map_err(BackupError::io(&to, "make"))?;
        // It was copied before if it was the last one then. The copy stays if the log has dropped the segment since.
        let linked = to.with_extension("linked");
        let done = fs::hard_link(&from, &linked).and_then(|()| fs::rename(&linked, &to));
        // Nothing is renamed in the place of the same file.
        let _ = fs::remove_file(&linked);
        match done {
            Ok(()) => {
                let entry =
                    File::open(&to).and_then(|file| FileEntry::of(file, io::sink())).map_err(failed)?;
                self.manifest.insert(path, entry);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(failed(error)),
            // On another file system, or one without links.
            Err(_) => self.copy(path, u64::MAX),
        }
    }

    /// Copies the beginning of a file.
    fn copy(&mut self, path: &Path, bytes: u64) -> Result<(), BackupError> {
        let from = self.log.join(path);
        let file = File::open(&from).map_err(BackupError::io(&from, "read"))?;
        let modified = file.metadata().and_then(|about| about.modified());
        let copied = modified.and_then(|modified| self.folder.copy(file.take(bytes), Some(modified), path));
        self.manifest.insert(path, copied.map_err(BackupError::io(&from, "copy"))?);
        Ok(())
    }

    fn consumers(&mut self) -> Result<(), BackupError> {
        for name in names(&self.log.join(CONSUMERS))? {
            if !name.to_str().is_some_and(is_name) {
                continue;
            }
            let below = Path::new(CONSUMERS).join(name);
            // First: an attempt that ends meanwhile is in the journal then.
            match self.copy(&below.join(ATTEMPTS), u64::MAX) {
                Err(error) if error.is_missing() => {}
                done => done?,
            }
            match self.segments(&below) {
                // It was forgotten.
                Err(error) if error.is_missing() => self.forget(&below),
                done => drop(done?),
            }
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<(), BackupError> {
        let below = Path::new(snapshots::SNAPSHOTS);
        for name in names(&self.log.join(below))? {
            let path = below.join(name);
            if !snapshots::is_kept(&path) {
                continue;
            }
            match self.link(&path) {
                // The one before the last has no name while a new one is written.
                Err(error) if error.is_missing() => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// The waves for later. Waves that still wait in the first segments are written again before these are dropped, and the
    /// notes behind them may be dropped next: the segments of two lists do not belong together.
    fn timers(&mut self) -> Result<(), BackupError> {
        let below = Path::new(TIMERS);
        if !self.log.join(below).is_dir() {
            return Ok(());
        }
        for _ in 1..LISTS {
            match self.segments_once(below) {
                Err(error) if error.is_missing() => self.forget(below),
                done => return done.map(drop),
            }
        }
        self.segments_once(below).map(drop)
    }

    fn finish(self, to: &Path) -> Result<Backup, BackupError> {
        let failed = BackupError::io(to, "finish");
        let Self { folder, manifest, .. } = self;
        let text = manifest.text();
        let written = folder.copy(text.as_bytes(), None, Path::new(manifest::FILE));
        written.and_then(|_| folder.finish(&manifest.folders())).map_err(failed)?;
        Ok(manifest.size())
    }
}

/// The names in a folder; none if it is not there.
fn names(folder: &Path) -> Result<Vec<OsString>, BackupError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(BackupError::io(folder, "list"))?,
    };
    let names = listed.map(|file| Ok(file?.file_name())).collect::<io::Result<Vec<_>>>();
    let mut names = names.map_err(BackupError::io(folder, "list"))?;
    names.sort();
    Ok(names)
}

impl FileEntry {
    /// Copies everything from here on.
    fn of(mut from: impl Read, mut to: impl Write) -> io::Result<Self> {
        let (mut checksum, mut length) = (crc32fast::Hasher::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk)? {
                0 => return Ok(Self { length, checksum: checksum.finalize() }),
                read => {
                    to.write_all(&chunk[..read])?;
                    checksum.update(&chunk[..read]);
                    length += read as u64;
                }
            }
        }
    }
}

impl BackupError {
    /// Whether a file was not there, which may be the work of the writer of the log.
    fn is_missing(&self) -> bool {
        let (Self::Io { source, .. } | Self::Log(OpenError::Io { source, .. })) = self else { return false };
        source.kind() == ErrorKind::NotFound
    }
}

#[cfg(test)]
mod tests {
    use aether_core::Durability;

    use super::*;
    use crate::store::{Entry, Store, StoreOptions};

    #[test]
    fn a_segment_that_was_copied_and_is_dropped_before_it_is_linked_stays_in_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let (log, to, path) = (folder.path().join("log"), folder.path().join("backup"), Path::new("a"));
        fs::create_dir(&log).unwrap();
        fs::write(log.join(path), "waves").unwrap();
        let unfinished = Unfinished::new(&to).unwrap();
        let mut making =
            Making { log: &log, folder: unfinished, manifest: Manifest::default(), full: BTreeSet::new() };
        making.copy(path, 5).unwrap();
        fs::write(log.join(path), "waves, and more").unwrap();
        for _ in 0..2 {
            making.link(path).unwrap();
        }
        fs::remove_file(log.join(path)).unwrap();
        assert!(making.link(path).unwrap_err().is_missing());
        making.finish(&to).unwrap();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
        restore(&to, &folder.path().join("restored")).unwrap();
    }

    #[test]
    fn a_backup_begins_again_where_retention_dropped_waves_that_it_has_not_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (log, to) = (folder.path().join("log"), folder.path().join("backup"));
        fs::create_dir(&log).unwrap();
        let options = StoreOptions::default().segment_bytes(4096).unwrap();
        let store = Store::open(&log, options, 1).unwrap();
        let append = |records: u64| {
            let (done, appended) = std::sync::mpsc::channel();
            for _ in 0..records {
                let body = vec![0; 1000].into();
                let entry = Entry { kind: 1, level: 0, id: 0, name: "a".to_owned(), body };
                let done = done.clone();
                let done = Box::new(move |result| drop(done.send(result)));
                store.append(entry, Durability::Stored, done).unwrap();
            }
            drop(done);
            assert!(appended.iter().all(|result| result.is_ok()));
        };
        append(2);
        let unfinished = Unfinished::new(&to).unwrap();
        let mut making =
            Making { log: &log, folder: unfinished, manifest: Manifest::default(), full: BTreeSet::new() };
        let mut rounds = 0;
        let beside = |making: &mut Making<'_>| {
            rounds += 1;
            if rounds == 1 {
                append(30);
                store.drop_before(20);
            }
            making.beside()
        };
        making.everything(beside).unwrap();
        making.finish(&to).unwrap();
        assert_eq!(rounds, 2);
        let copied = Store::open(&to, options, 1).unwrap();
        assert_eq!(copied.extent().last, 32);
    }
}
