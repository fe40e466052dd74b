//! Notices that the files of a configuration have changed, and when they are complete.
//!
//! The folder is watched and not the files, because editors and deployment tools replace files by renaming. So are the
//! folders of the files that the configuration names for schemas; these may be replaced themselves, which is seen in
//! the folders around them. On Linux a file that is open for writing has not been written to its end; the reading waits
//! until it is closed. In addition it waits for a short silence, because tools replace several files, or remove a file
//! before they write it again.

use std::collections::BTreeSet;
use std::ffi::OsString;
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

/// Changes that were noticed and not read yet.
#[derive(Debug, Default)]
struct Noticed {
    changed: bool,
    /// Files that are written and not closed yet.
    writing: BTreeSet<PathBuf>,
    /// Folders of schemas that came, went or were replaced: what was watched is no longer what has their name.
    replaced: BTreeSet<PathBuf>,
    /// Why nothing more is noticed.
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    noticed: Mutex<Noticed>,
    woken: Notify,
    wanted: Mutex<Wanted>,
}

/// The files and folders that matter.
#[derive(Debug, Default)]
struct Wanted {
    /// The names of the files.
    names: BTreeSet<OsString>,
    /// The folder of the configuration.
    of_configuration: Option<PathBuf>,
    /// The folders of schemas.
    of_schemas: BTreeSet<PathBuf>,
    /// The folders around them that are none of these. Nothing else matters in them.
    around: BTreeSet<PathBuf>,
}

impl Configuration {
    /// Reads the files again whenever they change, until `shutdown` is cancelled. It stops when the last handle of this
    /// configuration is dropped, too.
    pub(super) fn watch(&self, shutdown: CancellationToken) {
        let mut folders: BTreeSet<_> = self.shared.sources.folder.iter().cloned().collect();
        let schemas = self.schema_files();
        folders.extend(folders_of(&schemas));
        if folders.is_empty() || self.shared.is_followed.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::new(Shared::default());
        let mut watched = match Watched::new(self.shared.sources.folder.clone(), &shared) {
            Ok(watched) => watched,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "the configuration cannot be watched: changes need a restart"
                );
                return;
            }
        };
        watched.follow(self, &schemas);
        let watched = Arc::new(Mutex::new(watched));
        // A change between the loading and this moment was not noticed.
        shared.noticed.lock().changed = true;
        shared.woken.notify_one();
        let (configuration, dropped) = (Arc::downgrade(&self.shared), self.shared.dropped.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = dropped.cancelled() => return,
                    () = is_complete(&shared) => {}
                }
                if let Some(error) = shared.noticed.lock().failed.take() {
                    tracing::warn!(error, "the configuration is no longer watched: changes need a restart");
                    return;
                }
                let Some(shared) = configuration.upgrade() else { return };
                let watched = Arc::clone(&watched);
                let read = tokio::task::spawn_blocking(move || {
                    let configuration = Configuration { shared };
                    // First, so that no change of a newly named file is missed.
                    watched.lock().follow(&configuration, &configuration.schema_files());
                    configuration.reload();
                });
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
            biased;
            // Events do not starve the end: the loop above ends the wait after `LONGEST`.
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

/// The folders that are watched.
struct Watched {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    shared: Arc<Shared>,
}

impl Watched {
    /// Watches the folder of the configuration, if it has one.
    fn new(folder: Option<PathBuf>, shared: &Arc<Shared>) -> notify::Result<Self> {
        let noting = Arc::clone(shared);
        noting.wanted.lock().of_configuration.clone_from(&folder);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let wanted = noting.wanted.lock();
            let mut noticed = noting.noticed.lock();
            let is_news = match event {
                Ok(event) => note(&mut noticed, &event, &wanted),
                Err(error) => {
                    noticed.failed = Some(error_chain(&error));
                    true
                }
            };
            drop((noticed, wanted));
            if is_news {
                noting.woken.notify_one();
            }
        })?;
        if let Some(folder) = &folder {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { watcher, folders: folder.into_iter().collect(), shared: Arc::clone(shared) })
    }

    /// Watches the files of the configuration, and the schemas that it names now.
    fn follow(&mut self, configuration: &Configuration, schemas: &[PathBuf]) {
        let files = configuration.shared.sources.files().into_iter().chain(schemas.iter().cloned());
        let names = files.filter_map(|file| Some(file.file_name()?.to_owned())).collect();
        let mut of_schemas = folders_of(schemas);
        // The folder may be a link that is switched.
        let own_folder = configuration.shared.sources.folder.iter();
        of_schemas.extend(own_folder.filter(|folder| folder.is_symlink()).cloned());
        // One folder may have several names.
        let canonical = |folder: &PathBuf| folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let own: BTreeSet<_> =
            of_schemas.iter().chain(&configuration.shared.sources.folder).map(canonical).collect();
        let around: BTreeSet<_> = of_schemas.iter().filter_map(|folder| folder_of(folder)).collect();
        let around: BTreeSet<_> =
            around.into_iter().filter(|folder| !own.contains(&canonical(folder))).collect();
        {
            let mut wanted = self.shared.wanted.lock();
            wanted.names = names;
            wanted.around.clone_from(&around);
            wanted.of_schemas.clone_from(&of_schemas);
        }
        // The watcher calls back while it takes a request, so no lock is held here.
        let replaced = std::mem::take(&mut self.shared.noticed.lock().replaced);
        for folder in replaced {
            if self.folders.remove(&folder) {
                // Fails if it is gone.
                let _ = self.watcher.unwatch(&folder);
            }
        }
        // First, so that no folder comes unnoticed.
        for folder in around {
            if let Err(error) = self.add(&folder) {
                let error = error_chain(&error);
                tracing::debug!(error, folder = %folder.display(), "a folder around schemas cannot be watched");
            }
        }
        for folder in of_schemas {
            if let Err(error) = self.add(&folder) {
                let is_awaited = folder_of(&folder).is_some_and(|around| around.is_dir());
                tracing::warn!(
                    error = error_chain(&error),
                    folder = %folder.display(),
                    "the schemas of this folder cannot be watched: {}",
                    if is_awaited { "they are read when it is created" } else { "their changes need a restart" }
                );
            }
        }
    }

    /// Watches a folder, unless it is watched already.
    fn add(&mut self, folder: &Path) -> notify::Result<()> {
        if !self.folders.contains(folder) {
            self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
            self.folders.insert(folder.to_owned());
        }
        Ok(())
    }
}

impl Configuration {
    /// The files that the configuration names for schemas. Blocks while it reads.
    #[cfg(feature = "schema")]
    fn schema_files(&self) -> Vec<PathBuf> {
        self.shared.sources.schema_files()
    }

    #[cfg(not(feature = "schema"))]
    #[expect(clippy::unused_self, reason = "there are no schemas")]
    fn schema_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The folders of files.
fn folders_of(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    files.iter().filter_map(|file| folder_of(file)).collect()
}

/// The folder that something is in; `None` of the root.
fn folder_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_owned())
}

/// Notes an event. Returns whether it may concern the configuration.
fn note(noticed: &mut Noticed, event: &Event, wanted: &Wanted) -> bool {
    if event.need_rescan() {
        // Events were lost, so files that seem to be open may be closed.
        noticed.writing.clear();
        noticed.changed = true;
        return true;
    }
    let is_change_of_names = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    );
    // A file in the working directory has no folder in its name, and has one in its events.
    let replaced = |path: &PathBuf| {
        let plain = path.strip_prefix(".").unwrap_or(path);
        wanted.of_schemas.get(path).or_else(|| wanted.of_schemas.get(plain)).cloned()
    };
    let replaced: Vec<_> =
        if is_change_of_names { event.paths.iter().filter_map(replaced).collect() } else { Vec::new() };
    let is_replaced = !replaced.is_empty();
    noticed.replaced.extend(replaced);
    noticed.changed |= is_replaced;
    let matters = |path: &&PathBuf| folder_of(path).is_none_or(|folder| !wanted.around.contains(&folder));
    let paths: Vec<_> = event.paths.iter().filter(matters).collect();
    let of_configuration = wanted.of_configuration.as_ref();
    // A link that is removed is made again; a folder is not waited for.
    let is_gone = |path: &PathBuf| Some(path) == of_configuration && !wanted.of_schemas.contains(path);
    if matches!(event.kind, EventKind::Remove(_)) && event.paths.iter().any(is_gone) {
        noticed.failed = Some("its folder is gone".to_owned());
        return true;
    }
    if paths.is_empty() {
        return is_replaced;
    }
    let is_ours = |path: &&&PathBuf| path.file_name().is_some_and(|name| wanted.names.contains(name));
    let ours: Vec<PathBuf> = paths.iter().filter(is_ours).map(|path| (*path).clone()).collect();
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) if !ours.is_empty() => {
            ours.iter().for_each(|path| {
                noticed.writing.remove(path);
            });
            noticed.changed = true;
            true
        }
        EventKind::Access(_) => false,
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
        _ => is_replaced,
    }
}
