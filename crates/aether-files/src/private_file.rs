//! Files with secrets: read only if no other user of the machine can use them.
//!
//! Keys, passwords, tokens and the keys of certificates all come through here. A group may read such a file, because that is
//! how some service managers and containers hand secrets to a program; it may not write it. Others may do nothing with
//! it. On other systems than Unix nothing is checked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::byte_order_mark;

/// Room beyond the length of a file, so that the end of it is found without more memory or a copy elsewhere.
const MORE: usize = 64;

/// Why a file with a secret is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The file cannot be read.
    #[error("cannot use {}", .path.display())]
    Unread {
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
}

/// When a file was written, how long it is, and which file it is, where the system tells. A file that was written twice
/// within a step of the clock of its file system has one stamp for both if it has one length.
pub type Stamp = Option<(SystemTime, u64, u64)>;

/// The stamp of a file, by which a change of it is seen. `None` if it cannot be looked at. Blocks.
#[must_use]
pub fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&about);
    #[cfg(not(unix))]
    let file = 0;
    Some((about.modified().ok()?, about.len(), file))
}

/// Whether a file of this mode is for its owner alone, or for a group that may read it.
#[must_use]
pub const fn is_private(mode: u32) -> bool {
    mode & 0o037 == 0
}

/// Opens a file that other users of the machine cannot use.
///
/// # Errors
/// [`PrivateFileError`] if the file cannot be opened, or if others can use it.
pub fn open(path: &Path) -> Result<File, PrivateFileError> {
    let unread = |source| PrivateFileError::Unread { path: path.to_owned(), source };
    let file = File::open(path).map_err(unread)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file.metadata().map_err(unread)?;
        if metadata.is_dir() {
            return Err(unread(io::ErrorKind::IsADirectory.into()));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if !is_private(mode) {
            return Err(PrivateFileError::Public { path: path.to_owned(), mode });
        }
    }
    Ok(file)
}

/// The text of a file that other users of the machine cannot use, in memory that is overwritten when it is dropped.
/// `None` if it is longer than this.
///
/// # Errors
/// As [`open`], and if the file is not UTF-8.
pub fn read(path: &Path, max_bytes: u64) -> Result<Option<Zeroizing<String>>, PrivateFileError> {
    let unread = |source| PrivateFileError::Unread { path: path.to_owned(), source };
    let file = open(path)?;
    // Reserved, so that no part of a secret stays behind in memory that was given back.
    let length = file.metadata().map_err(unread)?.len().min(max_bytes);
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(length).unwrap_or(0) + MORE));
    file.take(max_bytes + 1).read_to_string(&mut text).map_err(unread)?;
    byte_order_mark::remove(&mut text);
    Ok((text.len() as u64 <= max_bytes).then_some(text))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_can_use_or_a_group_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, "a secret\n").unwrap();
        for (mode, is_used) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o440, true),
            (0o644, false),
            (0o602, false),
            (0o660, false),
        ] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read(&path, 100) {
                Ok(text) => assert!(is_used && text.unwrap().as_str() == "a secret\n", "{mode:o}"),
                Err(error) => {
                    assert!(!is_used && error.to_string().contains("chmod 600"), "{mode:o} {error}");
                    assert!(!format!("{error:?}").contains("a secret"));
                }
            }
        }
    }

    #[test]
    fn a_folder_is_named_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path(), 100).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.contains("is a directory") && !error.to_string().contains("chmod"),
            "{error}: {source}"
        );
    }

    #[test]
    fn no_part_of_a_secret_is_left_in_memory_that_was_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for bytes in [0, 1, 31, 32, 100, 5_000] {
            write(&path, "x".repeat(bytes)).unwrap();
            set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let text = read(&path, 10_000).unwrap().unwrap();
            assert_eq!((text.len(), text.capacity()), (bytes, bytes + MORE), "it has not grown");
        }
        write(&path, "x".repeat(101)).unwrap();
        assert!(read(&path, 100).unwrap().is_none());
    }
}
