//! Notices that the files of a configuration have changed, and when they are complete.
//!
//! The folder is watched and not the files, because editors and deployment tools replace files by renaming. On Linux a
//! file that is open for writing has not been written to its end; the reading waits until it is closed. In addition it
//! waits for a short silence, because tools replace several files, or remove a file before they write it again.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Configuration;
use crate::error_chain;

/// The silence after which changes belong together. Tools replace a file within a few milliseconds.
const SILENCE: Duration = Duration::from_millis(100);
/// Changes that never stop are read after this time. A file that is open for writing is still waited for.
const LONGEST: Duration = Duration::from_secs(2);
/// A file that is open for writing for so long is mentioned in the log.
const LONG_WRITE: Duration = Duration::from_secs(5);
/// Whether the system reports that a written file was closed.
const REPORTS_CLOSING: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// What was noticed and not read yet.
#[derive(Debug, Default)]
struct Noticed {
    changed: bool,
    /// Files that are written and not closed yet.
    writing: HashSet<PathBuf>,
    /// Why nothing more is noticed.
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    noticed: Mutex<Noticed>,
    woken: Notify,
}

impl Configuration {
    /// Reads the files again whenever they change, until `shutdown` is cancelled. It stops when the last handle of this
    /// configuration is dropped, too.
    pub(super) fn watch(&self, shutdown: CancellationToken) {
        let Some(folder) = self.shared.sources.folder.clone() else { return };
        if self.shared.is_followed.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::new(Shared::default());
        let watcher = match watching(&folder, self.shared.sources.files(), &shared) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    folder = %folder.display(),
                    "the configuration cannot be watched: changes need a restart"
                );
                return;
            }
        };
        // A change between the loading and this moment was not noticed.
        shared.noticed.lock().changed = true;
        shared.woken.notify_one();
        let (configuration, dropped) = (Arc::downgrade(&self.shared), self.shared.dropped.clone());
        tokio::spawn(async move {
            let _watcher = watcher;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = dropped.cancelled() => return,
                    () = is_complete(&shared) => {}
                }
                if let Some(error) = shared.noticed.lock().failed.take() {
                    tracing::warn!(error, "the configuration is no longer watched: changes need a restart");
                    return;
                }
                let Some(shared) = configuration.upgrade() else { return };
                let read = tokio::task::spawn_blocking(move || Configuration { shared }.reload());
                if read.await.is_err() {
                    tracing::error!("reading the configuration panicked; the settings before stay in force");
                }
            }
        });
    }
}

/// Waits until there is a change, and the files are complete.
async fn is_complete(shared: &Shared) {
    let mut since: Option<Instant> = None;
    let mut has_warned = false;
    loop {
        let now = Instant::now();
        let end = {
            let mut noticed = shared.noticed.lock();
            if noticed.failed.is_some() {
                return;
            }
            match since {
                _ if !noticed.changed => None,
                None => {
                    since = Some(now);
                    Some(now + SILENCE)
                }
                Some(first) if !noticed.writing.is_empty() => {
                    if now >= first + LONG_WRITE && !has_warned {
                        has_warned = true;
                        let files: Vec<_> =
                            noticed.writing.iter().map(|path| path.display().to_string()).collect();
                        tracing::warn!(
                            files = files.join(", "),
                            "the configuration is still being written; it is read when the file is closed"
                        );
                    }
                    // Without an end once the warning has been logged: closing the file is an event.
                    (!has_warned).then_some(first + LONG_WRITE)
                }
                Some(first) => {
                    let end = (now + SILENCE).min(first + LONGEST);
                    if end <= now {
                        noticed.changed = false;
                        return;
                    }
                    Some(end)
                }
            }
        };
        let Some(end) = end else {
            shared.woken.notified().await;
            continue;
        };
        tokio::select! {
            () = shared.woken.notified() => {}
            () = sleep_until(end) => {
                let mut noticed = shared.noticed.lock();
                if noticed.changed && noticed.writing.is_empty() {
                    noticed.changed = false;
                    return;
                }
            }
        }
    }
}

fn watching(folder: &Path, files: Vec<PathBuf>, shared: &Arc<Shared>) -> notify::Result<RecommendedWatcher> {
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).map(OsStr::to_owned).collect();
    let (shared, watched) = (Arc::clone(shared), folder.to_owned());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let mut noticed = shared.noticed.lock();
        let is_news = match event {
            Ok(event) => note(&mut noticed, &event, &names, &watched),
            Err(error) => {
                noticed.failed = Some(error_chain(&error));
                true
            }
        };
        drop(noticed);
        if is_news {
            shared.woken.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Notes an event. Returns whether it may concern the configuration.
fn note(noticed: &mut Noticed, event: &Event, names: &[std::ffi::OsString], watched: &Path) -> bool {
    if event.need_rescan() {
        // Events were lost, so files that seem to be open may be closed.
        noticed.writing.clear();
        noticed.changed = true;
        return true;
    }
    let is_ours =
        |path: &&PathBuf| path.file_name().is_some_and(|name| names.iter().any(|ours| ours == name));
    let ours: Vec<_> = event.paths.iter().filter(is_ours).cloned().collect();
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) if !ours.is_empty() => {
            ours.iter().for_each(|path| {
                noticed.writing.remove(path);
            });
            noticed.changed = true;
            true
        }
        EventKind::Access(_) => false,
        EventKind::Remove(_) if event.paths.iter().any(|path| path == watched) => {
            noticed.failed = Some(format!("the folder {} is gone", watched.display()));
            true
        }
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) | EventKind::Create(_)
            if !ours.is_empty() =>
        {
            let is_written = matches!(event.kind, EventKind::Modify(_));
            if REPORTS_CLOSING && is_written {
                noticed.writing.extend(ours);
            }
            noticed.changed = true;
            true
        }
        // Links are renamed to replace all files at once, so the name does not matter.
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
            ours.iter().for_each(|path| {
                noticed.writing.remove(path);
            });
            noticed.changed = true;
            true
        }
        _ => false,
    }
}
