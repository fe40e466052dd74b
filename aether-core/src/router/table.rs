//! The routing table: the tree of patterns, the subscriptions that share an inbox, and the turns of each group.
//!
//! Guarded by the router's lock. The cost of a change does not depend on the number of subscriptions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};

use super::changes::Changes;
use super::route::{GroupRoute, Route};
use super::subscription::Subscription;
use super::trie::{PatternEntries, PatternEntry, Trie};
use crate::channel::Channel;
use crate::inbox::Inbox;

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

/// The address of an inbox, unique while it has subscriptions.
type InboxKey = usize;

fn key(subscription: &Subscription) -> InboxKey {
    std::ptr::from_ref::<Inbox>(&subscription.inbox).addr()
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
        Arc::make_mut(&mut place.hearers).insert(Arc::clone(subscription));
        match &subscription.group {
            Some(name) => self.groups.entry(Arc::clone(name)).or_default().members += 1,
            None => self.insert_lone(subscription),
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
        place.rivals.insert(subscription.id, Arc::clone(subscription));
    }

    pub(super) fn remove(&mut self, subscription: &Subscription) {
        self.changes.note(&subscription.pattern);
        let Some(place) = self.trie.existing(&subscription.pattern) else { return };
        Arc::make_mut(&mut place.hearers).remove(subscription);
        place.rivals.remove(&subscription.id);
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
            // A different allocation from the one held by routes.
            place.hearers = Arc::new((*place.hearers).clone());
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
            Some((route, _)) if route.is_of(&places) => Arc::clone(route),
            _ => Arc::new(self.route_of(&places)),
        }
    }

    fn route_of(&self, places: &PatternEntries<'_>) -> Route {
        let hearers = places.iter().map(|place| Arc::clone(&place.hearers)).collect();
        let excluded = self.excluded(places);
        Route::new(hearers, excluded, self.groups_of(places))
    }

    /// As on NATS, a group is identified by its name: members may use different patterns.
    fn groups_of(&self, places: &PatternEntries<'_>) -> Vec<GroupRoute> {
        let mut found: Vec<(&Arc<str>, GroupRoute, PatternIds)> = Vec::new();
        for place in places {
            for (name, members) in &place.hearers.groups {
                match found.iter_mut().find(|(other, ..)| *other == name) {
                    Some((_, group, places)) => {
                        group.members.extend(members);
                        places.push(place.id);
                    }
                    None => {
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

    /// The ungrouped subscriptions that another one of their inbox stands in for.
    ///
    /// The oldest subscription of an inbox stands in for all its ungrouped ones, if one of them is not muted. A
    /// subscription that relabels a lane stands in for those that merely match the lane.
    ///
    /// Two subscriptions of one inbox are in two entries, so the largest entry can be skipped: its rivals are found
    /// elsewhere.
    fn excluded(&self, places: &PatternEntries<'_>) -> HashSet<u64> {
        let mut excluded = HashSet::new();
        let all_count = places.iter().any(|place| place.is_tangled);
        let with_rivals = || places.iter().filter(|place| !place.rivals.is_empty());
        let largest = with_rivals().max_by_key(|place| place.rivals.len()).map(|place| place.id);
        let is_looked_at = |place: &&&PatternEntry| all_count || Some(place.id) != largest;
        let mut seen = HashSet::new();
        for place in with_rivals().filter(is_looked_at) {
            for subscription in place.rivals.values() {
                let inbox = key(subscription);
                if !seen.insert(inbox) {
                    continue;
                }
                let same = || places.iter().filter_map(|place| self.rivals.get(&(inbox, place.id))).flatten();
                let is_heard = same().any(|subscription| !subscription.is_muted());
                let oldest =
                    same().min_by_key(|subscription| (subscription.relabel.is_none(), subscription.id));
                let heard = oldest.filter(|_| is_heard).map(|oldest| oldest.id);
                excluded.extend(same().map(|other| other.id).filter(|id| Some(*id) != heard));
            }
        }
        excluded
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.trie.is_empty() && self.lone.is_empty() && self.rivals.is_empty() && self.groups.is_empty()
    }
}
