//! The file of a store: redb tables, read at start and written in transactions.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};

use super::error::{StoreError, VERSION};
use super::record;
use crate::core::{Change, Entry, Key, Stamp};

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) changes: Vec<Change>,
    /// The keys of entries that are damaged although the pages around them are not.
    pub(super) damaged: Vec<Vec<u8>>,
    pub(super) collected: Stamp,
    pub(super) last: Stamp,
}

/// The options of all stores. Each page is compared with its checksum when a file is opened: without that, redb may
/// panic at a damaged page. It costs a third of the time of a start.
pub(super) fn options() -> Builder {
    let mut builder = Database::builder();
    // The replica has everything in memory; redb's default is 1 GiB.
    builder.set_cache_size(16 << 20).set_check_integrity_on_open(true);
    builder
}

/// An error of redb, as one of a store.
pub(super) fn failure(path: &Path, source: redb::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source: Box::new(source) }
}

/// An error at opening; `None` if the file is damaged or none of redb's.
pub(super) fn not_open(path: &Path, error: DatabaseError) -> Option<StoreError> {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Some(StoreError::InUse { path: path.to_owned() }),
        DatabaseError::Storage(redb::StorageError::Corrupted(_)) => None,
        // The mark of redb at the beginning is missing.
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            None
        }
        // One byte of the version was changed, or the file is very old.
        DatabaseError::UpgradeRequired(_) => None,
        other => Some(failure(path, other.into())),
    }
}

/// Reads everything.
pub(super) fn read(database: &Database, path: &Path) -> Result<Stored, StoreError> {
    let (stored, version) = read_tables(database).map_err(|error| failure(path, error))?;
    match version {
        Some(version) if version != VERSION => Err(StoreError::Version { path: path.to_owned(), version }),
        _ => Ok(stored),
    }
}

fn read_tables(database: &Database) -> Result<(Stored, Option<u8>), redb::Error> {
    let mut stored = Stored::default();
    let transaction = database.begin_read()?;
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        // A new file.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((stored, None)),
        Err(error) => return Err(error.into()),
    };
    let version = about.get("version")?.and_then(|version| version.value().first().copied());
    if version != Some(VERSION) {
        return Ok((stored, version.or(Some(0))));
    }
    let stamps = about.get("stamps")?.and_then(|stamps| postcard::from_bytes(stamps.value()).ok());
    (stored.collected, stored.last) = stamps.unwrap_or_default();
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, value) = row?;
        match record::decode(value.value()) {
            Some(change) => stored.changes.push(change),
            None => stored.damaged.push(key.value().to_vec()),
        }
    }
    Ok((stored, version))
}

/// Writes and syncs in one transaction.
pub(super) fn write(
    database: &Database,
    entries: &BTreeMap<Key, Option<Entry>>,
    about: Option<(Stamp, Stamp)>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for (key, entry) in entries {
            let Ok(name) = postcard::to_allocvec(key) else { continue };
            match entry {
                Some(entry) => table.insert(&*name, &*record::encode(key, entry))?.map(drop),
                None => table.remove(&*name)?.map(drop),
            };
        }
        let count = table.len()?;
        drop(table);
        let mut table = transaction.open_table(ABOUT)?;
        table.insert("version", [VERSION].as_slice())?;
        if let Some(stamps) = about {
            if let Ok(bytes) = postcard::to_allocvec(&stamps) {
                table.insert("stamps", &*bytes)?;
            }
            table.insert("count", &*record::encode_count(stamps.1, count))?;
        }
    }
    transaction.commit()?;
    Ok(())
}
