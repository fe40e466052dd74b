//! What the queue of an inbox holds, and what it needs to know about it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::wave::Wave;

/// A list that is no longer than this is served in the order of arrival: as many waves as the receiver prefetches.
pub(super) const IN_ORDER: usize = 32;

/// An item in its level.
pub(super) struct Queued<T> {
    pub(super) arrival: u64,
    pub(super) item: T,
}

/// A bound of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Waves,
    Bytes,
}

/// Something that a source has emitted.
pub(super) trait Queueable {
    /// Whether both have one source.
    fn is_of_source_of(&self, other: &Self) -> bool;

    /// A number that depends on the source and on keys that nobody else knows.
    fn source_hash(&self, keys: &RandomState) -> u64;

    /// The memory that it takes, in bytes. It never changes.
    fn weight(&self) -> usize;
}

/// All that one signer sends is of one source, whatever names and instances it uses, so that nobody who signs becomes many. Where
/// nothing is proven, a source is what the wave says.
impl Queueable for Wave {
    fn is_of_source_of(&self, other: &Self) -> bool {
        // Nothing else is looked at in a queue of one source.
        self.source() == other.source() || are_of_one_signer(self, other)
    }

    fn source_hash(&self, keys: &RandomState) -> u64 {
        match self.principal() {
            0 => keys.hash_one(self.source()),
            principal => keys.hash_one(principal),
        }
    }

    fn weight(&self) -> usize {
        Self::weight(self)
    }
}

/// Outlined, so that comparing sources stays as short as it is.
#[cold]
#[inline(never)]
fn are_of_one_signer(one: &Wave, other: &Wave) -> bool {
    one.principal() != 0 && one.principal() == other.principal()
}

/// Releases the memory of a burst, down to room for `kept` items, when seven eighths of it are empty.
#[inline]
pub(super) fn release_burst<T>(items: &mut VecDeque<Queued<T>>, kept: usize) {
    #[cold]
    #[inline(never)]
    fn shrink<T>(items: &mut VecDeque<Queued<T>>, kept: usize) {
        items.shrink_to(kept.max(2 * items.len()));
    }
    if items.capacity() > kept && items.len() < items.capacity() / 8 {
        shrink(items, kept);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::named::Named;
    use crate::proof::{Proof, SignerId};
    use crate::source::{Source, WaveId};

    fn sent(name: &str, proof: Option<&Proof>) -> Wave {
        // Each has an instance of its own.
        let id = WaveId { source: Source::new(name).unwrap(), sequence: 1 };
        let mut wave = Wave::from_bytes("a", "").unwrap().identified(id, None);
        assert!(proof.is_none_or(|proof| wave.prove(proof)));
        wave
    }

    #[test]
    fn a_signer_is_one_source_whatever_names_and_instances_it_invents() {
        let signed_by = |names: &[&str]| {
            let names = names.iter().map(|name| Named::parse(name).unwrap()).collect();
            Proof::new(SignerId(1), names, Arc::default())
        };
        let (rogue, honest) = (signed_by(&["shop", "sensor-*"]), signed_by(&["billing"]));
        let keys = RandomState::new();
        let invented: Vec<_> =
            ["shop", "shop", "sensor-1", "sensor-2"].map(|name| sent(name, Some(&rogue))).into();
        for wave in &invented {
            assert!(wave.is_of_source_of(&invented[0]));
            assert_eq!(wave.source_hash(&keys), invented[0].source_hash(&keys));
        }
        let other = sent("billing", Some(&honest));
        assert!(!other.is_of_source_of(&invented[0]));
        assert_ne!(other.source_hash(&keys), invented[0].source_hash(&keys));
        // Nothing proves these.
        let [one, another] = ["shop", "shop"].map(|name| sent(name, None));
        assert!(
            one.is_of_source_of(&one) && !one.is_of_source_of(&another) && !one.is_of_source_of(&invented[0])
        );
        assert_ne!(one.source_hash(&keys), another.source_hash(&keys));
    }
}
