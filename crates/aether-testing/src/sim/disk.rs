//! The disks of the processes: real files in a temporary folder each, and the part of them that a power cut leaves.
//!
//! Stores write and sync through [`Disk`]. Each operation takes 50 us to 900 us, and one of eight up to 8 ms. Contents
//! last once their file is synced, and names once their folder is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_files::disk::Disk;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::epoch::Epoch;
use super::trace::{Event, Trace};
use crate::seed::{mixed, number_of};

/// The part of a file that a disk writes completely or not at all.
const SECTOR: usize = 512;
/// The bytes at most that a full disk still takes.
const LAST_ROOM: u64 = 8192;

/// The disk of a process, which survives it.
#[derive(Debug)]
pub(super) struct Platter {
    /// Made for the first caller that asks for it.
    folder: Option<TempDir>,
    random: fastrand::Rng,
    files: BTreeMap<u64, Synced>,
    /// The synced names in each folder.
    folders: BTreeMap<u64, BTreeMap<OsString, u64>>,
    /// The bytes that a full disk still takes.
    room: Option<u64>,
    fails_to_sync: bool,
}

/// A file that has a synced name or content.
#[derive(Debug)]
struct Synced {
    /// Held, so that no other file gets its number.
    file: File,
    bytes: Vec<u8>,
    /// The content that the system believes to be synced although that has failed.
    believed: Option<Vec<u8>>,
}

/// The disk as one life of a process sees it.
#[derive(Debug)]
pub(super) struct LifeDisk {
    platter: Arc<Mutex<Platter>>,
    is_gone: AtomicBool,
    process: usize,
    epoch: Epoch,
    trace: Trace,
}

/// A file or folder that a power cut leaves.
enum Left {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, Left>),
}

impl Platter {
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let random = fastrand::Rng::with_seed(mixed([seed, 5, number_of(name)]));
        let (files, folders) = (BTreeMap::new(), BTreeMap::new());
        Self { folder: None, random, files, folders, room: None, fails_to_sync: false }
    }

    pub(super) fn folder(&mut self) -> io::Result<PathBuf> {
        if let Some(folder) = &self.folder {
            return Ok(folder.path().to_owned());
        }
        let folder = tempfile::Builder::new().prefix("aether-sim-").tempdir()?;
        let path = folder.path().to_owned();
        self.folder = Some(folder);
        Ok(path)
    }

    pub(super) fn is_used(&self) -> bool {
        self.folder.is_some()
    }

    pub(super) fn fill(&mut self) {
        self.room = Some(self.random.u64(..LAST_ROOM));
    }

    pub(super) fn free(&mut self) {
        self.room = None;
    }

    pub(super) fn fail_syncs(&mut self, fails: bool) {
        self.fails_to_sync = fails;
    }

    fn takes(&mut self) -> Duration {
        match self.random.u8(..8) {
            0 => Duration::from_micros(self.random.u64(900..8000)),
            _ => Duration::from_micros(self.random.u64(50..900)),
        }
    }

    /// How many bytes of a write to this place there is room for.
    fn room_for(&mut self, file: &File, begin: u64, bytes: u64) -> io::Result<u64> {
        let Some(room) = &mut self.room else { return Ok(bytes) };
        let length = file.metadata()?.len();
        let grown = (begin + bytes).saturating_sub(length).min(bytes);
        let taken = grown.min(*room);
        *room -= taken;
        match bytes - grown + taken {
            0 if bytes > 0 => Err(io::ErrorKind::StorageFull.into()),
            taken => Ok(taken),
        }
    }

    fn track(&mut self, file: &File) -> io::Result<&mut Synced> {
        let number = number(&file.metadata()?);
        match self.files.entry(number) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(new) => {
                Ok(new.insert(Synced { file: file.try_clone()?, bytes: Vec::new(), believed: None }))
            }
        }
    }

    fn sync(&mut self, file: &File) -> io::Result<u64> {
        let fails = self.fails_to_sync;
        let synced = self.track(file)?;
        let content = content(file)?;
        if fails {
            synced.believed = Some(content);
            return Err(io::Error::other("the simulated disk does not sync"));
        }
        synced.bytes = match synced.believed.take() {
            None => content,
            // A sector that was not written again since is not written now either.
            Some(believed) => {
                let is_written = |sector: usize| part(&content, sector) != part(&believed, sector);
                let left = left(&synced.bytes, &content, content.len(), is_written);
                synced.believed = Some(believed);
                left
            }
        };
        Ok(synced.bytes.len() as u64)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<u64> {
        if self.fails_to_sync {
            return Err(io::Error::other("the simulated disk does not sync"));
        }
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() {
                self.track(&File::open(entry.path())?)?;
            }
            names.insert(entry.file_name(), number(&about));
        }
        let count = names.len() as u64;
        self.folders.insert(number(&fs::metadata(folder)?), names);
        // Files without a name, now and after a power cut, are of no use.
        let named: BTreeSet<u64> = self.folders.values().flat_map(|names| names.values().copied()).collect();
        self.files.retain(|number, synced| {
            named.contains(number) || synced.file.metadata().is_ok_and(|about| has_name(&about))
        });
        Ok(count)
    }

    /// Loses what was not synced.
    pub(super) fn lose_power(&mut self) -> io::Result<()> {
        let Some(root) = self.folder.as_ref().map(|folder| folder.path().to_owned()) else { return Ok(()) };
        let left = self.left_of(&root)?;
        self.files.clear();
        self.folders.clear();
        for entry in fs::read_dir(&root)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        self.lay_out(&root, left)
    }

    /// What is left of a folder. Names that were changed together, as by a rename, are all old or all new.
    fn left_of(&mut self, folder: &Path) -> io::Result<BTreeMap<OsString, Left>> {
        let mut now = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            now.insert(entry.file_name(), number(&entry.metadata()?));
        }
        let before = self.folders.get(&number(&fs::metadata(folder)?)).cloned().unwrap_or_default();
        let mut names: Vec<OsString> = before.keys().chain(now.keys()).cloned().collect();
        names.sort();
        names.dedup();
        let mut left = BTreeMap::new();
        while let Some(first) = names.pop() {
            let (mut group, mut next) = (vec![first.clone()], vec![first]);
            while let Some(name) = next.pop() {
                let numbers = [before.get(&name), now.get(&name)];
                let (same, others) = names.into_iter().partition(|other| {
                    let theirs = [before.get(other), now.get(other)];
                    theirs.iter().flatten().any(|number| numbers.contains(&Some(*number)))
                });
                names = others;
                next.extend(same.iter().cloned());
                group.extend::<Vec<OsString>>(same);
            }
            let is_same = group.iter().all(|name| before.get(name) == now.get(name));
            let chosen = if is_same || self.random.bool() { &now } else { &before };
            for name in group {
                let Some(number) = chosen.get(&name) else { continue };
                let path = folder.join(&name);
                if now.get(&name) == Some(number) && path.is_dir() {
                    let inside = self.left_of(&path)?;
                    left.insert(name, Left::Folder(inside));
                } else if let Some(bytes) = self.left_of_file(*number, &path)? {
                    left.insert(name, Left::File(bytes));
                }
            }
        }
        Ok(left)
    }

    /// The synced content of a file, and by the seed a part of what was written since.
    fn left_of_file(&mut self, number: u64, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let (synced, now) = match self.files.get(&number) {
            Some(synced) => {
                let mut now = content(&synced.file)?;
                if let Some(believed) = &synced.believed {
                    let is_written = |sector: usize| part(&now, sector) != part(believed, sector);
                    now = left(&synced.bytes, &now, now.len(), is_written);
                }
                (synced.bytes.clone(), now)
            }
            // Never synced. A folder that is gone stays gone.
            None if path.is_file() => (Vec::new(), fs::read(path)?),
            None => return Ok(None),
        };
        let (shorter, longer) = (synced.len().min(now.len()), synced.len().max(now.len()));
        Ok(Some(match self.random.u8(..4) {
            _ if synced == now => now,
            0 => synced,
            1 => now,
            2 => {
                // Up to a place, which may be in the middle of a record.
                let end = self.random.usize(shorter..=longer);
                let length = if now.len() > synced.len() { end } else { synced.len() };
                left(&synced, &now, length, |sector| sector * SECTOR < end)
            }
            _ => {
                let length = if self.random.bool() { now.len() } else { synced.len() };
                let written: Vec<bool> = (0..longer.div_ceil(SECTOR)).map(|_| self.random.bool()).collect();
                left(&synced, &now, length, |sector| written.get(sector) == Some(&true))
            }
        }))
    }

    /// Writes what is left, which has survived and is synced.
    fn lay_out(&mut self, folder: &Path, left: BTreeMap<OsString, Left>) -> io::Result<()> {
        for (name, left) in left {
            let path = folder.join(name);
            match left {
                Left::Folder(inside) => {
                    fs::create_dir(&path)?;
                    self.lay_out(&path, inside)?;
                }
                Left::File(bytes) => {
                    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
                    file.write_all(&bytes)?;
                    self.track(&file)?.bytes = bytes;
                }
            }
        }
        let fails = std::mem::replace(&mut self.fails_to_sync, false);
        let synced = self.sync_folder(folder);
        self.fails_to_sync = fails;
        synced.map(drop)
    }
}

/// The content of a file of which some sectors are new and the others old.
fn left(old: &[u8], new: &[u8], length: usize, is_new: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut bytes = old.to_vec();
    bytes.resize(length, 0);
    for (sector, bytes) in bytes.chunks_mut(SECTOR).enumerate().filter(|(sector, _)| is_new(*sector)) {
        let new = part(new, sector);
        let both = new.len().min(bytes.len());
        bytes[..both].copy_from_slice(&new[..both]);
    }
    bytes
}

fn part(bytes: &[u8], sector: usize) -> &[u8] {
    let begin = (sector * SECTOR).min(bytes.len());
    &bytes[begin..(begin + SECTOR).min(bytes.len())]
}

/// The content of a file, whose place stays.
fn content(mut file: &File) -> io::Result<Vec<u8>> {
    let place = file.stream_position()?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(place))?;
    Ok(bytes)
}

/// Tells a file from all others.
fn number(about: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::ino(about);
    #[cfg(not(unix))]
    return about
        .created()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos() as u64);
}

fn has_name(about: &fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(about) > 0;
    #[cfg(not(unix))]
    return about.is_file();
}

impl LifeDisk {
    pub(super) fn new(platter: Arc<Mutex<Platter>>, process: usize, epoch: Epoch, trace: Trace) -> Self {
        Self { platter, is_gone: AtomicBool::new(false), process, epoch, trace }
    }

    /// Nothing is written from now on.
    pub(super) fn go(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Does an operation of a process that lives.
    fn does(
        &self,
        what: &'static str,
        operation: impl FnOnce(&mut Platter) -> io::Result<u64>,
    ) -> io::Result<u64> {
        if self.is_gone() {
            return Err(io::Error::other("the simulated process has ended"));
        }
        let done = operation(&mut self.platter.lock());
        let bytes = done.as_ref().copied().unwrap_or(u64::MAX);
        self.trace.note(self.epoch.now(), Event::Disk { process: self.process, what, bytes });
        done
    }
}

impl Disk for LifeDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        let written = self.does("write", |platter| {
            let room = platter.room_for(file, file.stream_position()?, bytes.len() as u64)?;
            file.write(&bytes[..usize::try_from(room).unwrap_or(bytes.len())]).map(|written| written as u64)
        });
        written.map(|written| usize::try_from(written).unwrap_or(bytes.len()))
    }

    fn write_at(&self, mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.does("write", |platter| {
            let room = platter.room_for(file, offset, bytes.len() as u64)?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&bytes[..usize::try_from(room).unwrap_or(bytes.len())])?;
            if room < bytes.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
        });
        written.map(drop)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        let set = self.does("set the length", |platter| {
            let grown = length.saturating_sub(file.metadata()?.len());
            if platter.room.is_some_and(|room| grown > room) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.set_len(length).map(|()| length)
        });
        set.map(drop)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.does("sync", |platter| platter.sync(file)).map(drop)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync_data(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.does("sync a folder", |platter| platter.sync_folder(folder)).map(drop)
    }

    fn takes(&self) -> Option<Duration> {
        Some(self.platter.lock().takes())
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}
