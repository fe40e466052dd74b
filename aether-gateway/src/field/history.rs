//! The last changes of a field, for clients that come back: which slots changed since a revision. Values are read when
//! they are sent.

use std::collections::{BTreeMap, HashMap};

use super::slot::Slot;

/// The maximum size of a history in bytes, however many slots it may have.
const MAX_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct History {
    revision: u64,
    /// Changes up to this revision are forgotten.
    forgotten: u64,
    slots: BTreeMap<u64, Slot>,
    revisions: HashMap<Slot, u64>,
    max_slots: usize,
    bytes: usize,
}

impl History {
    pub(super) fn new(max_slots: usize) -> Self {
        Self {
            revision: 0,
            forgotten: 0,
            slots: BTreeMap::new(),
            revisions: HashMap::new(),
            max_slots,
            bytes: 0,
        }
    }

    /// The revision of the last change.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    /// Notes a change and returns its revision.
    pub(super) fn note(&mut self, slot: &Slot) -> u64 {
        self.revision += 1;
        if let Some(earlier) = self.revisions.insert(slot.clone(), self.revision) {
            self.slots.remove(&earlier);
        } else {
            self.bytes += 2 * slot.size();
        }
        self.slots.insert(self.revision, slot.clone());
        while self.slots.len() > self.max_slots || self.bytes > MAX_BYTES {
            let Some((revision, slot)) = self.slots.pop_first() else { break };
            self.revisions.remove(&slot);
            self.bytes -= 2 * slot.size();
            self.forgotten = revision;
        }
        self.revision
    }

    /// The slots that changed after a revision, with the revision of their last change; `None` if that is too long ago,
    /// or still to come.
    pub(super) fn since(&self, revision: u64) -> Option<impl Iterator<Item = (u64, &Slot)>> {
        let is_known = (self.forgotten..=self.revision).contains(&revision);
        is_known.then(|| self.slots.range(revision + 1..).map(|(&revision, slot)| (revision, slot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(history: &History, revision: u64) -> Option<Vec<(u64, &str)>> {
        let slots = history.since(revision)?;
        Some(slots.map(|(revision, slot)| (revision, slot.name().as_str())).collect())
    }

    #[test]
    fn each_slot_is_there_once_and_the_oldest_are_forgotten() {
        let mut history = History::new(2);
        for name in ["a", "b", "a"] {
            history.note(&Slot::Register(name.into()));
        }
        assert_eq!(since(&history, 0), Some(vec![(2, "b"), (3, "a")]));
        assert_eq!(since(&history, 3), Some(vec![]));
        history.note(&Slot::Register("c".into()));
        assert_eq!(since(&history, 1), None, "the change of b is forgotten");
        assert_eq!(since(&history, 2), Some(vec![(3, "a"), (4, "c")]));
        assert_eq!(since(&history, 5), None);
    }
}
