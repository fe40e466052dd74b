//! Stamps of a store that are ahead of the clock, because the clock was ahead when they were made. This is the way out
//! for a replica whose writes the others refuse until their time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aether_core::clock::micros_since_1970;

use super::error::StoreError;
use super::file::{failure, not_open, options, read, write};
use crate::core::{Entry, Key, Stamp};

/// What is ahead of the clock in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Restamped {
    /// The entries whose stamps are ahead, without entries of owners.
    pub entries: usize,
    /// The entries of owners whose stamps are ahead. They are signed, so they stay as they are.
    pub owned: usize,
    /// How far the newest stamp is ahead.
    pub ahead: Duration,
}

/// Finds the entries of a store whose stamps are ahead of the clock of this machine, and gives them present stamps if
/// it `writes`, in the same order. No replica may have the file open, and the clock has to be right: where it is
/// behind, everything seems ahead. Entries that replicas with clocks ahead have taken win when their time comes.
/// Blocks.
///
/// # Errors
/// [`StoreError`] if the file cannot be read or written, is in use, damaged, or no store of this version.
pub fn restamp_store(path: impl AsRef<Path>, writes: bool) -> Result<Restamped, StoreError> {
    let path = path.as_ref();
    let foreign = || StoreError::Foreign { path: path.to_owned() };
    let database = options().open(path).map_err(|error| not_open(path, error).unwrap_or_else(foreign))?;
    let stored = read(&database, path)?;
    let now = micros_since_1970();
    let is_ahead = |stamp: &Stamp| stamp.micros > now;
    let mut found = Restamped::default();
    let (mut stamps, mut changes) = (BTreeSet::new(), Vec::new());
    let newest =
        stored.changes.iter().map(|change| change.entry.stamp).chain([stored.last, stored.collected]);
    let newest = newest.max().unwrap_or_default();
    found.ahead = Duration::from_micros(newest.micros.saturating_sub(now));
    for change in stored.changes {
        let tag = if let Key::Member(.., tag) = &change.key { Some(*tag) } else { None };
        if !tag.iter().chain([&change.entry.stamp]).any(is_ahead) {
            continue;
        }
        if change.key.owner().is_some() {
            found.owned += 1;
            continue;
        }
        stamps.extend(tag.into_iter().chain([change.entry.stamp]).filter(is_ahead));
        changes.push(change);
    }
    found.entries = changes.len();
    if !writes || found.ahead.is_zero() {
        return Ok(found);
    }
    // Each in a microsecond of its own up to now. The numbers stay: a client's number identifies a write that is sent
    // again.
    let count = stamps.len() as u64;
    let first = now.saturating_sub(count);
    let new: BTreeMap<Stamp, Stamp> =
        (first + 1..).zip(stamps).map(|(micros, old)| (old, Stamp { micros, ..old })).collect();
    let of_now = |stamp: Stamp| match new.get(&stamp) {
        Some(new) => *new,
        None if is_ahead(&stamp) => Stamp { micros: first, ..stamp },
        None => stamp,
    };
    let mut entries: BTreeMap<Key, Option<Entry>> = BTreeMap::new();
    for change in changes {
        let Entry { stamp, replaces, value } = change.entry;
        let entry = Entry { stamp: of_now(stamp), replaces: replaces.map(of_now), value };
        let key = match change.key.clone() {
            Key::Member(set, member, tag) => Key::Member(set, member, of_now(tag)),
            key => key,
        };
        if key != change.key {
            entries.entry(change.key).or_insert(None);
        }
        entries.insert(key, Some(entry));
    }
    // The signed entries of owners are read again at each start, with their own stamps.
    let about = (of_now(stored.collected), of_now(stored.last));
    write(&database, &entries, Some(about)).map_err(|error| failure(path, error))?;
    Ok(found)
}
