//! Importing and exporting registers with their stamps.

use std::collections::BTreeMap;

use aether_core::Amplitude;

use super::field::Field;
use super::shared::{Shared, wall};
use super::watch::Names;
use crate::core::{Applied, Change, Key, Refusal};

/// The outcome of imported changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// The changes that are new here.
    pub taken: usize,
    /// The changes that lost against what is here or against others of the import, are here already, or are marks of
    /// removals beyond the horizon.
    pub known: usize,
    /// The names of changes that are older than removals whose marks are no longer kept: they count as removed.
    pub gone: Vec<String>,
    /// The names of changes that were refused, and why.
    pub refused: Vec<(String, Refusal)>,
}

impl Field {
    /// Takes over changes as they are, with their stamps and writers, such as the changes of a
    /// [`Ledger`](crate::ledger::Ledger), and sends them to the other replicas. Of two of one name the later stamp
    /// wins, also against the entries here; writes of this replica that lose are [superseded](Field::superseded).
    /// Import files that belong together, such as a ledger and its snapshot, in one call.
    pub fn import(&self, changes: impl IntoIterator<Item = Change>) -> Imported {
        self.shared().import(self.amplitude(), changes)
    }

    /// The registers whose names match a pattern, removals included, in the order of their names, with their stamps. The
    /// pattern is a name, or the beginning of names and `*`.
    #[must_use]
    pub fn export(&self, pattern: &str) -> Vec<Change> {
        let names = Names::of(pattern);
        let state = self.shared().state();
        let registers =
            state.entries().filter(|(key, _)| matches!(key, Key::Register(name) if names.has(name)));
        registers.map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() }).collect()
    }
}

impl Shared {
    fn import(&self, amplitude: Amplitude, changes: impl IntoIterator<Item = Change>) -> Imported {
        let mut newest: BTreeMap<Key, Change> = BTreeMap::new();
        let mut imported = Imported::default();
        for change in changes {
            let is_older = |other: &Change| other.entry.stamp >= change.entry.stamp;
            if newest.get(&change.key).is_some_and(is_older)
                || newest.insert(change.key.clone(), change).is_some()
            {
                imported.known += 1;
            }
        }
        let wall = wall();
        // In one step, so that no mark of a removal is dropped in between: what is older than it would count as removed.
        let mut state = self.state();
        let horizon = u64::try_from(state.limits().horizon.as_micros()).unwrap_or(u64::MAX);
        for (key, change) in newest {
            let is_there = state.entry(&key).is_some_and(|entry| !entry.is_removed());
            let is_past = change.entry.stamp.micros < wall.saturating_sub(horizon);
            if change.entry.is_removed() && is_past && !is_there {
                // Its mark would be dropped at once.
                imported.known += 1;
                continue;
            }
            match self.submit_to(&mut state, amplitude, change) {
                Ok(Applied::Changed { .. }) => imported.taken += 1,
                Ok(Applied::Known) => imported.known += 1,
                Ok(Applied::Gone) => imported.gone.push(key.name().to_owned()),
                Err(refusal) => imported.refused.push((key.name().to_owned(), refusal)),
            }
        }
        drop(state);
        self.to_send.notify_one();
        imported
    }
}
