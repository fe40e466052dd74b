//! Files of a signing key and of a list of signers.
//!
//! A key file has one line `sign KEY` and is for its owner alone. A list is public, but only its owner may write it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::file::{SealKeysError, read_private, write_private};
use super::signers::Signers;
use super::signing_error::SigningError;
use super::signing_key::SigningKey;

/// The maximum size of a list: 10,000 names of usual length.
const MAX_LIST: u64 = 2 << 20;
const COMMENT: &str = "\
# The key with which a program signs what it sends, for `medium.signing_key`. With this file anybody can speak in its name: keep it
# secret (mode 0600). `aether keys show FILE` prints the public key, for the list of signers of the others.
";
/// The text of a key and its use.
const LINE: usize = 80;

impl SigningKey {
    /// Reads the key of a file.
    ///
    /// # Errors
    /// [`SigningError`] if the file cannot be read, if other users can use it, or if it has not exactly one key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SigningError> {
        let path = path.as_ref();
        let none = || SigningError::NoKey { path: path.to_owned() };
        let text = read_private(path).map_err(SigningError::File)?.ok_or_else(none)?;
        Self::parse(&text).ok_or_else(none)
    }

    /// The one key of the text of a file.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().filter(|_| lines.next().is_none());
        line.and_then(|line| line.strip_prefix("sign ")).and_then(|key| Self::read(key.trim()))
    }

    /// Writes the key to a new file, which only its owner may use (mode 0600), and syncs it.
    ///
    /// # Errors
    /// [`SigningError::File`], also if the file exists.
    pub fn save_new(&self, path: impl AsRef<Path>) -> Result<(), SigningError> {
        let path = path.as_ref();
        let text = self.written();
        let unwritten = |source| SealKeysError::File { path: path.to_owned(), source };
        write_private(path, &text).map_err(|source| SigningError::File(unwritten(source)))
    }

    /// The text of a file with this key.
    pub(super) fn written(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(COMMENT.len() + LINE));
        text.push_str(COMMENT);
        text.push_str("sign ");
        self.write(&mut text);
        text.push('\n');
        text
    }
}

impl Signers {
    /// Reads the list of a file.
    ///
    /// # Errors
    /// [`SigningError`] if the file cannot be read, if other users can write it, if it is not a list, or if it lists nobody.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SigningError> {
        let path = path.as_ref();
        let unread = |source| SigningError::File(SealKeysError::File { path: path.to_owned(), source });
        let file = File::open(path).map_err(unread)?;
        check_writers(path, &file)?;
        let mut text = String::new();
        file.take(MAX_LIST + 1).read_to_string(&mut text).map_err(unread)?;
        aether_files::byte_order_mark::remove(&mut text);
        let empty = || SigningError::Empty { path: path.to_owned() };
        if text.len() as u64 > MAX_LIST {
            return Err(empty());
        }
        let signers =
            Self::parse(&text).map_err(|source| SigningError::Signers { path: path.to_owned(), source })?;
        if signers.is_empty() { Err(empty()) } else { Ok(signers) }
    }
}

/// On other systems than Unix nothing is checked.
#[cfg(unix)]
fn check_writers(path: &Path, file: &File) -> Result<(), SigningError> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = file.metadata();
    let metadata = metadata
        .map_err(|source| SigningError::File(SealKeysError::File { path: path.to_owned(), source }))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 == 0 { Ok(()) } else { Err(SigningError::Writable { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_writers(_: &Path, _: &File) -> Result<(), SigningError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, metadata, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_survives_a_file_that_only_its_owner_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.key");
        let key = SigningKey::generate().unwrap();
        key.save_new(&path).unwrap();
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::from_file(&path).unwrap().public_key(), key.public_key());
        assert!(
            matches!(key.save_new(&path), Err(SigningError::File(SealKeysError::File { .. }))),
            "never overwritten"
        );
        for mode in [0o644, 0o604, 0o660] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = SigningKey::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let line = "sign aether-signing-key-1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n";
        for text in [String::new(), line.repeat(2), line.replace("sign", "seal"), line[..40].to_owned()] {
            write(&path, &text).unwrap();
            let error = SigningKey::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("--signing") && !error.contains("BwcH"), "{error}");
        }
        write(&path, format!("# a\n\n{line}")).unwrap();
        assert_eq!(SigningKey::from_file(&path).unwrap(), SigningKey::from_secret([7; 32]));
    }

    #[test]
    fn a_list_that_others_can_write_or_that_lists_nobody_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signers");
        let line = format!("shop {}\n", SigningKey::from_secret([7; 32]).public_key());
        write(&path, &line).unwrap();
        for (mode, says) in [(0o664, "chmod go-w"), (0o646, "chmod go-w")] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Signers::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Signers::from_file(&path).unwrap().to_string(), line);
        write(&path, "# nobody\n").unwrap();
        assert!(matches!(Signers::from_file(&path), Err(SigningError::Empty { .. })));
        write(&path, "shop\n").unwrap();
        assert!(matches!(Signers::from_file(&path), Err(SigningError::Signers { .. })));
        assert!(matches!(Signers::from_file(folder.path().join("none")), Err(SigningError::File(_))));
    }
}
