//! Files that cannot be written yet, and when each is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::due::Due;
use crate::path::FilePath;

/// The pause before the second attempt. It doubles up to the longest one.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The files, each with a pause of its own.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pauses: BTreeMap<FilePath, Duration>,
    due: Due,
}

impl Waiting {
    /// It could not be written.
    pub(crate) fn put(&mut self, path: FilePath, now: Instant) {
        let pause = self.pauses.get(&path).map_or(PAUSE, |pause| (*pause * 2).min(LONGEST));
        self.pauses.insert(path.clone(), pause);
        self.due.set(path, now + pause);
    }

    /// It is written, or not wanted any more.
    pub(crate) fn remove(&mut self, path: &FilePath) {
        self.pauses.remove(path);
        self.due.remove(path);
    }

    pub(crate) fn has(&self, path: &FilePath) -> bool {
        self.pauses.contains_key(path)
    }

    pub(crate) fn len(&self) -> usize {
        self.pauses.len()
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.pauses.keys()
    }

    /// When the next file is tried again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }

    /// The files that are tried now. They keep their pauses until they are written.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<FilePath> {
        self.due.take(now)
    }

    /// All files are tried now, with short pauses again.
    pub(crate) fn hurry(&mut self) -> Vec<FilePath> {
        self.due = Due::default();
        self.pauses.values_mut().for_each(|pause| *pause = PAUSE / 2);
        self.pauses.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_tried_again_after_longer_and_longer_pauses() {
        let (path, other) = (FilePath::new("a").unwrap(), FilePath::new("b").unwrap());
        let mut waiting = Waiting::default();
        let mut now = Instant::now();
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            waiting.put(path.clone(), now);
            assert_eq!(waiting.next(), Some(now + Duration::from_secs(pause)));
            assert!(waiting.take(now + Duration::from_millis(pause * 1000 - 1)).is_empty());
            now += Duration::from_secs(pause);
            assert_eq!(waiting.take(now), vec![path.clone()]);
            assert!(waiting.has(&path) && waiting.next().is_none());
        }
        // Another one has a pause of its own.
        waiting.put(path.clone(), now);
        waiting.put(other.clone(), now);
        assert_eq!(waiting.take(now + PAUSE), vec![other.clone()]);
        assert_eq!(waiting.hurry(), [path.clone(), other.clone()]);
        waiting.put(path.clone(), now);
        assert_eq!(waiting.next(), Some(now + PAUSE));
        waiting.remove(&path);
        waiting.remove(&other);
        assert_eq!((waiting.len(), waiting.next()), (0, None));
    }
}
