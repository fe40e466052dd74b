//! The times at which files are due.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::path::FilePath;

/// Files, each with the time at which it is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    times: BTreeMap<FilePath, Instant>,
    order: BTreeSet<(Instant, FilePath)>,
}

impl Due {
    /// Sets the time of a file, in place of the one before.
    pub(crate) fn set(&mut self, path: FilePath, at: Instant) {
        self.remove(&path);
        self.times.insert(path.clone(), at);
        self.order.insert((at, path));
    }

    pub(crate) fn remove(&mut self, path: &FilePath) {
        if let Some(at) = self.times.remove(path) {
            self.order.remove(&(at, path.clone()));
        }
    }

    /// When the next file is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the files that are due now, in the order of their times.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<FilePath> {
        let mut paths = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, path)) = self.order.pop_first() else { break };
            self.times.remove(&path);
            paths.push(path);
        }
        paths
    }
}
