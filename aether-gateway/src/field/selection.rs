//! The part of a field that a client reads: names that everybody may write, and owners.

use std::collections::{BTreeSet, VecDeque};

use aether_field::Names;
use sha2::{Digest as _, Sha256};

use super::slot::Slot;
use crate::access::Rights;

/// In the patterns of rights, the names of owners begin with this.
const OWNER: char = '@';

/// The names and the owners that a client reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selection {
    names: Vec<Names>,
    owners: Vec<Names>,
}

/// Some names of a selection, which are read one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Names(Names),
    Owners(Names),
}

/// The pattern by which rights name these owners.
pub(super) fn owner_pattern(owners: &str) -> String {
    format!("{OWNER}{owners}")
}

/// The patterns by which rights name these owners.
pub(super) fn owner_patterns(owners: &[Names]) -> Vec<Names> {
    owners.iter().map(|owners| Names::of(&owner_pattern(&owners.to_string()))).collect()
}

impl Selection {
    /// The part of the names and owners that may be read.
    pub(super) fn readable(names: &[Names], owners: &[Names], rights: &Rights) -> Self {
        let without = |owners: Names| {
            let text = owners.to_string();
            Names::of(text.strip_prefix(OWNER).unwrap_or(&text))
        };
        let owners = rights.readable(&owner_patterns(owners)).into_iter().map(without).collect();
        Self { names: rights.readable(names), owners }
    }

    /// Whether the client reads this slot.
    pub(super) fn has(&self, slot: &Slot) -> bool {
        match slot {
            Slot::Owned(owner, _) => self.owners.iter().any(|owners| owners.has(owner)),
            _ => self.names.iter().any(|names| names.has(slot.name())),
        }
    }

    /// The parts, for a snapshot.
    pub(super) fn parts(&self) -> VecDeque<Part> {
        let names = self.names.iter().cloned().map(Part::Names);
        names.chain(self.owners.iter().cloned().map(Part::Owners)).collect()
    }

    /// The parts that another selection does not have.
    pub(super) fn without(&self, other: &Self) -> Self {
        let missing = |these: &[Names], others: &[Names]| {
            let is_covered =
                |names: &&Names| others.iter().any(|other| other.and(names).as_ref() == Some(*names));
            these.iter().filter(|names| !is_covered(names)).cloned().collect()
        };
        Self { names: missing(&self.names, &other.names), owners: missing(&self.owners, &other.owners) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.owners.is_empty()
    }

    /// The patterns of its names, and the patterns of its owners.
    pub(super) fn patterns(&self) -> (Vec<String>, Vec<String>) {
        let texts = |all: &[Names]| all.iter().map(Names::to_string).collect();
        (texts(&self.names), texts(&self.owners))
    }

    /// The beginning of the hash of some bytes and its patterns, in hexadecimal digits. Equal selections have equal ones.
    pub(super) fn hash(&self, with: &[u8]) -> String {
        let owners = owner_patterns(&self.owners);
        let texts: BTreeSet<_> = self.names.iter().chain(&owners).map(Names::to_string).collect();
        let mut hasher = Sha256::new().chain_update(with);
        for text in texts {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
