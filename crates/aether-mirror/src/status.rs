//! The account of a mirror, and its events.

use std::collections::BTreeMap;
use std::fmt;

/// Why a file is not mirrored, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The name is too long, not UTF-8, or not a safe path on all systems.
    Name,
    /// The file is larger than allowed.
    Size,
    /// There are as many files as allowed, or they are as large together.
    Room,
    /// The name differs only in capitals or accents from one that is there, and the file system takes both for one.
    Collision,
    /// A folder in the path is a file or a link, or a folder has the name of the file.
    Place,
    /// It is a link, a device or the like.
    Kind,
    /// The register of this name holds something else than a version of a file.
    Foreign,
    /// With a subfolder for each machine: the file is in the subfolder of another one, or in none.
    Owner,
    /// No machine that is there has the bytes, or what it sent was wrong.
    Content,
    /// The disk is full.
    DiskFull,
    /// The file cannot be read or written.
    Disk,
    /// The field refuses the register.
    Field,
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "its name is not allowed on all systems",
            Self::Size => "it is larger than allowed",
            Self::Room => "the bound on files or bytes is reached",
            Self::Collision => "another file has its name, as this file system compares names",
            Self::Place => "a file, link or folder is in its place",
            Self::Kind => "it is a link or a device",
            Self::Foreign => "the register of its name holds something else",
            Self::Owner => "it is in the subfolder of another machine, or in none",
            Self::Content => "no machine that is there has its bytes",
            Self::DiskFull => "the disk is full",
            Self::Disk => "it cannot be read or written",
            Self::Field => "the field refuses it",
        })
    }
}

/// The account of a mirror. All numbers but the first three are since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MirrorStatus {
    /// The files that are mirrored now.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The files that cannot be written yet, because their bytes or the room for them are missing.
    pub waiting: u64,
    /// Files that were written here because another machine changed them.
    pub written: u64,
    /// Files that were deleted here because another machine deleted them.
    pub deleted: u64,
    /// Files of this folder that were sent because they changed here.
    pub sent: u64,
    /// Deletions in this folder that were sent.
    pub sent_deletions: u64,
    /// Versions that lost against a concurrent one, and were kept beside it.
    pub conflicts: u64,
    /// Blocks received and checked.
    pub blocks_received: u64,
    /// Blocks sent to other machines.
    pub blocks_sent: u64,
    /// Blocks received that were not what they should be.
    pub blocks_wrong: u64,
    /// Files that were read again, because they changed while they were read.
    pub unstable: u64,
    /// Files that were not mirrored, or not at once, by reason. A file counts again when it changes.
    pub refused: BTreeMap<RefusedReason, u64>,
}

/// Something that a mirror did with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorEvent {
    /// It was written here because another machine changed it.
    Written {
        /// Its path below the folder, with `/`.
        path: String,
        /// The machine.
        machine: String,
    },
    /// It was deleted here because another machine deleted it.
    Deleted {
        /// Its path.
        path: String,
    },
    /// It changed here, and was sent.
    Sent {
        /// Its path.
        path: String,
    },
    /// It was deleted here, and that was sent.
    SentDeletion {
        /// Its path.
        path: String,
    },
    /// It lost against a concurrent version, and was kept beside it.
    Conflict {
        /// Its path.
        path: String,
        /// The path at which the version that lost is now.
        kept: String,
    },
    /// It is not mirrored, or not yet.
    Refused {
        /// Its path, or the name of its register where that has no path.
        path: String,
        /// Why.
        reason: RefusedReason,
    },
}

impl fmt::Display for MirrorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written { path, machine } => write!(f, "wrote {path:?} of {machine}"),
            Self::Deleted { path } => write!(f, "deleted {path:?}"),
            Self::Sent { path } => write!(f, "sent {path:?}"),
            Self::SentDeletion { path } => write!(f, "sent the deletion of {path:?}"),
            Self::Conflict { path, kept } => write!(f, "kept the other version of {path:?} as {kept:?}"),
            Self::Refused { path, reason } => write!(f, "did not mirror {path:?}: {reason}"),
        }
    }
}
