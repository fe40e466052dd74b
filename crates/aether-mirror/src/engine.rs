//! The task of a mirror: waits for changes of the folder and of the field, and lets the folder do one step after another.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aether_core::clock::micros_since_1970;
use aether_field::core::Stamp;
use aether_field::{PeerEvent, Watch};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::blocks::{Exchange, FetchError};
use crate::disk::{Walk, walk};
use crate::error::MirrorError;
use crate::folder::{Fetched, Folder, Outcome};
use crate::memory::Memory;
use crate::path::{FilePath, OWN};
use crate::quiet::Quiet;
use crate::status::RefusedReason;
use crate::version::{Content, Version};
use crate::waiting::Waiting;
use crate::watches::{Change, Watches};

/// How long a mirror that starts waits for another replica before it looks at its own files. Versions that it sends
/// before it has heard the others are compared later, at the cost of some messages.
const HEARD: Duration = Duration::from_secs(2);

/// The files that are fetched at the same time.
const FETCHES: usize = 4;

/// The steps after which the memory is saved while more are to be done.
const STEPS: usize = 256;

/// How long after a failure the records are saved again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// How long a deletion waits for files that are not quiet yet, and may be the same file under a new name.
const RENAMING: Duration = Duration::from_secs(3);

/// How often old deletions are forgotten.
const TIDY: Duration = Duration::from_secs(60 * 60);

/// Somebody who waits until the whole folder and the whole field were looked at.
pub(crate) type Look = oneshot::Sender<()>;

/// A fetch that has ended.
type Ended = (FilePath, Content, Result<crate::place::Staged, FetchError>);

pub(crate) struct Engine {
    folder: Folder,
    memory: Arc<Memory>,
    watches: Arc<Watches>,
    exchange: Arc<Exchange>,
    looks: mpsc::Receiver<Look>,
    /// The paths to look at.
    dirty: BTreeSet<FilePath>,
    /// The files that are deleted when nothing else is to be done, and since when they wait.
    deletions: BTreeMap<FilePath, Instant>,
    quiet: Quiet,
    wanted: BTreeMap<FilePath, Content>,
    fetches: JoinSet<Ended>,
    /// The paths of the fetches under way.
    fetching: BTreeSet<FilePath>,
    fetched: BTreeMap<FilePath, Fetched>,
    /// What is sent as soon as its record is saved.
    outgoing: Vec<(FilePath, Version)>,
    /// The records could not be saved, and when they are tried again.
    save_again: Option<Instant>,
    waiting: Waiting,
    /// Something was refused for want of room.
    is_full: bool,
    lookers: Vec<Look>,
}

impl Engine {
    pub(crate) fn new(
        folder: Folder,
        memory: Arc<Memory>,
        watches: Arc<Watches>,
        exchange: Arc<Exchange>,
        looks: mpsc::Receiver<Look>,
    ) -> Self {
        Self {
            folder,
            memory,
            watches,
            exchange,
            looks,
            dirty: BTreeSet::new(),
            deletions: BTreeMap::new(),
            quiet: Quiet::default(),
            wanted: BTreeMap::new(),
            fetches: JoinSet::new(),
            fetching: BTreeSet::new(),
            fetched: BTreeMap::new(),
            outgoing: Vec::new(),
            save_again: None,
            waiting: Waiting::default(),
            is_full: false,
            lookers: Vec::new(),
        }
    }

    /// Mirrors until it is stopped. A step that has begun is ended before, so nothing touches the folder afterwards.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), MirrorError> {
        let ended = self.mirror(&stop).await;
        self.fetches.shutdown().await;
        let saved = self.save().await;
        if saved.is_ok() {
            self.publish();
        }
        self.folder.account.close();
        ended.and(saved)
    }

    async fn mirror(&mut self, stop: &CancellationToken) -> Result<(), MirrorError> {
        let mut updates = self.folder.field.watch(&format!("{}*", self.folder.options.prefix));
        let mut peers = self.folder.field.peer_events();
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // Nobody may be there, or refuse something: then the files that are here are sent all the same.
            _ = timeout(HEARD, self.folder.field.agreed(1)) => {}
        }
        self.look_at_everything().await?;
        let mut tidy = Instant::now() + TIDY;
        loop {
            self.work(&mut updates, stop).await?;
            self.answer();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(tidy) => {
                    tidy = Instant::now() + TIDY;
                    self.tidy();
                }
                Some(look) = self.looks.recv() => {
                    self.lookers.push(look);
                    self.take_changes().await?;
                    self.look_at_everything().await?;
                }
                // Without an event the field is closed, which the updates report.
                Some(event) = peers.next() => if let PeerEvent::Joined(_) = event {
                    self.dirty.extend(self.waiting.hurry());
                },
                // `work` saves them.
                () = at(self.save_again) => {}
                () = at(self.waiting.next()) => self.dirty.extend(self.waiting.take(Instant::now())),
                () = at(self.quiet.next()) => self.dirty.extend(self.quiet.take(Instant::now())),
                Some(ended) = self.fetches.join_next() => self.take_fetched(ended),
                () = self.watches.changed() => self.take_changes().await?,
                // Nothing starves them, because `work` takes all that are there.
                update = updates.next() => match update {
                    Some(update) => self.dirty.extend(self.folder.path_of(update.name())),
                    None => return Err(MirrorError::Closed),
                },
            }
        }
    }

    /// Does everything that can be done now.
    async fn work(&mut self, updates: &mut Watch, stop: &CancellationToken) -> Result<(), MirrorError> {
        let mut steps = 0;
        while !stop.is_cancelled() {
            while let Some(Some(update)) = updates.next().now_or_never() {
                self.dirty.extend(self.folder.path_of(update.name()));
            }
            let (path, may_delete) = match self.dirty.pop_first() {
                Some(path) => (path, false),
                None => match self.next_deletion() {
                    Some(path) => (path, true),
                    None => break,
                },
            };
            self.step(path, may_delete).await?;
            steps += 1;
            if steps % STEPS == 0 {
                self.flush().await;
            }
        }
        self.flush().await;
        Ok(())
    }

    /// A deletion of a file whose bytes nobody is about to copy: of two halves of a renaming the new file comes first.
    fn next_deletion(&mut self) -> Option<FilePath> {
        let records = self.folder.records.lock();
        let is_needed = |path: &FilePath| {
            let content = records.of(path).and_then(|record| record.content);
            content.is_some_and(|content| self.wanted.values().any(|wanted| wanted.hash == content.hash))
        };
        let is_next = |(path, since): &(&FilePath, &Instant)| {
            (self.quiet.is_empty() || since.elapsed() >= RENAMING) && !is_needed(path)
        };
        let next = self.deletions.iter().find(is_next).map(|(path, _)| path.clone())?;
        drop(records);
        self.deletions.remove(&next);
        Some(next)
    }

    async fn step(&mut self, path: FilePath, may_delete: bool) -> Result<(), MirrorError> {
        // It is being written, and comes again when it is quiet.
        if self.quiet.has(&path) {
            return Ok(());
        }
        // This step decides whether it is sent.
        self.outgoing.retain(|(other, _)| *other != path);
        let has_waited = self.waiting.has(&path);
        let fetched = self.fetched.remove(&path);
        let outcome = self.folder.step(&path, fetched.as_ref(), may_delete, has_waited).await?;
        if !matches!(outcome, Outcome::Wants(_)) {
            self.wanted.remove(&path);
        }
        if !matches!(outcome, Outcome::Wants(_) | Outcome::Waiting | Outcome::Again) {
            self.waiting.remove(&path);
        }
        match outcome {
            Outcome::Done => {
                // What is below a file that is gone may have a place now, and the file below a folder that is gone.
                let related = self.waiting.paths().filter(|waiting| are_related(waiting, &path));
                self.dirty.extend(related.cloned());
                if may_delete && self.is_full {
                    self.is_full = false;
                    self.look_at_the_field();
                }
            }
            Outcome::Again => {
                self.dirty.insert(path.clone());
                if let Some(fetched) = fetched {
                    self.fetched.insert(path, fetched);
                }
            }
            Outcome::Writing => self.quiet.note(path, Change::Writing, Instant::now()),
            Outcome::Deletion => drop(self.deletions.entry(path).or_insert_with(Instant::now)),
            Outcome::Sends(version) => self.outgoing.push((path, version)),
            Outcome::Wants(content) => self.want(path, content),
            // Its bytes are fetched again: nobody may fill the disk with files that have no place.
            Outcome::Waiting => self.wait(path),
            Outcome::NoRoom => self.is_full = true,
        }
        self.fetch();
        self.count();
        Ok(())
    }

    fn want(&mut self, path: FilePath, content: Content) {
        let files = self.folder.records.lock().size().0;
        let promised = self.wanted.len() + self.waiting.len();
        let is_promised = self.wanted.contains_key(&path) || self.waiting.has(&path);
        if files + promised >= self.folder.options.max_files && !is_promised {
            self.folder.account.refuse(path.as_str(), RefusedReason::Room);
            self.is_full = true;
        } else {
            self.wanted.insert(path, content);
        }
    }

    /// It is tried again after a pause.
    fn wait(&mut self, path: FilePath) {
        if self.waiting.len() < self.folder.options.max_files || self.waiting.has(&path) {
            self.waiting.put(path, Instant::now());
        }
    }

    /// Begins fetches.
    fn fetch(&mut self) {
        while self.fetches.len() < FETCHES {
            let next = self.wanted.iter().find(|(path, _)| !self.fetching.contains(*path));
            let Some((path, &content)) = next else { return };
            let path = path.clone();
            self.fetching.insert(path.clone());
            let exchange = Arc::clone(&self.exchange);
            self.fetches.spawn(async move {
                let fetched = exchange.fetch(content).await;
                (path, content, fetched)
            });
        }
    }

    fn take_fetched(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // They neither panic nor are aborted before the mirror ends.
        let Ok((path, content, fetched)) = ended else { return };
        self.fetching.remove(&path);
        let is_wanted = self.wanted.get(&path) == Some(&content);
        match fetched {
            Ok(staged) => {
                self.wanted.remove(&path);
                self.fetched.insert(path.clone(), (content, Arc::new(staged)));
                // It may want something else by now.
                self.dirty.insert(path);
            }
            Err(_) if !is_wanted => {}
            Err(error) => {
                tracing::debug!(%path, %error, "the bytes of a file were not fetched");
                self.wanted.remove(&path);
                match error {
                    FetchError::Io(error) => drop(self.folder.failed(&path, &error)),
                    _ => self.folder.account.refuse(path.as_str(), RefusedReason::Content),
                }
                self.wait(path);
            }
        }
        self.fetch();
        self.count();
    }

    /// Takes what the system reports.
    async fn take_changes(&mut self) -> Result<(), MirrorError> {
        let changes = self.watches.take();
        if let Some(error) = changes.failure {
            self.folder.check_root()?;
            return Err(MirrorError::Watch { path: self.folder.root.clone(), source: error });
        }
        let now = Instant::now();
        for (place, change) in changes.paths {
            let Ok(relative) = place.strip_prefix(&self.folder.root) else { continue };
            if relative.as_os_str().is_empty() {
                self.folder.check_root()?;
                continue;
            }
            let Ok(path) = FilePath::of(relative) else {
                self.folder.account.refuse(&relative.to_string_lossy(), RefusedReason::Name);
                continue;
            };
            let below = self.folder.records.lock().below(&path);
            below.into_iter().for_each(|below| self.quiet.note(below, change, now));
            if std::fs::symlink_metadata(&place).is_ok_and(|about| about.is_dir()) {
                self.look_below(&place).await?;
            }
            self.quiet.note(path, change, now);
        }
        if changes.is_incomplete {
            self.look_at_everything().await?;
        }
        Ok(())
    }

    /// Looks at all files and all registers.
    async fn look_at_everything(&mut self) -> Result<(), MirrorError> {
        self.folder.check_root()?;
        self.tidy();
        let root = self.folder.root.clone();
        self.look_below(&root).await?;
        self.dirty.extend(self.folder.records.lock().paths().cloned());
        self.look_at_the_field();
        Ok(())
    }

    fn look_at_the_field(&mut self) {
        let registers = self.folder.field.list(&format!("{}*", self.folder.options.prefix));
        for (register, _) in registers {
            self.dirty.extend(self.folder.path_of(&register));
        }
    }

    /// Looks at the files below a folder, and watches it from now on.
    async fn look_below(&mut self, from: &Path) -> Result<(), MirrorError> {
        let walked = {
            let (root, from, watches) =
                (self.folder.root.clone(), from.to_owned(), Arc::clone(&self.watches));
            let records = Arc::clone(&self.folder.records);
            tokio::task::spawn_blocking(move || {
                let walk = walk(&root, &from, |folder| watches.enter(folder));
                let is_fresh = |path: &FilePath| {
                    let stat = crate::disk::stat(&path.below(&root)).ok().flatten();
                    let known = records.lock().of(path).and_then(|record| record.stat);
                    stat.is_some_and(|stat| stat.is_fresh() && known != Some(stat))
                };
                let fresh: Vec<_> = walk.files.iter().filter(|path| is_fresh(path)).cloned().collect();
                (walk, fresh)
            })
        };
        let root = &self.folder.root;
        let failed = |source| MirrorError::Folder { path: root.clone(), source };
        let (Walk { files, unnamed, unread, .. }, fresh) =
            walked.await.map_err(|error| failed(io::Error::other(error)))?;
        for (folder, error) in unread {
            tracing::warn!(folder = %folder.display(), %error, "a folder cannot be read");
            let folder = folder.strip_prefix(root).unwrap_or(&folder).to_string_lossy().into_owned();
            self.folder.account.refuse(&folder, RefusedReason::Disk);
        }
        unnamed.iter().for_each(|name| self.folder.account.refuse(name, RefusedReason::Name));
        let now = Instant::now();
        for path in fresh {
            // Somebody may be writing it.
            if !self.quiet.has(&path) {
                self.quiet.note(path, Change::Writing, now);
            }
        }
        self.dirty.extend(files);
        Ok(())
    }

    /// Forgets deletions that are older than the field remembers any.
    fn tidy(&self) {
        let horizon = u64::try_from(self.folder.field.limits().horizon.as_micros()).unwrap_or(u64::MAX);
        let now = micros_since_1970();
        let is_older = |stamp: Stamp, by: u64| stamp.micros < now.saturating_sub(by);
        for change in self.folder.field.export(&format!("{}*", self.folder.options.prefix)) {
            let value = change.entry.value.as_ref().filter(|_| is_older(change.entry.stamp, horizon));
            let is_deletion =
                value.and_then(|value| Version::read(value)).is_some_and(|old| old.content.is_none());
            if is_deletion && let Err(error) = self.folder.field.remove(change.key.name()) {
                tracing::debug!(%error, "an old deletion was not forgotten");
            }
        }
        let mut records = self.folder.records.lock();
        let old: Vec<_> = records
            .paths()
            .filter(|path| {
                records.of(path).is_some_and(|record| {
                    record.content.is_none() && is_older(record.stamp, horizon.saturating_mul(2))
                })
            })
            .cloned()
            .collect();
        old.iter().for_each(|path| records.set(path, None));
    }

    /// Tells those who wait that everything was done that can be done now.
    fn answer(&mut self) {
        let is_sent = self.outgoing.is_empty();
        if is_sent && self.quiet.is_empty() && self.wanted.is_empty() && self.fetching.is_empty() {
            for look in self.lookers.drain(..) {
                // Nobody waits any more.
                let _ = look.send(());
            }
        }
    }

    fn count(&self) {
        let (files, bytes) = self.folder.records.lock().size();
        let wanted = self.wanted.keys().filter(|path| !self.waiting.has(path)).count();
        let waiting = (self.waiting.len() + wanted) as u64;
        self.folder.account.count(|status| {
            (status.files, status.bytes, status.waiting) = (files as u64, bytes, waiting);
        });
    }

    /// Saves the records and sends what waits for that. If the disk is full, all of it waits.
    async fn flush(&mut self) {
        if self.save_again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        let memory = format!("{OWN}/state.redb");
        match self.save().await {
            Ok(()) => {
                self.save_again = None;
                self.folder.account.accept(&memory);
                self.publish();
            }
            Err(error) => {
                tracing::warn!(%error, "the records of the mirror were not saved; nothing is sent until they are");
                self.folder.account.refuse(&memory, RefusedReason::Disk);
                self.save_again = Some(Instant::now() + SAVE_AGAIN);
            }
        }
    }

    fn publish(&mut self) {
        for (path, version) in std::mem::take(&mut self.outgoing) {
            if !self.folder.publish(&path, &version) {
                self.wait(path);
            }
        }
    }

    async fn save(&self) -> Result<(), MirrorError> {
        let changed = self.folder.records.lock().take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let memory = Arc::clone(&self.memory);
        let path = self.folder.root.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let saved = memory.save(&changed);
            (saved, changed)
        });
        let (saved, changed) =
            saved.await.map_err(|error| MirrorError::Folder { path, source: io::Error::other(error) })?;
        if saved.is_err() {
            self.folder.records.lock().put_back(changed.into_keys());
        }
        saved
    }
}

/// Waits until a time; for ever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether one path is below the other.
fn are_related(one: &FilePath, other: &FilePath) -> bool {
    let is_below = |one: &FilePath, other: &FilePath| one.folders().any(|folder| folder == other.as_str());
    is_below(one, other) || is_below(other, one)
}
