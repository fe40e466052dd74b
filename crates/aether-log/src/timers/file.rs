//! The file of the timers: waves by the time at which they are due, and schedules by their keys.

use std::io;
use std::path::Path;
use std::sync::Arc;

use aether_files::redb_file::open_or_make;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, Table,
    TableDefinition,
};
use serde::{Deserialize, Serialize};

use super::change::{Change, Timer};
use crate::schedule::{Rule, Schedule};
use crate::store::{AppendError, Entry};
use crate::stored_wave::{WAVE, fired_entry};

/// By the time in microseconds since 1970, and an identity.
const DUE: TableDefinition<'_, (u64, u128), &[u8]> = TableDefinition::new("due");
const KEYED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keyed");

/// The memory for pages of the file, in bytes. redb's default is 1 GiB.
const CACHE: usize = 16 << 20;
/// How many bytes of waves are taken together.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    level: u8,
    channel: &'a str,
    /// The key of its schedule.
    key: Option<&'a str>,
    body: &'a [u8],
}

/// A schedule that is kept under a key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keyed {
    /// The next time, in microseconds since 1970.
    pub(crate) due: u64,
    id: u128,
    pub(crate) rule: Rule,
    pub(crate) channel: String,
}

/// A wave that is due.
#[derive(Debug)]
pub(super) struct Due {
    place: (u64, u128),
    key: Option<String>,
    pub(super) entry: Entry,
}

/// The result of a write.
pub(super) struct Written {
    /// Whether there was a schedule of the key, for each change.
    pub(super) results: Vec<bool>,
    pub(super) waiting: u64,
    /// The next time, in microseconds since 1970.
    pub(super) next: Option<u64>,
}

#[derive(Debug)]
pub(super) struct TimerFile(Database);

/// An error of the file, as the log reports its own.
pub(super) fn unwritten(path: &Path, error: impl Into<redb::Error>) -> AppendError {
    let source = match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    };
    AppendError::Write { path: path.to_owned(), source: Arc::new(source) }
}

/// A row that this version cannot read, or did not write.
fn unreadable(what: &'static str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} of the timers cannot be read"))
}

type DueTable<'a> = Table<'a, (u64, u128), &'static [u8]>;

fn keep(table: &mut DueTable<'_>, timer: &Timer, key: Option<&str>) -> Result<(), redb::Error> {
    let Entry { level, id, name, body, .. } = &timer.entry;
    let row = Row { level: *level, channel: name, key, body };
    let row = postcard::to_allocvec(&row).map_err(|_| unreadable("a wave"))?;
    table.insert((timer.due, *id), &*row)?;
    Ok(())
}

fn read(bytes: &[u8]) -> Result<Keyed, redb::Error> {
    postcard::from_bytes(bytes).map_err(|_| unreadable("a schedule"))
}

fn written(keyed: &Keyed) -> Result<Vec<u8>, redb::Error> {
    postcard::to_allocvec(keyed).map_err(|_| unreadable("a schedule"))
}

impl TimerFile {
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        open_or_make(&builder, path).map(Self)
    }

    /// The first waves that are due now.
    pub(super) fn due(&self, now: u64, most: usize) -> Result<Vec<Due>, redb::Error> {
        let reading = self.0.begin_read()?;
        let table = match reading.open_table(DUE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let (mut all, mut bytes) = (Vec::new(), 0);
        for row in table.range(..=(now, u128::MAX))?.take(most) {
            let (place, row) = row?;
            let place = place.value();
            let Row { level, channel, key, body } =
                postcard::from_bytes(row.value()).map_err(|_| unreadable("a wave"))?;
            let entry = Entry {
                kind: WAVE,
                level,
                id: place.1,
                name: channel.to_owned(),
                body: body.to_vec().into(),
            };
            // A schedule may deliver its wave more than once, each under an identity of its own.
            let entry = match key {
                Some(_) => fired_entry(&entry, place.0).ok_or_else(|| unreadable("a wave"))?,
                None => entry,
            };
            bytes += entry.body.len();
            all.push(Due { place, key: key.map(str::to_owned), entry });
            if bytes > BATCH_BYTES {
                break;
            }
        }
        Ok(all)
    }

    /// Removes what is in the log, or puts it at its next time, and makes the changes.
    pub(super) fn write<'a>(
        &self,
        changes: impl Iterator<Item = &'a Change>,
        fired: &[Due],
        now: u64,
    ) -> Result<Written, redb::Error> {
        let writing = self.0.begin_write()?;
        let mut results = Vec::new();
        let (waiting, next);
        {
            let (mut due, mut keyed) = (writing.open_table(DUE)?, writing.open_table(KEYED)?);
            for Due { place, key, .. } in fired {
                let row = due.remove(*place)?.map(|row| row.value().to_vec());
                let (Some(key), Some(row)) = (key, row) else { continue };
                let schedule = keyed.get(&**key)?.map(|found| read(found.value())).transpose()?;
                let Some(schedule) = schedule.filter(|found| (found.due, found.id) == *place) else {
                    continue;
                };
                match Schedule(schedule.rule.clone()).next(place.0, now) {
                    Some(next) => {
                        due.insert((next, place.1), &*row)?;
                        keyed.insert(&**key, &*written(&Keyed { due: next, ..schedule })?)?;
                    }
                    None => drop(keyed.remove(&**key)?),
                }
            }
            for change in changes {
                let was_there = match change {
                    Change::Keep(timer) => {
                        keep(&mut due, timer, None)?;
                        false
                    }
                    Change::Put { key, schedule, timer } => {
                        let (id, channel) = (timer.entry.id, timer.entry.name.clone());
                        let row = Keyed { due: timer.due, id, rule: schedule.0.clone(), channel };
                        let before = keyed.insert(&**key, &*written(&row)?)?.map(|found| read(found.value()));
                        let before = before.transpose()?;
                        if let Some(before) = &before {
                            due.remove((before.due, before.id))?;
                        }
                        keep(&mut due, timer, Some(key))?;
                        before.is_some()
                    }
                    Change::Cancel { key } => {
                        let before = keyed.remove(&**key)?.map(|found| read(found.value())).transpose()?;
                        if let Some(before) = &before {
                            due.remove((before.due, before.id))?;
                        }
                        before.is_some()
                    }
                };
                results.push(was_there);
            }
            waiting = due.len()?;
            next = due.first()?.map(|(place, _)| place.value().0);
        }
        if results.is_empty() && fired.is_empty() {
            writing.abort()?;
        } else {
            writing.commit()?;
        }
        Ok(Written { results, waiting, next })
    }

    /// The schedules, by their keys.
    pub(super) fn keyed(&self) -> Result<Vec<(String, Keyed)>, redb::Error> {
        let reading = self.0.begin_read()?;
        let table = match reading.open_table(KEYED) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let rows = table.iter()?.map(|row| {
            let (key, row) = row?;
            Ok((key.value().to_owned(), read(row.value())?))
        });
        rows.collect()
    }
}
