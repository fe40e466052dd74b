//! The segments of a log: which there are, what they hold, and up to where they may be read.
//!
//! Shared by the writing thread and all cursors.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_files::disk::Disk;
use parking_lot::Mutex;

use super::damage::{Damage, TornTail};
use super::error::OpenError;
use super::holds::Holds;
use super::options::Retention;
use super::record::HEADER;
use super::segment::{FILE_HEADER, FileHeader, Found, SegmentReader, read_file_header};

/// A mark is kept for each of these many bytes, so a seek reads less than that.
const MARK_EVERY: u64 = 1 << 20;

/// The extent of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Extent {
    /// The position of the first record, or of the first that will be.
    pub first: u64,
    /// The position of the last record; smaller than `first` if there is none.
    pub last: u64,
    /// The size of all segments.
    pub bytes: u64,
    /// The number of segments.
    pub segments: usize,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Place {
    /// In its segment.
    pub(crate) const fn offset(self) -> u64 {
        self.offset
    }
}

/// A segment.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// Up to here it may be read.
    pub(super) end: u64,
    /// The position of its last record, as far as that is known.
    pub(super) last: u64,
    /// When its last record was stored, in microseconds since 1970.
    pub(super) micros: u64,
    /// When its first record was stored, as far as that is known; 0 if it has none.
    pub(super) began: u64,
    /// The file, as the system knows it; 0 if the system has no such number.
    file: u64,
    /// Increases when the file is replaced.
    pub(super) generation: u32,
    /// Positions and the places of their records, in order.
    pub(super) marks: Vec<(u64, u64)>,
}

impl Segment {
    pub(super) fn new(path: PathBuf, first: u64, micros: u64) -> Self {
        let end = FILE_HEADER as u64;
        let last = first.saturating_sub(1);
        Self { path, end, last, micros, began: 0, file: 0, generation: 0, marks: Vec::new() }
    }

    /// Notes a record that was written or read.
    pub(super) fn note(&mut self, position: u64, micros: u64, offset: u64) {
        (self.last, self.micros) = (position, micros);
        if self.began == 0 {
            self.began = micros;
        }
        if self.marks.last().is_none_or(|(_, marked)| offset >= marked + MARK_EVERY) {
            self.marks.push((position, offset));
        }
    }

    /// Notes that its file is another one, with other places for its records.
    fn replaced(&mut self, about: &fs::Metadata) {
        self.file = file_number(about);
        self.end = about.len().max(FILE_HEADER as u64);
        self.generation += 1;
        self.marks.clear();
    }

    /// A place not behind the record of this position.
    pub(super) fn before(&self, position: u64) -> u64 {
        let marks = self.marks.partition_point(|(marked, _)| *marked <= position);
        marks.checked_sub(1).map_or(FILE_HEADER as u64, |mark| self.marks[mark].1)
    }
}

/// The findings of opening.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Greater than all positions in use.
    pub(super) next: u64,
    pub(super) last_micros: u64,
    pub(super) torn: Option<TornTail>,
    pub(super) damaged: Vec<Damage>,
    /// The identities of the records of the last segment, and their positions, in order.
    pub(super) ids: Vec<(u128, u64)>,
    /// How many records it has.
    pub(super) records: usize,
    /// The segment that was read whole.
    pub(super) scanned: Option<u64>,
    /// The last segment, if it can be continued.
    pub(super) active: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    folder: PathBuf,
    pub(super) salt: u32,
    /// Another process may be writing it, and drop segments at any moment.
    is_view: bool,
    list: Mutex<BTreeMap<u64, Segment>>,
    /// The readers that retention waits for.
    pub(super) holds: Holds,
    /// Held while segments are dropped or rewritten.
    pub(super) maintenance: Mutex<()>,
}

/// A segment for a cursor.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) segment: u64,
    pub(super) path: PathBuf,
    pub(super) generation: u32,
    pub(super) offset: u64,
}

/// The name of a segment's file.
pub(super) fn file_name(first: u64, salt: u32) -> String {
    format!("{first:020}-{salt:08x}.log")
}

/// The first position and the random number in the name of a segment; `None` for another file.
fn parse_name(path: &Path) -> Option<(u64, u32)> {
    let (first, salt) = path.file_name()?.to_str()?.strip_suffix(".log")?.split_once('-')?;
    let is_usual = first.len() == 20 && salt.len() == 8;
    is_usual.then(|| Some((first.parse().ok()?, u32::from_str_radix(salt, 16).ok()?)))?
}

impl Segments {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        for_writing: bool,
    ) -> Result<(Self, Opened), OpenError> {
        let files = list_files(folder)?;
        // A new log draws its number; 0 is a log without files that somebody looks at.
        let salt = files.first().map_or_else(|| fastrand::u32(1..), |(_, salt, _)| *salt);
        let (list, maintenance) = (Mutex::default(), Mutex::default());
        let (folder, is_view) = (folder.to_owned(), !for_writing);
        let holds = Holds::default();
        let segments = Self { disk, folder, salt, is_view, list, holds, maintenance };
        let mut opened = Opened { next: 1, ..Opened::default() };
        let last = files.last().map(|(first, ..)| *first);
        for (first, its_salt, path) in files {
            if its_salt != salt {
                return Err(OpenError::Foreign { path });
            }
            match segments.add(first, path, last == Some(first), for_writing, &mut opened) {
                // Dropped since the folder was listed.
                Err(OpenError::Io { source, .. }) if segments.is_dropped(&source) => {}
                added => added?,
            }
        }
        Ok((segments, opened))
    }

    fn add(
        &self,
        first: u64,
        path: PathBuf,
        is_last: bool,
        for_writing: bool,
        opened: &mut Opened,
    ) -> Result<(), OpenError> {
        let failed = |source| OpenError::io(&path, "read", source);
        let about = fs::metadata(&path).map_err(failed)?;
        let modified = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let micros = modified.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        let mut segment = Segment::new(path.clone(), first, micros);
        (segment.end, segment.file) = (about.len(), file_number(&about));
        opened.next = opened.next.max(first);
        match read_file_header(&path, first, self.salt).map_err(failed)? {
            FileHeader::Whole => {}
            FileHeader::Version(version) => return Err(OpenError::Version { path, version }),
            FileHeader::Short if is_last => {
                // The process ended while it made the segment, which holds nothing.
                if for_writing {
                    fs::remove_file(&path).map_err(|source| OpenError::io(&path, "remove", source))?;
                }
                return Ok(());
            }
            FileHeader::Short => {
                opened.damaged.push(Damage { path, offset: 0, bytes: about.len(), position: None });
                return Ok(());
            }
            FileHeader::Damaged | FileHeader::Unknown if about.len() == FILE_HEADER as u64 => {
                // A segment without records holds no more than its name does.
                let bytes = FILE_HEADER as u64;
                opened.damaged.push(Damage { path: path.clone(), offset: 0, bytes, position: None });
                if is_last && for_writing {
                    fs::remove_file(&path).map_err(|source| OpenError::io(&path, "remove", source))?;
                    return Ok(());
                }
            }
            FileHeader::Damaged => {
                let bytes = FILE_HEADER as u64;
                opened.damaged.push(Damage { path: path.clone(), offset: 0, bytes, position: None });
            }
            FileHeader::Unknown => {
                let mut reader = SegmentReader::open(&path, self.salt, FILE_HEADER as u64).map_err(failed)?;
                let has_record = loop {
                    match reader.next(about.len()).map_err(failed)? {
                        Some(Found::Record(..)) => break true,
                        Some(Found::Damaged(_)) => {}
                        _ => break false,
                    }
                };
                if !has_record {
                    return Err(OpenError::Foreign { path });
                }
                let bytes = FILE_HEADER as u64;
                opened.damaged.push(Damage { path: path.clone(), offset: 0, bytes, position: None });
            }
        }
        if is_last {
            self.scan(first, &mut segment, for_writing, opened)?;
        }
        let mut list = self.list.lock();
        if let Some((_, before)) = list.iter_mut().next_back() {
            before.last = before.last.max(first.saturating_sub(1));
        }
        list.insert(first, segment);
        Ok(())
    }

    /// Reads the last segment whole, and cuts off a record that was not written to its end.
    fn scan(
        &self,
        first: u64,
        segment: &mut Segment,
        for_writing: bool,
        opened: &mut Opened,
    ) -> Result<(), OpenError> {
        let path = segment.path.clone();
        let failed = |source| OpenError::io(&path, "read", source);
        let mut reader = SegmentReader::open(&path, self.salt, FILE_HEADER as u64).map_err(failed)?;
        (opened.active, opened.scanned) = (Some(first), Some(first));
        while let Some(found) = reader.next(segment.end).map_err(failed)? {
            match found {
                Found::Record(record, offset) => {
                    segment.note(record.position, record.micros, offset);
                    opened.next = record.position + 1;
                    opened.last_micros = record.micros;
                    opened.records += 1;
                    if record.id != 0 {
                        opened.ids.push((record.id, record.position));
                    }
                    opened.active = Some(first);
                }
                Found::Damaged(damage) => {
                    // The damage may hide as many records as fit there. Their positions are not used again.
                    opened.next += 1 + damage.bytes / HEADER as u64;
                    if damage.offset + damage.bytes == segment.end {
                        // Later records go into a new segment, so that this one stays as it was found.
                        opened.active = None;
                    }
                    opened.damaged.push(damage);
                }
                Found::Torn { offset, bytes } => {
                    opened.torn = Some(TornTail { path: path.clone(), offset, bytes });
                    if for_writing {
                        let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
                        let cut = self.disk.set_len(&file, offset);
                        cut.and_then(|()| self.disk.sync_all(&file))
                            .map_err(|source| OpenError::io(&path, "cut off the torn end of", source))?;
                    }
                    segment.end = offset;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a file was not found because the process that writes the log has dropped it.
    pub(super) fn is_dropped(&self, error: &std::io::Error) -> bool {
        self.is_view && error.kind() == std::io::ErrorKind::NotFound
    }

    /// Forgets a segment that another process has dropped.
    pub(super) fn forget(&self, first: u64) {
        self.list.lock().remove(&first);
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The segment with this position, or the first one behind it, and where to begin reading in it.
    pub(super) fn locate(&self, position: u64) -> Option<Located> {
        let list = self.list.lock();
        let (segment, found) =
            list.range(..=position).next_back().or_else(|| list.range(position..).next())?;
        let (path, generation, offset) = (found.path.clone(), found.generation, found.before(position));
        Some(Located { segment: *segment, path, generation, offset })
    }

    /// The segment behind this one.
    pub(super) fn after(&self, segment: u64) -> Option<u64> {
        self.list.lock().range(segment + 1..).next().map(|(first, _)| *first)
    }

    /// Up to where a segment may be read, and how often its file was replaced.
    pub(super) fn end(&self, segment: u64) -> Option<(u64, u32)> {
        self.list.lock().get(&segment).map(|segment| (segment.end, segment.generation))
    }

    /// All segments, in order.
    pub(super) fn all(&self) -> Vec<(u64, Segment)> {
        self.list.lock().iter().map(|(first, segment)| (*first, segment.clone())).collect()
    }

    pub(super) fn insert(&self, first: u64, segment: Segment) {
        self.list.lock().insert(first, segment);
    }

    /// When the first record of a segment was stored, if it has one.
    pub(super) fn began(&self, segment: u64) -> Option<u64> {
        self.list.lock().get(&segment).map(|segment| segment.began).filter(|micros| *micros > 0)
    }

    /// The first instant that counts for the age of the log: when the last record of the oldest full segment was stored, or
    /// the first one of the segment that is being written.
    pub(super) fn oldest_micros(&self) -> Option<u64> {
        let list = self.list.lock();
        let (_, last) = list.last_key_value()?;
        let full = list.values().next().filter(|_| list.len() > 1).map(|oldest| oldest.micros);
        full.into_iter().chain(Some(last.began).filter(|micros| *micros > 0)).min()
    }

    /// When the last record of the oldest full segment was stored.
    pub(super) fn oldest_full_micros(&self) -> Option<u64> {
        let list = self.list.lock();
        list.values().next().filter(|_| list.len() > 1).map(|oldest| oldest.micros)
    }

    /// Changes a segment, if it is still there.
    pub(super) fn update(&self, first: u64, change: impl FnOnce(&mut Segment)) {
        if let Some(segment) = self.list.lock().get_mut(&first) {
            change(segment);
        }
    }

    /// Replaces the file of a segment by a new one. Both at once: a cursor that opened the new file would read it up to
    /// the end of the old one.
    pub(super) fn replace(&self, first: u64, new: &Path, about: &fs::Metadata) -> std::io::Result<()> {
        let mut list = self.list.lock();
        let Some(segment) = list.get_mut(&first) else { return fs::remove_file(new) };
        fs::rename(new, &segment.path)?;
        segment.replaced(about);
        Ok(())
    }

    /// Whether a segment that was opened has another file than the known one, because another process has rewritten it.
    /// Then the new one is known.
    pub(super) fn is_replaced(&self, first: u64, about: &fs::Metadata) -> bool {
        let mut list = self.list.lock();
        let Some(segment) = list.get_mut(&first) else { return false };
        let is_other = segment.file != 0 && segment.file != file_number(about);
        if is_other {
            segment.replaced(about);
        }
        is_other
    }

    pub(super) fn extent(&self) -> Extent {
        let list = self.list.lock();
        Extent {
            first: list.first_key_value().map_or(1, |(first, _)| *first),
            last: list.last_key_value().map_or(0, |(_, segment)| segment.last),
            bytes: list.values().map(|segment| segment.end).sum(),
            segments: list.len(),
        }
    }

    /// Drops segments, the oldest first, as far as no reader holds them. The caller holds `maintenance`.
    pub(super) fn retain(&self, rules: &Retention, now: u64) -> usize {
        let mut dropped = 0;
        let settled = self.holds.settled();
        while let Some((first, path)) = self.too_old(rules, now, settled) {
            // Removed from the list first: a cursor that has the file open reads on to its end.
            self.list.lock().remove(&first);
            remove(&path);
            dropped += 1;
        }
        dropped
    }

    /// Drops segments that hold only smaller positions. The caller holds `maintenance`.
    pub(super) fn drop_before(&self, position: u64) {
        loop {
            let oldest = {
                let mut list = self.list.lock();
                let next = list.keys().nth(1).copied();
                if next.is_none_or(|next| next > position) {
                    return;
                }
                list.pop_first()
            };
            oldest.iter().for_each(|(_, segment)| remove(&segment.path));
        }
    }

    fn too_old(&self, rules: &Retention, now: u64, settled: u64) -> Option<(u64, PathBuf)> {
        let list = self.list.lock();
        let (first, oldest) = list.first_key_value()?;
        let (next, _) = list.range(first + 1..).next().filter(|(next, _)| **next - 1 <= settled)?;
        let bytes: u64 = list.values().map(|segment| segment.end).sum();
        let behind = positions(list.range(next..), u64::MAX);
        let age = Duration::from_micros(now.saturating_sub(oldest.micros));
        let is_dropped = rules.max_age.is_some_and(|most| age > most)
            || rules.max_bytes.is_some_and(|most| bytes > most)
            || rules.max_records.is_some_and(|most| behind >= most);
        is_dropped.then(|| (*first, oldest.path.clone()))
    }

    /// Whether the rules would drop the oldest segment if a new one began at this position, and a reader holds it: its name,
    /// and how many positions it holds.
    pub(super) fn held_back(&self, rules: &Retention, next: u64) -> Option<(String, u64)> {
        let (name, settled) = self.holds.last()?;
        let list = self.list.lock();
        let behind_oldest = list.keys().nth(1).copied().unwrap_or(next);
        let bytes: u64 = list.values().map(|segment| segment.end).sum();
        let is_full = rules.max_bytes.is_some_and(|most| bytes > most)
            || rules.max_records.is_some_and(|most| positions(list.range(behind_oldest..), next) >= most);
        (is_full && behind_oldest - 1 > settled).then(|| (name, (next - 1).saturating_sub(settled)))
    }

    /// Looks at the folder again, for a log that another process writes.
    pub(super) fn refresh(&self) -> Result<(), OpenError> {
        let files = list_files(&self.folder)?;
        let mut list = self.list.lock();
        // Segments of another log that has taken its place do not belong to it.
        list.retain(|first, _| files.iter().any(|(known, salt, _)| known == first && *salt == self.salt));
        for (first, _, path) in files.into_iter().filter(|(_, salt, _)| *salt == self.salt) {
            // Dropped in between by the other process.
            let Ok(about) = fs::metadata(&path) else { continue };
            let file = file_number(&about);
            let segment =
                list.entry(first).or_insert_with(|| Segment { file, ..Segment::new(path, first, 0) });
            match segment.file == file {
                true => segment.end = about.len().max(FILE_HEADER as u64),
                false => segment.replaced(&about),
            }
        }
        Ok(())
    }
}

/// Tells a file from another one that takes its name.
fn file_number(about: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::ino(about);
    #[cfg(not(unix))]
    return about
        .created()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos() as u64);
}

/// How many positions these segments hold, if this one follows them: no more than they have room for records, because
/// positions are left out behind damage and when a backup is restored.
fn positions<'s>(segments: impl Iterator<Item = (&'s u64, &'s Segment)>, next: u64) -> u64 {
    let held = segments.map(|(first, segment)| {
        let last = segment.last.min(next - 1);
        let room = segment.end.saturating_sub(FILE_HEADER as u64) / HEADER as u64;
        (last + 1).saturating_sub(*first).min(room)
    });
    held.sum()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a segment that is not kept was not removed");
    }
}

/// The last segment of a folder.
pub(super) fn last_file(folder: &Path) -> Result<Option<PathBuf>, OpenError> {
    Ok(list_files(folder)?.pop().map(|(_, _, path)| path))
}

/// The segments of a folder, in order.
pub(super) fn list_files(folder: &Path) -> Result<Vec<(u64, u32, PathBuf)>, OpenError> {
    let failed = |source| OpenError::io(folder, "list", source);
    let mut files = Vec::new();
    for file in fs::read_dir(folder).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        match parse_name(&path) {
            Some((first, salt)) => files.push((first, salt, path)),
            None if path.extension().is_some_and(|extension| extension == "log") => {
                return Err(OpenError::Foreign { path });
            }
            None => {}
        }
    }
    files.sort();
    Ok(files)
}
