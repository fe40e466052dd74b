//! The queue of the writing thread: records, and requests between them.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use aether_core::Durability;
use aether_core::medium::Stored;
use aether_files::disk::Bell;
use parking_lot::Mutex;

use super::error::AppendError;
use super::record::Entry;

/// A record that has reached its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// Its position, or the one of the record of the same identity that was there.
    pub position: u64,
    /// Whether one was there.
    pub is_copy: bool,
}

impl Appended {
    /// As a receipt has it, at the level that was reached.
    pub(crate) fn stored(self, level: Durability) -> Stored {
        Stored::new(NonZeroU64::new(self.position).unwrap_or(NonZeroU64::MIN), level).copy(self.is_copy)
    }
}

/// Receives a record that has reached its level, or why it has not.
pub(super) type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// A record that is to be written.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) level: Durability,
    pub(super) done: Done,
}

impl Job {
    /// The memory that it takes, in bytes.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.entry.size()
    }
}

/// The next work of the writing thread. Empty if only the time has come that it asked for.
#[derive(Default)]
pub(super) struct Work {
    pub(super) jobs: Vec<Job>,
    /// Whether to find out if the disk can be written again.
    pub(super) is_probed: bool,
    /// Called once a new segment was begun.
    pub(super) seals: Vec<Box<dyn FnOnce() + Send>>,
}

/// The records and requests that wait for the writing thread.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    bell: Bell,
    max_bytes: usize,
}

#[derive(Default)]
struct QueueState {
    work: Work,
    bytes: usize,
    is_closed: bool,
    /// Why nothing is written any more.
    failure: Option<AppendError>,
    /// Why the last record was not written, until one is.
    refusal: Option<AppendError>,
}

impl QueueState {
    fn is_idle(&self) -> bool {
        self.work.jobs.is_empty() && self.work.seals.is_empty() && !self.work.is_probed
    }
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), bell: Bell::default(), max_bytes }
    }

    /// Takes all of these records or none, so that they are written together.
    pub(super) fn push(&self, jobs: Vec<Job>) -> Result<(), AppendError> {
        let weight: usize = jobs.iter().map(Job::weight).sum();
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.is_closed {
            return Err(AppendError::Closed);
        }
        let (waiting, max_bytes) = (state.bytes, self.max_bytes);
        // One batch is always taken, however small the bound.
        if waiting > 0 && waiting + weight > max_bytes {
            return Err(AppendError::Behind { waiting, max_bytes });
        }
        let was_idle = state.is_idle();
        state.bytes += weight;
        state.work.jobs.extend(jobs);
        drop(state);
        if was_idle {
            self.bell.ring();
        }
        Ok(())
    }

    /// Asks for a new segment, so that the one that is being written becomes a full one.
    pub(super) fn seal(&self, done: Box<dyn FnOnce() + Send>) {
        let mut state = self.state.lock();
        // Dropped, it tells the one who waits as well.
        if !state.is_closed {
            state.work.seals.push(done);
            drop(state);
            self.bell.ring();
        }
    }

    /// Waits for work, at most as long as this. Then the records of `window` more are taken together. `None` once the queue
    /// is closed and empty.
    pub(super) async fn take(&self, window: Duration, longest: Option<Duration>) -> Option<Work> {
        while self.is_waiting() && self.bell.wait(longest).await {}
        if !window.is_zero() && self.gathers() {
            // Woken early by the end of the log, or by a request, it writes earlier than it might.
            self.bell.wait(Some(window)).await;
        }
        let mut state = self.state.lock();
        state.bytes = 0;
        let is_over = state.is_closed && state.is_idle();
        let work = std::mem::take(&mut state.work);
        (!is_over).then_some(work)
    }

    fn is_waiting(&self) -> bool {
        let state = self.state.lock();
        state.is_idle() && !state.is_closed
    }

    /// Whether there are records that others may join.
    fn gathers(&self) -> bool {
        let state = self.state.lock();
        // Under the lock: the ring of the end comes after it.
        self.bell.forget();
        !state.work.jobs.is_empty() && !state.is_closed
    }

    /// Ends a wait for more records.
    pub(super) fn hurry(&self) {
        self.bell.ring();
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.bell.ring();
    }

    pub(super) fn failure(&self) -> Option<AppendError> {
        self.state.lock().failure.clone()
    }

    /// Why a record would not be written now, as far as that is known. If the disk has refused the last one, the writing
    /// thread finds out whether it still does, so a later call knows.
    pub(super) fn trouble(&self) -> Option<AppendError> {
        let mut state = self.state.lock();
        if state.failure.is_some() {
            return state.failure.clone();
        }
        if state.refusal.is_some() && !state.is_closed {
            state.work.is_probed = true;
            self.bell.ring();
        }
        state.refusal.clone()
    }

    /// Notes that the disk refused a record, or that it takes them again.
    pub(super) fn note(&self, refusal: Option<AppendError>) {
        self.state.lock().refusal = refusal;
    }

    /// Nothing is written from now on.
    pub(super) fn fail(&self, failure: AppendError) {
        tracing::error!(%failure, "the log takes nothing more");
        self.state.lock().failure.get_or_insert(failure);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("bytes", &self.state.lock().bytes).finish_non_exhaustive()
    }
}
