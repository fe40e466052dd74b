//! The file of the timers: a store beside the log, as the dead letters have one, and an index of it in memory.
//!
//! Only what a reader of the store finds is in the index, also when it was written a moment ago: the store shows nothing
//! that it refused. After a sync that failed it takes nothing more until the log is opened again. Then a wave may be found
//! whose emitter got an error, as in the log itself; its identity belongs to a bus that has ended, so no other wave has it.
//! A process that dies leaves the same: a wave without a receipt, which comes, or does not.

use std::path::Path;
use std::sync::{Arc, mpsc};

use aether_core::Durability;

use super::change::Change;
use super::index::{Keyed, Loading, TimerIndex};
use super::row::{Row, TimerId, fired};
use crate::schedule::{Rule, Schedule};
use crate::store::{
    AppendError, Appended, Cursor, Entry, Item, OpenError, ReadError, Record, Store, StoreOptions,
};
use crate::stored_wave::{WAVE, fired_entry};

const SEGMENT_BYTES: u64 = 1 << 20;
/// How many bytes of the file may be of no use, beside as many as are.
const MAX_USELESS: u64 = 4 << 20;
/// How much of the file is cleared at once, in bytes.
const CLEARED: u64 = 1 << 20;
/// How many bytes of waves are taken together.
const BATCH_BYTES: u64 = 4 << 20;

/// A wave that is due.
#[derive(Debug)]
pub(super) struct Due {
    id: TimerId,
    stored: Entry,
    schedule: Option<(String, Rule)>,
    body: bytes::Bytes,
    /// The record for the log.
    pub(super) entry: Entry,
}

impl Due {
    /// `None` if this version cannot read it.
    fn read(id: TimerId, record: &Record) -> Option<Self> {
        let Row { due, schedule, body } = postcard::from_bytes(&record.body).ok()?;
        let schedule = schedule.map(|(key, rule)| (key.to_owned(), rule));
        let stored = Entry { kind: WAVE, body: record.body.slice_ref(body), ..record.entry() };
        // A schedule may deliver its wave more than once, each under an identity of its own.
        let entry = match &schedule {
            Some(_) => fired_entry(&stored, due),
            None => stored.clone(),
        };
        Some(Self { id, schedule, body: stored.body.clone(), stored, entry })
    }

    /// The record that it is in the log, or of its next time.
    fn entry_after(&self, now: u64) -> Entry {
        let (id, key) = (self.stored.id, self.schedule.as_ref().map(|(key, _)| &**key));
        let next = self.schedule.as_ref().and_then(|(key, rule)| {
            let next = Schedule(rule.clone()).next(self.id.due, now)?;
            Some(Row { due: next, schedule: Some((key, rule.clone())), body: &self.body })
        });
        next.map_or_else(|| fired(self.id.due, id, key), |row| row.entry(&self.stored))
    }
}

/// The result of a write.
pub(super) struct Written {
    /// How many of the waves that are in the log were noted.
    pub(super) fired: u64,
    /// Whether there was a schedule of the key, for each change.
    pub(super) changes: Vec<Result<bool, AppendError>>,
    /// Why one of them was not noted. It is delivered again, and the log takes it for a copy.
    pub(super) unnoted: Option<AppendError>,
}

#[derive(Debug)]
pub(super) struct TimerFile {
    store: Store,
    index: TimerIndex,
    /// Behind what is in the index.
    noted: Cursor,
    /// Reads single waves.
    waves: Cursor,
    /// Behind what was cleared.
    cleared: Cursor,
}

impl TimerFile {
    /// Opens the file, or makes it. Reads all of it.
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let options = StoreOptions::default().remembered_ids(0);
        let options = options.segment_bytes(SEGMENT_BYTES).unwrap_or(options);
        let store = Store::open(folder, options, 0)?;
        let (mut noted, waves, cleared) = (store.cursor(0), store.cursor(0).scattered(), store.cursor(0));
        let mut loading = Loading::default();
        note_new(&mut noted, |record, offset| loading.note(record, offset))?;
        Ok(Self { store, index: loading.index(), noted, waves, cleared })
    }

    pub(super) const fn index(&self) -> &TimerIndex {
        &self.index
    }

    pub(super) fn keyed(&self) -> Vec<(String, Keyed)> {
        self.index.keyed().iter().map(|(key, keyed)| (key.clone(), keyed.clone())).collect()
    }

    /// Why nothing can be written any more.
    pub(super) fn failure(&self) -> Option<AppendError> {
        self.store.failure()
    }

    /// Notes what was written. Returns the positions of the records that ended or replaced a schedule.
    fn note_new(&mut self) -> Result<Vec<u64>, ReadError> {
        note_new(&mut self.noted, |record, offset| self.index.note(record, offset))
    }

    /// The first waves that are due now, the earliest first.
    pub(super) fn due(&mut self, now: u64, most: usize) -> Result<Vec<Due>, ReadError> {
        // Records may be left that could not be read when they were written.
        self.note_new()?;
        let mut all = Vec::new();
        for (id, kept) in self.index.due(now, most, BATCH_BYTES) {
            let record = self.waves.read_near(kept.position.get(), u64::from(kept.offset))?;
            match record.and_then(|record| Due::read(id, &record)) {
                Some(due) => all.push(due),
                None => {
                    tracing::error!(
                        position = kept.position,
                        "a wave for later is damaged, and does not come"
                    );
                    self.index.remove(id);
                }
            }
        }
        all.sort_by_key(|due| due.id);
        Ok(all)
    }

    /// Notes which waves are in the log, and makes the changes.
    pub(super) fn write<'a>(
        &mut self,
        fired: &[Due],
        changes: impl Iterator<Item = &'a Change>,
        now: u64,
    ) -> Result<Written, AppendError> {
        let entries = fired.iter().map(|due| due.entry_after(now)).chain(changes.map(Change::entry));
        let mut written = append(&self.store, entries.collect())?.into_iter();
        let ended = self.note_new().unwrap_or_else(|error| {
            tracing::warn!(%error, "waves for later were written and cannot be read");
            Vec::new()
        });
        let (mut noted, mut unnoted) = (0, None);
        for result in written.by_ref().take(fired.len()) {
            match result {
                Ok(_) => noted += 1,
                Err(error) => unnoted = Some(error),
            }
        }
        let changes = written.map(|result| Ok(ended.binary_search(&result?).is_ok())).collect();
        Ok(Written { fired: noted, changes, unnoted })
    }

    /// Clears the beginning of the file, if most of the file is of no use: what still waits there is written again.
    pub(super) fn clear(&mut self) -> Result<(), AppendError> {
        while self.store.extent().bytes > 2 * self.index.bytes() + MAX_USELESS {
            let begin = self.cleared.position();
            match self.clear_some() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.cleared.seek(begin);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Returns how much was cleared, in bytes.
    fn clear_some(&mut self) -> Result<u64, AppendError> {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        while bytes < CLEARED
            && let Some(item) = self.cleared.next_item().map_err(|error| self.unread(error))?
        {
            let Item::Record(record) = item else { continue };
            bytes += record.size() as u64;
            if self.index.keeps(&record) {
                kept.push(record.entry());
            }
        }
        append(&self.store, kept)?.into_iter().try_for_each(|written| written.map(drop))?;
        self.note_new().map_err(|error| self.unread(error))?;
        self.store.drop_before(self.cleared.position());
        Ok(bytes)
    }

    /// An error of reading, as the log reports others.
    pub(super) fn unread(&self, error: ReadError) -> AppendError {
        unusable(self.store.folder(), error)
    }
}

/// Notes the records from a cursor on. Returns the positions of those that ended or replaced a schedule.
fn note_new(
    cursor: &mut Cursor,
    mut note: impl FnMut(&Record, u64) -> Option<bool>,
) -> Result<Vec<u64>, ReadError> {
    let mut ended = Vec::new();
    while let Some((item, place)) = cursor.next_placed()? {
        match item {
            Item::Record(record) => match note(&record, place.offset()) {
                Some(true) => ended.push(record.position),
                Some(false) => {}
                None => tracing::error!(
                    position = record.position,
                    "a wave for later cannot be read: use a newer program"
                ),
            },
            Item::Damaged(damage) => tracing::error!(%damage, "a wave for later is damaged"),
        }
    }
    Ok(ended)
}

/// An error of the file that is none of writing.
pub(super) fn unusable(folder: &Path, error: impl std::error::Error + Send + Sync + 'static) -> AppendError {
    AppendError::Write { path: folder.to_owned(), source: Arc::new(std::io::Error::other(error)) }
}

/// Appends records, and waits until they are synced. Returns their positions.
pub(super) fn append(
    store: &Store,
    entries: Vec<Entry>,
) -> Result<Vec<Result<u64, AppendError>>, AppendError> {
    let mut results: Vec<_> = entries.iter().map(|_| Err(AppendError::Closed)).collect();
    if entries.is_empty() {
        return Ok(results);
    }
    let (done, written) = mpsc::channel();
    let record = |(at, entry)| {
        let done = done.clone();
        let done = move |result: Result<Appended, AppendError>| {
            drop(done.send((at, result.map(|row| row.position))));
        };
        (entry, Box::new(done) as Box<dyn FnOnce(_) + Send>)
    };
    store.append_all(entries.into_iter().enumerate().map(record).collect(), Durability::Synced)?;
    drop(done);
    store.hurry();
    written.into_iter().for_each(|(at, result)| results[at] = result);
    Ok(results)
}
