//! The subscriptions of this process: which patterns and which members are to be delivered to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use aether_core::clock::{self, Instant};
use aether_core::medium::Subscription;
use aether_core::{Channel, Pattern};

/// Members that left and may still get waves at most. Older ones are forgotten; what comes for them is counted.
const MAX_LATE: usize = 4096;
/// The channels whose patterns are kept.
const MAX_CHANNELS: usize = 4096;

/// A pattern that somebody hears, alone.
#[derive(Clone)]
pub(super) struct HeardPattern {
    pub(super) pattern: Pattern,
    /// From when on all peers are certain to send.
    pub(super) in_force: Arc<OnceLock<Instant>>,
}

/// A member of a group, by its id.
pub(super) enum MemberFound {
    Here(Arc<Subscription>),
    /// It has left.
    Late(Arc<Subscription>),
    Unknown,
}

#[derive(Default)]
struct Tables {
    patterns: HashMap<Pattern, (HashSet<u64>, Arc<OnceLock<Instant>>)>,
    members: HashMap<u64, Arc<Subscription>>,
    late: Vec<Arc<Subscription>>,
    channels: HashMap<Channel, Arc<[HeardPattern]>>,
}

#[derive(Default)]
pub(super) struct Joined(Mutex<Tables>);

impl Joined {
    pub(super) fn join(&self, subscription: &Arc<Subscription>) {
        let mut tables = self.0.lock();
        if subscription.group().is_some() {
            tables.members.insert(subscription.id(), Arc::clone(subscription));
        } else {
            tables.patterns.entry(subscription.pattern().clone()).or_default().0.insert(subscription.id());
            tables.channels.clear();
        }
    }

    /// All peers know a subscription.
    pub(super) fn is_in_force(&self, subscription: &Subscription) {
        subscription.mark_in_force();
        if let Some((_, in_force)) = self.0.lock().patterns.get(subscription.pattern()) {
            in_force.get_or_init(clock::now);
        }
    }

    /// Returns whether it was there.
    pub(super) fn leave(&self, subscription: &Subscription) -> bool {
        let mut tables = self.0.lock();
        if subscription.group().is_some() {
            let Some(member) = tables.members.remove(&subscription.id()) else { return false };
            if tables.late.len() >= MAX_LATE {
                tables.late.remove(0);
            }
            tables.late.push(member);
            return true;
        }
        let Some((subscriptions, _)) = tables.patterns.get_mut(subscription.pattern()) else { return false };
        let was_there = subscriptions.remove(&subscription.id());
        if subscriptions.is_empty() {
            tables.patterns.remove(subscription.pattern());
        }
        tables.channels.clear();
        was_there
    }

    /// The patterns that hear a channel.
    pub(super) fn hearing(&self, channel: &Channel) -> Arc<[HeardPattern]> {
        let mut tables = self.0.lock();
        if let Some(heard) = tables.channels.get(channel) {
            return Arc::clone(heard);
        }
        let matching = tables.patterns.iter().filter(|(pattern, _)| pattern.matches(channel));
        let mut heard: Vec<_> = matching
            .map(|(pattern, (_, in_force))| HeardPattern {
                pattern: pattern.clone(),
                in_force: Arc::clone(in_force),
            })
            .collect();
        // Inboxes get a wave in the same order in each run.
        heard.sort_by(|one, other| one.pattern.as_str().cmp(other.pattern.as_str()));
        let heard: Arc<[HeardPattern]> = heard.into();
        if tables.channels.len() >= MAX_CHANNELS {
            tables.channels.clear();
        }
        tables.channels.insert(channel.clone(), Arc::clone(&heard));
        heard
    }

    /// Whether a pattern is heard as it was when `in_force` was made.
    pub(super) fn is_heard(&self, pattern: &Pattern, in_force: &Arc<OnceLock<Instant>>) -> bool {
        self.0.lock().patterns.get(pattern).is_some_and(|(_, now)| Arc::ptr_eq(now, in_force))
    }

    pub(super) fn member(&self, id: u64) -> MemberFound {
        let tables = self.0.lock();
        if let Some(member) = tables.members.get(&id) {
            let member = Arc::clone(member);
            // One that has ended is late, although its leave may not have come here yet.
            return if member.has_ended() { MemberFound::Late(member) } else { MemberFound::Here(member) };
        }
        match tables.late.iter().find(|member| member.id() == id) {
            Some(member) => MemberFound::Late(Arc::clone(member)),
            None => MemberFound::Unknown,
        }
    }
}
