//! Importing and exporting registers with their stamps.

use aether_core::Amplitude;

use super::field::Field;
use super::shared::{Shared, wall};
use super::watch::Names;
use crate::core::{Applied, Change, Key, Refusal};

/// What became of imported changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// The changes that are new here.
    pub taken: usize,
    /// The changes that lost against what is here, or are here already.
    pub known: usize,
    /// The names of changes that are older than removals whose marks are no longer kept: they count as removed.
    pub gone: Vec<String>,
    /// The names of changes that were refused, and why.
    pub refused: Vec<(String, Refusal)>,
}

impl Field {
    /// Takes over changes as they are, with their stamps and writers, such as those of a
    /// [`Ledger`](crate::ledger::Ledger), and sends them to the other replicas. Of two of one name the later stamp wins,
    /// also against what is here.
    pub fn import(&self, changes: impl IntoIterator<Item = Change>) -> Imported {
        self.shared().import(self.amplitude(), changes)
    }

    /// The registers whose names match a pattern, removals included, in the order of their names, with their stamps. The
    /// pattern is a name, or the beginning of names and `*`.
    #[must_use]
    pub fn export(&self, pattern: &str) -> Vec<Change> {
        let names = Names::of(pattern);
        let state = self.shared().state();
        let registers = state.entries().filter(|(key, _)| matches!(key, Key::Register(name) if names.has(name)));
        registers.map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() }).collect()
    }
}

impl Shared {
    fn import(&self, amplitude: Amplitude, changes: impl IntoIterator<Item = Change>) -> Imported {
        let mut imported = Imported::default();
        let wall = wall();
        for change in changes {
            let mut state = self.state();
            let name = || change.key.name().to_owned();
            match state.apply(change.clone(), wall) {
                Ok(Applied::Changed { old }) => {
                    imported.taken += 1;
                    self.changed(&state, &change, old.as_ref());
                    self.queue(amplitude, change);
                }
                Ok(Applied::Known) => imported.known += 1,
                Ok(Applied::Gone) => imported.gone.push(name()),
                Err(refusal) => imported.refused.push((name(), refusal)),
            }
        }
        self.to_send.notify_one();
        imported
    }
}
