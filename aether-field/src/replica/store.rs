//! The store of a replica: a file with every entry and its checksum, and a thread that writes and syncs in groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::watch;

use crate::core::{Change, ChangeId, Entry, Key, Limits, Refusal, Stamp, State, Trust, WriterId};

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// The layout of the file. Other versions are refused.
const VERSION: u8 = 1;

/// The store of a replica failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("{} is open in another process; a store serves one process at a time", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is of another version.
    #[error("{} has version {version} of the store; this program reads version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The file has an entry that is out of bounds.
    #[error("{} has an entry that this field does not allow", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Refusal,
    },
    /// The file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// The thread of the store cannot be started.
    #[error("the thread of the store cannot be started")]
    Thread(#[source] std::io::Error),
}

/// What waits to be written: the newest entry of each key, or that it is dropped.
#[derive(Debug, Default)]
struct Queue {
    entries: BTreeMap<Key, Option<Entry>>,
    about: Option<(Stamp, Stamp)>,
    /// Increases with each change.
    ticket: u64,
    is_closed: bool,
    /// Nothing is written any more.
    has_failed: bool,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// The ticket up to which everything is synced.
    synced: watch::Sender<Result<u64, Arc<StoreError>>>,
}

#[derive(Debug)]
pub(super) struct Store {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or makes a file, and reads the state from it. Entries whose checksum is wrong are logged and left out: a
    /// reconciliation brings them back.
    pub(super) fn open(
        path: &Path,
        writer: WriterId,
        limits: Limits,
        (field, trust): (&str, Trust),
    ) -> Result<(State, Self), StoreError> {
        let file = |source: redb::Error| StoreError::File { path: path.to_owned(), source: Box::new(source) };
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
            other => file(other.into()),
        })?;
        let Stored { changes, collected, last, version } = read(&database, path).map_err(file)?;
        if let Some(version) = version.filter(|&version| version != VERSION) {
            return Err(StoreError::Version { path: path.to_owned(), version });
        }
        let (owned, open): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.key.owner().is_some());
        let mut state = State::restore(writer, limits, open, collected, last)
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
            path: path.to_owned(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            synced: watch::Sender::new(Ok(0)),
        });
        let thread = std::thread::Builder::new().name("field-store".to_owned()).spawn({
            let inner = Arc::clone(&inner);
            move || inner.run(&database)
        });
        let thread = Some(thread.map_err(StoreError::Thread)?);
        Ok((state, Self { inner, thread }))
    }

    /// Queues an entry, or that it is dropped. Called under the lock of the state.
    pub(super) fn put(&self, state: &State, key: Key, entry: Option<Entry>) {
        let mut queue = self.inner.queue.lock();
        if queue.has_failed {
            return;
        }
        queue.entries.insert(key, entry);
        queue.about = Some((state.collected(), state.last_stamp()));
        queue.ticket += 1;
        drop(queue);
        self.inner.wake.notify_one();
    }

    /// Waits until everything that was queued is synced.
    pub(super) async fn durable(&self) -> Result<(), Arc<StoreError>> {
        let ticket = self.inner.queue.lock().ticket;
        let mut synced = self.inner.synced.subscribe();
        let is_done = |synced: &Result<u64, _>| synced.as_ref().map_or(true, |&synced| synced >= ticket);
        // The sender lives as long as the store.
        let result = synced.wait_for(is_done).await.map(|synced| synced.clone());
        result.unwrap_or(Ok(0)).map(drop)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.queue.lock().is_closed = true;
        self.inner.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// Writes everything that has come since the last time, in one transaction, until the store is dropped.
    fn run(&self, database: &Database) {
        loop {
            let (entries, about, ticket) = {
                let mut queue = self.queue.lock();
                while queue.entries.is_empty() && !queue.is_closed {
                    self.wake.wait(&mut queue);
                }
                if queue.entries.is_empty() {
                    return;
                }
                (std::mem::take(&mut queue.entries), queue.about, queue.ticket)
            };
            match write(database, &entries, about) {
                Ok(()) => drop(self.synced.send_replace(Ok(ticket))),
                Err(source) => {
                    let error =
                        Arc::new(StoreError::File { path: self.path.clone(), source: Box::new(source) });
                    tracing::error!(%error, "the store of the field failed; changes are no longer durable");
                    drop(self.synced.send_replace(Err(error)));
                    // What follows could depend on what is missing.
                    let mut queue = self.queue.lock();
                    queue.has_failed = true;
                    queue.entries.clear();
                    return;
                }
            }
        }
    }
}

struct Stored {
    changes: Vec<Change>,
    collected: Stamp,
    last: Stamp,
    version: Option<u8>,
}

fn read(database: &Database, path: &Path) -> Result<Stored, redb::Error> {
    let mut stored =
        Stored { changes: Vec::new(), collected: Stamp::default(), last: Stamp::default(), version: None };
    let transaction = database.begin_read()?;
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        // A new file.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(stored),
        Err(error) => return Err(error.into()),
    };
    stored.version = about.get("version")?.and_then(|version| version.value().first().copied());
    let stamps = about.get("stamps")?.and_then(|stamps| postcard::from_bytes(stamps.value()).ok());
    (stored.collected, stored.last) = stamps.unwrap_or_default();
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, value) = row?;
        match decode(key.value(), value.value()) {
            Some(change) => stored.changes.push(change),
            None => tracing::error!(
                path = %path.display(),
                key = %key.value().escape_ascii(),
                "a stored entry is damaged and left out"
            ),
        }
    }
    Ok(stored)
}

fn write(
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
                Some(entry) => table.insert(&*name, &*encode(key, entry))?.map(drop),
                None => table.remove(&*name)?.map(drop),
            };
        }
        let mut table = transaction.open_table(ABOUT)?;
        table.insert("version", [VERSION].as_slice())?;
        if let Some(Ok(stamps)) = about.map(|stamps| postcard::to_allocvec(&stamps)) {
            table.insert("stamps", &*stamps)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// An entry, and its identity, which has a checksum of key and value.
fn encode(key: &Key, entry: &Entry) -> Vec<u8> {
    let id = ChangeId::of(key, entry);
    postcard::to_allocvec(&(entry, id)).unwrap_or_default()
}

fn decode(key: &[u8], value: &[u8]) -> Option<Change> {
    let key: Key = postcard::from_bytes(key).ok()?;
    let (entry, id): (Entry, ChangeId) = postcard::from_bytes(value).ok()?;
    (ChangeId::of(&key, &entry) == id).then_some(Change { key, entry })
}
