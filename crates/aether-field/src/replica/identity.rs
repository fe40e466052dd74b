//! Files of identities.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::core::{Identity, bytes_of_hex};

/// The first line of the file.
const VERSION: &str = "aether identity 1";

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The file of an identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be opened, read or written. A file that exists is not replaced: the key in it would be lost.
    #[error("the identity {} cannot be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others than the owner of the file may read it, or write it.
    #[error("the identity {} may be used by others (mode {mode:04o}); run `chmod 600 {}`", path.display(), path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not hold an identity, or it has another version.
    #[error(
        "{} is not an identity: it needs the line {VERSION:?}, the line `name`, and the line `secret` with 64 hexadecimal digits",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl Identity {
    /// Reads an identity from a file that [`Identity::save`] wrote.
    ///
    /// # Errors
    /// [`IdentityError`] if the file cannot be read, does not hold an identity, or may be read by others.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let file_error = |source| IdentityError::File { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(file_error)?;
        check_mode(path, &file)?;
        let mut text = Zeroizing::new(String::new());
        (&mut file).take(MAX_BYTES).read_to_string(&mut text).map_err(file_error)?;
        aether_files::byte_order_mark::remove(&mut text);
        let read = || {
            let mut lines = text.lines();
            let name = (lines.next()? == VERSION).then(|| lines.next())??.strip_prefix("name ")?;
            let secret = Zeroizing::new(bytes_of_hex(lines.next()?.strip_prefix("secret ")?)?);
            (lines.next().is_none() && !name.is_empty()).then(|| Self::from_secret(name, &secret))
        };
        read().ok_or_else(|| IdentityError::Foreign { path: path.to_owned() })
    }

    /// Writes the identity to a new file, which only its owner may read (mode 0600), and syncs it.
    ///
    /// # Errors
    /// [`IdentityError::File`], also if the file exists.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let path = path.as_ref();
        let file_error = |source| IdentityError::File { path: path.to_owned(), source };
        // Large enough that no part of the secret stays behind in memory that was given back.
        let mut text = Zeroizing::new(String::with_capacity(256 + self.name().len()));
        let mut write = || {
            writeln!(text, "{VERSION}\nname {}", self.name())?;
            text.write_str("secret ")?;
            self.secret().iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
            text.write_char('\n')
        };
        write().map_err(|_| file_error(std::io::ErrorKind::OutOfMemory.into()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(file_error)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = file.metadata().map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(IdentityError::OpenToOthers { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &File) -> Result<(), IdentityError> {
    Ok(())
}
