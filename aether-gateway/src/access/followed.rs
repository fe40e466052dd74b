//! The file of tokens, read again when it has changed: so a token that is taken off it is not known at the next request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_files::private_file::{Stamp, stamp};
use aether_service::error_chain;
use parking_lot::Mutex;

use super::error::AccessError;

/// The clock of a file system moves in steps of up to 10 ms, so a file that was written so recently may change again without
/// another stamp.
const UNSETTLED_FOR: Duration = Duration::from_millis(50);

/// A file, and what it lists.
#[derive(Debug)]
pub(super) struct FollowedFile<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<Vec<T>, AccessError>,
    current: Mutex<Current<T>>,
}

#[derive(Debug)]
struct Current<T> {
    listed: Arc<[T]>,
    /// The file as it was when it was read last.
    stamp: Stamp,
}

/// Whether the file may change without another stamp. A time in the future proves nothing.
fn is_unsettled(stamp: Stamp) -> bool {
    stamp.is_some_and(|(written, ..)| written.elapsed().is_ok_and(|age| age < UNSETTLED_FOR))
}

impl<T> FollowedFile<T> {
    pub(super) fn open(
        path: &Path,
        read: fn(&Path) -> Result<Vec<T>, AccessError>,
    ) -> Result<Self, AccessError> {
        // Before it is read: what changes meanwhile is read again.
        let stamp = stamp(path);
        let listed = read(path)?.into();
        Ok(Self { path: path.to_owned(), read, current: Mutex::new(Current { listed, stamp }) })
    }

    /// Who is listed now. A file that cannot be used leaves the list as it was.
    pub(super) fn listed(&self) -> Arc<[T]> {
        let mut current = self.current.lock();
        let stamp = stamp(&self.path);
        let has_changed = current.stamp != stamp;
        if has_changed || is_unsettled(stamp) {
            current.stamp = stamp;
            match (self.read)(&self.path) {
                Ok(listed) => {
                    current.listed = listed.into();
                    if has_changed {
                        tracing::info!(file = %self.path.display(), "the tokens were read again");
                    }
                }
                Err(error) if has_changed => {
                    tracing::warn!(error = error_chain(&error), "the tokens stay as they were");
                }
                // That was said when it changed.
                Err(_) => {}
            }
        }
        Arc::clone(&current.listed)
    }
}
