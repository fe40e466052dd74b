//! Values that this run of an owner wrote, and a former run had written with a later stamp, by a clock that was ahead.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use smol_str::SmolStr;

use crate::core::{Change, Entry, Key, State};

/// The values that a former run of this replica's owner has overtaken.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    due: BTreeMap<SmolStr, Option<Bytes>>,
    /// The names that were due already.
    known: BTreeSet<SmolStr>,
}

impl Overtaken {
    pub(super) fn take(&mut self) -> BTreeMap<SmolStr, Option<Bytes>> {
        std::mem::take(&mut self.due)
    }

    pub(super) fn note(&mut self, state: &State, change: &Change, old: Option<&Entry>) {
        if let (Key::Owned(_, name), Some(old)) = (&change.key, old)
            && old.stamp.writer == state.writer()
            && change.entry.stamp.writer != state.writer()
            && self.known.insert(name.clone())
        {
            self.due.insert(name.clone(), State::value_of(&change.key, old));
        }
    }
}
