//! Looking at the files of a folder. Nothing here follows a link, and nothing writes. Everything blocks.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::hash::{Hash, hash};
use crate::path::{FilePath, OWN};
use crate::version::{Content, INLINE};

/// A file that was modified so shortly before it was read may be modified again without another time: some file systems
/// count in steps of 2 s.
const STEP: Duration = Duration::from_secs(2);

/// How long after its modification a file that nobody has reported is left alone.
const FRESH: Duration = Duration::from_secs(1);

/// The times and the size of a file, by which a change of it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// When it was modified, in nanoseconds since 1970.
    modified: u128,
    /// When anything about it was changed; 0 where the system does not tell.
    changed: i128,
    /// Its number in the file system; 0 where there is none.
    inode: u64,
    pub(crate) executable: bool,
}

impl Stat {
    pub(crate) fn of(about: &Metadata) -> io::Result<Self> {
        let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        #[cfg(unix)]
        let (changed, inode, executable) = {
            use std::os::unix::fs::MetadataExt as _;
            let changed = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
            (changed, about.ino(), about.mode() & 0o100 != 0)
        };
        #[cfg(not(unix))]
        let (changed, inode, executable) = (0, 0, false);
        Ok(Self { size: about.len(), modified, changed, inode, executable })
    }

    /// Whether this is the same file with the same bytes. A link to it or another mode changes neither.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.size, self.modified, self.inode) == (other.size, other.modified, other.inode)
    }

    /// When the file was modified, in microseconds since 1970.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.modified / 1000).unwrap_or(u64::MAX)
    }

    /// Whether the file was modified so shortly ago that somebody may still write it.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let age = now.saturating_sub(self.modified);
        age < FRESH.as_nanos() && self.modified <= now
    }

    /// Whether a change after the file was read shows in its times.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = self.modified.max(u128::try_from(self.changed).unwrap_or(0));
        newest + STEP.as_nanos() < now.as_nanos()
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) stat: Stat,
    /// The times of the file are so old that they tell of each later change.
    pub(crate) is_settled: bool,
    pub(crate) content: Content,
    pub(crate) blocks: Vec<Hash>,
    /// The bytes, if it is small.
    pub(crate) data: Option<Vec<u8>>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// The file of this stat is known already, and was not read again.
    Known(Stat),
    File(Read),
    Folder,
    /// A link, a device or the like.
    Other,
    /// A folder of the path is a file, so nothing is there.
    BelowFile,
    /// A folder of the path is a link or the like. Nothing is known about what is behind it.
    Misplaced,
    /// The file system takes the name for another one.
    Collision,
    TooLarge,
    /// It changed while it was read.
    Unstable,
}

/// Looks at a path, and reads a file if its stat is not the known one. `checks_names` on a file system that takes different
/// names for one.
pub(crate) fn look(
    root: &Path,
    path: &FilePath,
    known: Option<&Stat>,
    checks_names: bool,
    max_bytes: u64,
) -> io::Result<Found> {
    let mut folder = root.to_owned();
    for name in path.folders().filter_map(|folder| folder.rsplit('/').next()) {
        let within = folder.clone();
        folder.push(name);
        match about(&folder)? {
            None => return Ok(Found::Nothing),
            Some(_) if checks_names && !has_name(&within, name)? => return Ok(Found::Collision),
            Some(about) if about.is_dir() => {}
            Some(about) if about.is_file() => return Ok(Found::BelowFile),
            Some(_) => return Ok(Found::Misplaced),
        }
    }
    let place = folder.join(path.name());
    let Some(about_file) = about(&place)? else { return Ok(Found::Nothing) };
    if about_file.is_dir() {
        return Ok(Found::Folder);
    }
    if !about_file.is_file() {
        return Ok(Found::Other);
    }
    let before = Stat::of(&about_file)?;
    if known == Some(&before) {
        return Ok(Found::Known(before));
    }
    if checks_names && !has_name(&folder, path.name())? {
        return Ok(Found::Collision);
    }
    if before.size > max_bytes {
        return Ok(Found::TooLarge);
    }
    let mut file = match open(&place) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Unstable),
        Err(error) => return Err(error),
    };
    let opened = Stat::of(&file.metadata()?)?;
    let (size, blocks, data) = hash(&mut file, max_bytes, INLINE)?;
    // Looked at by its path as well: an editor may have put another file there.
    let after = about(&place)?.map(|about| Stat::of(&about)).transpose()?;
    if opened != before || after != Some(before) || size != before.size {
        return Ok(Found::Unstable);
    }
    let content = Content { size, hash: Hash::of_file(size, &blocks), executable: before.executable };
    Ok(Found::File(Read { stat: before, is_settled: before.is_settled(), content, blocks, data }))
}

/// The stat of a file, if there is one.
pub(crate) fn stat(place: &Path) -> io::Result<Option<Stat>> {
    about(place)?.filter(Metadata::is_file).map(|about| Stat::of(&about)).transpose()
}

/// The hashes of the blocks of a file; an error if it has another content.
pub(crate) fn blocks(place: &Path, content: &Content) -> io::Result<Vec<Hash>> {
    let (size, blocks, _) = hash(&mut open(place)?, content.size, 0)?;
    let is_right = size == content.size && Hash::of_file(size, &blocks) == content.hash;
    if is_right { Ok(blocks) } else { Err(io::Error::other("the file has other bytes")) }
}

/// Opens a file for reading, and neither a link nor anything that would make it wait.
pub(crate) fn open(place: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    options.open(place)
}

fn about(place: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(place) {
        Ok(about) => Ok(Some(about)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a folder lists exactly this name. A file system that folds names finds others as well.
fn has_name(folder: &Path, name: &str) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if entry?.file_name() == name {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The files and folders that a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) files: BTreeSet<FilePath>,
    /// The folders, including the one where the walk began.
    pub(crate) folders: Vec<PathBuf>,
    /// Names that are no paths of a mirror, as far as they can be written.
    pub(crate) unnamed: BTreeSet<String>,
    /// Folders that could not be read.
    pub(crate) unread: Vec<(PathBuf, io::Error)>,
}

/// Walks through a folder below the root. `enter` is called for each folder before its files are read.
pub(crate) fn walk(root: &Path, from: &Path, mut enter: impl FnMut(&Path)) -> Walk {
    let mut walk = Walk::default();
    let mut open = vec![from.to_owned()];
    while let Some(folder) = open.pop() {
        enter(&folder);
        if let Err(error) = walk.read(root, &folder, &mut open) {
            // It may be gone by now.
            if error.kind() != ErrorKind::NotFound {
                walk.unread.push((folder.clone(), error));
            }
        }
        walk.folders.push(folder);
    }
    walk
}

impl Walk {
    fn read(&mut self, root: &Path, folder: &Path, open: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let place = entry.path();
            if folder == root && entry.file_name() == OWN {
                continue;
            }
            let relative = place.strip_prefix(root).unwrap_or(&place);
            match FilePath::of(relative) {
                Err(_) => drop(self.unnamed.insert(relative.to_string_lossy().into_owned())),
                Ok(path) if entry.file_type()?.is_dir() => {
                    let _ = path;
                    open.push(place);
                }
                Ok(path) => drop(self.files.insert(path)),
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn path(path: &str) -> FilePath {
        FilePath::new(path).unwrap()
    }

    #[test]
    fn a_look_finds_what_is_there_and_follows_no_link() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = root.path();
        let begin = tokio::time::Instant::now();
        fs::write(outside.path().join("secret"), "s").unwrap();
        fs::write(root.join("file"), "hello").unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("way-out")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("link")).unwrap();
        let look = |name: &str| look(root, &path(name), None, true, 10).unwrap();
        for (name, found) in [
            ("none", Found::Nothing),
            ("folder/none", Found::Nothing),
            ("none/none", Found::Nothing),
            ("folder", Found::Folder),
            ("link", Found::Other),
            ("way-out", Found::Other),
            ("way-out/secret", Found::Misplaced),
            ("file/below", Found::BelowFile),
        ] {
            assert_eq!(look(name), found, "{name}");
        }
        let Found::File(read) = look("file") else { panic!("it is a file") };
        assert!(read.content.is_of(b"hello") && read.data.as_deref() == Some(b"hello"));
        // The clock of the file system is some milliseconds behind.
        let is_new = begin.elapsed() + Duration::from_millis(100) < STEP;
        assert!(!read.is_settled || !is_new, "it was written just now");
        fs::write(root.join("file"), "hello hello").unwrap();
        assert_eq!(look("file"), Found::TooLarge);
        let fifo = root.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert_eq!(look("fifo"), Found::Other);
    }

    #[test]
    fn a_file_whose_stat_is_known_is_not_read_again() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "hello").unwrap();
        let known = stat(&root.path().join("file")).unwrap().unwrap();
        let found = look(root.path(), &path("file"), Some(&known), false, 10).unwrap();
        assert_eq!(found, Found::Known(known));
    }

    #[test]
    fn a_walk_names_everything_but_the_mirror_s_own_folder() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join(OWN)).unwrap();
        fs::write(root.join(OWN).join("state"), "").unwrap();
        fs::write(root.join("a/b/c"), "").unwrap();
        fs::write(root.join("d"), "").unwrap();
        fs::write(root.join("e\\f"), "").unwrap();
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let mut entered = Vec::new();
        let walk = walk(root, root, |folder| entered.push(folder.to_owned()));
        assert_eq!(walk.files, [path("a/b/c"), path("d")].into());
        assert_eq!(walk.unnamed, ["e\\f".to_owned(), "\u{fffd}".to_owned()].into());
        assert_eq!((entered.len(), entered == walk.folders), (3, true));
    }
}
