//! The timers of a log in a folder: waves that are stored for later, and appended to the log when they are due.
//!
//! They are in a file beside the segments, which is made with the first timer. A task sleeps until the next one is due;
//! writing and appending block, and are done beside the runtime. A wave that is due is appended under its identity and then
//! removed, so after a crash in between the log takes the second one for a copy.

mod change;
mod file;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use aether_core::Durability;
use aether_core::clock::micros_since_1970;
use aether_files::disk;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub(crate) use self::change::{Change, Changed, Timer};
pub(crate) use self::file::Keyed;
use self::file::{Due, TimerFile, unwritten};
use crate::store::{AppendError, Store};

/// The name of the file in the folder of the log.
const FILE: &str = "timers.redb";
/// The longest sleep. A clock that is set is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The pause after the first failure of a series, which doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many waves are taken together.
const BATCH: usize = 4096;
/// How many bytes of changes may wait to be written.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// The largest wave, in bytes: less than a log takes.
const MAX_BYTES: usize = 32 << 20;

/// The account of the waves for later and of the schedules of a log in a folder, since it was opened. Earlier ones are only
/// among the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TimerLedger {
    /// Waves that were stored for later, and schedules.
    pub stored: u64,
    /// Waves that were due and are in the log.
    pub fired: u64,
    /// Schedules that were cancelled or replaced.
    pub cancelled: u64,
    /// Waves and schedules whose next time has not come.
    pub waiting: u64,
}

/// The timers of a log. Dropped, they end after what is being written.
#[derive(Debug)]
pub(crate) struct Timers(Arc<SharedTimers>);

#[derive(Debug)]
struct SharedTimers {
    path: PathBuf,
    queue: Mutex<ChangeQueue>,
    wake: Notify,
    /// `None` once it is closed. Locked while something is written.
    state: Mutex<Option<OpenTimers>>,
    task: Mutex<Option<JoinHandle<()>>>,
    ledger: Mutex<TimerLedger>,
}

#[derive(Debug, Default)]
struct ChangeQueue {
    changes: VecDeque<Changed>,
    bytes: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct OpenTimers {
    store: Arc<Store>,
    file: Option<TimerFile>,
    /// The pause after the next failure, while there is a series of them.
    pause: Option<Duration>,
}

impl Timers {
    pub(crate) fn new(store: &Arc<Store>) -> Self {
        let path = store.folder().join(FILE);
        let state = OpenTimers { store: Arc::clone(store), file: None, pause: None };
        let timers = Self(Arc::new(SharedTimers {
            path,
            queue: Mutex::default(),
            wake: Notify::new(),
            state: Mutex::new(Some(state)),
            task: Mutex::default(),
            ledger: Mutex::default(),
        }));
        timers.resume();
        timers
    }

    /// Goes on with the timers of earlier runs, if there are any. Outside of a runtime it does nothing.
    pub(crate) fn resume(&self) {
        if self.0.path.exists() {
            self.start();
        }
    }

    /// Starts the task, unless it runs.
    fn start(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut task = self.0.task.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(runtime.spawn(run(Arc::clone(&self.0))));
        }
    }

    /// Begins to write a change.
    pub(crate) fn change(&self, changed: Changed) -> Result<(), AppendError> {
        let weight = changed.weight();
        if weight > MAX_BYTES {
            return Err(AppendError::TooLarge { bytes: weight, limit: MAX_BYTES });
        }
        let mut queue = self.0.queue.lock();
        let waiting = queue.bytes;
        if queue.is_closed {
            return Err(AppendError::Closed);
        }
        if waiting > 0 && waiting + weight > MAX_QUEUED_BYTES {
            return Err(AppendError::Behind { waiting, max_bytes: MAX_QUEUED_BYTES });
        }
        queue.bytes += weight;
        queue.changes.push_back(changed);
        drop(queue);
        self.start();
        self.0.wake.notify_one();
        Ok(())
    }

    /// The schedules, by their keys.
    pub(crate) async fn keyed(&self) -> Result<Vec<(String, Keyed)>, AppendError> {
        let inner = Arc::clone(&self.0);
        let listed = disk::spawn_blocking(move || {
            let mut state = inner.state.lock();
            let state = state.as_mut().ok_or(AppendError::Closed)?;
            if state.file.is_none() && !inner.path.exists() {
                return Ok(Vec::new());
            }
            let file = state.open(&inner.path)?;
            let keyed = file.keyed().map_err(|error| unwritten(&inner.path, error))?;
            state.file = Some(file);
            Ok(keyed)
        });
        listed.await.unwrap_or(Err(AppendError::Closed))
    }

    pub(crate) fn ledger(&self) -> TimerLedger {
        *self.0.ledger.lock()
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.is_closed = true;
        let left = std::mem::take(&mut queue.changes);
        drop(queue);
        // Waits for what is being written.
        drop(self.0.state.lock().take());
        drop(left);
        self.0.wake.notify_one();
    }
}

/// Writes and fires until the timers are closed.
async fn run(inner: Arc<SharedTimers>) {
    loop {
        let working = Arc::clone(&inner);
        let rest = match disk::spawn_blocking(move || working.work()).await {
            Ok(Some(rest)) => rest,
            // redb may panic at a damaged page. The file is opened again.
            Err(error) if error.is_panic() => {
                tracing::error!(path = %inner.path.display(), "the timers cannot be read; it is tried again");
                LONGEST_SLEEP
            }
            Ok(None) | Err(_) => return,
        };
        if rest.is_zero() {
            continue;
        }
        tokio::select! {
            biased;
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

impl SharedTimers {
    /// Appends what is due, and writes the changes. Returns how long to sleep; `None` once it is closed.
    fn work(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        let open = state.as_mut()?;
        let changes = {
            let mut queue = self.queue.lock();
            queue.bytes = 0;
            std::mem::take(&mut queue.changes)
        };
        let (results, rest) = open.work(&self.path, &changes, &self.ledger);
        // Callers may drop the log, which waits for the lock.
        drop(state);
        for (changed, result) in changes.into_iter().zip(results) {
            (changed.done)(result);
        }
        Some(rest)
    }
}

impl OpenTimers {
    /// Takes the file, or opens it. Given back, it stays open.
    fn open(&mut self, path: &Path) -> Result<TimerFile, AppendError> {
        match self.file.take() {
            Some(file) => Ok(file),
            None => TimerFile::open(path).map_err(|error| unwritten(path, error)),
        }
    }

    fn work(
        &mut self,
        path: &Path,
        changes: &VecDeque<Changed>,
        ledger: &Mutex<TimerLedger>,
    ) -> (Vec<Result<bool, AppendError>>, Duration) {
        let refused = |error: AppendError| changes.iter().map(|_| Err(error.clone())).collect();
        let file = match self.open(path) {
            Ok(file) => file,
            Err(error) => {
                let rest = self.failed(&error);
                return (refused(error), rest);
            }
        };
        let fired = file.due(micros_since_1970(), BATCH).map_err(|error| unwritten(path, error));
        let fired = fired.and_then(|due| self.append(due));
        let (fired, failure) = match fired {
            Ok(fired) => (fired, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let written = file.write(changes.iter().map(|changed| &changed.change), &fired, micros_since_1970());
        match (written, failure) {
            (Ok(written), failure) => {
                self.file = Some(file);
                let mut ledger = ledger.lock();
                ledger.fired += fired.len() as u64;
                for (changed, was_there) in changes.iter().zip(&written.results) {
                    ledger.stored += u64::from(!matches!(changed.change, Change::Cancel { .. }));
                    ledger.cancelled += u64::from(*was_there);
                }
                ledger.waiting = written.waiting;
                drop(ledger);
                let rest = match &failure {
                    Some(error) => self.failed(error),
                    None => {
                        if self.pause.take().is_some() {
                            tracing::info!(path = %path.display(), "waves for later are delivered again");
                        }
                        let now = micros_since_1970();
                        let next = written.next.map(|next| Duration::from_micros(next.saturating_sub(now)));
                        next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
                    }
                };
                (written.results.into_iter().map(Ok).collect(), rest)
            }
            (Err(error), _) => {
                let error = unwritten(path, error);
                // redb refuses everything after an error of the disk, until the file is opened again.
                drop(file);
                let rest = self.failed(&error);
                (refused(error), rest)
            }
        }
    }

    /// Appends waves to the log, and waits until they are synced: what is removed here is safe there.
    fn append(&self, due: Vec<Due>) -> Result<Vec<Due>, AppendError> {
        if due.is_empty() {
            return Ok(due);
        }
        let (done, stored) = mpsc::channel();
        let record = |(at, due): (usize, &Due)| {
            let done = done.clone();
            let done = move |result: Result<u64, AppendError>| drop(done.send((at, result)));
            (due.entry.clone(), Box::new(done) as Box<dyn FnOnce(_) + Send>)
        };
        self.store.append_all(due.iter().enumerate().map(record).collect(), Durability::Synced)?;
        drop(done);
        self.store.hurry();
        let (mut is_stored, mut failure) = (vec![false; due.len()], None);
        for (at, result) in stored {
            match result {
                Ok(_) => is_stored[at] = true,
                Err(error) => failure = Some(error),
            }
        }
        let mut stored = is_stored.into_iter();
        let fired: Vec<_> = due.into_iter().filter(|_| stored.next().unwrap_or(false)).collect();
        // The others are tried again.
        if fired.is_empty() { Err(failure.unwrap_or(AppendError::Closed)) } else { Ok(fired) }
    }

    /// Notes a failure, reports the first of a series, and returns the pause.
    fn failed(&mut self, error: &AppendError) -> Duration {
        let pause = self.pause.unwrap_or_else(|| {
            tracing::warn!(%error, source = ?std::error::Error::source(error), "waves for later wait; it is tried again");
            FIRST_PAUSE
        });
        self.pause = Some((pause * 2).min(LONGEST_PAUSE));
        pause
    }
}
