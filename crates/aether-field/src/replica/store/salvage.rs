//! What is done with a damaged file: everything in it that is readable goes into a new one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aether_files::redb_file::{create, open, sync_folder_of};
use redb::Database;

use super::error::StoreError;
use super::file::{failure, options, write};
use super::record::{Found, last_count, scan};
use crate::core::{Entry, Key, Stamp};

/// A damaged file that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvage {
    /// Where the damaged file is now.
    pub set_aside: PathBuf,
    /// The entries that were readable.
    pub entries: usize,
    /// The records that were found and not readable. Some may be of entries that had been replaced.
    pub damaged: usize,
    /// How many entries fewer there are than the file had when it was last written. 0 if that is not readable: then how many
    /// are missing is not known.
    pub missing: usize,
}

/// Replaces a damaged file by one with all readable entries of it, the newest of each key.
///
/// A store does not erase what it replaces, so an entry that is damaged may come back as it was before, and so may one
/// whose mark of removal was dropped. A reconciliation corrects both.
pub(super) fn salvage(path: &Path) -> Result<(Database, Salvage), StoreError> {
    let failed = |source| StoreError::Salvage { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    let mut entries: BTreeMap<Key, Option<Entry>> = BTreeMap::new();
    let mut damaged = 0;
    for (_, found) in scan(&bytes) {
        match found {
            Found::Entry(change) => {
                let is_newer =
                    |old: &Option<Entry>| old.as_ref().is_none_or(|old| change.entry.stamp > old.stamp);
                if entries.get(&change.key).is_none_or(is_newer) {
                    entries.insert(change.key, Some(change.entry));
                }
            }
            Found::Damaged(_) => damaged += 1,
        }
    }
    if entries.is_empty() {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let missing = missing(&bytes, entries.len());
    let set_aside = aside(path);
    // Written in full beside it first: a crash here leaves the damaged file in its place.
    let new = path.with_extension("salvaged");
    let _ = std::fs::remove_file(&new);
    let last = entries.values().flatten().map(|entry| entry.stamp).max().unwrap_or_default();
    {
        let database = create(&options(), &new).map_err(|error| failure(&new, error.into()))?;
        write(&database, &entries, Some((Stamp::default(), last))).map_err(|error| failure(&new, error))?;
    }
    std::fs::hard_link(path, &set_aside).map_err(failed)?;
    std::fs::rename(&new, path).and_then(|()| sync_folder_of(path)).map_err(failed)?;
    let database = open(&options(), path).map_err(|error| failure(path, error.into()))?;
    Ok((database, Salvage { set_aside, entries: entries.len(), damaged, missing }))
}

/// How many entries are not among those that were found in the bytes of a file.
pub(super) fn missing(bytes: &[u8], found: usize) -> usize {
    last_count(bytes).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(found))
}

/// A name beside a file that is free.
fn aside(path: &Path) -> PathBuf {
    let named = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{n}"));
        PathBuf::from(name)
    };
    // As many damaged files as that are not kept.
    (1..u32::MAX).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(u32::MAX))
}
