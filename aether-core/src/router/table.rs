//! The routing table: the tree of patterns, the subscriptions that share an inbox, and the turns of each group.
//!
//! Guarded by the router's lock. The cost of a change does not depend on the number of subscriptions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};

use super::cache::Changes;
use super::route::{GroupRoute, Parts, Route};
use super::subscription::Subscription;
use super::trie::{InboxKey, PatternEntry, Rival, Trie};
use crate::channel::Channel;

/// The number of pattern sets for which a group keeps a turn. Most groups need one; groups whose members use
/// overlapping patterns need more.
const MAX_TURNS: usize = 64;

#[derive(Default)]
pub(super) struct Table {
    trie: Trie,
    /// The ungrouped subscriptions of each inbox that has any.
    lone: HashMap<InboxKey, Lone>,
    groups: HashMap<Arc<str>, GroupMembers>,
    last_place: u64,
    changes: Changes,
}

/// The patterns by which the members of a group hear a channel, by their entries.
type PatternIds = SmallVec<[u64; 2]>;

fn key(subscription: &Subscription) -> InboxKey {
    Rival::of(subscription).inbox
}

enum Lone {
    /// The usual case.
    One(Arc<Subscription>),
    /// The current number; it was at least two once.
    Several(usize),
}

/// The turns of a group, modulo the number of members.
#[derive(Default)]
struct GroupMembers {
    /// By all patterns.
    members: usize,
    /// One turn for each set of patterns by which members match a channel. With a single turn, alternating channels
    /// could starve a member forever.
    turns: Mutex<HashMap<PatternIds, Arc<AtomicUsize>>>,
}

impl GroupMembers {
    fn turn(&self, places: PatternIds) -> Arc<AtomicUsize> {
        let mut turns = self.turns.lock();
        if turns.len() >= MAX_TURNS && !turns.contains_key(&places) {
            turns.clear();
        }
        Arc::clone(turns.entry(places).or_default())
    }
}

impl Table {
    /// Inserts a subscription. Its id must be higher than any other.
    pub(super) fn insert(&mut self, subscription: &Arc<Subscription>) {
        self.changes.note(&subscription.pattern);
        let place = self.trie.place(&subscription.pattern, || {
            self.last_place += 1;
            self.last_place
        });
        place.changed = self.changes.count();
        Arc::make_mut(&mut place.hearers).insert(Arc::clone(subscription));
        match &subscription.group {
            Some(name) => self.groups.entry(Arc::clone(name)).or_default().members += 1,
            None => {
                place.lone += 1;
                self.insert_lone(subscription);
            }
        }
    }

    fn insert_lone(&mut self, subscription: &Arc<Subscription>) {
        let count = match self.lone.get_mut(&key(subscription)) {
            None => {
                self.lone.insert(key(subscription), Lone::One(Arc::clone(subscription)));
                return;
            }
            Some(Lone::One(first)) => {
                let first = Arc::clone(first);
                self.insert_rival(&first);
                1
            }
            Some(Lone::Several(count)) => *count,
        };
        self.lone.insert(key(subscription), Lone::Several(count + 1));
        self.insert_rival(subscription);
    }

    fn insert_rival(&mut self, subscription: &Arc<Subscription>) {
        let Some(place) = self.trie.existing(&subscription.pattern) else { return };
        place.rivals.insert(subscription.id, Rival::of(subscription));
    }

    pub(super) fn remove(&mut self, subscription: &Subscription) {
        self.changes.note(&subscription.pattern);
        let Some(place) = self.trie.existing(&subscription.pattern) else { return };
        place.changed = self.changes.count();
        Arc::make_mut(&mut place.hearers).remove(subscription);
        place.rivals.remove(&subscription.id);
        place.lone -= usize::from(subscription.group.is_none());
        if place.hearers.is_empty() {
            self.trie.prune(&subscription.pattern);
        }
        match &subscription.group {
            Some(name) => {
                if let Some(group) = self.groups.get_mut(name) {
                    group.members -= 1;
                    if group.members == 0 {
                        self.groups.remove(name);
                    }
                }
            }
            None => self.remove_lone(subscription),
        }
    }

    fn remove_lone(&mut self, subscription: &Subscription) {
        let inbox = key(subscription);
        match self.lone.get_mut(&inbox) {
            Some(Lone::Several(count)) if *count > 1 => *count -= 1,
            _ => drop(self.lone.remove(&inbox)),
        }
    }

    /// Invalidates routes after a subscription was muted or unmuted.
    pub(super) fn touch(&mut self, subscription: &Subscription) {
        self.changes.note(&subscription.pattern);
        if let Some(place) = self.trie.existing(&subscription.pattern) {
            if let Some(rival) = place.rivals.get_mut(&subscription.id) {
                *rival = Rival::of(subscription);
            }
            place.changed = self.changes.count();
        }
    }

    /// The number of changes, each by one of the three above.
    pub(super) fn changes(&self) -> u64 {
        self.changes.count()
    }

    /// The route of a channel: the known one, if nothing has changed for the channel since that many changes.
    pub(super) fn route(&self, channel: &Channel, known: Option<(&Arc<Route>, u64)>) -> Arc<Route> {
        if let Some((route, since)) = known
            && self.changes.leave_alone(channel, since)
        {
            return Arc::clone(route);
        }
        let places = self.trie.matching(channel);
        match known {
            // Entries that have gone are missing in the number, and new ones have changed.
            Some((route, since))
                if route.patterns == places.len() && places.iter().all(|place| place.changed <= since) =>
            {
                Arc::clone(route)
            }
            _ => Arc::new(Route::new(places.len(), Self::parts(&places), self.groups_of(&places))),
        }
    }

    /// As on NATS, a group is identified by its name: members may use different patterns.
    fn groups_of(&self, places: &[&PatternEntry]) -> Vec<GroupRoute> {
        let mut found: Vec<(&Arc<str>, GroupRoute, PatternIds)> = Vec::new();
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        for place in places {
            for (name, members) in &place.hearers.groups {
                match by_name.entry(&**name) {
                    Entry::Occupied(known) => {
                        let (_, group, places) = &mut found[*known.get()];
                        group.members.extend(members);
                        places.push(place.id);
                    }
                    Entry::Vacant(new) => {
                        new.insert(found.len());
                        let group = GroupRoute { members: members.clone(), ..GroupRoute::default() };
                        found.push((name, group, smallvec![place.id]));
                    }
                }
            }
        }
        let with_turn = |(name, mut group, places): (&Arc<str>, GroupRoute, _)| {
            group.count = group.members.len();
            if let Some(known) = self.groups.get(name) {
                group.turn = known.turn(places);
            }
            group
        };
        found.into_iter().map(with_turn).collect()
    }

    /// The ungrouped subscribers of each entry, with one subscription for each inbox: the one that relabels, or else
    /// the oldest. An inbox whose subscriptions here are all muted has none. Each subscription of an inbox with several
    /// is looked at once.
    fn parts(places: &[&PatternEntry]) -> Parts {
        let rank_of = |(id, rival): (&u64, &Rival)| (!rival.relabels, *id);
        let mut first: HashMap<InboxKey, ((bool, u64), bool)> = HashMap::new();
        for (id, rival) in places.iter().flat_map(|place| &place.rivals) {
            let (rank, is_heard) = first.entry(rival.inbox).or_insert(((true, u64::MAX), false));
            *rank = rank_of((id, rival)).min(*rank);
            *is_heard |= !rival.is_muted;
        }
        let is_represented = |one: &(&u64, &Rival)| first.get(&one.1.inbox) != Some(&(rank_of(*one), true));
        let of = |place: &&PatternEntry| {
            let here: Vec<u64> = place.rivals.iter().filter(is_represented).map(|(id, _)| *id).collect();
            (here.len() < place.lone).then(|| place.hearers.alone_but(here.into_iter()))
        };
        places.iter().filter_map(of).collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.trie.is_empty() && self.lone.is_empty() && self.groups.is_empty()
    }
}
