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
    /// Those of inboxes with several, by pattern entry.
    rivals: HashMap<(InboxKey, u64), SmallVec<[Arc<Subscription>; 1]>>,
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

/// How early a subscription stands in for the others of its inbox: those that relabel first, then the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_plain: bool,
    id: u64,
}

/// The subscription that stands in for the ungrouped ones by which an inbox hears a channel.
#[derive(Default)]
struct Representative {
    first: Option<Rank>,
    /// One of them is not muted.
    is_heard: bool,
}

/// One of these subscriptions.
struct Represented {
    /// The index of its entry.
    place: usize,
    inbox: InboxKey,
    rank: Rank,
}

impl Representative {
    fn note(&mut self, id: u64, rival: Rival) -> Rank {
        let rank = Rank { is_plain: !rival.relabels, id };
        self.first = Some(self.first.map_or(rank, |first| first.min(rank)));
        self.is_heard |= !rival.is_muted;
        rank
    }

    fn is(&self, rank: Rank) -> bool {
        self.is_heard && self.first == Some(rank)
    }
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
        let same = self.rivals.entry((key(subscription), place.id)).or_default();
        same.push(Arc::clone(subscription));
        place.is_tangled |= same.len() > 1 || subscription.is_muted();
        place.rivals.insert(subscription.id, Rival::of(subscription));
    }

    pub(super) fn remove(&mut self, subscription: &Subscription) {
        self.changes.note(&subscription.pattern);
        let Some(place) = self.trie.existing(&subscription.pattern) else { return };
        place.changed = self.changes.count();
        Arc::make_mut(&mut place.hearers).remove(subscription);
        place.rivals.remove(&subscription.id);
        place.lone -= usize::from(subscription.group.is_none());
        let (id, is_unheard) = (place.id, place.hearers.is_empty());
        if is_unheard {
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
            None => self.remove_lone(subscription, id),
        }
    }

    fn remove_lone(&mut self, subscription: &Subscription, place: u64) {
        let inbox = key(subscription);
        match self.lone.get_mut(&inbox) {
            Some(Lone::Several(count)) if *count > 1 => *count -= 1,
            _ => drop(self.lone.remove(&inbox)),
        }
        if let Some(same) = self.rivals.get_mut(&(inbox, place)) {
            same.retain(|other| other.id != subscription.id);
            if same.is_empty() {
                self.rivals.remove(&(inbox, place));
            }
        }
    }

    /// Invalidates routes after a subscription was muted or unmuted.
    pub(super) fn touch(&mut self, subscription: &Subscription) {
        self.changes.note(&subscription.pattern);
        if let Some(place) = self.trie.existing(&subscription.pattern) {
            place.is_tangled = true;
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
            _ => Arc::new(Route::new(places.len(), self.parts(&places), self.groups_of(&places))),
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

    /// The ungrouped subscribers of a channel, each inbox once.
    fn parts(&self, places: &[&PatternEntry]) -> Parts {
        let represented = self.represented(places);
        let mut represented = represented.chunk_by(|one, other| one.place == other.place).peekable();
        let of = |(index, place): (usize, &&PatternEntry)| {
            let here = represented.next_if(|chunk| chunk[0].place == index).unwrap_or_default();
            (here.len() < place.lone).then(|| place.hearers.alone_but(here.iter().map(|one| one.rank.id)))
        };
        places.iter().enumerate().filter_map(of).collect()
    }

    /// The ungrouped subscriptions that another one of their inbox stands in for, in the order of their entries.
    ///
    /// The oldest subscription of an inbox stands in for all its ungrouped ones, if one of them is not muted. A
    /// subscription that relabels a lane stands in for those that merely match the lane.
    ///
    /// Two subscriptions of one inbox are in two entries, so the largest entry can be skipped: its rivals are found
    /// elsewhere. Each other rival is looked at once, however many patterns its inbox has.
    fn represented(&self, places: &[&PatternEntry]) -> Vec<Represented> {
        let with_rivals = || places.iter().enumerate().filter(|(_, place)| !place.rivals.is_empty());
        let all_count = places.iter().any(|place| place.is_tangled);
        let largest = with_rivals().max_by_key(|(_, place)| place.rivals.len()).filter(|_| !all_count);
        let mut inboxes: HashMap<InboxKey, Representative> = HashMap::new();
        let mut rivals = Vec::new();
        for (index, place) in
            with_rivals().filter(|(index, _)| largest.is_none_or(|(other, _)| other != *index))
        {
            for (id, rival) in &place.rivals {
                let rank = inboxes.entry(rival.inbox).or_default().note(*id, *rival);
                rivals.push(Represented { place: index, inbox: rival.inbox, rank });
            }
        }
        if let Some((index, place)) = largest {
            for (inbox, representative) in &mut inboxes {
                for subscription in self.rivals.get(&(*inbox, place.id)).into_iter().flatten() {
                    let rank = representative.note(subscription.id, Rival::of(subscription));
                    rivals.push(Represented { place: index, inbox: *inbox, rank });
                }
            }
        }
        rivals.retain(|rival| !inboxes.get(&rival.inbox).is_some_and(|one| one.is(rival.rank)));
        rivals.sort_by_key(|rival| rival.place);
        rivals
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.trie.is_empty() && self.lone.is_empty() && self.rivals.is_empty() && self.groups.is_empty()
    }
}
