//! Files with keys: text, for their owner alone.
//!
//! Each line is `seal KEY` (once) or `open KEY`; the newest key is last. Lines that begin with `#` are comments.

#[cfg(unix)]
use std::fs::Permissions;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::key::SealKey;
use super::keys::{KeyUse, MAX_KEYS, SealKeys};
use aether_files::private_file::{self, PrivateFileError};

/// The maximum size of a file with keys. One with 16 keys has about 1 KiB.
const MAX_FILE: u64 = 64 << 10;
/// The text of a key and its use.
const LINE: usize = 80;
const COMMENT: &str = "\
# Keys of sealed waves, for `medium.keys`. With this file anybody can read and send everything: keep it secret (mode 0600).
# One key seals, all open. `aether keys show FILE` prints their ids, `aether keys rotate FILE` adds and retires keys.
";

/// Why keys cannot be read from or written to a file. Keys are never part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealKeysError {
    /// The file cannot be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Other users of this machine can read or write the file.
    #[error("other users of this machine can use {} (mode {mode:03o}): use chmod 600", .path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A line is neither a key nor a comment.
    #[error("line {line} of {} is not a key: use `seal KEY` or `open KEY`, as `aether keys new` writes them", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
    /// No key seals, or several do, or a key is there twice, or there are too many, or the file is too long.
    #[error("{} needs one key that seals, and at most 16 different keys in 64 KiB", .path.display())]
    Set {
        /// The file.
        path: PathBuf,
    },
}

impl From<PrivateFileError> for SealKeysError {
    fn from(error: PrivateFileError) -> Self {
        match error {
            PrivateFileError::Unread { path, source } => Self::File { path, source },
            PrivateFileError::Public { path, mode } => Self::Public { path, mode },
        }
    }
}

/// The text of a file that other users cannot use. `None` if it is too long.
///
/// # Errors
/// [`SealKeysError`] if it cannot be read, or if other users can use it.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, SealKeysError> {
    Ok(private_file::read(path, MAX_FILE)?)
}

/// A line of a text is neither a key nor a comment.
#[derive(Debug)]
pub(super) struct NoKey {
    /// The number of the line, from 1.
    line: usize,
}

impl SealKeys {
    /// Reads the keys of a file.
    ///
    /// # Errors
    /// [`SealKeysError`] if the file cannot be read, if other users can use it, or if it has no valid set of keys.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SealKeysError> {
        let path = path.as_ref();
        let text = read_private(path)?.ok_or_else(|| SealKeysError::Set { path: path.to_owned() })?;
        match Self::parse(&text) {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => Err(SealKeysError::Set { path: path.to_owned() }),
            Err(NoKey { line }) => Err(SealKeysError::Malformed { path: path.to_owned(), line }),
        }
    }

    /// The keys of the text of a file. `None` if they are no valid set.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, NoKey> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.split_once(char::is_whitespace).and_then(|(key_use, key)| {
                let key_use = match key_use {
                    "seal" => KeyUse::Seals,
                    "open" => KeyUse::Opens,
                    _ => return None,
                };
                Some((key_use, SealKey::read(key.trim())?))
            });
            keys.push(key.ok_or(NoKey { line: number + 1 })?);
        }
        Ok(Self::of(keys))
    }

    /// Writes the keys to a new file, which only its owner may use (mode 0600), and syncs it.
    ///
    /// # Errors
    /// [`SealKeysError::File`], also if the file exists.
    pub fn save_new(&self, path: impl AsRef<Path>) -> Result<(), SealKeysError> {
        let path = path.as_ref();
        self.write(path).map_err(|source| SealKeysError::File { path: path.to_owned(), source })
    }

    /// Replaces a file by one with these keys, at once: readers see the old or the new one. Its owner and its group stay, so
    /// that whoever read the old one can read the new one; so does its mode, if others could not use it, else it is 0600.
    ///
    /// # Errors
    /// [`SealKeysError::File`], also if there is no such file or it belongs to somebody else. The old file is unchanged in
    /// that case.
    pub fn replace(&self, path: impl AsRef<Path>) -> Result<(), SealKeysError> {
        let path = path.as_ref();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = path.with_file_name(name);
        let replace = || {
            let old = std::fs::metadata(path)?;
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.write(&new)?;
            let replaced = keep_owner(&new, &old).and_then(|()| std::fs::rename(&new, path));
            if replaced.is_err() {
                // No copy of the keys stays behind.
                let _ = std::fs::remove_file(&new);
            }
            replaced
        };
        replace().map_err(|source| SealKeysError::File { path: path.to_owned(), source })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &self.written())
    }

    /// The text of a file with these keys.
    pub(super) fn written(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(COMMENT.len() + MAX_KEYS * LINE));
        text.push_str(COMMENT);
        for (key_use, key) in self.parts() {
            text.push_str(if key_use == KeyUse::Seals { "seal " } else { "open " });
            key.write(&mut text);
            text.push('\n');
        }
        text
    }
}

/// Writes a new file for its owner alone, and syncs it.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Gives a new file the owner, the group and, if it is private, the mode of the old one.
#[cfg(unix)]
fn keep_owner(new: &Path, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let made = std::fs::metadata(new)?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        std::os::unix::fs::chown(new, Some(old.uid()), Some(old.gid()))?;
    }
    let mode = old.permissions().mode() & 0o777;
    let mode = if private_file::is_private(mode) { mode } else { 0o600 };
    std::fs::set_permissions(new, Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}
