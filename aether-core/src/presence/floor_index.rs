//! The floor index: the receivers of a channel and their floors. Senders that respect floors query it before each wave.
//!
//! [`Index`] is pure data, a tree of the patterns' tokens; the time is a parameter. [`FloorIndex`] is shared by
//! emitters and the tables of receivers. An emitter never waits for it: while the index is being changed, no wave is
//! stopped.
//!
//! The rule, computed by [`Index::floor_of`]: **a wave may be stopped at its source if its channel has a known
//! receiver, and every known receiver has advertised a floor above the wave.** In a group this applies to each member,
//! because any of them may be next. A receiver that advertised nothing hears everything.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::amplitude::{Floor, STEPS_PER_OCTAVE};
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::sync::{AtomicBool, AtomicU64, RwLock, thread_local};

/// How long an advertised floor holds: twice the interval at which it is repeated.
pub(super) const HOLD: Duration = Duration::from_secs(2);
/// After that it decays by an octave (halves) each second.
const DECAY_STEPS_PER_SECOND: u32 = STEPS_PER_OCTAVE;
/// How long a computed floor is reused; floors decay by less than half a level in that time.
const REUSED_FOR: Duration = Duration::from_millis(100);
/// The number of channels that a thread remembers.
const RECENT: usize = 8;
/// The maximum number of nodes and receivers visited for one channel. Beyond it the floor counts as open, and nothing
/// is stopped.
const MAX_STEPS: usize = 4096;
/// The maximum memory used in the index by a pattern and by each of its tokens, excluding the text.
pub(super) const PATTERN_BYTES: usize = 128;
pub(super) const TOKEN_BYTES: usize = 256;

/// A receiver's slot in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// The patterns of all receivers as a tree of tokens.
#[derive(Default)]
pub(super) struct Index {
    root: IndexNode,
    hearers: Vec<Hearer>,
    free_slots: Vec<Slot>,
    /// The number of receivers whose advertised floor is not open, decayed or not.
    raised: usize,
}

/// How many times each receiver subscribes to a pattern: it may do so alone and in groups.
type Times = BTreeMap<Slot, u32>;

/// A node: one token of the tree.
#[derive(Default)]
struct IndexNode {
    /// The receivers of the pattern that ends here.
    here: Times,
    /// The receivers of the pattern that ends in `>` here.
    rest: Times,
    /// By token. Boxed, as most nodes have one child, and a table has room for four.
    children: HashMap<Box<str>, Box<IndexNode>>,
}

impl IndexNode {
    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.rest.is_empty() && self.children.is_empty()
    }

    /// Counts a pattern of a receiver once less. Empty branches are freed.
    fn forget<'a>(&mut self, mut tokens: impl Iterator<Item = &'a str>, slot: Slot) {
        let times = match tokens.next() {
            None => &mut self.here,
            Some(">") => &mut self.rest,
            Some(token) => {
                let Some(child) = self.children.get_mut(token) else { return };
                // As a trait object, or the type of the iterator would contain itself.
                let tokens: &mut dyn Iterator<Item = &'a str> = &mut tokens;
                child.forget(tokens, slot);
                if child.is_empty() {
                    self.children.remove(token);
                    if self.children.len() < self.children.capacity() / 8 {
                        self.children.shrink_to_fit();
                    }
                }
                return;
            }
        };
        if let Some(count) = times.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                times.remove(&slot);
            }
        }
    }

    /// Visits all receivers of the rest of a channel. Returns whether the floor is open, which ends the search.
    fn look(&self, tokens: &[&str], hearers: &[Hearer], now: Instant, lowest: &mut Lowest) -> bool {
        let Some((first, tokens)) = tokens.split_first() else {
            return lowest.take(&self.here, hearers, now);
        };
        lowest.take(&self.rest, hearers, now)
            || [*first, "*"].into_iter().any(|token| {
                self.children.get(token).is_some_and(|child| child.look(tokens, hearers, now, lowest))
            })
    }
}

#[derive(Clone, Copy)]
struct Hearer {
    floor: Floor,
    /// When it was advertised.
    since: Instant,
}

impl Hearer {
    fn floor_at(&self, now: Instant) -> Floor {
        decayed(self.floor, now.saturating_duration_since(self.since))
    }
}

/// An advertised floor after decay.
fn decayed(floor: Floor, age: Duration) -> Floor {
    let over = age.saturating_sub(HOLD).as_millis();
    let steps = over.saturating_mul(u128::from(DECAY_STEPS_PER_SECOND)) / 1000;
    if floor.is_open() { floor } else { floor.lowered(u32::try_from(steps).unwrap_or(u32::MAX)) }
}

impl Index {
    /// The number of receivers.
    #[cfg(feature = "test-util")]
    pub(super) fn len(&self) -> usize {
        self.hearers.len() - self.free_slots.len()
    }

    /// Adds a receiver without patterns and with an open floor.
    pub(super) fn add(&mut self, now: Instant) -> Slot {
        let hearer = Hearer { floor: Floor::OPEN, since: now };
        if let Some(slot) = self.free_slots.pop() {
            self.hearers[slot.0 as usize] = hearer;
            return slot;
        }
        self.hearers.push(hearer);
        // Each takes more than four bytes, so there are never that many.
        Slot(u32::try_from(self.hearers.len() - 1).unwrap_or(u32::MAX))
    }

    /// Removes a receiver without patterns.
    pub(super) fn remove(&mut self, slot: Slot, now: Instant) {
        self.advertise(slot, Floor::OPEN, now);
        self.free_slots.push(slot);
        if self.free_slots.len() == self.hearers.len() {
            (self.free_slots, self.hearers) = (Vec::new(), Vec::new());
        }
    }

    /// Sets the floor that a receiver advertised.
    pub(super) fn advertise(&mut self, slot: Slot, floor: Floor, now: Instant) {
        let hearer = &mut self.hearers[slot.0 as usize];
        self.raised -= usize::from(!hearer.floor.is_open());
        self.raised += usize::from(!floor.is_open());
        *hearer = Hearer { floor, since: now };
    }

    /// Whether any advertised floor is not open.
    pub(super) const fn is_raised(&self) -> bool {
        self.raised > 0
    }

    /// Adds a pattern of a receiver, or counts it once more.
    pub(super) fn hear(&mut self, slot: Slot, pattern: &Pattern) {
        let mut node = &mut self.root;
        for token in pattern.tokens() {
            if token == ">" {
                *node.rest.entry(slot).or_default() += 1;
                return;
            }
            node = node.children.entry(token.into()).or_default();
        }
        *node.here.entry(slot).or_default() += 1;
    }

    /// Removes a pattern of a receiver, or counts it once less.
    pub(super) fn forget(&mut self, slot: Slot, pattern: &Pattern) {
        self.root.forget(pattern.tokens(), slot);
    }

    /// The floor below which no receiver hears a channel; open if any receiver hears everything, or none is known.
    pub(super) fn floor_of(&self, channel: &Channel, now: Instant) -> Floor {
        let tokens: Vec<&str> = channel.tokens().collect();
        let mut lowest = Lowest { floor: None, steps: 0 };
        // Leading wildcards do not match the framework's own channels.
        let (node, tokens) = match tokens.split_first() {
            Some((first, rest)) if channel.is_reserved() => {
                (self.root.children.get(*first).map(Box::as_ref), rest)
            }
            _ => (Some(&self.root), &*tokens),
        };
        if let Some(node) = node {
            node.look(tokens, &self.hearers, now, &mut lowest);
        }
        lowest.floor.unwrap_or(Floor::OPEN)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty() && self.hearers.is_empty() && self.raised == 0
    }
}

/// The lowest floor among the visited receivers.
struct Lowest {
    floor: Option<Floor>,
    steps: usize,
}

impl Lowest {
    fn take(&mut self, times: &Times, hearers: &[Hearer], now: Instant) -> bool {
        self.steps += 1;
        for slot in times.keys() {
            self.steps += 1;
            let floor = hearers[slot.0 as usize].floor_at(now);
            let floor = self.floor.map_or(floor, |lowest| lowest.min(floor));
            self.floor = Some(if self.steps > MAX_STEPS { Floor::OPEN } else { floor });
            if self.floor.is_some_and(Floor::is_open) {
                return true;
            }
        }
        if self.steps > MAX_STEPS {
            self.floor = Some(Floor::OPEN);
        }
        self.steps > MAX_STEPS
    }
}

thread_local! {
    /// The floors last computed by this thread. Remote receivers decide how long a walk of the tree takes, so an emitter
    /// makes one for a channel and not one for each wave.
    static KNOWN: RefCell<[Option<RecentFloor>; RECENT]> = const { RefCell::new([const { None }; RECENT]) };
}

struct RecentFloor {
    index: u64,
    generation: u64,
    channel: Channel,
    floor: Floor,
    at: Instant,
}

/// The index, shared by emitters and the tables of receivers.
pub(super) struct FloorIndex {
    index: RwLock<Index>,
    /// Identifies the index within the process.
    id: u64,
    /// Incremented with every change of the index.
    generation: AtomicU64,
    /// Whether any floor may be up; emitters check this first.
    is_raised: AtomicBool,
    /// Receivers may be missing in the index, so nothing is stopped.
    is_incomplete: AtomicBool,
}

impl FloorIndex {
    pub(super) fn new() -> Self {
        static LAST_ID: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            index: RwLock::default(),
            id: LAST_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            is_raised: AtomicBool::new(false),
            is_incomplete: AtomicBool::new(false),
        }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::Relaxed)
    }

    pub(super) fn set_incomplete(&self, is_incomplete: bool) {
        // A sender that finds the index complete sees the changes that made it so.
        self.is_incomplete.store(is_incomplete, Ordering::Release);
    }

    /// Changes the index.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = self.index.write();
        let changed = change(&mut index);
        if index.is_raised() {
            self.is_raised.store(true, Ordering::Relaxed);
        }
        self.generation.fetch_add(1, Ordering::Release);
        changed
    }

    /// The floor below which no receiver hears a channel. Never waits: open while the index is being changed.
    pub(super) fn floor_of(&self, channel: &Channel, now: Instant) -> Floor {
        if self.is_incomplete.load(Ordering::Acquire) {
            return Floor::OPEN;
        }
        let generation = self.generation.load(Ordering::Acquire);
        let is_known = |known: &&RecentFloor| {
            (known.index, known.generation) == (self.id, generation)
                && known.channel == *channel
                && now.saturating_duration_since(known.at) < REUSED_FOR
        };
        let known =
            KNOWN.with(|recent| recent.borrow().iter().flatten().find(is_known).map(|known| known.floor));
        if let Some(floor) = known {
            return floor;
        }
        let Some(index) = self.index.try_read() else { return Floor::OPEN };
        let floor = index.floor_of(channel, now);
        if !index.is_raised() {
            // A floor is raised only under the write lock.
            self.is_raised.store(false, Ordering::Relaxed);
        }
        drop(index);
        let known = RecentFloor { index: self.id, generation, channel: channel.clone(), floor, at: now };
        KNOWN.with(|recent| recent.borrow_mut()[place_of(channel)] = Some(known));
        floor
    }
}

/// The place of a channel. The hash in the channel differs between processes, and a channel that displaces another one
/// decides for how long the other's floor is reused: it would be another wave that is stopped.
fn place_of(channel: &Channel) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(channel.as_str());
    (hash >> 32) as usize % RECENT
}

#[cfg(test)]
mod tests;
