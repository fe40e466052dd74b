//! Putting files into the folder: whole, in one step, and only over the file that was looked at. Everything blocks.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::disk::{Stat, stat};
use crate::path::{FilePath, OWN};

/// Why a file was not put in its place. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Somebody has changed the file since it was looked at.
    #[error("the file has changed meanwhile")]
    Changed,
    /// A folder of the path is none, or a folder has the name of the file.
    #[error("a file, link or folder is in the place of the file")]
    Place,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file that is complete, but not in its place. Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Staged(PathBuf);

impl Staged {
    /// A name for a new file, in the mirror's own folder: on the same file system, unseen, and never too long.
    pub(crate) fn new(root: &Path) -> Self {
        Self(staging(root).join(format!("{:016x}", fastrand::u64(..))))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a small file. It is synced when it is put into its place.
    pub(crate) fn write(root: &Path, data: &[u8]) -> io::Result<Self> {
        let staged = Self::new(root);
        fs::write(&staged.0, data)?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is in its place, or was never made.
        let _ = fs::remove_file(&self.0);
    }
}

fn staging(root: &Path) -> PathBuf {
    root.join(OWN).join("staging")
}

/// Makes the mirror's own folder, and removes what a killed process has left in it.
pub(crate) fn prepare(root: &Path) -> io::Result<()> {
    fs::create_dir_all(staging(root))?;
    for left in fs::read_dir(staging(root))? {
        fs::remove_file(left?.path())?;
    }
    Ok(())
}

/// Whether the file system takes names for one that differ in capitals, or in the way that an accent is written.
pub(crate) fn folds_names(root: &Path) -> io::Result<bool> {
    let probe = Staged(staging(root).join("Nam\u{e9}"));
    fs::write(&probe.0, "")?;
    let is_there = |name: &str| stat(&staging(root).join(name)).map(|found| found.is_some());
    Ok(is_there("nam\u{e9}")? || is_there("Name\u{301}")?)
}

/// Puts a staged file into its place. `expected` is the file that was there when it was looked at. Returns the stat of the
/// file in its place.
pub(crate) fn put(
    root: &Path,
    path: &FilePath,
    staged: &Staged,
    expected: Option<&Stat>,
    executable: bool,
    modified: u64,
) -> Result<Stat, PlaceError> {
    let file = File::options().write(true).open(&staged.0)?;
    // The file is put there also if the file system cannot hold its time.
    if let Some(modified) = UNIX_EPOCH.checked_add(Duration::from_micros(modified)) {
        let _ = file.set_modified(modified);
    }
    make_executable(&file, executable)?;
    file.sync_all()?;
    drop(file);
    make_folders(root, path)?;
    let place = path.below(root);
    if is_folder(&place) {
        return Err(PlaceError::Place);
    }
    match expected {
        None => put_new(&staged.0, &place)?,
        Some(expected) => put_over(&staged.0, &place, expected)?,
    }
    sync_folder(&place);
    stat(&place)?.ok_or(PlaceError::Changed)
}

fn make_executable(file: &File, executable: bool) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let mode = file.metadata()?.mode();
        // All who may read it may run it.
        let mode = if executable { mode | (mode & 0o444) >> 2 } else { mode & !0o111 };
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    }
    let _ = (file, executable);
    Ok(())
}

fn is_folder(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok_and(|about| about.is_dir())
}

/// Removes a folder that has nothing in it but such folders: they are not mirrored, and nobody misses them.
pub(crate) fn remove_empty(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let is_empty = entries.flatten().all(|entry| is_folder(&entry.path()) && remove_empty(&entry.path()));
    is_empty && fs::remove_dir(folder).is_ok()
}

/// Makes the folders of a path that are missing.
fn make_folders(root: &Path, path: &FilePath) -> Result<(), PlaceError> {
    let mut folder = root.to_owned();
    for name in path.folders().filter_map(|folder| folder.rsplit('/').next()) {
        folder.push(name);
        match fs::create_dir(&folder) {
            Ok(()) => sync_folder(&folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // A link to a folder is none: it may lead out of this one.
                if !fs::symlink_metadata(&folder)?.is_dir() {
                    return Err(PlaceError::Place);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Puts a file where none is.
fn put_new(staged: &Path, place: &Path) -> Result<(), PlaceError> {
    match rename_with(staged, place, Rename::New) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(PlaceError::Changed),
        Err(error) if is_unsupported(&error) => match stat_any(place)? {
            true => Err(PlaceError::Changed),
            false => Ok(fs::rename(staged, place)?),
        },
        Err(error) => Err(error.into()),
    }
}

/// Puts a file over the expected one. The old file is looked at once more after the exchange, so no edit of the last
/// moment is lost.
fn put_over(staged: &Path, place: &Path, expected: &Stat) -> Result<(), PlaceError> {
    if !stat(place)?.is_some_and(|now| now.is_same_file(expected)) {
        return Err(PlaceError::Changed);
    }
    match rename_with(staged, place, Rename::Exchange) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(PlaceError::Changed),
        Err(error) if is_unsupported(&error) => return Ok(fs::rename(staged, place)?),
        Err(error) => return Err(error.into()),
    }
    if stat(staged)?.is_some_and(|was| was.is_same_file(expected)) {
        return Ok(());
    }
    // Somebody was faster: theirs goes back.
    rename_with(staged, place, Rename::Exchange)?;
    Err(PlaceError::Changed)
}

/// Deletes the expected file, and the folders that are empty then.
pub(crate) fn delete(root: &Path, path: &FilePath, expected: &Stat) -> Result<(), PlaceError> {
    let place = path.below(root);
    if !stat(&place)?.is_some_and(|now| now.is_same_file(expected)) {
        return Err(PlaceError::Changed);
    }
    let taken = Staged::new(root);
    match fs::rename(&place, &taken.0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(PlaceError::Changed),
        Err(error) => return Err(error.into()),
    }
    if !stat(&taken.0)?.is_some_and(|was| was.is_same_file(expected)) {
        // An edit of the last moment goes back, unless there is a newer one by now.
        put_new(&taken.0, &place)?;
        return Err(PlaceError::Changed);
    }
    sync_folder(&place);
    for folder in path.folders().rev() {
        // Not if there is something else in it.
        if fs::remove_dir(root.join(folder)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Gives the expected file a second name beside its own. Returns whether it has it: another file may have that name.
pub(crate) fn keep(
    root: &Path,
    path: &FilePath,
    beside: &FilePath,
    expected: &Stat,
) -> Result<bool, PlaceError> {
    let (place, beside) = (path.below(root), beside.below(root));
    if stat_any(&beside)? {
        return Ok(false);
    }
    let taken = Staged::new(root);
    match fs::hard_link(&place, &taken.0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(PlaceError::Changed),
        // Not all file systems have links.
        Err(_) => {
            fs::copy(&place, &taken.0)?;
            let file = File::options().write(true).open(&taken.0)?;
            if let Some(modified) = UNIX_EPOCH.checked_add(Duration::from_micros(expected.micros())) {
                file.set_modified(modified)?;
            }
            file.sync_all()?;
        }
    }
    if !stat(&place)?.is_some_and(|now| now.is_same_file(expected)) {
        return Err(PlaceError::Changed);
    }
    match put_new(&taken.0, &beside) {
        Ok(()) => sync_folder(&beside),
        Err(PlaceError::Changed) => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(true)
}

fn stat_any(place: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(place) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Syncs the folder that a name is in, so that the name outlives a loss of power.
fn sync_folder(place: &Path) {
    #[cfg(unix)]
    if let Some(folder) = place.parent()
        && let Ok(folder) = File::open(folder)
    {
        // Some file systems do not know how: then the name is as safe as they make it.
        let _ = folder.sync_all();
    }
    let _ = place;
}

#[derive(Debug, Clone, Copy)]
enum Rename {
    /// Only if the new name is free.
    New,
    /// Both files get the other's name.
    Exchange,
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_with(from: &Path, to: &Path, how: Rename) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let flags = match how {
        Rename::New => RenameFlags::NOREPLACE,
        Rename::Exchange => RenameFlags::EXCHANGE,
    };
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_with(_: &Path, _: &Path, _: Rename) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Whether the file system does not know this way of renaming.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> FilePath {
        FilePath::new(path).unwrap()
    }

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path()).unwrap();
        root
    }

    fn left(root: &Path) -> usize {
        fs::read_dir(staging(root)).unwrap().count()
    }

    #[test]
    fn a_file_is_put_with_its_time_and_its_mode_and_nothing_is_left_beside() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = root();
        let root = root.path();
        let staged = Staged::write(root, b"one").unwrap();
        let first = put(root, &path("a/b/c"), &staged, None, true, 1_700_000_000_000_000).unwrap();
        drop(staged);
        assert_eq!(fs::read(root.join("a/b/c")).unwrap(), b"one");
        assert_eq!((first.micros(), first.executable), (1_700_000_000_000_000, true));
        let staged = Staged::write(root, b"two").unwrap();
        put(root, &path("a/b/c"), &staged, Some(&first), false, 5).unwrap();
        drop(staged);
        assert_eq!(fs::read(root.join("a/b/c")).unwrap(), b"two");
        assert_eq!(fs::metadata(root.join("a/b/c")).unwrap().permissions().mode() & 0o111, 0);
        assert_eq!(left(root), 0);
    }

    #[test]
    fn a_file_that_has_changed_is_neither_replaced_nor_deleted() {
        let root = root();
        let root = root.path();
        let place = root.join("a");
        fs::write(&place, "old").unwrap();
        let old = stat(&place).unwrap().unwrap();
        fs::write(&place, "newer").unwrap();
        let staged = Staged::write(root, b"theirs").unwrap();
        for expected in [None, Some(&old)] {
            let error = put(root, &path("a"), &staged, expected, false, 5).unwrap_err();
            assert!(matches!(error, PlaceError::Changed), "{error}");
        }
        assert!(matches!(delete(root, &path("a"), &old), Err(PlaceError::Changed)));
        assert_eq!(fs::read(&place).unwrap(), b"newer");
        fs::remove_file(&place).unwrap();
        let error = put(root, &path("a"), &staged, Some(&old), false, 5).unwrap_err();
        assert!(matches!(error, PlaceError::Changed) && !place.exists(), "{error}");
    }

    #[test]
    fn nothing_is_put_through_a_link_below_a_file_or_over_a_folder_with_files() {
        let (root, outside) = (root(), tempfile::tempdir().unwrap());
        let root = root.path();
        std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
        fs::write(root.join("file"), "f").unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        let staged = Staged::write(root, b"x").unwrap();
        fs::create_dir_all(root.join("folder/empty")).unwrap();
        fs::write(root.join("folder/full"), "f").unwrap();
        fs::create_dir_all(root.join("empty/empty")).unwrap();
        for name in ["out/x", "out/deep/x", "file/x", "folder"] {
            let error = put(root, &path(name), &staged, None, false, 5).unwrap_err();
            assert!(matches!(error, PlaceError::Place), "{name}: {error}");
        }
        let error = put(root, &path("out"), &staged, None, false, 5);
        assert!(matches!(error, Err(PlaceError::Changed)), "{error:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(!remove_empty(&root.join("folder")) && remove_empty(&root.join("empty")));
        put(root, &path("empty"), &staged, None, false, 5).unwrap();
        assert_eq!(fs::read(root.join("empty")).unwrap(), b"x");
    }

    #[test]
    fn a_deletion_takes_the_folders_that_are_empty_then() {
        let root = root();
        let root = root.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["a/b/c", "a/d"] {
            fs::write(root.join(name), "x").unwrap();
        }
        delete(root, &path("a/b/c"), &stat(&root.join("a/b/c")).unwrap().unwrap()).unwrap();
        assert!(!root.join("a/b").exists() && root.join("a/d").exists());
        delete(root, &path("a/d"), &stat(&root.join("a/d")).unwrap().unwrap()).unwrap();
        assert!(!root.join("a").exists() && root.exists());
        assert_eq!(left(root), 0);
    }

    #[test]
    fn a_file_is_kept_beside_under_a_name_that_is_free() {
        let root = root();
        let root = root.path();
        fs::write(root.join("a"), "mine").unwrap();
        let mine = stat(&root.join("a")).unwrap().unwrap();
        assert!(keep(root, &path("a"), &path("b"), &mine).unwrap());
        assert!(!keep(root, &path("a"), &path("b"), &mine).unwrap());
        let staged = Staged::write(root, b"theirs").unwrap();
        put(root, &path("a"), &staged, Some(&mine), false, 5).unwrap();
        drop(staged);
        assert_eq!(fs::read(root.join("a")).unwrap(), b"theirs");
        assert_eq!(fs::read(root.join("b")).unwrap(), b"mine");
        assert_eq!(left(root), 0);
    }
}
