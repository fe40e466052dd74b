//! The subscribers of one pattern, as a value shared by routes.
//!
//! A route holds the subscribers of its patterns as of when it was made. If a route holds the list, a change copies one
//! short piece of it and the array of pieces, however many subscribers there are; otherwise it copies nothing.

use std::sync::Arc;

use super::subscription::Subscription;
use crate::channel::Pattern;

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
