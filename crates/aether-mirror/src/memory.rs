//! The memory of a mirror: for each file the version that it came from. Kept in the folder itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use aether_field::core::Stamp;
use aether_files::redb_file::open_or_make;
use parking_lot::Mutex;
use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::disk::Stat;
use crate::error::MirrorError;
use crate::hash::Hash;
use crate::path::{FilePath, OWN};
use crate::version::{Content, FolderId, Seen};

const FILES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("files");
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// The version of the file.
const VERSION: u8 = 1;

/// The version that the file at a path came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) seen: Seen,
    /// `None` if the file was deleted.
    pub(crate) content: Option<Content>,
    /// The stamp of its register.
    pub(crate) stamp: Stamp,
    pub(crate) machine: String,
    /// When it was modified, in microseconds since 1970.
    pub(crate) time: u64,
    /// The file as it was read last.
    pub(crate) stat: Option<Stat>,
    /// Its times were so old then that they tell of each later change.
    pub(crate) is_settled: bool,
    pub(crate) blocks: Vec<Hash>,
}

/// The records of all paths.
#[derive(Debug, Default)]
pub(crate) struct Records {
    by_path: BTreeMap<FilePath, Record>,
    by_hash: BTreeMap<Hash, BTreeSet<FilePath>>,
    bytes: u64,
    files: usize,
    /// Not saved yet.
    changed: BTreeSet<FilePath>,
    /// Files that were kept beside others and have no record yet, with their sizes: they count at once.
    kept: BTreeMap<FilePath, u64>,
}

impl Records {
    pub(crate) fn of(&self, path: &FilePath) -> Option<&Record> {
        self.by_path.get(path)
    }

    pub(crate) fn set(&mut self, path: &FilePath, record: Option<Record>) {
        if self.by_path.get(path) == record.as_ref() {
            return;
        }
        self.put(path.clone(), record);
        self.changed.insert(path.clone());
    }

    fn put(&mut self, path: FilePath, record: Option<Record>) {
        if let Some(content) = self.by_path.remove(&path).and_then(|old| old.content) {
            self.bytes -= content.size;
            self.files -= 1;
            if let Some(paths) = self.by_hash.get_mut(&content.hash) {
                paths.remove(&path);
                if paths.is_empty() {
                    self.by_hash.remove(&content.hash);
                }
            }
        }
        self.kept.remove(&path);
        let Some(record) = record else { return };
        if let Some(content) = record.content {
            self.bytes += content.size;
            self.files += 1;
            self.by_hash.entry(content.hash).or_default().insert(path.clone());
        }
        self.by_path.insert(path, record);
    }

    /// The files, and their size in bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.files + self.kept.len(), self.bytes + self.kept.values().sum::<u64>())
    }

    /// A file was kept beside another one.
    pub(crate) fn keep(&mut self, path: FilePath, bytes: u64) {
        if !self.by_path.contains_key(&path) {
            self.kept.insert(path, bytes);
        }
    }

    /// A file that was kept is gone.
    pub(crate) fn release(&mut self, path: &FilePath) {
        self.kept.remove(path);
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.by_path.keys()
    }

    /// The paths of files below a folder.
    pub(crate) fn below(&self, folder: &FilePath) -> Vec<FilePath> {
        let start = format!("{folder}/");
        let after = self.by_path.range::<FilePath, _>((Bound::Excluded(folder), Bound::Unbounded));
        // Names such as `a!` are between `a` and `a/b`.
        after
            .map(|(path, _)| path)
            .take_while(|path| path.as_str().starts_with(folder.as_str()))
            .filter(|path| path.as_str().starts_with(&start))
            .cloned()
            .collect()
    }

    /// A file with this content, and the hashes of its blocks.
    pub(crate) fn with_hash(&self, hash: &Hash) -> Option<(FilePath, &Record)> {
        let path = self.by_hash.get(hash)?.first()?;
        Some((path.clone(), self.by_path.get(path)?))
    }

    /// These were not saved after all.
    pub(crate) fn put_back(&mut self, paths: impl IntoIterator<Item = FilePath>) {
        self.changed.extend(paths);
    }

    /// The records that are not saved yet.
    pub(crate) fn take_changed(&mut self) -> BTreeMap<FilePath, Option<Record>> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|path| (path.clone(), self.by_path.get(&path).cloned())).collect()
    }
}

/// The file of the records. One process has it open.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    /// `None` after an error of the disk: redb refuses everything then until the file is opened again.
    database: Mutex<Option<Database>>,
    pub(crate) folder: FolderId,
}

impl Memory {
    /// Opens the memory of a folder, or makes it. Blocks.
    pub(crate) fn open(root: &Path, place: &str) -> Result<(Self, Records), MirrorError> {
        let path = root.join(OWN).join("state.redb");
        let database = open_or_make(&options(), &path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => MirrorError::InUse { path: root.to_owned() },
            other => failure(&path, other),
        })?;
        let identity = identity(root);
        let (version, was, folder, records) = read(&database).map_err(|error| failure(&path, error))?;
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(MirrorError::Version { path, version });
        }
        if let Some(was) = was.filter(|was| was != place) {
            return Err(MirrorError::Elsewhere { path: root.to_owned(), was, given: place.to_owned() });
        }
        // A copy of a folder is another folder: two with one number would take each other's edits for their own.
        let folder = match folder {
            Some((folder, there)) if there == identity => FolderId(folder),
            _ => FolderId(fastrand::u64(1..)),
        };
        write_about(&database, place, folder, identity).map_err(|error| failure(&path, error))?;
        Ok((Self { path, database: Mutex::new(Some(database)), folder }, records))
    }

    /// Saves records in one transaction. Blocks. After an error of the disk the next call opens the file again.
    pub(crate) fn save(&self, records: &BTreeMap<FilePath, Option<Record>>) -> Result<(), MirrorError> {
        let mut open = self.database.lock();
        let database = match open.take() {
            Some(database) => database,
            None => options().open(&self.path).map_err(|error| failure(&self.path, error))?,
        };
        write(&database, records).map_err(|error| failure(&self.path, error))?;
        *open = Some(database);
        Ok(())
    }
}

fn options() -> Builder {
    let mut options = Database::builder();
    options.set_cache_size(16 << 20).set_check_integrity_on_open(true);
    options
}

#[expect(clippy::type_complexity, reason = "read in one place")]
fn read(
    database: &Database,
) -> Result<(Option<u8>, Option<String>, Option<(u64, (u64, u64))>, Records), redb::Error> {
    let mut records = Records::default();
    let transaction = database.begin_read()?;
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, None, None, records)),
        Err(error) => return Err(error.into()),
    };
    let version = about.get("version")?.and_then(|version| version.value().first().copied()).unwrap_or(0);
    let place = about.get("place")?.map(|place| String::from_utf8_lossy(place.value()).into_owned());
    let folder = about.get("folder")?.and_then(|folder| postcard::from_bytes(folder.value()).ok());
    if version == VERSION {
        for row in transaction.open_table(FILES)?.iter()? {
            let (path, record) = row?;
            let record = postcard::from_bytes(record.value()).ok();
            if let (Ok(path), Some(record)) = (FilePath::new(path.value()), record) {
                records.put(path, Some(record));
            }
        }
    }
    Ok((Some(version), place, folder, records))
}

fn write_about(
    database: &Database,
    place: &str,
    folder: FolderId,
    identity: (u64, u64),
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        about.insert("version", [VERSION].as_slice())?;
        about.insert("place", place.as_bytes())?;
        if let Ok(folder) = postcard::to_allocvec(&(folder.0, identity)) {
            about.insert("folder", &*folder)?;
        }
        drop(about);
        transaction.open_table(FILES)?;
    }
    Ok(transaction.commit()?)
}

fn write(database: &Database, records: &BTreeMap<FilePath, Option<Record>>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut files = transaction.open_table(FILES)?;
        for (path, record) in records {
            match record.as_ref().map(postcard::to_allocvec) {
                Some(Ok(record)) => drop(files.insert(path.as_str(), &*record)?),
                _ => drop(files.remove(path.as_str())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

fn failure(path: &Path, source: impl Into<redb::Error>) -> MirrorError {
    MirrorError::Memory { path: path.to_owned(), source: Box::new(source.into()) }
}

/// Numbers by which a folder differs from a copy of it; zeros where the system has none.
pub(crate) fn identity(root: &Path) -> (u64, u64) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if let Ok(about) = std::fs::symlink_metadata(root.join(OWN)) {
            return (about.dev(), about.ino());
        }
    }
    let _ = root;
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> FilePath {
        FilePath::new(path).unwrap()
    }

    fn record(size: u64) -> Record {
        let hash = Hash::of_file(size, &[]);
        Record {
            seen: Seen::default().edited(FolderId(7), size),
            content: Some(Content { size, hash, executable: false }),
            stamp: Stamp::default(),
            machine: "pi-2".into(),
            time: 1,
            stat: None,
            is_settled: false,
            blocks: vec![hash],
        }
    }

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(OWN)).unwrap();
        root
    }

    #[test]
    fn records_are_found_by_path_by_folder_and_by_hash() {
        let mut records = Records::default();
        for (name, size) in [("a", 1), ("a/b", 2), ("a/c/d", 3), ("a!", 4), ("ab", 1), ("b", 5)] {
            records.set(&path(name), Some(record(size)));
        }
        assert_eq!(records.size(), (6, 16));
        assert_eq!(records.below(&path("a")), [path("a/b"), path("a/c/d")]);
        // A file that was kept counts once, whether it has a record or not.
        records.keep(path("b"), 5);
        records.keep(path("kept"), 7);
        records.keep(path("gone"), 9);
        assert_eq!(records.size(), (8, 32));
        records.set(&path("kept"), Some(record(7)));
        records.release(&path("gone"));
        assert_eq!(records.size(), (7, 23));
        records.set(&path("kept"), None);
        let hash = Hash::of_file(1, &[]);
        assert_eq!(records.with_hash(&hash).unwrap().0, path("a"));
        records.set(&path("a"), None);
        records.set(&path("ab"), Some(Record { content: None, ..record(1) }));
        assert_eq!((records.size(), records.with_hash(&hash)), ((4, 14), None));
    }

    #[test]
    fn records_outlive_the_process_and_a_copy_of_the_folder_is_another_folder() {
        let root = root();
        let (memory, mut records) = Memory::open(root.path(), "home files/").unwrap();
        records.set(&path("a"), Some(record(1)));
        records.set(&path("b"), Some(record(2)));
        memory.save(&records.take_changed()).unwrap();
        records.set(&path("b"), None);
        memory.save(&records.take_changed()).unwrap();
        assert!(records.take_changed().is_empty());
        let error = Memory::open(root.path(), "home files/").unwrap_err();
        assert!(matches!(error, MirrorError::InUse { .. }), "{error}");
        let folder = memory.folder;
        drop(memory);
        let error = Memory::open(root.path(), "work files/").unwrap_err();
        assert!(matches!(error, MirrorError::Elsewhere { .. }), "{error}");
        let (memory, records) = Memory::open(root.path(), "home files/").unwrap();
        assert_eq!((memory.folder, records.size()), (folder, (1, 1)));
        assert_eq!(records.of(&path("a")), Some(&record(1)));
        let copy = self::root();
        std::fs::copy(&memory.path, copy.path().join(OWN).join("state.redb")).unwrap();
        let (of_copy, records) = Memory::open(copy.path(), "home files/").unwrap();
        assert!(cfg!(not(unix)) || of_copy.folder != folder);
        assert_eq!(records.size(), (1, 1));
    }
}
