//! One mirrored folder: brings one path at a time to what it should be, here or in the field.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_core::clock::micros_since_1970;
use aether_field::core::Stamp;
use aether_field::{Field, FieldError};
use parking_lot::Mutex;

use crate::account::Account;
use crate::blocks::blocking;
use crate::decide::{Role, Step, There, decide};
use crate::disk::{Found, Read, Stat, look};
use crate::error::MirrorError;
use crate::hash::Hash;
use crate::memory::{Record, Records, identity};
use crate::options::MirrorOptions;
use crate::path::{FilePath, OWN};
use crate::place::{PlaceError, Staged};
use crate::status::{MirrorEvent, RefusedReason};
use crate::version::{Content, Data, FolderId, INLINE, Seen, Version};

/// What is still to be done with a path after one step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing, until something changes.
    Done,
    /// It changed in between: look again.
    Again,
    /// Somebody writes the file: look again when it is quiet.
    Writing,
    /// It is a deletion: files that are moved are written first, so that their bytes need not be fetched.
    Deletion,
    /// This version is sent as soon as its record is saved.
    Sends(Version),
    /// The bytes have to be fetched.
    Wants(Content),
    /// It cannot be done now.
    Waiting,
    /// There is no room for it until a file is deleted.
    NoRoom,
}

/// Bytes that were fetched, and what they are.
pub(crate) type Fetched = (Content, Arc<Staged>);

/// A file as it is, or that there is none.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) is_folder: bool,
    pub(crate) is_below_file: bool,
    pub(crate) stat: Option<Stat>,
    pub(crate) is_settled: bool,
    pub(crate) content: Option<Content>,
    pub(crate) blocks: Vec<Hash>,
    pub(crate) data: Option<Vec<u8>>,
}

impl From<Read> for Present {
    fn from(read: Read) -> Self {
        let Read { stat, is_settled, content, blocks, data } = read;
        Self { stat: Some(stat), is_settled, content: Some(content), blocks, data, ..Self::default() }
    }
}

impl Present {
    /// Whether a file is executable counts where that has changed on the disk: not all file systems can hold it, and two of
    /// them must not send each other what they cannot hold.
    fn keep_mode(&mut self, record: Option<&Record>, there: &There) {
        let (Some(stat), Some(content)) = (self.stat, &mut self.content) else { return };
        match (record, there) {
            (Some(Record { content: Some(base), stat: Some(was), .. }), _)
                if was.executable == stat.executable =>
            {
                content.executable = base.executable;
            }
            (None, There::Version(Version { content: Some(theirs), .. }, _))
                if cfg!(not(unix)) && theirs.hash == content.hash =>
            {
                content.executable = theirs.executable;
            }
            _ => {}
        }
    }
}

/// The folder, and all that a step needs.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) id: FolderId,
    /// Tells this folder from another one in its place.
    pub(crate) identity: (u64, u64),
    /// The file system takes different names for one.
    pub(crate) folds_names: bool,
    pub(crate) machine: String,
    pub(crate) options: MirrorOptions,
    pub(crate) field: Field,
    pub(crate) records: Arc<Mutex<Records>>,
    pub(crate) account: Arc<Account>,
}

impl Folder {
    /// The path of a register; `None` if it is none of this mirror.
    pub(crate) fn path_of(&self, register: &str) -> Option<FilePath> {
        let path = register.strip_prefix(&self.options.prefix)?;
        match FilePath::new(path) {
            Ok(path) => Some(path),
            Err(_) => {
                self.account.refuse(register, RefusedReason::Name);
                None
            }
        }
    }

    pub(crate) fn register_of(&self, path: &FilePath) -> String {
        format!("{}{path}", self.options.prefix)
    }

    pub(crate) fn role(&self, path: &FilePath) -> Role {
        match (self.options.per_machine, path.first_folder()) {
            (false, _) => Role::Shared,
            (true, Some(machine)) if machine == self.machine => Role::Own,
            (true, _) => Role::Other,
        }
    }

    pub(crate) fn there(&self, path: &FilePath) -> There {
        let Some(entry) = self.field.register(&self.register_of(path)) else { return There::Nothing };
        match entry.value {
            None => There::Removed { replaced: entry.replaces },
            Some(value) => match Version::read(&value) {
                Some(version) => There::Version(version, entry.stamp),
                None => There::Foreign,
            },
        }
    }

    /// Does what a path needs now. `fetched` has its bytes, if the last step wanted them. `has_waited` if it had no place.
    pub(crate) async fn step(
        &self,
        path: &FilePath,
        fetched: Option<&Fetched>,
        may_delete: bool,
        has_waited: bool,
    ) -> Result<Outcome, MirrorError> {
        if has_waited {
            self.make_way(path).await?;
        }
        let record = self.records.lock().of(path).cloned();
        let known = record.as_ref().filter(|record| record.is_settled).and_then(|record| record.stat);
        let mut present = match self.look(path, known, self.folds_names && record.is_none()).await {
            Ok(Found::Known(stat)) => Present {
                stat: Some(stat),
                is_settled: true,
                content: record.as_ref().and_then(|record| record.content),
                blocks: record.as_ref().map(|record| record.blocks.clone()).unwrap_or_default(),
                ..Present::default()
            },
            Ok(Found::File(read)) => read.into(),
            Ok(found @ (Found::Nothing | Found::BelowFile | Found::Folder)) => Present {
                is_folder: found == Found::Folder,
                is_below_file: found == Found::BelowFile,
                ..Present::default()
            },
            Ok(Found::Unstable) => {
                self.account.count(|status| status.unstable += 1);
                return Ok(Outcome::Writing);
            }
            // Nothing is known about the file, so nothing is done elsewhere.
            Ok(Found::Other) => return Ok(self.refuse(path, RefusedReason::Kind, Outcome::Done)),
            Ok(Found::Misplaced) => return Ok(self.refuse(path, RefusedReason::Place, Outcome::Done)),
            Ok(Found::Collision) => return Ok(self.refuse(path, RefusedReason::Collision, Outcome::Done)),
            Ok(Found::TooLarge) => return Ok(self.refuse(path, RefusedReason::Size, Outcome::Done)),
            Err(error) => return Ok(self.failed(path, &error)),
        };
        let there = self.there(path);
        present.keep_mode(record.as_ref(), &there);
        let modified = present.stat.map_or(0, |stat| stat.micros().min(micros_since_1970()));
        let step = decide(self.role(path), record.as_ref(), present.content.as_ref(), modified, &there);
        if !matches!(step, Step::Nothing) {
            tracing::trace!(%path, ?step, "a file or its register has changed");
        }
        match (step, there) {
            (Step::Nothing, _) => {
                match record {
                    Some(record) => self.remember(path, record, present),
                    None => self.records.lock().release(path),
                }
                self.account.accept(path.as_str());
                Ok(Outcome::Done)
            }
            (Step::Adopt, There::Version(version, stamp)) => {
                self.remember(path, record_of(&version, stamp), present);
                self.account.accept(path.as_str());
                Ok(Outcome::Done)
            }
            // What is in a folder that has its name now must not come before it.
            (Step::Send { .. }, _) if present.content.is_none() && !present.is_folder && !may_delete => {
                Ok(Outcome::Deletion)
            }
            (Step::Send { seen, is_edit }, _) => self.send(path, record, present, seen, is_edit).await,
            (Step::Take, There::Version(version, stamp)) => {
                self.take(path, present, version, stamp, fetched, may_delete).await
            }
            (Step::KeepAndTake, There::Version(version, stamp)) => {
                self.keep_and_take(path, record, present, (version, stamp), fetched).await
            }
            (Step::Delete, _) => match present.stat {
                Some(_) if !may_delete => Ok(Outcome::Deletion),
                Some(stat) => self.delete(path, stat, None).await,
                None => Ok(Outcome::Done),
            },
            (Step::Forget, _) => {
                self.records.lock().set(path, None);
                Ok(Outcome::Done)
            }
            (Step::Foreign, _) => Ok(self.refuse(path, RefusedReason::Foreign, Outcome::Done)),
            (Step::NotOurs, _) => Ok(self.refuse(path, RefusedReason::Owner, Outcome::Done)),
            // They follow from a version only.
            (Step::Adopt | Step::Take | Step::KeepAndTake, _) => Ok(Outcome::Done),
        }
    }

    pub(crate) async fn look(
        &self,
        path: &FilePath,
        known: Option<Stat>,
        checks_names: bool,
    ) -> io::Result<Found> {
        let (root, path, max) = (self.root.clone(), path.clone(), self.options.max_file);
        blocking(move || look(&root, &path, known.as_ref(), checks_names, max)).await
    }

    /// Takes note of the version that the file came from.
    pub(crate) fn remember(&self, path: &FilePath, mut record: Record, present: Present) {
        record.stat = present.stat;
        record.is_settled = present.is_settled;
        record.blocks = present.blocks;
        self.records.lock().set(path, Some(record));
    }

    async fn send(
        &self,
        path: &FilePath,
        record: Option<Record>,
        mut present: Present,
        seen: Seen,
        is_edit: bool,
    ) -> Result<Outcome, MirrorError> {
        let register = self.register_of(path);
        if register.len() > self.field.limits().max_name {
            return Ok(self.refuse(path, RefusedReason::Name, Outcome::Done));
        }
        if present.content.is_none() {
            // A disk that was taken out must not delete the files of others.
            self.check_root()?;
        }
        if let Some(content) = present.content
            && content.size <= INLINE as u64
            && present.data.is_none()
        {
            match self.look(path, None, false).await {
                Ok(Found::File(read)) if read.content == content => present = read.into(),
                Ok(_) => return Ok(Outcome::Again),
                Err(error) => return Ok(self.failed(path, &error)),
            }
        }
        let now = micros_since_1970();
        let (machine, time) = match record {
            Some(record) if !is_edit => (record.machine, record.time),
            _ => (self.machine.clone(), present.stat.map_or(now, |stat| stat.micros().min(now))),
        };
        let seen = if is_edit { seen.edited(self.id, now) } else { seen };
        let data = present.data.take().map(Data);
        let version = Version { machine, time, seen, content: present.content, data };
        // Until it is sent, and if it never is: later than everything before.
        let stamp = Stamp { micros: now, ..Stamp::default() };
        self.remember(path, record_of(&version, stamp), present);
        Ok(Outcome::Sends(version))
    }

    /// Sends a version whose record was saved: a killed process would not know it otherwise, and take it for the version of
    /// another machine. Returns whether the field took it.
    pub(crate) fn publish(&self, path: &FilePath, version: &Version) -> bool {
        let stamp = match self.write(&self.register_of(path), version) {
            Ok(stamp) => stamp,
            Err(error) => {
                tracing::warn!(%path, %error, "the field refuses the register of a file");
                self.account.refuse(path.as_str(), RefusedReason::Field);
                return false;
            }
        };
        {
            let mut records = self.records.lock();
            let record = records.of(path).filter(|record| record.seen == version.seen).cloned();
            if let Some(record) = record {
                records.set(path, Some(Record { stamp, ..record }));
            }
        }
        self.account.accept(path.as_str());
        let path = path.as_str().to_owned();
        self.account.done(match version.content {
            Some(_) => MirrorEvent::Sent { path },
            None => MirrorEvent::SentDeletion { path },
        });
        true
    }

    fn write(&self, register: &str, version: &Version) -> Result<Stamp, FieldError> {
        let json = serde_json::to_vec(version).map_err(FieldError::Serialize)?;
        // A field with smaller values gets the file in blocks.
        let json = if json.len() > self.field.limits().max_value && version.data.is_some() {
            let version = Version { data: None, ..version.clone() };
            serde_json::to_vec(&version).map_err(FieldError::Serialize)?
        } else {
            json
        };
        let written = bytes::Bytes::from(json);
        self.field.set_json(register, written.clone())?;
        let entry = self.field.register(register).filter(|entry| entry.value.as_ref() == Some(&written));
        // Another write may have won already; then this one was before it.
        Ok(entry
            .map_or_else(|| Stamp { micros: micros_since_1970(), ..Stamp::default() }, |entry| entry.stamp))
    }

    /// Fails if the folder is gone, or another one is in its place, such as the empty place of a disk that was taken out.
    pub(crate) fn check_root(&self) -> Result<(), MirrorError> {
        let is_there = Path::is_dir(&self.root.join(OWN));
        if is_there && identity(&self.root) == self.identity {
            Ok(())
        } else {
            Err(MirrorError::Gone { path: self.root.clone() })
        }
    }

    pub(crate) fn refuse(&self, path: &FilePath, reason: RefusedReason, outcome: Outcome) -> Outcome {
        self.account.refuse(path.as_str(), reason);
        outcome
    }

    pub(crate) fn not_placed(&self, path: &FilePath, error: &PlaceError) -> Outcome {
        match error {
            PlaceError::Io(error) => self.failed(path, error),
            PlaceError::Place | PlaceError::Changed => {
                self.refuse(path, RefusedReason::Place, Outcome::Waiting)
            }
        }
    }

    /// A file could not be read or written. It is tried again.
    pub(crate) fn failed(&self, path: &FilePath, error: &io::Error) -> Outcome {
        let reason = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => RefusedReason::DiskFull,
            ErrorKind::InvalidFilename => RefusedReason::Name,
            _ => RefusedReason::Disk,
        };
        tracing::debug!(%path, %error, "a file cannot be read or written");
        self.refuse(path, reason, Outcome::Waiting)
    }
}

pub(crate) fn record_of(version: &Version, stamp: Stamp) -> Record {
    Record {
        seen: version.seen.clone(),
        content: version.content,
        stamp,
        machine: version.machine.clone(),
        time: version.time,
        stat: None,
        is_settled: false,
        blocks: Vec::new(),
    }
}
