//! A log as another process sees it: what it holds, and how its consumers stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use crate::backup::{Backup, BackupError, back_up};
use crate::consumer::{Backlog, ConsumerStanding, Looking, time};
use crate::dead::{DeadView, FOLDER as DEAD};
use crate::log_builder::CONSUMERS;
use crate::name::is_name;
use crate::store::{Extent, Item, OpenError, ReadError, Record, Span, View};

/// The size of the dead letters beyond which they are not counted: their numbers and consumers are in memory.
const MOST_DEAD_BYTES: u64 = 16 << 20;

/// Limits for the cost of [`LogView::standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    max_consumers: usize,
    max_bytes: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { max_consumers: 64, max_bytes: 128 << 20 }
    }
}

impl Effort {
    /// How many consumers are read, the first ones by their names. Default: 64. Cost: reading the journal of each, a few MiB
    /// at most.
    #[must_use]
    pub fn max_consumers(mut self, consumers: usize) -> Self {
        self.max_consumers = consumers;
        self
    }

    /// How much of the log is read to count the waves that wait, in bytes; the newest segment is read in any case.
    /// Counted parts are not read again, so an inexact [lag](ConsumerStanding::lag) becomes exact with the next calls.
    /// Default: 128 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }
}

/// How a log and its consumers stand.
#[derive(Debug)]
#[non_exhaustive]
pub struct LogStanding {
    /// The extent of the log.
    pub extent: Extent,
    /// When its first wave was stored.
    pub oldest: Option<SystemTime>,
    /// When its last wave was stored.
    pub newest: Option<SystemTime>,
    /// The consumers by name, or why one cannot be read.
    pub consumers: BTreeMap<String, Result<ConsumerStanding, OpenError>>,
    /// The number of consumers that were not read.
    pub more_consumers: usize,
    /// The number of dead letters of each consumer; `None` if they are too many to be counted.
    pub dead: Option<BTreeMap<String, u64>>,
}

/// A log that another process may have open, for reading only. Nothing is locked and nothing is written.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Durability};
/// use aether_log::{ConsumerOptions, Effort, Log, LogView};
///
/// # let folder = tempfile::tempdir()?; let folder = folder.path();
/// let log = Log::builder(folder).channels("orders.>", Durability::Stored)?.open()?;
/// let aether = log.connect(aether_core::AetherBuilder::new().url("local:")).await?;
/// let billing = log.consumer("billing", "orders.>", ConsumerOptions::default())?;
/// for lamp in 1..=3 {
///     aether.emitter("shop")?.emit_wave("orders.created", &lamp).await?;
/// }
/// billing.receive().await?.ack().await?;
///
/// let standing = LogView::open(folder)?.standing(Effort::default())?;
/// let billing = standing.consumers["billing"].as_ref().unwrap();
/// assert_eq!((billing.acknowledged, billing.lag.at_least, billing.lag.is_exact()), (1, 2, true));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LogView {
    view: View,
    dead: Option<DeadView>,
    /// The counts of each consumer.
    backlogs: BTreeMap<String, Backlog>,
}

impl LogView {
    /// Opens the log in this folder. Blocks while it reads one segment.
    ///
    /// # Errors
    /// [`OpenError`]: there is no log, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Ok(Self { view: View::open(folder)?, dead: None, backlogs: BTreeMap::new() })
    }

    /// How the log and its consumers stand now. Blocks while it reads what `effort` allows.
    ///
    /// # Errors
    /// [`OpenError`]: the log is not there any more, or cannot be read. Open it again.
    pub fn standing(&mut self, effort: Effort) -> Result<LogStanding, OpenError> {
        let folder = self.view.folder();
        let (names, more_consumers) = consumers(&folder, effort.max_consumers)?;
        let looking = names.into_iter().map(|name| {
            let looking = Looking::at(&folder.join(CONSUMERS).join(&name));
            (name, looking)
        });
        let mut looking: BTreeMap<_, _> = looking.collect();
        // After the journals, so that the log has all that they know.
        self.view.catch_up()?;
        let (extent, spans) = (self.view.extent(), self.view.spans());
        if spans.is_empty() {
            // Another log may have taken its place.
            return Err(OpenError::Nothing { path: folder });
        }
        let mut before = std::mem::take(&mut self.backlogs);
        for (name, looking) in &mut looking {
            if let Ok(looking) = looking {
                looking.begin(before.remove(name).unwrap_or_default(), &spans);
            }
        }
        let left = self.count(looking.values_mut().flatten().collect(), &spans, effort.max_bytes)?;
        self.find_oldest(looking.values_mut().flatten(), &spans, left)?;
        let oldest = match self.view.cursor(0).next_item() {
            Ok(Some(Item::Record(record))) => time(record.micros),
            _ => None,
        };
        let newest = self.view.newest_micros().and_then(time).filter(|_| extent.last >= extent.first);
        let mut consumers = BTreeMap::new();
        for (name, looking) in looking {
            let standing = looking.map(|looking| {
                let (standing, backlog) = looking.end(&extent);
                self.backlogs.insert(name.clone(), backlog);
                standing
            });
            consumers.insert(name, standing);
        }
        let dead = self.dead_letters(&folder)?;
        Ok(LogStanding { extent, oldest, newest, consumers, more_consumers, dead })
    }

    /// Makes a backup in a new folder, which appears when it is complete: the waves, the consumers, the dead letters, the
    /// waves for later and the snapshots. Another process may be writing the log meanwhile. The backup has everything that
    /// the log had when it began. [`restore`](crate::restore) makes a log of it again. Blocks.
    ///
    /// Full segments are linked where the file system of the destination allows that, so they share their room and their
    /// damage with the log until the backup is copied elsewhere.
    ///
    /// # Errors
    /// [`BackupError`]: the destination exists, or a file cannot be read or written. Nothing is left then.
    pub fn backup(&self, to: &Path) -> Result<Backup, BackupError> {
        back_up(&self.view.folder(), to)
    }

    /// Counts the waves that wait in segments that were not counted yet, the newest first, so that a consumer that is far
    /// behind does not cost the numbers of the others. Returns how many bytes may still be read.
    fn count(&self, mut all: Vec<&mut Looking>, spans: &[Span], max_bytes: u64) -> Result<u64, ReadError> {
        let mut left = max_bytes;
        for (at, span) in spans.iter().rev().enumerate() {
            let starts = all.iter().filter_map(|looking| looking.wanted(span));
            let Some(from) = starts.min() else { continue };
            // The newest one is counted in any case.
            if at > 0 && span.bytes > left {
                continue;
            }
            left = left.saturating_sub(span.bytes);
            let mut wanting: Vec<&mut Looking> = Vec::new();
            for looking in &mut all {
                if let Some(from) = looking.wanted(span) {
                    looking.open(span, from);
                    wanting.push(looking);
                }
            }
            let counted = self.each(from, span, |record| {
                wanting.iter_mut().for_each(|looking| looking.count(span, record));
                true
            });
            let is_whole = counted?;
            for looking in wanting {
                if is_whole { looking.close(span) } else { looking.fail(span) }
            }
        }
        Ok(left)
    }

    /// Finds the oldest wave that waits for each consumer of which all waves were counted.
    fn find_oldest<'l>(
        &self,
        all: impl Iterator<Item = &'l mut Looking>,
        spans: &[Span],
        mut left: u64,
    ) -> Result<(), ReadError> {
        for looking in all {
            let Some((from, span)) = looking.sum(spans) else { continue };
            let is_newest = spans.last().is_some_and(|newest| newest.first == span.first);
            if !is_newest && span.bytes > left {
                continue;
            }
            left = left.saturating_sub(span.bytes);
            self.each(from, &span, |record| !looking.is_oldest(record))?;
        }
        Ok(())
    }

    /// Calls `each` with the records of a segment from a position on, for as long as it wants more. False if the segment was
    /// dropped meanwhile. What is damaged is not delivered, so it does not wait.
    fn each(&self, from: u64, span: &Span, mut each: impl FnMut(&Record) -> bool) -> Result<bool, ReadError> {
        let mut cursor = self.view.cursor(from);
        loop {
            match cursor.next_item() {
                Ok(Some(Item::Record(record))) if record.position <= span.last => {
                    if !each(&record) {
                        return Ok(true);
                    }
                }
                Ok(Some(Item::Damaged(_))) => {}
                Ok(_) => return Ok(true),
                // By the retention of its writer.
                Err(ReadError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn dead_letters(&mut self, log: &Path) -> Result<Option<BTreeMap<String, u64>>, OpenError> {
        let folder = log.join(DEAD);
        if bytes_of(&folder)? > MOST_DEAD_BYTES {
            self.dead = None;
            return Ok(None);
        }
        let dead = match self.dead.take() {
            Some(mut dead) => dead.refresh().map(|()| dead),
            None => DeadView::open(log),
        };
        match dead {
            Ok(dead) => {
                let letters = dead.by_consumer();
                let letters = letters.into_iter().map(|(name, letters)| (name.to_owned(), letters)).collect();
                self.dead = Some(dead);
                Ok(Some(letters))
            }
            Err(OpenError::Nothing { .. }) => Ok(Some(BTreeMap::new())),
            Err(error) if is_missing(&error) => Ok(Some(BTreeMap::new())),
            Err(error) => Err(error),
        }
    }
}

fn is_missing(error: &OpenError) -> bool {
    matches!(error, OpenError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// What is in a folder; nothing if it is not there.
fn listed(folder: &Path) -> Result<impl Iterator<Item = io::Result<DirEntry>>, OpenError> {
    match fs::read_dir(folder) {
        Ok(listed) => Ok(Some(listed).into_iter().flatten()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(source) => Err(OpenError::io(folder, "list", source)),
    }
}

fn bytes_of(folder: &Path) -> Result<u64, OpenError> {
    let mut bytes = 0;
    for file in listed(folder)? {
        let file = file.map_err(|source| OpenError::io(folder, "list", source))?;
        // Dropped in between by its writer.
        bytes += file.metadata().map_or(0, |about| about.len());
    }
    Ok(bytes)
}

/// The names of the first consumers, and how many more there are.
fn consumers(log: &Path, most: usize) -> Result<(BTreeSet<String>, usize), OpenError> {
    let folder = log.join(CONSUMERS);
    let (mut names, mut more) = (BTreeSet::new(), 0);
    for consumer in listed(&folder)? {
        let consumer = consumer.map_err(|source| OpenError::io(&folder, "list", source))?;
        let is_folder = consumer.file_type().is_ok_and(|of| of.is_dir());
        // Other names belong to no consumer.
        let Some(name) = consumer.file_name().into_string().ok().filter(|name| is_folder && is_name(name))
        else {
            continue;
        };
        names.insert(name);
        if names.len() > most {
            names.pop_last();
            more += 1;
        }
    }
    Ok((names, more))
}
