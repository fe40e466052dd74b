//! A level whose sources take turns: a queue for each source, and one item of each queue in turn.
//!
//! Pure data, as [`Levels`](super::queue::Levels). Without it, one source that floods a level makes the waves of all others
//! wait behind its own. Items of one source always keep their order. Sources are known by a hash with secret keys while they
//! have items, and for as long after that as there is room. [`MOST`] sources have a queue of their own, so that
//! invented ones fill no table; those that come when all queues hold items share one that their hash names, and its
//! turns.
//!
//! Turns are numbered, as in start-time fair queueing. A source that does not use its turns saves them, up to
//! [`SAVED`], and comes first while it has some. Without that, a source had its part of the service only from moment
//! to moment: it waited as long as at a server of its own that is slower by the number of sources, also when the
//! source that floods was served while it had nothing waiting. So a few items that happen to come together waited for
//! as many items of each other source.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::wave::Wave;

/// The number of sources of a level that have a queue of their own.
pub(super) const MOST: usize = 1024;

/// The capacity kept for a source, in items.
const KEPT: usize = 16;

/// How many turns a source can save: as many as the items of a list that is served in the order of arrival. A source without
/// saved turns waits for as many items of each other source at most before it has a turn for each of theirs.
///
/// Simulated, with ten sources of which one floods: p99 of the others 280 ms without saved turns and 75 ms with 32, against
/// 112 ms without the flood.
pub(super) const SAVED: u64 = IN_ORDER as u64;

/// Items of several sources, served in turn.
pub(super) struct Sources<T> {
    entries: Vec<SourceQueue<T>>,
    /// The entries that have a source are those before this one.
    used: usize,
    /// The entries by the hashes of their sources.
    places: HashTable<u16>,
    /// The places with saved turns, the next first. An entry with items is in one of these two lists, once; an entry whose
    /// items were taken out of turn keeps its place there.
    first: VecDeque<u16>,
    /// The other ones, the next first.
    turns: VecDeque<u16>,
    /// Entries that had no items, the first that may get another source first.
    vacant: VecDeque<u16>,
    /// The number of the last turn of a source that had none saved.
    turn: u64,
    /// The entries with most items, and with the heaviest ones.
    waves: Longest,
    bytes: Longest,
    keys: RandomState,
    len: usize,
}

/// A source, or several that share its turns.
struct SourceQueue<T> {
    hash: u64,
    /// In the order of arrival.
    items: VecDeque<Queued<T>>,
    /// The weight of the items.
    bytes: usize,
    /// The number of its next turn. The turns up to the last one are saved.
    next: u64,
    is_listed: bool,
    is_vacant: bool,
    /// Some of its items are of other sources.
    is_shared: bool,
}

impl<T: Queueable> Sources<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            used: 0,
            places: HashTable::new(),
            first: VecDeque::new(),
            turns: VecDeque::new(),
            vacant: VecDeque::new(),
            turn: SAVED,
            waves: Longest::default(),
            bytes: Longest::default(),
            keys: RandomState::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the newest item.
    pub(super) fn push(&mut self, queued: Queued<T>) {
        let place = self.place_of(&queued.item);
        let oldest_saved = self.turn.saturating_sub(SAVED);
        let entry = &mut self.entries[usize::from(place)];
        entry.bytes += queued.item.weight();
        entry.items.push_back(queued);
        if !entry.is_listed {
            entry.next = entry.next.max(oldest_saved);
            self.list(place);
        }
        self.note(place);
        self.len += 1;
    }

    /// Puts back an item that is older than all others of its source, with the turn that it has used.
    pub(super) fn put_back(&mut self, queued: Queued<T>) {
        let place = self.place_of(&queued.item);
        let entry = &mut self.entries[usize::from(place)];
        entry.next = entry.next.saturating_sub(1);
        entry.bytes += queued.item.weight();
        entry.items.push_front(queued);
        if !std::mem::replace(&mut entry.is_listed, true) {
            self.first.push_front(place);
        }
        self.note(place);
        self.len += 1;
    }

    /// The oldest item of the source whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Queued<T>> {
        loop {
            let has_saved = !self.first.is_empty();
            let place = if has_saved { self.first.pop_front() } else { self.turns.pop_front() }?;
            let entry = &mut self.entries[usize::from(place)];
            entry.is_listed = false;
            if entry.items.is_empty() {
                continue;
            }
            if !has_saved {
                self.turn = self.turn.max(entry.next);
            }
            return self.take_in_turn(place, 0);
        }
    }

    /// The next item pushed after the mark `after` that `wanted` accepts, in the order of turns.
    pub(super) fn pop_where(&mut self, after: u64, mut wanted: impl FnMut(&T) -> bool) -> Option<Queued<T>> {
        let entries = &self.entries;
        let mut find = |place: &u16| {
            let items = &entries[usize::from(*place)].items;
            items.back().filter(|newest| newest.arrival > after)?;
            let first = items.partition_point(|queued| queued.arrival <= after);
            Some(first + items.range(first..).position(|queued| wanted(&queued.item))?)
        };
        let mut find_in = |list: &VecDeque<u16>| {
            list.iter().enumerate().find_map(|(turn, place)| Some((turn, *place, find(place)?)))
        };
        let (place, index) = if let Some((turn, place, index)) = find_in(&self.first) {
            self.first.remove(turn);
            (place, index)
        } else {
            let (turn, place, index) = find_in(&self.turns)?;
            self.turns.remove(turn);
            (place, index)
        };
        self.take_in_turn(place, index)
    }

    /// Takes an item of an entry that is not listed, for one of its turns.
    fn take_in_turn(&mut self, place: u16, index: usize) -> Option<Queued<T>> {
        let queued = self.take(place, index)?;
        let entry = &mut self.entries[usize::from(place)];
        entry.next += 1;
        entry.is_listed = false;
        if !entry.items.is_empty() {
            self.list(place);
        }
        Some(queued)
    }

    /// Puts an entry behind the others that have saved turns, or have not.
    fn list(&mut self, place: u16) {
        let entry = &mut self.entries[usize::from(place)];
        entry.is_listed = true;
        match entry.next < self.turn {
            true => self.first.push_back(place),
            false => self.turns.push_back(place),
        }
    }

    /// The oldest item of the source that uses most of a bound.
    pub(super) fn pop_from_longest(&mut self, bound: Bound) -> Option<Queued<T>> {
        let longest = match bound {
            Bound::Waves => self.waves.longest(),
            Bound::Bytes => self.bytes.longest(),
        };
        self.take(longest? as u16, 0)
    }

    /// The mark of the item that was pushed first.
    pub(super) fn oldest_arrival(&self) -> Option<u64> {
        self.entries[..self.used].iter().filter_map(|entry| Some(entry.items.front()?.arrival)).min()
    }

    /// Moves all items out, in the order of arrival. All sources are forgotten.
    pub(super) fn dissolve(&mut self) -> VecDeque<Queued<T>> {
        let mut items: Vec<_> =
            self.entries[..self.used].iter_mut().flat_map(|entry| entry.items.drain(..)).collect();
        items.sort_unstable_by_key(|queued| queued.arrival);
        self.clear();
        items.into()
    }

    fn clear(&mut self) {
        for entry in &mut self.entries[..self.used] {
            (entry.bytes, entry.is_listed, entry.is_vacant, entry.is_shared) = (0, false, false, false);
            release_burst(&mut entry.items, KEPT);
        }
        (self.used, self.len, self.turn) = (0, 0, SAVED);
        self.places.clear();
        for list in [&mut self.first, &mut self.turns, &mut self.vacant] {
            list.clear();
        }
        self.waves.clear();
        self.bytes.clear();
    }

    /// The items that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.iter().map(|entry| entry.items.capacity()).sum()
    }

    fn take(&mut self, place: u16, index: usize) -> Option<Queued<T>> {
        let entry = &mut self.entries[usize::from(place)];
        let queued = entry.items.remove(index)?;
        entry.bytes -= queued.item.weight();
        release_burst(&mut entry.items, KEPT);
        if entry.items.is_empty() {
            entry.is_shared = false;
            if !std::mem::replace(&mut entry.is_vacant, true) {
                self.vacant.push_back(place);
            }
        }
        self.note(place);
        self.len -= 1;
        Some(queued)
    }

    /// Notes how much an entry uses.
    fn note(&mut self, place: u16) {
        let place = usize::from(place);
        let entry = &self.entries[place];
        self.waves.set(place, entry.items.len());
        self.bytes.set(place, entry.bytes);
    }

    /// The entry of an item's source: its own, or one that it shares.
    fn place_of(&mut self, item: &T) -> u16 {
        let hash = item.source_hash(&self.keys);
        if let Some(place) = self.places.find(hash, |place| self.entries[usize::from(*place)].hash == hash) {
            return *place;
        }
        // There are no more entries than 2^16.
        let shared = (hash % MOST as u64) as u16;
        let may_have_items = |entry: &SourceQueue<T>| entry.is_shared && !entry.items.is_empty();
        // Else a source that has shared it would overtake its own items.
        if self.used == MOST && may_have_items(&self.entries[usize::from(shared)]) {
            return shared;
        }
        let Some(place) = self.vacate() else {
            self.entries[usize::from(shared)].is_shared = true;
            return shared;
        };
        let entry = &mut self.entries[usize::from(place)];
        (entry.hash, entry.next) = (hash, 0);
        let Self { places, entries, .. } = self;
        places.insert_unique(hash, place, |place| entries[usize::from(*place)].hash);
        place
    }

    /// An entry for another source, if not all have items.
    fn vacate(&mut self) -> Option<u16> {
        if self.used < MOST {
            if self.used == self.entries.len() {
                self.entries.push(SourceQueue::new());
            }
            self.used += 1;
            return Some((self.used - 1) as u16);
        }
        loop {
            let place = self.vacant.pop_front()?;
            let entry = &mut self.entries[usize::from(place)];
            entry.is_vacant = false;
            if entry.items.is_empty() {
                if let Ok(found) = self.places.find_entry(entry.hash, |other| *other == place) {
                    found.remove();
                }
                return Some(place);
            }
        }
    }
}

impl<T> SourceQueue<T> {
    const fn new() -> Self {
        Self {
            hash: 0,
            items: VecDeque::new(),
            bytes: 0,
            next: 0,
            is_listed: false,
            is_vacant: false,
            is_shared: false,
        }
    }
}

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

/// All waves of one principal are of one source, whatever names and instances they have, so that a signer gets the
/// turns of one source. Where nothing is proven, the source is the one that the wave names.
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

/// The number of queues that have one bound together.
const BLOCK: usize = 32;

/// Finds the queue that uses most. A look at each of 1024 would take 2.3 us for each item that is shed.
///
/// It keeps the use of each queue, and for each [`BLOCK`] of queues a bound that none of them exceeds. A queue that
/// shrinks leaves the bound as it is, and the search for the longest corrects it.
#[derive(Debug, Default)]
struct Longest {
    used: Vec<usize>,
    bounds: Vec<usize>,
}

impl Longest {
    /// Notes what a queue uses now.
    pub(super) fn set(&mut self, queue: usize, used: usize) {
        if queue >= self.used.len() {
            self.used.resize(queue + 1, 0);
            self.bounds.resize(queue / BLOCK + 1, 0);
        }
        self.used[queue] = used;
        let bound = &mut self.bounds[queue / BLOCK];
        *bound = used.max(*bound);
    }

    /// A queue that uses as much as any other; none if all are empty.
    pub(super) fn longest(&mut self) -> Option<usize> {
        loop {
            let (block, bound) = greatest(&self.bounds)?;
            let begin = block * BLOCK;
            let queues = &self.used[begin..self.used.len().min(begin + BLOCK)];
            let (queue, used) = greatest(queues)?;
            if bound == 0 {
                return None;
            }
            if used == bound {
                return Some(begin + queue);
            }
            self.bounds[block] = used;
        }
    }

    pub(super) fn clear(&mut self) {
        self.used.clear();
        self.bounds.clear();
    }
}

/// The first of the greatest numbers, and its place.
fn greatest(numbers: &[usize]) -> Option<(usize, usize)> {
    let greatest = *numbers.iter().max()?;
    Some((numbers.iter().position(|number| *number == greatest)?, greatest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::proof::{Named, Proof, SignerId};
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

    proptest! {
        #[test]
        fn it_is_what_a_look_at_each_queue_finds(steps in prop::collection::vec((0..200usize, 0..20usize), 0..300)) {
            let (mut longest, mut plain) = (Longest::default(), [0; 200]);
            for (queue, used) in steps {
                longest.set(queue, used);
                plain[queue] = used;
                let most = *plain.iter().max().unwrap();
                prop_assert_eq!(longest.longest().map(|queue| plain[queue]), (most > 0).then_some(most));
            }
            longest.clear();
            prop_assert_eq!(longest.longest(), None);
        }
    }
}
