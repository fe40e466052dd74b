//! One entry as a state holds it. Both orders of the state, by key and by identity, point to it, so key and value are in
//! memory once.

use std::borrow::Borrow;
use std::cmp::Ordering;

use triomphe::Arc;

use super::entry::{Change, Entry};
use super::key::Key;

/// An entry with its key.
#[derive(Debug)]
pub(super) struct Held {
    key: Key,
    entry: Entry,
}

impl Held {
    pub(super) fn new(change: Change) -> Arc<Self> {
        Arc::new(Self { key: change.key, entry: change.entry })
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    pub(super) const fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn to_change(&self) -> Change {
        Change { key: self.key.clone(), entry: self.entry.clone() }
    }
}

/// An entry in the order of keys.
#[derive(Debug)]
pub(super) struct ByKey(pub(super) Arc<Held>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}
