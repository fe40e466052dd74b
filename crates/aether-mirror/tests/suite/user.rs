//! A user of a folder who never overwrites what nobody has seen: each step takes out what was there in one step with what it
//! puts in, so it is known which bytes nobody needs any more.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Writes a file whole. Returns what was there; an error if there is no place for a file.
pub(crate) fn write(root: &Path, path: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, NoPlace> {
    let hand = Hand::new(root);
    fs::write(&hand.0, bytes).unwrap();
    hand.put(&root.join(path))
}

/// Deletes a file. Returns what was there.
pub(crate) fn delete(root: &Path, path: &str) -> Option<Vec<u8>> {
    let hand = Hand::new(root);
    hand.take(&root.join(path)).then(|| fs::read(&hand.0).unwrap())
}

/// Renames a file. Returns what was at the new name.
pub(crate) fn rename(root: &Path, from: &str, to: &str) -> Option<Vec<u8>> {
    let hand = Hand::new(root);
    if !hand.take(&root.join(from)) {
        return None;
    }
    let places = [to, from, "found"].into_iter();
    places.map(|place| hand.put(&root.join(place))).find_map(Result::ok).expect("a place")
}

/// A folder has the name, or a file has the name of a folder in it.
#[derive(Debug)]
pub(crate) struct NoPlace;

/// A file that the user has in hand: on the same file system, outside of the folder.
struct Hand(PathBuf);

impl Hand {
    fn new(root: &Path) -> Self {
        Self(root.with_extension(format!("hand-{:x}", fastrand::u64(..))))
    }

    fn take(&self, place: &Path) -> bool {
        if place.is_dir() {
            return false;
        }
        match fs::rename(place, &self.0) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn put(&self, place: &Path) -> Result<Option<Vec<u8>>, NoPlace> {
        loop {
            match fs::create_dir_all(place.parent().unwrap()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(_) => return Err(NoPlace),
            }
            if place.is_dir() {
                return Err(NoPlace);
            }
            match renameat_with(CWD, &self.0, CWD, place, RenameFlags::EXCHANGE) {
                Ok(()) if self.0.is_dir() => {
                    renameat_with(CWD, &self.0, CWD, place, RenameFlags::EXCHANGE).unwrap();
                    return Err(NoPlace);
                }
                Ok(()) => return Ok(Some(fs::read(&self.0).unwrap())),
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) => return Err(NoPlace),
                Err(error) => panic!("{error}"),
            }
            match renameat_with(CWD, &self.0, CWD, place, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(None),
                // A file came, or the folder went.
                Err(Errno::EXIST | Errno::NOENT) => {}
                Err(Errno::NOTDIR) => return Err(NoPlace),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
