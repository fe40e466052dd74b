//! The patterns of all subscriptions, as a tree of tokens.
//!
//! Searched only if the route of a channel is not cached or may be outdated.
//!
//! A route holds the hearers of its patterns as of when it was made. A change then copies one short piece of the list and
//! the array of pieces, however many subscribers there are; otherwise it copies nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::subscription::Subscription;
use crate::channel::{Channel, MAX_TOKENS, Pattern};
use crate::inbox::Inbox;

#[cfg(test)]
thread_local! {
    /// The number of nodes that this thread has looked at.
    pub(super) static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A node: one token of the tree.
#[derive(Default)]
pub(super) struct Trie {
    literal: HashMap<Box<str>, Trie>,
    one: Option<Box<Trie>>,
    /// The pattern that ends here.
    here: Option<Box<PatternEntry>>,
    /// The pattern that ends in `>` here.
    rest: Option<Box<PatternEntry>>,
}

/// The subscriptions of one pattern.
pub(super) struct PatternEntry {
    /// An id unique over the lifetime of the table.
    pub(super) id: u64,
    /// The number of changes of the table when this entry changed last.
    pub(super) changed: u64,
    pub(super) hearers: Arc<Hearers>,
    /// The number of ungrouped subscriptions.
    pub(super) lone: usize,
    /// The ungrouped subscriptions whose inbox has further ones, by id.
    pub(super) rivals: BTreeMap<u64, Rival>,
}

/// The properties by which one of several subscriptions of an inbox is chosen. A copy: where many patterns match, the
/// memory that is read is the cost.
#[derive(Clone, Copy)]
pub(super) struct Rival {
    pub(super) inbox: InboxKey,
    pub(super) relabels: bool,
    pub(super) is_muted: bool,
}

/// The address of an inbox, unique while it has subscriptions.
pub(super) type InboxKey = usize;

impl Rival {
    pub(super) fn of(subscription: &Subscription) -> Self {
        let (relabels, is_muted) = (subscription.relabel.is_some(), subscription.is_muted());
        Self { inbox: std::ptr::from_ref::<Inbox>(&subscription.inbox).addr(), relabels, is_muted }
    }
}

/// Most channels match one or two patterns.
pub(super) type PatternEntries<'a> = SmallVec<[&'a PatternEntry; 4]>;

impl Trie {
    /// The entry of a pattern, created on first use with the id `new_id`.
    pub(super) fn place(&mut self, pattern: &Pattern, new_id: impl FnOnce() -> u64) -> &mut PatternEntry {
        let mut node = self;
        let mut goes_on = false;
        for token in pattern.tokens() {
            match token {
                ">" => goes_on = true,
                "*" => node = node.one.get_or_insert_default(),
                token => node = node.literal.entry(token.into()).or_default(),
            }
        }
        let place = if goes_on { &mut node.rest } else { &mut node.here };
        place.get_or_insert_with(|| {
            Box::new(PatternEntry {
                id: new_id(),
                changed: 0,
                hearers: Arc::new(Hearers::new(pattern.clone())),
                lone: 0,
                rivals: BTreeMap::new(),
            })
        })
    }

    /// The entry of a pattern, if there is one.
    pub(super) fn existing(&mut self, pattern: &Pattern) -> Option<&mut PatternEntry> {
        let mut node = self;
        for token in pattern.tokens() {
            match token {
                ">" => return node.rest.as_deref_mut(),
                "*" => node = node.one.as_deref_mut()?,
                token => node = node.literal.get_mut(token)?,
            }
        }
        node.here.as_deref_mut()
    }

    /// Removes the entry of a pattern without subscribers, and the branches left empty.
    pub(super) fn prune(&mut self, pattern: &Pattern) {
        let tokens: SmallVec<[&str; MAX_TOKENS]> = pattern.tokens().collect();
        self.prune_below(&tokens);
    }

    fn prune_below(&mut self, tokens: &[&str]) {
        let is_unheard = |place: &mut Box<PatternEntry>| place.hearers.is_empty();
        match tokens {
            [] => drop(self.here.take_if(is_unheard)),
            [">"] => drop(self.rest.take_if(is_unheard)),
            ["*", tokens @ ..] => {
                if let Some(child) = &mut self.one {
                    child.prune_below(tokens);
                    if child.is_empty() {
                        self.one = None;
                    }
                }
            }
            [token, tokens @ ..] => {
                if let Some(child) = self.literal.get_mut(*token) {
                    child.prune_below(tokens);
                    if child.is_empty() {
                        self.literal.remove(*token);
                    }
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.one.is_none() && self.here.is_none() && self.rest.is_none()
    }

    /// The entries of all patterns that match a channel, always in the same order.
    pub(super) fn matching(&self, channel: &Channel) -> PatternEntries<'_> {
        let tokens: SmallVec<[&str; MAX_TOKENS]> = channel.tokens().collect();
        let mut found = PatternEntries::new();
        if channel.is_reserved() {
            // Leading wildcards do not match the framework's own channels.
            if let Some(child) = tokens.first().and_then(|first| self.literal.get(*first)) {
                child.collect(&tokens[1..], &mut found);
            }
        } else {
            self.collect(&tokens, &mut found);
        }
        found
    }

    /// At most 16 tokens deep with two branches each: bounded by the limits on names.
    fn collect<'a>(&'a self, tokens: &[&str], found: &mut PatternEntries<'a>) {
        #[cfg(test)]
        VISITED.set(VISITED.get() + 1);
        let [first, tokens @ ..] = tokens else {
            found.extend(self.here.as_deref());
            return;
        };
        found.extend(self.rest.as_deref());
        if let Some(child) = self.literal.get(*first) {
            child.collect(tokens, found);
        }
        if let Some(child) = &self.one {
            child.collect(tokens, found);
        }
    }
}

/// The maximum number of subscriptions in a piece of a list.
const PIECE: usize = 128;

/// Subscriptions in the order of their ids, in pieces shared by copies of the list.
#[derive(Clone, Default)]
pub(super) struct List {
    /// Never contains an empty piece.
    pieces: Vec<Arc<Vec<Arc<Subscription>>>>,
}

impl List {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sums over the pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// Appends the other list. Short pieces become one, so that a list of many short ones has few.
    pub(super) fn extend(&mut self, other: &Self) {
        for piece in &other.pieces {
            match self.pieces.last_mut() {
                Some(last) if last.len() + piece.len() <= PIECE => {
                    Arc::make_mut(last).extend(piece.iter().cloned());
                }
                _ => self.pieces.push(Arc::clone(piece)),
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// The subscription at an index.
    #[inline]
    pub(super) fn at(&self, mut place: usize) -> Option<&Arc<Subscription>> {
        for piece in &self.pieces {
            match piece.get(place) {
                Some(member) => return Some(member),
                None => place -= piece.len(),
            }
        }
        None
    }

    /// Appends a subscription. Its id must be higher than any other.
    fn push(&mut self, subscription: Arc<Subscription>) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => Arc::make_mut(piece).push(subscription),
            _ => self.pieces.push(Arc::new(vec![subscription])),
        }
    }

    fn remove(&mut self, id: u64) {
        let place = self.pieces.partition_point(|piece| piece.last().is_some_and(|last| last.id < id));
        let Some(piece) = self.pieces.get_mut(place) else { return };
        let Ok(at) = piece.binary_search_by_key(&id, |subscription| subscription.id) else { return };
        Arc::make_mut(piece).remove(at);
        if piece.is_empty() {
            self.pieces.remove(place);
        } else {
            self.merge(place);
            self.merge(place.saturating_sub(1));
        }
    }

    /// Merges a piece with the next if both are short, so that a list that has shrunk has few pieces.
    fn merge(&mut self, place: usize) {
        if let [piece, next, ..] = &mut self.pieces[place..]
            && piece.len() + next.len() <= PIECE / 2
        {
            Arc::make_mut(piece).extend(next.iter().cloned());
            self.pieces.remove(place + 1);
        }
    }
}

/// The ungrouped subscribers, the observers and the group members of one pattern.
#[derive(Clone)]
pub(super) struct Hearers {
    pub(super) pattern: Pattern,
    pub(super) alone: List,
    pub(super) observers: List,
    /// By group name.
    pub(super) groups: Vec<(Arc<str>, List)>,
}

impl Hearers {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self { pattern, alone: List::default(), observers: List::default(), groups: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.observers.is_empty() && self.groups.is_empty()
    }

    /// Those outside of groups, without some of them by their ids.
    pub(super) fn alone_but(self: &Arc<Self>, left_out: impl ExactSizeIterator<Item = u64>) -> Arc<Self> {
        if left_out.len() == 0 {
            return Arc::clone(self);
        }
        let (alone, observers) = (self.alone.clone(), self.observers.clone());
        let mut others = Self { alone, observers, ..Self::new(self.pattern.clone()) };
        for id in left_out {
            others.alone.remove(id);
            others.observers.remove(id);
        }
        Arc::new(others)
    }

    pub(super) fn insert(&mut self, subscription: Arc<Subscription>) {
        let list = match &subscription.group {
            None if subscription.observes => &mut self.observers,
            None => &mut self.alone,
            Some(name) => {
                let place = self.groups.iter().position(|(other, _)| other == name);
                let place = place.unwrap_or_else(|| {
                    self.groups.push((Arc::clone(name), List::default()));
                    self.groups.len() - 1
                });
                &mut self.groups[place].1
            }
        };
        list.push(subscription);
    }

    pub(super) fn remove(&mut self, subscription: &Subscription) {
        match &subscription.group {
            None if subscription.observes => self.observers.remove(subscription.id),
            None => self.alone.remove(subscription.id),
            Some(name) => {
                if let Some(place) = self.groups.iter().position(|(other, _)| other == name) {
                    self.groups[place].1.remove(subscription.id);
                    if self.groups[place].1.is_empty() {
                        self.groups.swap_remove(place);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscription::Listener;
    use super::*;
    use crate::inbox::InboxOptions;
    use crate::source::{Sequencer, Source};
    use proptest::prelude::*;

    fn subscription(id: u64, pattern: &str) -> Arc<Subscription> {
        let sequencer = Arc::new(Sequencer::new(Source::framework()));
        let listener = Listener { sequencer, hears_own: false, observes: false, relabel: None };
        let inbox = Arc::new(Inbox::new(InboxOptions::default()).unwrap());
        Arc::new(Subscription::new(id, Pattern::new(pattern).unwrap(), None, inbox, listener))
    }

    fn any_name(wild: bool) -> impl Strategy<Value = String> {
        let tokens = if wild {
            prop::sample::select(vec!["a", "b", "*", "*"]).boxed()
        } else {
            prop::sample::select(vec!["a", "b", "c", "_aether"]).boxed()
        };
        (prop::collection::vec(tokens, 1..5), any::<bool>())
            .prop_map(move |(tokens, rest)| tokens.join(".") + if wild && rest { ".>" } else { "" })
    }

    proptest! {
        #[test]
        fn finds_exactly_the_patterns_that_match(
            patterns in prop::collection::vec(any_name(true), 0..20),
            channels in prop::collection::vec(any_name(false), 0..20),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut all: Vec<_> = patterns.iter().enumerate().map(|(id, p)| subscription(id as u64, p)).collect();
            let mut trie = Trie::default();
            let mut id = 0;
            for subscription in &all {
                let place = trie.place(&subscription.pattern, || { id += 1; id });
                Arc::make_mut(&mut place.hearers).insert(subscription.clone());
            }
            let remove = |trie: &mut Trie, subscription: &Subscription| {
                let place = trie.existing(&subscription.pattern).unwrap();
                Arc::make_mut(&mut place.hearers).remove(subscription);
                trie.prune(&subscription.pattern);
            };
            for index in removed {
                if !all.is_empty() {
                    remove(&mut trie, &all.remove(index.index(all.len())));
                }
            }
            for name in channels {
                let channel = Channel::with_reserved(&name).unwrap();
                let mut found: Vec<_> = trie.matching(&channel).iter().flat_map(|place| place.hearers.alone.iter()).map(|s| s.id).collect();
                found.sort_unstable();
                let expected: Vec<_> = all.iter().filter(|s| s.pattern.matches(&channel)).map(|s| s.id).collect();
                prop_assert_eq!(found, expected, "{}", name);
            }
            all.iter().for_each(|s| remove(&mut trie, s));
            prop_assert!(trie.is_empty());
        }
    }
}
