//! Files that wait until nobody writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::due::Due;
use crate::path::FilePath;
use crate::watches::Change;

/// How long a file that was closed, renamed or deleted has to be left alone: an editor does several of these at once.
const DONE: Duration = Duration::from_millis(50);

/// How long a file that was written to and not closed has to be left alone. Not all systems tell when one is closed.
const WRITING: Duration = Duration::from_secs(1);

/// How long a file may be written to without a pause before it is read all the same. A read during which it changes is
/// dropped.
const MOST: Duration = Duration::from_secs(10);

/// The files that have changed a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// When each changed first.
    since: BTreeMap<FilePath, Instant>,
    due: Due,
}

impl Quiet {
    pub(crate) fn note(&mut self, path: FilePath, change: Change, now: Instant) {
        let first = *self.since.entry(path.clone()).or_insert(now);
        let wait = if change == Change::Done { DONE } else { WRITING };
        self.due.set(path, (now + wait).min(first + MOST));
    }

    pub(crate) fn has(&self, path: &FilePath) -> bool {
        self.since.contains_key(path)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// When the next file has been left alone for long enough.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// The files that have been left alone for long enough.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<FilePath> {
        let paths = self.due.take(now);
        for path in &paths {
            self.since.remove(path);
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_waits_for_a_pause_and_at_most_so_long() {
        let path = FilePath::new("a").unwrap();
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        quiet.note(path.clone(), Change::Writing, ms(0));
        assert!(quiet.take(ms(999)).is_empty());
        quiet.note(path.clone(), Change::Done, ms(999));
        assert_eq!(quiet.next(), Some(ms(1049)));
        assert_eq!(quiet.take(ms(1049)), vec![path.clone()]);
        assert!(quiet.is_empty() && quiet.next().is_none());
        for at in 0..200 {
            quiet.note(path.clone(), Change::Writing, ms(at * 100));
            if let [_] = quiet.take(ms(at * 100)).as_slice() {
                return assert_eq!(at, 100);
            }
        }
        panic!("it waits for ever");
    }
}
