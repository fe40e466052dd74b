//! Files that each version of a crate wrote, for tests that the code of today still reads them. Called by tests only.
//!
//! A crate keeps them in `tests/corpus`, in a folder for each minor version. `AETHER_WRITE_VECTORS=1` adds the folder of
//! this version and never replaces one: how files were written once does not change.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tempfile::TempDir;

/// From this size on a file is kept compressed: a database is mostly zeros.
const LARGE: usize = 8 << 10;
/// The end of the name of a compressed file.
const COMPRESSED: &str = ".gz";

/// A copy of the files of each version, with its name, the oldest first. `package` is the folder of a crate; `write` writes
/// the files of this version.
///
/// # Errors
/// The version of today has no files, or files cannot be read or written.
pub fn copies(package: &str, write: impl FnOnce(&Path)) -> io::Result<Vec<(String, TempDir)>> {
    let corpus = Path::new(package).join("tests/corpus");
    let today = corpus.join(concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR")));
    if !today.exists() {
        if std::env::var_os("AETHER_WRITE_VECTORS").is_none() {
            let text = format!("{} is missing: AETHER_WRITE_VECTORS=1 writes it", today.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let folder = tempfile::tempdir()?;
        write(folder.path());
        copy(folder.path(), &today, &pack)?;
    }
    let mut copies = Vec::new();
    for version in fs::read_dir(corpus)? {
        let (version, folder) = (version?, tempfile::tempdir()?);
        copy(&version.path(), folder.path(), &unpack)?;
        copies.push((version.file_name().to_string_lossy().into_owned(), folder));
    }
    copies.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(copies)
}

/// Copies all files of a folder.
fn copy(from: &Path, to: &Path, place: &dyn Fn(&[u8], &Path) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy(&file.path(), &to, place)?;
        } else {
            place(&fs::read(file.path())?, &to)?;
        }
    }
    Ok(())
}

fn pack(bytes: &[u8], to: &Path) -> io::Result<()> {
    if bytes.len() < LARGE {
        return fs::write(to, bytes);
    }
    let mut name = to.as_os_str().to_owned();
    name.push(COMPRESSED);
    let mut file = GzEncoder::new(Vec::new(), Compression::best());
    file.write_all(bytes)?;
    fs::write(name, file.finish()?)
}

fn unpack(bytes: &[u8], to: &Path) -> io::Result<()> {
    let name = to.to_string_lossy();
    let Some(name) = name.strip_suffix(COMPRESSED) else {
        fs::write(to, bytes)?;
        // A clone of the repository lets everybody read a key, which the code of keys refuses.
        #[cfg(unix)]
        fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        return Ok(());
    };
    let mut whole = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut whole)?;
    fs::write(name, whole)
}
