//! A level whose sources take turns: a queue for each source, and one item of each queue in turn.
//!
//! Pure data, as [`Levels`](super::levels::Levels). Without it, one source that floods a level makes the waves of all others
//! wait behind its own. Items of one source always keep their order. Sources are known by a hash with secret keys while they
//! have items, and for as long after that as there is room. [`MOST`] sources have a queue of their own, so that invented ones
//! fill no table; those that come when all queues hold items share one that their hash names, and its turns.
//!
//! Turns are numbered, as in start-time fair queueing. A source that does not use its turns saves them, up to [`SAVED`], and
//! comes first while it has some. Without that, a source had its part of the service only from moment to moment: it waited as
//! long as at a server of its own that is slower by the number of sources, also when the source that floods was served while
//! it had nothing waiting. So a few items that happen to come together waited for as many items of each other source.

use std::collections::VecDeque;
use std::hash::RandomState;

use hashbrown::HashTable;

use super::longest::Longest;
use super::queued::{Bound, IN_ORDER, Queueable, Queued, release_burst};

/// The number of sources of a level that have a queue of their own.
pub(super) const MOST: usize = 1024;

/// The capacity kept for a source, in items.
const KEPT: usize = 16;

/// How many turns a source can save: as many as the items of a list that is served in the order of arrival. A source without
/// saved turns waits for as many items of each other source at most before it has a turn for each of theirs.
pub(super) const SAVED: u64 = IN_ORDER as u64;

/// Items of several sources, served in turn.
pub(super) struct Sources<T> {
    entries: Vec<Entry<T>>,
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
struct Entry<T> {
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
        let may_have_items = |entry: &Entry<T>| entry.is_shared && !entry.items.is_empty();
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
                self.entries.push(Entry::new());
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

impl<T> Entry<T> {
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
