//! The changes of a folder, as the system reports them, until they are taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::path::OWN;

/// The paths that wait to be taken. Beyond it the whole folder is looked at.
const KEPT: usize = 65_536;

/// Linux watches each folder for itself. The mirror adds new ones, because it must watch them before it reads them.
const EACH_FOLDER: bool = cfg!(target_os = "linux");

/// The state of a path after its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Somebody writes, and may not be done.
    Writing,
    /// It was closed, renamed or deleted.
    Done,
}

/// Changes that were reported.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) paths: BTreeMap<PathBuf, Change>,
    /// More than that has changed: look at everything.
    pub(crate) is_incomplete: bool,
    pub(crate) failure: Option<notify::Error>,
}

#[derive(Debug, Default)]
struct Reported {
    changes: Mutex<Changes>,
    wake: Notify,
}

/// The watched folders below a root.
#[derive(Debug)]
pub(crate) struct Watches {
    watcher: Mutex<RecommendedWatcher>,
    reported: Arc<Reported>,
}

impl Watches {
    /// Watches a root. On Linux its folders follow by [`Watches::enter`].
    pub(crate) fn new(root: &Path) -> Result<Self, notify::Error> {
        let reported = Arc::new(Reported::default());
        let own = root.join(OWN);
        let mut watcher = notify::recommended_watcher({
            let reported = Arc::clone(&reported);
            move |event| reported.note(event, &own)
        })?;
        if !EACH_FOLDER {
            watcher.watch(root, RecursiveMode::Recursive)?;
        }
        Ok(Self { watcher: Mutex::new(watcher), reported })
    }

    /// Watches a folder from now on. Blocks for a moment.
    pub(crate) fn enter(&self, folder: &Path) {
        if !EACH_FOLDER {
            return;
        }
        if let Err(error) = self.watcher.lock().watch(folder, RecursiveMode::NonRecursive)
            // One that is gone needs no watch.
            && std::fs::symlink_metadata(folder).is_ok()
        {
            self.reported.changes.lock().failure = Some(error);
            self.reported.wake.notify_one();
        }
    }

    /// Waits until something has changed. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.reported.wake.notified().await;
    }

    /// The changes since the last call.
    pub(crate) fn take(&self) -> Changes {
        std::mem::take(&mut self.reported.changes.lock())
    }
}

impl Reported {
    fn note(&self, event: notify::Result<notify::Event>, own: &Path) {
        let mut changes = self.changes.lock();
        match event {
            Err(error) => changes.failure = Some(error),
            Ok(event) if event.need_rescan() => changes.is_incomplete = true,
            Ok(event) => {
                let change = match event.kind {
                    EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Done,
                    EventKind::Access(_) => return,
                    EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
                        Change::Writing
                    }
                    _ => Change::Done,
                };
                for path in event.paths.into_iter().filter(|path| !path.starts_with(own)) {
                    if changes.paths.len() >= KEPT && !changes.paths.contains_key(&path) {
                        changes.is_incomplete = true;
                    } else {
                        changes.paths.insert(path, change);
                    }
                }
                if changes.paths.is_empty() && !changes.is_incomplete {
                    return;
                }
            }
        }
        drop(changes);
        self.wake.notify_one();
    }
}
