//! The timers of a log in a folder: waves that are stored for later, and appended to the log when they are due.
//!
//! They are in a folder beside the segments, which is made with the first timer. A task sleeps until the next one is due;
//! writing and appending block, and are done beside the runtime. A wave that is due is appended under its identity, and then
//! that is noted, so after a crash in between the log takes the second one for a copy.

mod change;
mod file;
mod index;
mod row;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aether_core::clock::micros_since_1970;
use aether_files::disk;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub(crate) use self::change::{Change, Changed, Timer};
use self::file::{Due, TimerFile, append, unusable};
pub(crate) use self::index::Keyed;
pub(crate) use self::row::is_sealed_row;
use crate::sealing::Sealing;
use crate::store::{AppendError, Store};

/// The folder, below the folder of the log.
pub(crate) const FOLDER: &str = "timers";
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
    folder: PathBuf,
    sealing: Arc<Sealing>,
    queue: Mutex<ChangeQueue>,
    wake: Notify,
    /// `None` once it is closed. Locked while something is written.
    state: Mutex<Option<OpenTimers>>,
    task: Mutex<Option<JoinHandle<()>>>,
    ledger: Mutex<TimerLedger>,
    /// Why nothing is written any more.
    failure: OnceLock<AppendError>,
}

#[derive(Debug, Default)]
struct ChangeQueue {
    changes: VecDeque<Changed>,
    bytes: usize,
    is_closed: bool,
}

/// The outcome of one round of work.
struct Round {
    changes: Vec<Result<bool, AppendError>>,
    /// Why not all was done.
    failure: Option<AppendError>,
}

#[derive(Debug)]
struct OpenTimers {
    log: Arc<Store>,
    file: Option<TimerFile>,
    /// The pause after the next failure, while there is a series of them.
    pause: Option<Duration>,
}

impl Timers {
    pub(crate) fn new(log: &Arc<Store>, sealing: Arc<Sealing>) -> Self {
        let folder = log.folder().join(FOLDER);
        let state = OpenTimers { log: Arc::clone(log), file: None, pause: None };
        let timers = Self(Arc::new(SharedTimers {
            folder,
            sealing,
            queue: Mutex::default(),
            wake: Notify::new(),
            state: Mutex::new(Some(state)),
            task: Mutex::default(),
            ledger: Mutex::default(),
            failure: OnceLock::new(),
        }));
        timers.resume();
        timers
    }

    /// Goes on with the timers of earlier runs, if there are any. Outside of a runtime it does nothing.
    pub(crate) fn resume(&self) {
        if self.0.folder.exists() {
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

    /// Begins to write a change. A wave is sealed for its place in the log, so it is opened by its consumers alone.
    pub(crate) fn change(&self, changed: Changed) -> Result<(), AppendError> {
        let changed = changed.sealed(&self.0.sealing)?;
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
            if state.file.is_none() && !inner.folder.exists() {
                return Ok(Vec::new());
            }
            Ok(state.open(&inner.folder)?.keyed())
        });
        listed.await.unwrap_or(Err(AppendError::Closed))
    }

    pub(crate) fn ledger(&self) -> TimerLedger {
        *self.0.ledger.lock()
    }

    /// Why nothing is written any more, if that is so.
    pub(crate) fn failure(&self) -> Option<AppendError> {
        self.0.failure.get().cloned()
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
        let Ok(Some(rest)) = disk::spawn_blocking(move || working.work()).await else { return };
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
        let (results, rest) = open.work(&self.folder, &changes, &self.ledger);
        if let Some(failure) = open.file.as_ref().and_then(TimerFile::failure) {
            // Set before.
            let _ = self.failure.set(failure);
        }
        // Callers may drop the log, which waits for the lock.
        drop(state);
        for (changed, result) in changes.into_iter().zip(results) {
            (changed.done)(result);
        }
        Some(rest)
    }
}

impl OpenTimers {
    /// Opens the file, unless it is open.
    fn open(&mut self, folder: &Path) -> Result<&mut TimerFile, AppendError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => TimerFile::open(folder).map_err(|error| unusable(folder, error))?,
        };
        Ok(self.file.insert(file))
    }

    fn work(
        &mut self,
        folder: &Path,
        changes: &VecDeque<Changed>,
        ledger: &Mutex<TimerLedger>,
    ) -> (Vec<Result<bool, AppendError>>, Duration) {
        let round = self.fire_and_change(folder, changes, ledger).unwrap_or_else(|error| Round {
            changes: changes.iter().map(|_| Err(error.clone())).collect(),
            failure: Some(error),
        });
        if let Some(error) = round.failure {
            return (round.changes, self.failed(&error));
        }
        if self.pause.take().is_some() {
            tracing::info!(folder = %folder.display(), "waves for later are delivered again");
        }
        let next = self.file.as_ref().and_then(|file| file.index().next());
        let next = next.map(|next| Duration::from_micros(next.saturating_sub(micros_since_1970())));
        (round.changes, next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP))
    }

    /// Appends what is due to the log, and makes the changes. An error is one of each change.
    fn fire_and_change(
        &mut self,
        folder: &Path,
        changes: &VecDeque<Changed>,
        ledger: &Mutex<TimerLedger>,
    ) -> Result<Round, AppendError> {
        let log = Arc::clone(&self.log);
        let file = self.open(folder)?;
        // What is fired could not be noted.
        file.failure().map_or(Ok(()), Err)?;
        let due = file.due(micros_since_1970(), BATCH).map_err(|error| file.unread(error));
        let (fired, unfired) =
            due.and_then(|due| fire(&log, due)).unwrap_or_else(|error| (Vec::new(), Some(error)));
        let written =
            file.write(&fired, changes.iter().map(|changed| &changed.change), micros_since_1970())?;
        let mut ledger = ledger.lock();
        ledger.fired += written.fired;
        for (changed, result) in changes.iter().zip(&written.changes) {
            let Ok(was_there) = result else { continue };
            ledger.stored += u64::from(!matches!(changed.change, Change::Cancel { .. }));
            ledger.cancelled += u64::from(*was_there);
        }
        ledger.waiting = file.index().len() as u64;
        drop(ledger);
        let refused = written.changes.iter().find_map(|result| result.as_ref().err().cloned());
        let failure = unfired.or(written.unnoted).or(refused);
        Ok(Round { changes: written.changes, failure: failure.or_else(|| file.clear().err()) })
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

/// Appends waves to the log, and waits until they are synced. Returns those that are, and why others are not: they are tried
/// again.
fn fire(log: &Store, due: Vec<Due>) -> Result<(Vec<Due>, Option<AppendError>), AppendError> {
    let results = append(log, due.iter().map(|due| due.entry.clone()).collect())?;
    let failure = results.iter().find_map(|result| result.as_ref().err().cloned());
    let fired = due.into_iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(due, _)| due);
    Ok((fired.collect(), failure))
}
