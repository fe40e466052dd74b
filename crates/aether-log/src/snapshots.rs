//! Snapshots, kept with the log: a state made of all waves up to a position.
//!
//! There is a file for each name, in the folder `snapshots` of a log, and its predecessor. A new one is written to a
//! temporary file, synced, and takes the name in one step, so there is a whole one at every moment.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aether_files::disk::{Disk, Writing, create};
use bytes::Bytes;

use crate::name::is_name;
use crate::sealing::Sealing;
use crate::store::{Damage, OpenError, make_folder};

/// The folder, below the folder of the log.
pub(crate) const SNAPSHOTS: &str = "snapshots";

const MAGIC: &[u8; 7] = b"AETHSNP";
const VERSION: u8 = 1;
/// Magic, version, position (u64), length (u64), checksum of these and of the content (u32). Later versions keep this, so
/// that another version does not count as damage.
const HEADER: usize = 8 + 8 + 8 + 4;
/// The end of the names of the last snapshot, the one before it, and one that is being written.
const LAST: &str = "snapshot";
const BEFORE: &str = "before";
const NEW: &str = "new";

/// A state made of all waves up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The position of the last wave that is in it; 0 if none is.
    pub position: u64,
    /// The bytes given to [`Log::snapshot`](crate::Log::snapshot).
    pub bytes: Vec<u8>,
}

/// Why a snapshot was not written or read, or why there is a gap behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The name cannot name a snapshot.
    #[error("{name:?} cannot name a snapshot: use 1 to 64 letters, digits, '-' and '_'")]
    Name {
        /// The name.
        name: String,
    },
    /// The position is beyond the end of the log.
    #[error(
        "the snapshot {name} is of position {position}, and the log ends at {last}: use the position of a wave"
    )]
    Ahead {
        /// The name.
        name: String,
        /// The position that was given.
        position: u64,
        /// The last position of the log.
        last: u64,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The attempted operation.
        doing: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not what was written, and so is the one before it.
    #[error("{} is damaged: restore it, or remove it to begin with all that the log holds", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The state was not sealed, or cannot be opened. It is left as it is.
    #[error("the state in {} was not sealed or opened", path.display())]
    Sealing {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another version wrote the file. It is left as it is.
    #[error("{} has version {version} of the format, and this program reads version {VERSION}: use a newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        version: u8,
    },
    /// The log has dropped waves behind the snapshot, so the state cannot be continued from it.
    #[error("the log begins at {first}, and the snapshot {name} needs what follows {position}: keep the log for longer, or take snapshots more often; to go on without those waves, take one at {} first", first - 1)]
    Gap {
        /// The name.
        name: String,
        /// The position of the snapshot; 0 without one.
        position: u64,
        /// The first position of the log.
        first: u64,
    },
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, doing, source }
}

/// The name of the file, without its end.
fn stem(folder: &Path, name: &str) -> Result<PathBuf, SnapshotError> {
    if !is_name(name) {
        return Err(SnapshotError::Name { name: name.to_owned() });
    }
    Ok(folder.join(SNAPSHOTS).join(name))
}

/// The place for which a state is sealed.
fn address(name: &str, position: u64) -> String {
    format!("snapshot {name} {position}")
}

fn not_sealed(path: PathBuf, reason: impl Into<Box<dyn Error + Send + Sync>>) -> SnapshotError {
    SnapshotError::Sealing { path, source: reason.into() }
}

/// Replaces the snapshot of a name.
pub(crate) fn write(
    (disk, sealing): (&dyn Disk, &Sealing),
    folder: &Path,
    name: &str,
    position: u64,
    bytes: &[u8],
) -> Result<(), SnapshotError> {
    let stem = stem(folder, name)?;
    let [new, last, before] = [NEW, LAST, BEFORE].map(|end| stem.with_extension(end));
    let bytes = sealing.seal(&address(name, position), Bytes::copy_from_slice(bytes));
    let bytes = &*bytes.map_err(|error| not_sealed(last.clone(), error))?;
    if !begins_as_written(&last)
        && let Found::Other { version, .. } = read_file(&last)?
    {
        return Err(SnapshotError::Version { path: last, version });
    }
    let snapshots = folder.join(SNAPSHOTS);
    make_folder(disk, &snapshots).map_err(failed(&snapshots, "make the folder"))?;
    let written = (|| {
        let file = create(&new)?;
        let mut writing = Writing { disk, file: &file };
        writing.write_all(&header(VERSION, position, bytes))?;
        writing.write_all(bytes)?;
        disk.sync_all(&file)
    })();
    if let Err(error) = written {
        // It would only take room.
        let _ = fs::remove_file(&new);
        return Err(failed(&new, "write")(error));
    }
    // A link and not a renaming: the last one keeps its name until the new one has it.
    match fs::remove_file(&before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&before, "remove")(error));
        }
        _ => {}
    }
    match fs::hard_link(&last, &before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // Not every file system has links. Then there is only one.
            tracing::debug!(%error, path = %before.display(), "the snapshot before the last one is not kept");
        }
        _ => {}
    }
    fs::rename(&new, &last).map_err(failed(&last, "replace"))?;
    disk.sync_folder(&snapshots).map_err(failed(&snapshots, "sync"))
}

fn header(version: u8, position: u64, bytes: &[u8]) -> Vec<u8> {
    let mut header = [MAGIC.as_slice(), &[version]].concat();
    header.extend_from_slice(&position.to_le_bytes());
    header.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&header);
    checksum.update(bytes);
    header.extend_from_slice(&checksum.finalize().to_le_bytes());
    header
}

/// The snapshot of a name, or the one before it if the last one is damaged.
pub(crate) fn read(folder: &Path, name: &str, sealing: &Sealing) -> Result<Option<Snapshot>, SnapshotError> {
    let stem = stem(folder, name)?;
    let last = stem.with_extension(LAST);
    let opened = |path: &Path, Snapshot { position, bytes }| {
        let opened = sealing.open(&address(name, position), &bytes.into());
        let opened = opened.map_err(|error| not_sealed(path.to_owned(), error))?;
        Ok(Some(Snapshot { position, bytes: opened.frame.into() }))
    };
    match read_file(&last)? {
        Found::Whole(snapshot) => opened(&last, snapshot),
        Found::Nothing => Ok(None),
        Found::Other { version, .. } => Err(SnapshotError::Version { path: last, version }),
        Found::Damaged => {
            let before = stem.with_extension(BEFORE);
            match read_file(&before)? {
                Found::Whole(snapshot) => {
                    tracing::error!(path = %last.display(), "the snapshot is damaged; the one before it is used");
                    opened(&before, snapshot)
                }
                _ => Err(SnapshotError::Damaged { path: last }),
            }
        }
    }
}

enum Found {
    Whole(Snapshot),
    /// Whole, of another version.
    Other {
        version: u8,
        position: u64,
    },
    Damaged,
    Nothing,
}

/// Whether a file begins as this version writes it. A snapshot may be large, so the next one reads the whole last one only
/// where it does not.
fn begins_as_written(path: &Path) -> bool {
    let mut head = [0; MAGIC.len() + 1];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(MAGIC) && head.ends_with(&[VERSION])
}

fn read_file(path: &Path) -> Result<Found, SnapshotError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed(path, "read")(error)),
    };
    let Some((head, content)) = bytes.split_at_checked(HEADER) else { return Ok(Found::Damaged) };
    let (version, position) = (head[7], head[8..16].try_into().map_or(0, u64::from_le_bytes));
    Ok(match header(version, position, content) == head {
        true if version != VERSION => Found::Other { version, position },
        true => Found::Whole(Snapshot { position, bytes: content.to_vec() }),
        false => Found::Damaged,
    })
}

/// Whether a file in the folder of the snapshots is one, and not one that is being written.
pub(crate) fn is_kept(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == LAST || end == BEFORE)
}

/// The greatest position of which there is a snapshot: a new wave may not get it, also if the log has lost its end.
pub(crate) fn last_position(folder: &Path) -> io::Result<u64> {
    let snapshots = folder.join(SNAPSHOTS);
    let mut greatest = 0;
    if !snapshots.is_dir() {
        return Ok(greatest);
    }
    for file in fs::read_dir(snapshots)? {
        if let Ok(Found::Whole(Snapshot { position, .. }) | Found::Other { position, .. }) =
            read_file(&file?.path())
        {
            greatest = greatest.max(position);
        }
    }
    Ok(greatest)
}

/// The snapshots that are not what was written.
pub(crate) fn damaged(folder: &Path) -> Result<Vec<Damage>, OpenError> {
    let failed = |source| OpenError::io(folder, "read the snapshots of", source);
    let snapshots = folder.join(SNAPSHOTS);
    let mut damaged = Vec::new();
    if !snapshots.is_dir() {
        return Ok(damaged);
    }
    for file in fs::read_dir(snapshots).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        // One that is being written is none yet.
        let is_snapshot = is_kept(&path);
        match read_file(&path) {
            Ok(Found::Damaged) if is_snapshot => {
                let bytes = fs::metadata(&path).map_or(0, |about| about.len());
                damaged.push(Damage { path, offset: 0, bytes, position: None });
            }
            Ok(Found::Other { version, .. }) => return Err(OpenError::Version { path, version }),
            _ => {}
        }
    }
    damaged.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(damaged)
}
