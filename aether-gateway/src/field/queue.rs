//! The changes that wait for one client: at most one for each slot, bounded in bytes. No clock and no socket.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::change::Change;
use super::slot::Slot;

/// A change that waits.
#[derive(Debug)]
struct Waiting {
    /// The revision of the oldest change of the slot that the client has not got.
    since: u64,
    /// The newest change; `None` if the slot has to be read when it is sent.
    change: Option<Arc<Change>>,
}

/// The outcome of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// It took the place of an older one.
    Coalesced,
    /// There is no room. Everything that waited is gone, and the client needs a snapshot.
    Overflowed,
}

#[derive(Debug)]
pub(super) struct Queue {
    order: VecDeque<Slot>,
    waiting: HashMap<Slot, Waiting>,
    bytes: usize,
    max_bytes: usize,
}

/// The size of a change that waits, in bytes.
fn cost(slot: &Slot, change: Option<&Arc<Change>>) -> usize {
    slot.size() + change.map_or(0, |change| change.size())
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), bytes: 0, max_bytes }
    }

    /// Queues a change of this revision; `None` is one that has to be read when it is sent.
    pub(super) fn push(&mut self, slot: &Slot, revision: u64, change: Option<Arc<Change>>) -> Pushed {
        let pushed = match self.waiting.get_mut(slot) {
            Some(waiting) => {
                self.bytes = self.bytes + cost(slot, change.as_ref()) - cost(slot, waiting.change.as_ref());
                waiting.change = change;
                Pushed::Coalesced
            }
            None => {
                self.bytes += cost(slot, change.as_ref());
                self.order.push_back(slot.clone());
                self.waiting.insert(slot.clone(), Waiting { since: revision, change });
                Pushed::Queued
            }
        };
        if self.bytes > self.max_bytes {
            self.clear();
            return Pushed::Overflowed;
        }
        pushed
    }

    /// The slot that waited longest, and its change.
    pub(super) fn pop(&mut self) -> Option<(Slot, Option<Arc<Change>>)> {
        let slot = self.order.pop_front()?;
        let Waiting { change, .. } = self.waiting.remove(&slot)?;
        self.bytes -= cost(&slot, change.as_ref());
        Some((slot, change))
    }

    /// The revision up to which nothing waits, if all changes up to `pushed` were pushed.
    pub(super) fn complete(&self, pushed: u64) -> u64 {
        let oldest = self.order.front().and_then(|slot| self.waiting.get(slot));
        oldest.map_or(pushed, |waiting| waiting.since - 1)
    }

    /// Keeps the changes of these slots.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Slot) -> bool) {
        let Self { order, waiting, bytes, .. } = self;
        order.retain(|slot| is_kept(slot));
        waiting.retain(|slot, _| is_kept(slot));
        *bytes = waiting.iter().map(|(slot, waiting)| cost(slot, waiting.change.as_ref())).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn clear(&mut self) {
        (self.order, self.waiting, self.bytes) = (VecDeque::new(), HashMap::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::Content;
    use super::*;

    fn change(name: &str, value: &'static str) -> (Slot, Option<Arc<Change>>) {
        let slot = Slot::Register(name.into());
        let content = Content::Register { value: Some(value.into()), version: None };
        (slot.clone(), Some(Change::new(slot, content)))
    }

    fn push(queue: &mut Queue, revision: u64, name: &str, value: &'static str) -> Pushed {
        let (slot, change) = change(name, value);
        queue.push(&slot, revision, change)
    }

    #[test]
    fn of_one_key_the_last_change_waits_in_the_place_of_the_first() {
        let mut queue = Queue::new(10_000);
        assert_eq!(push(&mut queue, 1, "a", "1"), Pushed::Queued);
        assert_eq!(push(&mut queue, 2, "b", "1"), Pushed::Queued);
        assert_eq!(push(&mut queue, 3, "a", "2"), Pushed::Coalesced);
        assert_eq!(queue.complete(3), 0);
        let (slot, change) = queue.pop().unwrap();
        assert_eq!(slot.name(), "a");
        let expected = Content::Register { value: Some("2".into()), version: None };
        assert_eq!(change.unwrap().content, expected);
        assert_eq!(queue.complete(3), 1, "the change of b still waits");
        queue.pop().unwrap();
        assert_eq!((queue.complete(3), queue.bytes, queue.len()), (3, 0, 0));
    }

    #[test]
    fn a_full_queue_is_given_up_as_a_whole() {
        let mut queue = Queue::new(1000);
        let pushed: Vec<_> =
            (1..=5).map(|revision| push(&mut queue, revision, &format!("key{revision}"), "1")).collect();
        assert!(pushed.contains(&Pushed::Overflowed), "{pushed:?}");
        let mut queue = Queue::new(1000);
        (1..1000).for_each(|revision| assert_ne!(push(&mut queue, revision, "a", "1"), Pushed::Overflowed));
        assert_eq!(queue.len(), 1);
    }
}
