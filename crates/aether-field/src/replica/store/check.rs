//! Checking a store without changing it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use redb::StorageBackend as _;
use redb::backends::InMemoryBackend;

use super::error::StoreError;
use super::file::{failure, not_open, options, read};
use super::record::{Found, scan};
use super::salvage::missing;

/// The findings of a check of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreCheck {
    /// The entries that are readable, marks of removals included.
    pub entries: usize,
    /// Whether the pages of the file match their checksums, and all entries theirs.
    pub is_intact: bool,
    /// The records that do not match their checksum. A file that is not intact may have none: then the pages that
    /// lead to the entries are damaged, and a replica that opens it still finds all readable entries.
    pub damaged: Vec<DamagedRecord>,
    /// How many entries fewer are readable than the file had when it was last written, as far as that is known.
    pub missing: usize,
}

/// A record of a store that does not match its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedRecord {
    /// Its name, as far as that is readable.
    pub name: Option<String>,
    /// Its place in the file, in bytes from the beginning.
    pub place: Option<usize>,
}

/// Compares every page and every entry of a store with its checksum. The file is read and not changed; no replica may
/// have it open.
///
/// # Errors
/// [`StoreError`] if the file cannot be read, is in use, or does not hold a store of this version.
pub fn check_store(path: impl AsRef<Path>) -> Result<StoreCheck, StoreError> {
    let path = path.as_ref();
    let io = |error: std::io::Error| failure(path, redb::Error::Io(error));
    let mut file = File::open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
        // Not all file systems can lock.
        Err(std::fs::TryLockError::Error(_)) => {}
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    let copy = InMemoryBackend::new();
    // Memory does not fail.
    let _ = copy.set_len(bytes.len() as u64);
    let _ = copy.write(0, &bytes);
    let stored = match options().create_with_backend(copy) {
        Ok(database) => read(&database, path)?,
        Err(error) => return not_open(path, error).map_or_else(|| damaged(path, &bytes), Err),
    };
    let name =
        |key: &Vec<u8>| postcard::from_bytes::<crate::core::Key>(key).ok().map(|key| key.name().to_owned());
    let damaged: Vec<_> =
        stored.damaged.iter().map(|key| DamagedRecord { name: name(key), place: None }).collect();
    let missing = damaged.len();
    Ok(StoreCheck { entries: stored.changes.len(), is_intact: damaged.is_empty(), damaged, missing })
}

fn damaged(path: &Path, bytes: &[u8]) -> Result<StoreCheck, StoreError> {
    let mut check = StoreCheck::default();
    let mut keys = std::collections::BTreeSet::new();
    for (place, found) in scan(bytes) {
        match found {
            Found::Entry(change) => drop(keys.insert(change.key)),
            Found::Damaged(key) => {
                let name = key.map(|key| key.name().to_owned());
                check.damaged.push(DamagedRecord { name, place: Some(place) });
            }
        }
    }
    check.entries = keys.len();
    check.missing = missing(bytes, keys.len());
    if check.entries == 0 && check.damaged.is_empty() {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    Ok(check)
}
