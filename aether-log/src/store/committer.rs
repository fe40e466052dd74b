//! The writing thread: it takes everything that waits, writes it at once and syncs it once.
//!
//! This is group commit: while one group is synced, the next one gathers, so 64 emitters that each wait for the disk share a
//! sync.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_core::Durability;
use aether_core::wire::micros_since_1970;
use lru::LruCache;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::error::{AppendError, OpenError};
use super::options::StoreOptions;
use super::record::Entry;
use super::segment::{FILE_HEADER, file_header};
use super::segments::{Opened, Segment, Segments, file_name, sync_folder};

/// Receives the position of a record that has reached its level, or why it has not.
pub(super) type Done = Box<dyn FnOnce(Result<u64, AppendError>) + Send>;

struct Job {
    entry: Entry,
    level: Durability,
    done: Done,
}

impl Job {
    /// The memory that it takes, in bytes.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.entry.size()
    }
}

/// What waits to be written.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
    max_bytes: usize,
}

#[derive(Default)]
struct QueueState {
    jobs: Vec<Job>,
    bytes: usize,
    is_closed: bool,
    failure: Option<AppendError>,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), max_bytes }
    }

    pub(super) fn push(&self, entry: Entry, level: Durability, done: Done) -> Result<(), AppendError> {
        let job = Job { entry, level, done };
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.is_closed {
            return Err(AppendError::Closed);
        }
        let (waiting, max_bytes) = (state.bytes, self.max_bytes);
        // One record is always taken, however small the bound.
        if waiting > 0 && waiting + job.weight() > max_bytes {
            return Err(AppendError::Behind { waiting, max_bytes });
        }
        state.bytes += job.weight();
        state.jobs.push(job);
        if state.jobs.len() == 1 {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Everything that waits; `None` once the queue is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() && !state.is_closed {
            self.wake.wait(&mut state);
        }
        state.bytes = 0;
        let jobs = std::mem::take(&mut state.jobs);
        (!jobs.is_empty()).then_some(jobs)
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_one();
    }

    pub(super) fn failure(&self) -> Option<AppendError> {
        self.state.lock().failure.clone()
    }

    /// Nothing is written from now on.
    fn fail(&self, failure: AppendError) {
        tracing::error!(%failure, "the log takes nothing more");
        self.state.lock().failure.get_or_insert(failure);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("bytes", &self.state.lock().bytes).finish_non_exhaustive()
    }
}

/// Records that are written together.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    /// Position and place of each record.
    records: Vec<(u64, u64)>,
    ids: HashMap<u128, u64>,
    waiting: Vec<(u64, Durability, Done)>,
}

/// The state of the writing thread.
pub(super) struct Committer {
    segments: Arc<Segments>,
    queue: Arc<Queue>,
    last: watch::Sender<u64>,
    segment_bytes: u64,
    options: StoreOptions,
    /// The identities of recent records, and their positions.
    seen: Option<LruCache<u128, u64>>,
    first: u64,
    path: PathBuf,
    file: File,
    end: u64,
    next: u64,
    micros: u64,
}

impl Committer {
    pub(super) fn new(
        segments: Arc<Segments>,
        queue: Arc<Queue>,
        options: &StoreOptions,
        opened: &Opened,
        at_least: u64,
    ) -> Result<(Self, watch::Receiver<u64>), OpenError> {
        let next = opened.next.max(at_least);
        let active = opened.active.and_then(|first| Some((first, segments.locate(first)?.path)));
        let (first, path, file) = match active {
            Some((first, path)) => {
                let file = OpenOptions::new().write(true).open(&path);
                let file = file.map_err(|source| OpenError::io(&path, "write", source))?;
                (first, path, file)
            }
            None => {
                let path = segments.folder().join(file_name(next, segments.salt));
                let file = make_segment(&segments, next, &path);
                (next, path.clone(), file.map_err(|source| OpenError::io(&path, "make", source))?)
            }
        };
        let end = segments.end(first).map_or(FILE_HEADER as u64, |(end, _)| end);
        let mut file = file;
        file.seek(SeekFrom::Start(end)).map_err(|source| OpenError::io(&path, "write", source))?;
        let mut seen = NonZeroUsize::new(options.remembered_ids).map(LruCache::new);
        for (id, position) in &opened.ids {
            seen.as_mut().map(|seen| seen.put(*id, *position));
        }
        let (last, followed) = watch::channel(next - 1);
        let (options, segment_bytes) = (*options, options.segment_bytes);
        let micros = opened.last_micros;
        Ok((
            Self {
                segments,
                queue,
                last,
                segment_bytes,
                options,
                seen,
                first,
                path,
                file,
                end,
                next,
                micros,
            },
            followed,
        ))
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self) {
        while let Some(jobs) = self.queue.take() {
            self.write(jobs);
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let mut group = Group::default();
        for Job { entry, level, done } in jobs {
            if let Some(failure) = self.queue.failure() {
                done(Err(failure));
                continue;
            }
            if let Some(position) = self.position_of(entry.id, &group) {
                group.waiting.push((position, level, done));
                continue;
            }
            let size = self.end + (group.bytes.len() + entry.size()) as u64;
            if size > self.segment_bytes && (self.end > FILE_HEADER as u64 || !group.bytes.is_empty()) {
                self.finish(std::mem::take(&mut group));
                if let Err(source) = self.next_segment() {
                    done(Err(self.unwritten(source)));
                    continue;
                }
            }
            // A clock that went back does not take the log with it.
            self.micros = self.micros.max(micros_since_1970());
            let position = self.next;
            self.next += 1;
            group.records.push((position, self.end + group.bytes.len() as u64));
            entry.write(self.segments.salt, position, self.micros, &mut group.bytes);
            if entry.id != 0 {
                group.ids.insert(entry.id, position);
            }
            group.waiting.push((position, level, done));
        }
        self.finish(group);
    }

    /// The position of an earlier record of this identity.
    fn position_of(&mut self, id: u128, group: &Group) -> Option<u64> {
        let id = Some(id).filter(|id| *id != 0)?;
        self.seen.as_mut()?.get(&id).or_else(|| group.ids.get(&id)).copied()
    }

    /// Writes a group, publishes it, and syncs it if anybody waits for that.
    fn finish(&mut self, group: Group) {
        if group.waiting.is_empty() {
            return;
        }
        if let Err(source) = self.file.write_all(&group.bytes) {
            let failure = self.take_back(&group, source);
            group.waiting.into_iter().for_each(|(_, _, done)| done(Err(failure.clone())));
            return;
        }
        self.end += group.bytes.len() as u64;
        let (end, micros) = (self.end, self.micros);
        self.segments.update(self.first, |segment| {
            group.records.iter().for_each(|(position, offset)| segment.note(*position, micros, *offset));
            segment.end = end;
        });
        if let Some(seen) = &mut self.seen {
            for (id, position) in group.ids {
                seen.put(id, position);
            }
        }
        self.last.send_if_modified(|last| std::mem::replace(last, self.next - 1) != self.next - 1);
        let (stored, synced): (Vec<_>, Vec<_>) =
            group.waiting.into_iter().partition(|(_, level, _)| *level < Durability::Synced);
        stored.into_iter().for_each(|(position, _, done)| done(Ok(position)));
        if synced.is_empty() {
            return;
        }
        match self.file.sync_data() {
            Ok(()) => synced.into_iter().for_each(|(position, _, done)| done(Ok(position))),
            Err(source) => {
                // The system may have dropped what it could not write, so a second sync would prove nothing.
                let failure = AppendError::Failed { path: self.path.clone(), source: Arc::new(source) };
                self.queue.fail(failure.clone());
                synced.into_iter().for_each(|(_, _, done)| done(Err(failure.clone())));
            }
        }
    }

    /// Removes what was written of a group, so that the next record follows the last whole one.
    fn take_back(&mut self, group: &Group, source: io::Error) -> AppendError {
        self.next -= group.records.len() as u64;
        match self.file.set_len(self.end).and_then(|()| self.file.seek(SeekFrom::Start(self.end))) {
            Ok(_) => self.unwritten(source),
            Err(source) => {
                let failure = AppendError::Failed { path: self.path.clone(), source: Arc::new(source) };
                self.queue.fail(failure.clone());
                failure
            }
        }
    }

    fn unwritten(&self, source: io::Error) -> AppendError {
        AppendError::Write { path: self.path.clone(), source: Arc::new(source) }
    }

    /// Begins a new segment. The full one is synced first, so that only the last one can be torn.
    fn next_segment(&mut self) -> io::Result<()> {
        if let Err(source) = self.file.sync_data() {
            let source = Arc::new(source);
            let failure = AppendError::Failed { path: self.path.clone(), source: Arc::clone(&source) };
            self.queue.fail(failure);
            return Err(io::Error::new(source.kind(), source));
        }
        let path = self.segments.folder().join(file_name(self.next, self.segments.salt));
        self.file = make_segment(&self.segments, self.next, &path)?;
        (self.first, self.path, self.end) = (self.next, path, FILE_HEADER as u64);
        // Whoever rewrites segments at this moment makes room as well.
        if let Some(_maintenance) = self.segments.maintenance.try_lock() {
            self.segments.retain(&self.options.retention);
        }
        Ok(())
    }
}

fn make_segment(segments: &Segments, first: u64, path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let made = file.write_all(&file_header(first, segments.salt)).and_then(|()| file.sync_all());
    if let Err(error) = made.and_then(|()| sync_folder(segments.folder())) {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    segments.insert(first, Segment::new(path.to_owned(), first, micros_since_1970()));
    Ok(file)
}
