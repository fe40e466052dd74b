//! Writing and deleting files because another machine did, and keeping beside what lost.

use std::io;
use std::sync::Arc;

use aether_field::core::Stamp;

use crate::blocks::blocking;
use crate::conflict::conflict_name;
use crate::decide::{Role, There};
use crate::disk::{Found, Stat, blocks};
use crate::error::MirrorError;
use crate::folder::{Fetched, Folder, Outcome, Present, record_of};
use crate::memory::Record;
use crate::path::FilePath;
use crate::place::{PlaceError, Staged, delete, keep, put, remove_empty};
use crate::status::{MirrorEvent, RefusedReason};
use crate::version::{Content, Data, Version};

impl Folder {
    /// Of a file and a folder of one name that were made beside each other, the file goes beside. A deletion of the file is
    /// on its way otherwise, so this is done when the file below it has waited in vain.
    pub(crate) async fn make_way(&self, path: &FilePath) -> Result<(), MirrorError> {
        let is_to_come = matches!(self.there(path), There::Version(Version { content: Some(_), .. }, _));
        for folder in path.folders().filter_map(|folder| FilePath::new(folder).ok()) {
            let record = self.records.lock().of(&folder).cloned();
            let (Some(record), There::Version(version, _)) = (record, self.there(&folder)) else { continue };
            let Some(content) = record.content.filter(|_| is_to_come && version.content == record.content)
            else {
                continue;
            };
            let Ok(Found::File(read)) = self.look(&folder, None, false).await else { continue };
            if read.content.hash != content.hash || self.role(&folder) != Role::Shared {
                continue;
            }
            let by = (record.machine.as_str(), record.time);
            let Ok(kept) = self.keep(&folder, read.stat, &content, by, true).await else { continue };
            if let Some(kept) = kept {
                let (path, kept) = (folder.as_str().to_owned(), kept.as_str().to_owned());
                self.account.done(MirrorEvent::Conflict { path, kept });
            }
            // Its record stays: that it is gone is sent as a deletion, when the system reports it.
            let (root, folder) = (self.root.clone(), folder.clone());
            let moved = tokio::task::spawn_blocking(move || delete(&root, &folder, &read.stat)).await;
            if let Ok(Err(error)) = moved {
                tracing::debug!(%path, %error, "a file is in the way of a folder");
            }
        }
        Ok(())
    }

    /// The file becomes the version of the register.
    pub(crate) async fn take(
        &self,
        path: &FilePath,
        present: Present,
        version: Version,
        stamp: Stamp,
        fetched: Option<&Fetched>,
        may_delete: bool,
    ) -> Result<Outcome, MirrorError> {
        let Some(content) = version.content else {
            return match present.stat {
                Some(_) if !may_delete => Ok(Outcome::Deletion),
                Some(stat) => self.delete(path, stat, Some(record_of(&version, stamp))).await,
                None => {
                    self.remember(path, record_of(&version, stamp), present);
                    Ok(Outcome::Done)
                }
            };
        };
        // Before anything is fetched that has no place.
        if present.is_below_file || (present.is_folder && !self.make_empty(path).await) {
            return Ok(self.refuse(path, RefusedReason::Place, Outcome::Waiting));
        }
        if let Some(refused) = self.bounds(path, present.content, &content) {
            return Ok(refused);
        }
        let staged = match self.staged(path, &version, &content, fetched).await {
            Ok(staged) => staged,
            Err(outcome) => return Ok(outcome),
        };
        self.put(path, present.stat, &version, stamp, content, staged).await
    }

    pub(crate) async fn keep_and_take(
        &self,
        path: &FilePath,
        record: Option<Record>,
        present: Present,
        (version, stamp): (Version, Stamp),
        fetched: Option<&Fetched>,
    ) -> Result<Outcome, MirrorError> {
        let (Some(stat), Some(mine), Some(content)) = (present.stat, present.content, version.content) else {
            return Ok(Outcome::Again);
        };
        // The present file stays, too.
        if let Some(refused) = self.bounds(path, None, &content) {
            return Ok(refused);
        }
        let staged = match self.staged(path, &version, &content, fetched).await {
            Ok(staged) => staged,
            Err(outcome) => return Ok(outcome),
        };
        let sent = record.filter(|record| record.content == Some(mine));
        let (machine, time) = match &sent {
            Some(record) => (record.machine.clone(), record.time),
            None => (self.machine.clone(), stat.micros()),
        };
        let kept = match self.keep(path, stat, &mine, (&machine, time), sent.is_some()).await {
            Ok(kept) => kept,
            Err(PlaceError::Changed) => return Ok(Outcome::Again),
            Err(error) => return Ok(self.not_placed(path, &error)),
        };
        if let Some(kept) = kept {
            let (path, kept) = (path.as_str().to_owned(), kept.as_str().to_owned());
            self.account.done(MirrorEvent::Conflict { path, kept });
        }
        self.put(path, Some(stat), &version, stamp, content, staged).await
    }

    /// Keeps the present file beside its path. `None` if it is kept already, or somebody has deleted what was kept.
    async fn keep(
        &self,
        path: &FilePath,
        stat: Stat,
        mine: &Content,
        (machine, time): (&str, u64),
        was_sent: bool,
    ) -> Result<Option<FilePath>, PlaceError> {
        for hash in [None, Some(&mine.hash)] {
            let Ok(beside) = conflict_name(path, machine, time, hash) else { continue };
            match self.there(&beside) {
                There::Removed { .. } if was_sent => return Ok(None),
                There::Version(Version { content: None, .. }, _) if was_sent => return Ok(None),
                _ => {}
            }
            let is_kept = {
                let (root, path, beside) = (self.root.clone(), path.clone(), beside.clone());
                tokio::task::spawn_blocking(move || keep(&root, &path, &beside, &stat))
                    .await
                    .map_err(io::Error::other)??
            };
            if is_kept {
                self.records.lock().keep(beside.clone(), mine.size);
                return Ok(Some(beside));
            }
            if let Found::File(read) = self.look(&beside, None, false).await?
                && read.content == *mine
            {
                return Ok(None);
            }
        }
        // Both names are taken by other files: nothing may be lost.
        Err(PlaceError::Place)
    }

    /// Whether a folder in the place of a file is gone, because nothing was in it.
    async fn make_empty(&self, path: &FilePath) -> bool {
        let place = path.below(&self.root);
        tokio::task::spawn_blocking(move || remove_empty(&place)).await.unwrap_or(false)
    }

    /// The bytes of a version, complete and beside their place.
    async fn staged(
        &self,
        path: &FilePath,
        version: &Version,
        content: &Content,
        fetched: Option<&Fetched>,
    ) -> Result<Arc<Staged>, Outcome> {
        if let Some((of, staged)) = fetched
            && of.hash == content.hash
        {
            return Ok(Arc::clone(staged));
        }
        let Some(Data(data)) = version.data.clone() else { return Err(Outcome::Wants(*content)) };
        let root = self.root.clone();
        let staged = blocking(move || Staged::write(&root, &data)).await;
        staged.map(Arc::new).map_err(|error| self.failed(path, &error))
    }

    /// Whether a file of another machine is out of the bounds. `replaced` is the file that is not there any more then.
    fn bounds(&self, path: &FilePath, replaced: Option<Content>, content: &Content) -> Option<Outcome> {
        let (files, bytes) = self.records.lock().size();
        let (is_there, was) = replaced.map_or((0, 0), |content| (1, content.size));
        if content.size > self.options.max_file {
            return Some(self.refuse(path, RefusedReason::Size, Outcome::Done));
        }
        let grows = content.size > was;
        if files + 1 - is_there.min(files) > self.options.max_files
            || (grows && bytes.saturating_sub(was).saturating_add(content.size) > self.options.max_bytes)
        {
            return Some(self.refuse(path, RefusedReason::Room, Outcome::NoRoom));
        }
        None
    }

    async fn put(
        &self,
        path: &FilePath,
        expected: Option<Stat>,
        version: &Version,
        stamp: Stamp,
        content: Content,
        staged: Arc<Staged>,
    ) -> Result<Outcome, MirrorError> {
        let put = {
            let (root, path, time) = (self.root.clone(), path.clone(), version.time);
            tokio::task::spawn_blocking(move || {
                let blocks = blocks(staged.path(), &content)?;
                let stat = put(&root, &path, &staged, expected.as_ref(), content.executable, time)?;
                Ok::<_, PlaceError>((stat, blocks))
            })
        };
        match put.await.map_err(io::Error::other).map_err(PlaceError::Io).and_then(|put| put) {
            Ok((stat, blocks)) => {
                let present =
                    Present { stat: Some(stat), content: Some(content), blocks, ..Present::default() };
                self.remember(path, record_of(version, stamp), present);
                self.account.accept(path.as_str());
                let (path, machine) = (path.as_str().to_owned(), version.machine.clone());
                self.account.done(MirrorEvent::Written { path, machine });
                Ok(Outcome::Done)
            }
            Err(PlaceError::Changed) => Ok(Outcome::Again),
            Err(error) => Ok(self.not_placed(path, &error)),
        }
    }

    pub(crate) async fn delete(
        &self,
        path: &FilePath,
        expected: Stat,
        record: Option<Record>,
    ) -> Result<Outcome, MirrorError> {
        let deleted = {
            let (root, path) = (self.root.clone(), path.clone());
            tokio::task::spawn_blocking(move || delete(&root, &path, &expected))
        };
        match deleted.await.map_err(io::Error::other).map_err(PlaceError::Io).and_then(|deleted| deleted) {
            Ok(()) => {
                self.records.lock().set(path, record);
                self.account.accept(path.as_str());
                self.account.done(MirrorEvent::Deleted { path: path.as_str().to_owned() });
                Ok(Outcome::Done)
            }
            Err(PlaceError::Changed) => Ok(Outcome::Again),
            Err(error) => Ok(self.not_placed(path, &error)),
        }
    }
}
