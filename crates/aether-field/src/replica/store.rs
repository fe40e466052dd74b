//! The store of a replica: a file with every entry and its checksum, and a thread that writes and syncs in groups.

mod check;
mod error;
mod file;
mod record;
mod restamp;
mod salvage;

pub use check::{DamagedRecord, StoreCheck, check_store};
pub use error::StoreError;
pub use restamp::{Restamped, restamp_store};
pub use salvage::Salvage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_files::disk::{self, Bell, Disk, Worker, pause};
use aether_files::redb_file::{open as open_file, open_or_make};
use parking_lot::Mutex;
use redb::Database;
use tokio::sync::watch;

use self::error::chain;
use self::file::{failure, not_open, options, read, write};
use self::salvage::salvage;
use crate::core::{Entry, Key, Limits, Stamp, State, Trust, WriterId};

/// How long after a failure the store is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// The newest entry of each key, or that it is dropped.
type Entries = BTreeMap<Key, Option<Entry>>;

/// What is written in one transaction.
#[derive(Debug)]
struct Batch {
    entries: Entries,
    about: Option<(Stamp, Stamp)>,
    ticket: u64,
}

/// The changes that wait to be written: the newest entry of each key, or that it is dropped.
#[derive(Debug, Default)]
struct Queue {
    entries: Entries,
    about: Option<(Stamp, Stamp)>,
    /// Increases with each change.
    ticket: u64,
    is_closed: bool,
    /// The store has failed, and is tried again after a pause.
    is_failing: bool,
    /// It is tried again now.
    hurries: bool,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    queue: Mutex<Queue>,
    bell: Bell,
    /// The ticket up to which everything is synced.
    synced: watch::Sender<Result<u64, Arc<StoreError>>>,
}

#[derive(Debug)]
pub(super) struct Store {
    inner: Arc<Inner>,
    worker: Worker,
    /// Records that could not be read or are missing, at least 1 if the file was damaged.
    pub(super) damaged: usize,
    pub(super) salvage: Option<Salvage>,
}

impl Store {
    /// Opens or makes a file, and reads the state from it. A damaged file is set aside, and replaced by one with
    /// everything in it that is readable; a reconciliation brings the rest back.
    pub(super) fn open(
        path: &Path,
        writer: WriterId,
        limits: Limits,
        (field, trust): (&str, Trust),
    ) -> Result<(State, Self), StoreError> {
        let (database, salvage) = match open_or_make(&options(), path) {
            Ok(database) => (database, None),
            Err(error) => match not_open(path, error) {
                Some(error) => return Err(error),
                None => salvage(path).map(|(database, salvage)| (database, Some(salvage)))?,
            },
        };
        if let Some(Salvage { set_aside, entries, damaged, missing }) = &salvage {
            let (path, set_aside) = (path.display(), set_aside.display());
            tracing::error!(%path, %set_aside, entries, damaged, missing, "the store is damaged; what is readable was saved");
        }
        let stored = read(&database, path)?;
        for key in &stored.damaged {
            let key = key.escape_ascii();
            tracing::error!(path = %path.display(), %key, "a stored entry is damaged and left out");
        }
        // A missing entry may be among the damaged records.
        let of_salvage = |salvage: &Salvage| salvage.damaged.max(salvage.missing).max(1);
        let damaged = stored.damaged.len() + salvage.as_ref().map_or(0, of_salvage);
        let (owned, open): (Vec<_>, Vec<_>) =
            stored.changes.into_iter().partition(|change| change.key.owner().is_some());
        let mut state = State::restore(writer, limits, open, stored.collected, stored.last)
            .map_err(|source| StoreError::Refused { path: path.to_owned(), source })?
            .with_trust(field, trust);
        for (change, refusal) in state.load_owned(owned) {
            tracing::warn!(
                path = %path.display(),
                owner = change.key.owner().map_or("", |owner| owner.as_str()),
                name = change.key.name(),
                %refusal,
                "a stored entry of an owner is left out"
            );
        }
        let inner = Arc::new(Inner {
            disk: disk::current(),
            path: path.to_owned(),
            queue: Mutex::default(),
            bell: Bell::default(),
            synced: watch::Sender::new(Ok(0)),
        });
        let running = Arc::clone(&inner);
        let worker = Worker::start("field-store", &inner.disk, async move { running.run(database).await });
        let worker = worker.map_err(StoreError::Thread)?;
        Ok((state, Self { inner, worker, damaged, salvage }))
    }

    /// Queues an entry, or that it is dropped. Called under the lock of the state.
    pub(super) fn put(&self, state: &State, key: Key, entry: Option<Entry>) {
        let mut queue = self.inner.queue.lock();
        queue.entries.insert(key, entry);
        queue.about = Some((state.collected(), state.last_stamp()));
        queue.ticket += 1;
        // It would end the pause after a failure.
        if !queue.is_failing {
            drop(queue);
            self.inner.bell.ring();
        }
    }

    /// Waits until everything that was queued is synced. A store that has failed is waited for until it is tried again,
    /// which is at once if it `hurries`.
    pub(super) async fn durable(&self, hurries: bool) -> Result<(), Arc<StoreError>> {
        let mut synced = self.inner.synced.subscribe();
        let has_failed = synced.borrow_and_update().is_err();
        let ticket = {
            let mut queue = self.inner.queue.lock();
            queue.hurries |= hurries && has_failed;
            queue.ticket
        };
        if has_failed {
            if hurries {
                self.inner.bell.ring();
            }
            // The sender lives as long as the store.
            let _ = synced.changed().await;
        }
        let is_done = |synced: &Result<u64, _>| synced.as_ref().map_or(true, |&synced| synced >= ticket);
        let result = synced.wait_for(is_done).await.map(|synced| synced.clone());
        result.unwrap_or(Ok(0)).map(drop)
    }
}

impl Store {
    /// Why changes are no longer stored, if the store has failed.
    pub(super) fn failure(&self) -> Option<Arc<StoreError>> {
        self.inner.synced.borrow().as_ref().err().cloned()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.queue.lock().is_closed = true;
        self.inner.bell.ring();
        self.worker.finish();
    }
}

impl Inner {
    /// Writes everything that has come since the last time, in one transaction, until the store is dropped. If that fails,
    /// everything waits for the next attempt. redb refuses everything after an error of the disk until the file is opened
    /// again.
    async fn run(&self, database: Database) {
        let mut open = Some(database);
        while let Some(Batch { entries, about, ticket }) = self.next().await {
            pause(&*self.disk).await;
            let database = match open.take() {
                Some(database) => Ok(database),
                None => reopen(&self.path),
            };
            let written = database.and_then(|database| {
                write(&database, &entries, about).map_err(|source| failure(&self.path, source))?;
                Ok(database)
            });
            pause(&*self.disk).await;
            let had_failed = self.synced.borrow().is_err();
            match written {
                Ok(database) => {
                    if had_failed {
                        tracing::info!(path = %self.path.display(), "the store of the field works again");
                    }
                    open = Some(database);
                    self.queue.lock().is_failing = false;
                    drop(self.synced.send_replace(Ok(ticket)));
                }
                Err(error) => {
                    if !had_failed {
                        let error = chain(&error);
                        tracing::error!(%error, "the store of the field failed; changes are not durable until it works again");
                    }
                    self.put_back(entries);
                    drop(self.synced.send_replace(Err(Arc::new(error))));
                    if self.queue.lock().is_closed {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something to write; after a failure for the end of the pause.
    async fn next(&self) -> Option<Batch> {
        if self.is_pausing() {
            self.bell.wait(Some(PAUSE)).await;
        }
        while self.is_idle() {
            self.bell.wait(None).await;
        }
        let mut queue = self.queue.lock();
        queue.hurries = false;
        let entries = std::mem::take(&mut queue.entries);
        let (about, ticket) = (queue.about, queue.ticket);
        (!entries.is_empty()).then_some(Batch { entries, about, ticket })
    }

    fn is_pausing(&self) -> bool {
        let queue = self.queue.lock();
        // Entries from before the failure do not end the pause.
        self.bell.forget();
        queue.is_failing && !queue.is_closed && !queue.hurries
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.entries.is_empty() && !queue.is_closed
    }

    /// Queues entries that were not written again, unless a newer entry of the key waits.
    fn put_back(&self, entries: Entries) {
        let mut queue = self.queue.lock();
        queue.is_failing = true;
        for (key, entry) in entries {
            queue.entries.entry(key).or_insert(entry);
        }
    }
}

/// Opens the file once more. It is not made: then it would lack what was in it.
fn reopen(path: &Path) -> Result<Database, StoreError> {
    let foreign = || StoreError::Foreign { path: path.to_owned() };
    open_file(&options(), path).map_err(|error| not_open(path, error).unwrap_or_else(foreign))
}
