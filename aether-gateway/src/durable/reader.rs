//! Reading the folders: which logs there are, and how they stand. Blocks, so it runs outside of the async tasks.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_log::store::{OpenError, Retention};
use aether_log::{Effort, LogStanding, LogView};
use tokio::time::Instant;

use super::folder::LogFolder;
use super::lines::{LogLine, Reading};

/// The maximum number of logs, and of folders below one that is named.
const MOST_LOGS: usize = 64;
const MOST_FOLDERS: usize = 1024;
/// The maximum number of consumers of a log, and of all logs.
const MOST_CONSUMERS: usize = 64;
const MOST_OF_ALL: usize = 256;
/// How much of all logs is read to count the waves that wait, in bytes, beside the newest segment of each.
const MOST_BYTES: u64 = 256 << 20;
/// The numbers of a history: five minutes.
const KEPT: usize = 60;

/// The logs that were found, and the lag of their consumers in the last minutes.
#[derive(Debug)]
pub(super) struct Reader {
    folders: Vec<LogFolder>,
    every: Duration,
    known: BTreeMap<PathBuf, Known>,
    /// By log and consumer.
    histories: BTreeMap<(String, String), VecDeque<u64>>,
}

/// A log that was found.
#[derive(Debug)]
struct Known {
    /// None if it could not be read last.
    view: Option<LogView>,
    retention: Option<Retention>,
}

impl Known {
    fn standing(&mut self, path: &Path, effort: Effort) -> Result<LogStanding, OpenError> {
        let was_open = self.view.is_some();
        match self.try_standing(path, effort) {
            // Another log has taken its place.
            Err(OpenError::Nothing { .. }) if was_open => self.try_standing(path, effort),
            standing => standing,
        }
    }

    fn try_standing(&mut self, path: &Path, effort: Effort) -> Result<LogStanding, OpenError> {
        let mut view = self.view.take().map_or_else(|| LogView::open(path), Ok)?;
        let standing = view.standing(effort)?;
        self.view = Some(view);
        Ok(standing)
    }
}

impl Reader {
    pub(super) fn new(folders: Vec<LogFolder>, every: Duration) -> Self {
        Self { folders, every, known: BTreeMap::new(), histories: BTreeMap::new() }
    }

    /// Reads all of them. A sample adds a number to each history.
    pub(super) fn read(&mut self, began: Instant, is_sample: bool) -> Reading {
        let (mut logs, more) = self.find();
        let mut left = MOST_OF_ALL;
        let max_bytes = MOST_BYTES / self.known.len().max(1) as u64;
        for (path, known) in &mut self.known {
            let effort = Effort::default().max_consumers(left.min(MOST_CONSUMERS)).max_bytes(max_bytes);
            let (folder, name) = (path.display().to_string(), LogFolder::name_of(path));
            logs.push(match known.standing(path, effort) {
                Ok(standing) => {
                    left -= standing.consumers.len();
                    LogLine::read(folder, name, standing, known.retention.as_ref())
                }
                Err(error) => LogLine::unread(folder, name, aether_service::error_chain(&error)),
            });
        }
        logs.sort_by(|a, b| a.folder.cmp(&b.folder));
        self.remember(is_sample, &mut logs);
        Reading::of(began, self.every, logs, more)
    }

    /// Finds logs that are not known yet. Returns lines about folders that cannot be read, and the number of folders that
    /// were not looked at.
    fn find(&mut self) -> (Vec<LogLine>, usize) {
        let (mut failed, mut more) = (Vec::new(), 0);
        for folder in self.folders.clone() {
            let (path, failed_before) = (&folder.path, failed.len());
            if self.known.contains_key(path) {
                continue;
            }
            match LogView::open(path) {
                Ok(view) if self.has_room() => self.keep(path.clone(), view, &folder),
                Ok(_) => more += 1,
                Err(OpenError::Nothing { .. }) => {
                    let (below, others) = folders_in(path);
                    more += others;
                    for below in below {
                        if self.known.contains_key(&below) {
                            continue;
                        }
                        if !self.has_room() {
                            more += 1;
                            continue;
                        }
                        match LogView::open(&below) {
                            Ok(view) => self.keep(below, view, &folder),
                            // A folder of something else.
                            Err(OpenError::Nothing { .. }) => {}
                            Err(error) => failed.push(unread(&below, &error)),
                        }
                    }
                    if failed.len() == failed_before
                        && !self.known.keys().any(|known| known.starts_with(path))
                    {
                        failed.push(unread(path, &OpenError::Nothing { path: path.clone() }));
                    }
                }
                Err(error) => failed.push(unread(path, &error)),
            }
        }
        failed.truncate(MOST_LOGS);
        (failed, more)
    }

    /// Whether there is room for another log. Those that are gone make room.
    fn has_room(&mut self) -> bool {
        if self.known.len() >= MOST_LOGS {
            self.known.retain(|_, known| known.view.is_some());
        }
        self.known.len() < MOST_LOGS
    }

    fn keep(&mut self, path: PathBuf, view: LogView, folder: &LogFolder) {
        self.known.insert(path, Known { view: Some(view), retention: folder.retention });
    }

    /// Adds a number to each history, if this is a sample, and the histories to the lines.
    fn remember(&mut self, is_sample: bool, logs: &mut [LogLine]) {
        let mut histories = BTreeMap::new();
        for log in logs {
            for consumer in &mut log.consumers {
                let Some(standing) = &mut consumer.standing else { continue };
                let key = (log.folder.clone().unwrap_or_default(), consumer.name.clone());
                let mut history = self.histories.remove(&key).unwrap_or_default();
                if is_sample {
                    if history.len() == KEPT {
                        history.pop_front();
                    }
                    history.push_back(standing.lag);
                }
                standing.with_history(history.iter().copied());
                histories.insert(key, history);
            }
        }
        // Histories of consumers that are gone are dropped.
        self.histories = histories;
    }
}

fn unread(path: &Path, error: &OpenError) -> LogLine {
    let error = aether_service::error_chain(error);
    LogLine::unread(path.display().to_string(), LogFolder::name_of(path), error)
}

/// The folders in a folder, in order, and how many more there are.
fn folders_in(path: &Path) -> (Vec<PathBuf>, usize) {
    let Ok(listed) = std::fs::read_dir(path) else { return (Vec::new(), 0) };
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|of| of.is_dir());
    let listed = listed.filter_map(Result::ok).filter(is_folder).map(|entry| entry.path());
    // Names that are no text would look alike.
    let mut listed = listed.filter(|path| path.to_str().is_some());
    let mut folders: Vec<_> = listed.by_ref().take(MOST_FOLDERS).collect();
    folders.sort();
    (folders, listed.count())
}
