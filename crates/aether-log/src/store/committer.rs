//! The writing thread: it takes everything that waits, writes it at once and syncs it once.
//!
//! This is group commit: while one group is synced, the next one gathers, so 64 emitters that each wait for the disk share a
//! sync. The same thread begins new segments and drops old ones, also by the clock.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::Durability;
use aether_files::disk::{Writing, pause};
use lru::LruCache;
use tokio::sync::watch;

use super::error::{AppendError, OpenError};
use super::leftovers::note_unsynced;
use super::options::StoreOptions;
use super::queue::{Appended, Done, Job, Queue, Work};
use super::segment::{FILE_HEADER, file_header};
use super::segments::{Opened, Segment, Segments, file_name};

/// How far the clock may be behind the last record before that is reported.
const TOLERATED_LAG: Duration = Duration::from_secs(1);
/// The shortest and the longest time until the age of segments is looked at again. Waiting for the oldest one is exact; the
/// bounds are for clocks that are set.
const AGES_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3600));
/// The shortest time until then while a reader holds the oldest segment.
const HELD_AGES_AFTER: Duration = Duration::from_secs(1);
/// What is written to find out whether there is room again, in bytes.
const PROBE: usize = 4096;

/// Records that are written together.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    /// Position and place of each record.
    records: Vec<(u64, u64)>,
    ids: HashMap<u128, u64>,
    waiting: Vec<(Appended, Durability, Done)>,
}

/// The state of the writing thread.
pub(super) struct Committer {
    micros_now: fn() -> u64,
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
    /// Whether the last record was refused by the disk.
    is_refused: bool,
    /// Whether that was because no new segment could be made.
    lacks_segment: bool,
    /// Whether it was reported that the clock is behind the log.
    is_lag_told: bool,
}

impl Committer {
    pub(super) fn new(
        micros_now: fn() -> u64,
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
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let file = file.map_err(|source| OpenError::io(&path, "write", source))?;
                (first, path, file)
            }
            None => {
                let path = segments.folder().join(file_name(next, segments.salt));
                let file = make_segment(&segments, next, &path, micros_now());
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
                micros_now,
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
                is_refused: false,
                lacks_segment: false,
                is_lag_told: false,
            },
            followed,
        ))
    }

    /// Writes until the log is closed.
    pub(super) async fn run(mut self) {
        while let Some(work) = self.queue.take(self.options.commit_window, self.ages_after()).await {
            let Work { jobs, is_probed, seals } = work;
            if is_probed {
                self.probe().await;
            }
            self.write(jobs).await;
            self.retain_by_age().await;
            if !seals.is_empty() && self.holds_records() {
                self.seal().await;
            }
            seals.into_iter().for_each(|done| done());
        }
    }

    fn holds_records(&self) -> bool {
        self.end > FILE_HEADER as u64
    }

    /// When the next segment is too old, if segments may be.
    fn ages_after(&self) -> Option<Duration> {
        let most = self.options.retention.max_age?;
        // A new segment cannot be made, so it is tried again with the next work.
        if self.is_refused || self.queue.failure().is_some() {
            return None;
        }
        let oldest = self.segments.oldest_micros()?;
        let age = Duration::from_micros((self.micros_now)().saturating_sub(oldest));
        let is_held = age > most && self.segments.holds.settled() < u64::MAX;
        let shortest = if is_held { HELD_AGES_AFTER } else { AGES_AFTER.0 };
        Some(most.saturating_sub(age).clamp(shortest, AGES_AFTER.1))
    }

    /// Drops the segments that are too old. The one that is being written is finished when its first record is, because it
    /// may never be full.
    async fn retain_by_age(&mut self) {
        let Some(most) = self.options.retention.max_age else { return };
        let now = (self.micros_now)();
        let is_old = |micros| Duration::from_micros(now.saturating_sub(micros)) > most;
        if self.holds_records() && self.segments.began(self.first).is_some_and(is_old) {
            self.seal().await;
        } else if self.segments.oldest_full_micros().is_some_and(is_old) {
            self.retain();
        }
    }

    /// Begins a new segment. If that fails, the old one goes on.
    async fn seal(&mut self) {
        // A log that is full for a reader that holds it gets no room for more.
        if self.queue.failure().is_some() || self.held().is_some() {
            return;
        }
        if let Err(error) = self.next_segment().await {
            tracing::warn!(%error, "a new segment was not begun");
            let refusal = self.unwritten(error);
            self.note(Some(&refusal));
            self.lacks_segment = true;
        }
    }

    /// Begins a new segment for a record, unless the log is full and a reader holds what would be dropped.
    async fn next_segment_if_free(&mut self) -> Result<(), AppendError> {
        match self.held() {
            Some(refusal) => Err(refusal),
            None => self.next_segment().await.map_err(|source| self.unwritten(source)),
        }
    }

    /// Why no segment may be begun, if a reader holds too much.
    fn held(&self) -> Option<AppendError> {
        let held_back = || self.segments.held_back(&self.options.retention, self.next);
        // It may have settled more since.
        held_back().inspect(|_| self.retain())?;
        held_back().map(|(consumer, waves)| AppendError::Held { consumer, waves })
    }

    /// Drops the records beyond the retention limits. A caller that rewrites segments at this moment makes room as
    /// well.
    fn retain(&self) {
        if let Some(_maintenance) = self.segments.maintenance.try_lock() {
            self.segments.retain(&self.options.retention, (self.micros_now)());
        }
    }

    /// Finds out whether the disk can be written again: by the segment that it lacks, or by zeros behind the last record,
    /// which are no record for anybody.
    async fn probe(&mut self) {
        if !self.is_refused || self.queue.failure().is_some() {
            return;
        }
        if self.lacks_segment {
            if self.next_segment_if_free().await.is_ok() {
                self.note(None);
            }
        } else {
            let (_, error) = self.write_bytes(&[0; PROBE]);
            if self.cut(self.end) && error.is_none() {
                self.note(None);
            }
        }
    }

    fn note(&mut self, refusal: Option<&AppendError>) {
        if self.is_refused || refusal.is_some() {
            self.is_refused = refusal.is_some();
            self.queue.note(refusal.cloned());
        }
    }

    /// The time of the next record. A clock that went back does not take the log with it.
    fn now(&mut self) -> u64 {
        let now = (self.micros_now)();
        let behind = Duration::from_micros(self.micros.saturating_sub(now));
        if behind < TOLERATED_LAG {
            self.is_lag_told = false;
        } else if !std::mem::replace(&mut self.is_lag_told, true) {
            let folder = self.segments.folder().display();
            tracing::warn!(%folder, ?behind, "the clock went back: times in the log stand still until it has caught up");
        }
        self.micros = self.micros.max(now);
        self.micros
    }

    async fn write(&mut self, jobs: Vec<Job>) {
        let mut group = Group::default();
        for Job { entry, level, done } in jobs {
            if let Some(failure) = self.queue.failure() {
                done(Err(failure));
                continue;
            }
            if let Some(position) = self.position_of(entry.id, &group) {
                group.waiting.push((Appended { position, is_copy: true }, level, done));
                continue;
            }
            let size = self.end + (group.bytes.len() + entry.size()) as u64;
            if size > self.segment_bytes && (self.end > FILE_HEADER as u64 || !group.bytes.is_empty()) {
                self.finish(std::mem::take(&mut group)).await;
                if let Err(refusal) = self.next_segment_if_free().await {
                    self.note(Some(&refusal));
                    self.lacks_segment = true;
                    done(Err(self.queue.failure().unwrap_or(refusal)));
                    continue;
                }
            }
            let micros = self.now();
            let position = self.next;
            self.next += 1;
            group.records.push((position, self.end + group.bytes.len() as u64));
            entry.write(self.segments.salt, position, micros, &mut group.bytes);
            if entry.id != 0 {
                group.ids.insert(entry.id, position);
            }
            group.waiting.push((Appended { position, is_copy: false }, level, done));
        }
        self.finish(group).await;
    }

    /// The position of an earlier record of this identity.
    fn position_of(&mut self, id: u128, group: &Group) -> Option<u64> {
        let id = Some(id).filter(|id| *id != 0)?;
        self.seen.as_mut()?.get(&id).or_else(|| group.ids.get(&id)).copied()
    }

    /// Writes a group, syncs it if anybody waits for that, and publishes it.
    ///
    /// If the disk takes only a part of it, the records that are whole stay and count as stored: another process may have
    /// read them.
    async fn finish(&mut self, mut group: Group) {
        if group.waiting.is_empty() {
            return;
        }
        let (written, error) = self.write_bytes(&group.bytes);
        let limit = self.end + written;
        let ends = group.records.iter().skip(1).map(|(_, offset)| *offset);
        let ends = ends.chain([self.end + group.bytes.len() as u64]);
        let whole =
            if error.is_some() { ends.take_while(|end| *end <= limit).count() } else { group.records.len() };
        let end = group.records.get(whole).map_or(self.end + group.bytes.len() as u64, |(_, offset)| *offset);
        let refusal = error.map(|source| self.unwritten(source));
        if refusal.is_some() && !self.cut(end) {
            let failure = self.queue.failure().unwrap_or(AppendError::Closed);
            group.waiting.into_iter().for_each(|(_, _, done)| done(Err(failure.clone())));
            return;
        }
        self.note(refusal.as_ref());
        let refused_from = group.records.get(whole).map_or(u64::MAX, |(position, _)| *position);
        self.next = self.next.min(refused_from);
        group.records.truncate(whole);
        self.end = end;
        let (taken, refused): (Vec<_>, Vec<_>) =
            group.waiting.into_iter().partition(|(appended, ..)| appended.position < refused_from);
        // Readers of this process get a record when it has its level: nobody acts on a wave that a power cut may take.
        let is_synced = taken.iter().any(|(_, level, _)| *level >= Durability::Synced);
        let mut failure = None;
        if is_synced {
            pause(&*self.segments.disk).await;
            failure = self.segments.disk.sync_data(&self.file).err().map(|source| self.fail(source));
        }
        pause(&*self.segments.disk).await;
        if failure.is_none() {
            self.publish(&group.records);
            if let Some(seen) = &mut self.seen {
                let stored = group.ids.into_iter().filter(|(_, position)| *position < refused_from);
                let mut stored: Vec<_> = stored.collect();
                // The oldest is forgotten first.
                stored.sort_unstable_by_key(|(_, position)| *position);
                for (id, position) in stored {
                    seen.put(id, position);
                }
            }
        }
        if let Some(refusal) = refusal {
            refused.into_iter().for_each(|(_, _, done)| done(Err(refusal.clone())));
        }
        for (appended, level, done) in taken {
            done(match &failure {
                Some(failure) if level >= Durability::Synced => Err(failure.clone()),
                _ => Ok(appended),
            });
        }
    }

    /// Lets readers see what was written.
    fn publish(&mut self, records: &[(u64, u64)]) {
        let (micros, end) = (self.micros, self.end);
        self.segments.update(self.first, |segment| {
            records.iter().for_each(|(position, offset)| segment.note(*position, micros, *offset));
            segment.end = end;
        });
        self.last.send_if_modified(|last| std::mem::replace(last, self.next - 1) != self.next - 1);
    }

    /// Writes behind the last record. Returns how many bytes were written, and why not all.
    fn write_bytes(&mut self, bytes: &[u8]) -> (u64, Option<io::Error>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.segments.disk.write(&self.file, &bytes[written..]) {
                Ok(0) => return (written as u64, Some(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written as u64, Some(error)),
            }
        }
        (written as u64, None)
    }

    /// Cuts off what was written behind this place, so that the next record follows the last whole one. False if that is not
    /// possible; then the log has failed.
    fn cut(&mut self, end: u64) -> bool {
        let cut =
            self.segments.disk.set_len(&self.file, end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
        if let Err(source) = cut {
            self.queue.fail(AppendError::Failed { path: self.path.clone(), source: Arc::new(source) });
            return false;
        }
        true
    }

    fn unwritten(&self, source: io::Error) -> AppendError {
        AppendError::Write { path: self.path.clone(), source: Arc::new(source) }
    }

    /// A sync has failed. The system may have dropped what it could not write, so a second sync would prove nothing.
    fn fail(&self, source: io::Error) -> AppendError {
        let failure = AppendError::Failed { path: self.path.clone(), source: Arc::new(source) };
        self.queue.fail(failure.clone());
        note_unsynced(self.segments.folder());
        failure
    }

    /// Begins a new segment. The full one is synced first, so that only the last one can be torn.
    async fn next_segment(&mut self) -> io::Result<()> {
        if let Err(source) = self.segments.disk.sync_data(&self.file) {
            let kind = source.kind();
            return Err(io::Error::new(kind, self.fail(source)));
        }
        let path = self.segments.folder().join(file_name(self.next, self.segments.salt));
        pause(&*self.segments.disk).await;
        self.file = make_segment(&self.segments, self.next, &path, (self.micros_now)())?;
        (self.first, self.path, self.end) = (self.next, path, FILE_HEADER as u64);
        self.lacks_segment = false;
        self.retain();
        Ok(())
    }
}

fn make_segment(segments: &Segments, first: u64, path: &Path, micros: u64) -> io::Result<File> {
    let file = File::create_new(path)?;
    let disk = &*segments.disk;
    let made = Writing { disk, file: &file }.write_all(&file_header(first, segments.salt));
    let made = made.and_then(|()| disk.sync_all(&file));
    if let Err(error) = made.and_then(|()| disk.sync_folder(segments.folder())) {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    segments.insert(first, Segment::new(path.to_owned(), first, micros));
    Ok(file)
}
