//! The store: records in segment files, appended by one thread in groups.
//!
//! Bytes in, bytes out: nothing here knows of waves or of the bus. [`Log`](crate::Log) puts waves into it, and consumers
//! read it with a [`Cursor`].
//!
//! A segment is a file of at most [`StoreOptions::segment_bytes`], named by the position of its first record. A record has a
//! header with a checksum of its own and a body with another one, so a changed byte is found in either, and everything
//! before and after that record stays readable.

mod committer;
mod copying;
mod cursor;
mod damage;
mod error;
mod folder;
mod holds;
mod leftovers;
mod lock;
mod options;
mod queue;
mod recalling;
mod record;
mod rewriting;
mod segment;
mod segments;
mod system;
mod verify;
mod view;

pub use crate::store::cursor::{Cursor, Item};
pub use crate::store::damage::{Damage, TornTail};
pub use crate::store::error::{AppendError, OpenError, ReadError};
pub use crate::store::options::{OptionsError, Retention, StoreOptions};
pub use crate::store::queue::Appended;
pub(crate) use crate::store::record::MAX_BODY;
pub use crate::store::record::{Entry, Record};
pub use crate::store::rewriting::Rewritten;
pub use crate::store::segments::Extent;
pub use crate::store::verify::{Verified, verify, verify_with};
pub(crate) use crate::store::view::Span;
pub use crate::store::view::View;

pub(crate) use crate::store::copying::{SegmentFile, skip_positions};
pub(crate) use crate::store::folder::make_folder;
pub(crate) use crate::store::holds::{Holds, Settled};
pub(crate) use crate::store::segments::Place;
pub(crate) use crate::store::system::System;

use std::path::Path;
use std::sync::Arc;

use aether_core::Durability;
use aether_core::clock::hold_time;
use aether_core::clock::micros_since_1970;
use aether_files::disk::{Disk, Worker, is_simulated};
use tokio::sync::watch;

use self::committer::Committer;
use self::lock::Lock;
use self::queue::{Done, Job, Queue};
use self::segments::Segments;

/// An append-only log of records in a folder, which one process at a time may write.
#[derive(Debug)]
pub struct Store {
    segments: Arc<Segments>,
    queue: Arc<Queue>,
    last: watch::Receiver<u64>,
    options: StoreOptions,
    /// The torn end that opening found.
    torn: Option<TornTail>,
    damaged: Vec<Damage>,
    worker: Worker,
    _lock: Lock,
}

impl Store {
    /// Opens a log, or makes one. Reads the last segment whole, and of those before it the headers of records until 16,384
    /// records are known, so opening takes as long as reading one or two segments.
    ///
    /// A last record that was not written to its end, as after a crash, is cut off. It was never acknowledged.
    /// `at_least` is the smallest position that the next record may get, for callers that have noted positions elsewhere.
    ///
    /// # Errors
    /// [`OpenError`]: another process has the log open, the folder holds files of something else, or it cannot be read or
    /// written.
    pub fn open(folder: &Path, options: StoreOptions, at_least: u64) -> Result<Self, OpenError> {
        Self::open_on(System::current(), folder, options, at_least, Holds::default())
    }

    pub(crate) fn open_on(
        System { disk, micros }: System,
        folder: &Path,
        options: StoreOptions,
        at_least: u64,
        holds: Holds,
    ) -> Result<Self, OpenError> {
        let lock = Lock::acquire(&*disk, folder)?;
        leftovers::settle(&*disk, folder)?;
        let (mut segments, mut opened) = Segments::open(Arc::clone(&disk), folder, true)?;
        segments.holds = holds;
        recalling::recall(&segments, options.remembered_ids, &mut opened)?;
        let segments = Arc::new(segments);
        let queue = Arc::new(Queue::new(options.max_queued_bytes));
        let (committer, last) =
            Committer::new(micros, Arc::clone(&segments), Arc::clone(&queue), &options, &opened, at_least)?;
        let worker = Worker::start("aether-log", &disk, committer.run());
        let worker = worker.map_err(|source| OpenError::io(folder, "start the writing thread of", source))?;
        let (torn, damaged) = (opened.torn, opened.damaged);
        let store = Self { segments, queue, last, options, torn, damaged, worker, _lock: lock };
        store.retain();
        Ok(store)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.segments.folder()
    }

    /// The end of the last segment that opening cut off, if a record there was not written whole.
    #[must_use]
    pub const fn torn(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// The damage that opening found: in the last segment, and in the headers of the others. [`Store::verify`] reads
    /// everything.
    #[must_use]
    pub fn damaged(&self) -> &[Damage] {
        &self.damaged
    }

    /// Queues a record. `done` is called by the writing thread with its place, once `level` is reached, or with the
    /// reason why it was not.
    ///
    /// # Errors
    /// [`AppendError`] at once if the record is too large, too many bytes wait, or the log is closed or has failed. Then
    /// `done` is not called.
    pub fn append(&self, entry: Entry, level: Durability, done: Done) -> Result<(), AppendError> {
        self.append_all(vec![(entry, done)], level)
    }

    /// Queues records that are written together and synced once, as far as one segment has room for them. Each record
    /// calls its own function, as in [`Store::append`].
    ///
    /// # Errors
    /// [`AppendError`] at once, for all of them, if one is too large, too many bytes wait, or the log is closed or has
    /// failed. Then no function is called.
    pub fn append_all(&self, entries: Vec<(Entry, Done)>, level: Durability) -> Result<(), AppendError> {
        if let Some(bytes) = entries.iter().find_map(|(entry, _)| entry.excess()) {
            return Err(AppendError::TooLarge { bytes, limit: record::MAX_BODY + 1 });
        }
        let jobs = entries.into_iter().map(|(entry, done)| Job { entry, level, done: held(done) });
        self.queue.push(jobs.collect())
    }

    /// Begins a new segment if the one that is being written has a record from before this time, in microseconds since 1970.
    /// Blocks until that is done.
    pub(crate) fn seal_if_before(&self, micros: u64) {
        let active = self.segments.all().pop();
        if active.is_some_and(|(_, segment)| segment.began > 0 && segment.began < micros) {
            let (done, is_done) = std::sync::mpsc::channel();
            self.queue.seal(Box::new(move || {
                let _ = done.send(());
            }));
            self.hurry();
            // An error means that the log is being closed.
            let _ = is_done.recv();
        }
    }

    /// Lets a simulation write what waits, before the caller blocks until it is written.
    pub(crate) fn hurry(&self) {
        self.queue.hurry();
        self.worker.hurry();
    }

    /// The readers that retention waits for.
    pub(crate) fn holds(&self) -> &Holds {
        &self.segments.holds
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.segments.disk
    }

    /// The position of the last record, followed as it changes; 0 before the first.
    #[must_use]
    pub fn last_position(&self) -> watch::Receiver<u64> {
        self.last.clone()
    }

    /// The position of the last record; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// A cursor at the first record whose position is not smaller. Following it returns records as they are written.
    #[must_use]
    pub fn cursor(&self, position: u64) -> Cursor {
        Cursor::new(Arc::clone(&self.segments), position)
    }

    /// The extent of the log.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.segments.extent()
    }

    /// Drops whole segments by [`Retention`], the oldest first. The last one always stays. It runs by itself when a segment
    /// is full, when one is too old, and at opening. Returns how many were dropped.
    pub fn retain(&self) -> usize {
        let _maintenance = self.segments.maintenance.lock();
        self.segments.retain(&self.options.retention, micros_since_1970())
    }

    /// Drops whole segments that hold only smaller positions. The last one always stays.
    pub fn drop_before(&self, position: u64) {
        let _maintenance = self.segments.maintenance.lock();
        self.segments.drop_before(position);
    }

    /// Rewrites all full segments without the records that `keep` does not want. Positions stay. Segments with damage
    /// are left as they are. Blocks while it reads and writes.
    ///
    /// # Errors
    /// [`ReadError`]; the segments that were not replaced yet are as before.
    pub fn rewrite(&self, keep: impl FnMut(&Record) -> bool) -> Result<Rewritten, ReadError> {
        self.rewrite_until(keep, || false)
    }

    /// The same, until `is_stopped` returns true between two segments.
    pub(crate) fn rewrite_until(
        &self,
        keep: impl FnMut(&Record) -> bool,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Rewritten, ReadError> {
        let _maintenance = self.segments.maintenance.lock();
        rewriting::rewrite(&self.segments, keep, is_stopped)
    }

    /// Reads everything and lists the damage. Blocks while it reads.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        verify::verify_segments(&self.segments, |_| {})
    }

    /// Why nothing can be written any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<AppendError> {
        self.queue.failure()
    }

    /// Why a record would not be written now, as far as that is known: nothing can be written any more, or the disk refused
    /// the last record. In the second case the writing thread finds out whether there is room again, and a later call knows.
    #[must_use]
    pub fn trouble(&self) -> Option<AppendError> {
        self.queue.trouble()
    }
}

/// In tests with paused time the clock waits for the disk.
fn held(done: Done) -> Done {
    // A simulated disk takes virtual time.
    let held = if is_simulated() { None } else { hold_time() };
    match held {
        None => done,
        Some(held) => Box::new(move |result| {
            done(result);
            drop(held);
        }),
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        self.worker.finish();
    }
}
