//! The server subscriptions of this process, and the tasks that drain them.
//!
//! There is one subscription for each pattern and root, regardless of the number of vibrators that hear it. Each group
//! member has two, one for its waves and one for its questions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, watch};
use tokio::task::JoinHandle;

use super::connection::Leaving;
use super::intake::{Drain, Intake, Target};
use super::root::Root;
use aether_core::medium::Subscription;
use aether_core::{JoinError, Pattern};

#[derive(Default)]
pub(super) struct Subscriptions {
    /// Joins run one after the other, so that a second join for the same pattern waits for the first.
    joining: tokio::sync::Mutex<()>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    patterns: HashMap<(Root, Pattern), PatternHearers>,
    members: HashMap<u64, Vec<Drain>>,
    /// The number of group members with the same pattern.
    groups: HashMap<(Box<str>, Pattern), usize>,
}

impl Tables {
    /// Adds one of the subscriptions of a group member.
    fn enter(&mut self, subscription: &Subscription, group: &str, drain: Drain) {
        let drains = self.members.entry(subscription.id()).or_default();
        if drains.is_empty() {
            *self.groups.entry((group.into(), subscription.pattern().clone())).or_default() += 1;
        }
        drains.push(drain);
    }

    /// Removes a member from the count, and returns whether there are others with the same pattern.
    fn ungroup(&mut self, subscription: &Subscription) -> bool {
        let Some(group) = subscription.group() else { return false };
        let group = (group.into(), subscription.pattern().clone());
        let Some(members) = self.groups.get_mut(&group) else { return false };
        *members -= 1;
        let has_others = *members > 0;
        if !has_others {
            self.groups.remove(&group);
        }
        has_others
    }
}

/// The subscriptions of this process that hear a pattern.
#[derive(Default)]
struct PatternHearers {
    subscriptions: HashSet<u64>,
    drain: Option<Drain>,
}

/// The right to join.
pub(super) struct Joining<'a> {
    joined: &'a Subscriptions,
    _turn: MutexGuard<'a, ()>,
}

/// The roots that a subscription needs from the server: waves, and questions either as a potential responder or as an
/// observer.
pub(super) fn roots(subscription: &Subscription) -> [Root; 2] {
    [Root::Waves, if subscription.observes() { Root::Seen } else { Root::Questions }]
}

impl Subscriptions {
    pub(super) async fn one_at_a_time(&self) -> Joining<'_> {
        Joining { joined: self, _turn: self.joining.lock().await }
    }

    /// Records that the server has the server subscriptions that were made for a subscription.
    pub(super) fn is_in_force(&self, subscription: &Subscription) {
        subscription.mark_in_force();
        let place = (Root::Waves, subscription.pattern().clone());
        if let Some(drain) = self.tables.lock().patterns.get(&place).and_then(|heard| heard.drain.as_ref()) {
            drain.is_in_force();
        }
    }

    /// Ends the server subscriptions that are no longer needed. The returned futures are ready when the client has been
    /// told to unsubscribe.
    pub(super) fn leave(&self, subscription: &Subscription) -> Vec<Leaving> {
        let mut tables = self.tables.lock();
        let mut gone = tables.members.remove(&subscription.id()).unwrap_or_default();
        let has_others = !gone.is_empty() && tables.ungroup(subscription);
        for root in roots(subscription) {
            let place = (root, subscription.pattern().clone());
            if let Some(heard) = tables.patterns.get_mut(&place) {
                heard.subscriptions.remove(&subscription.id());
                if heard.subscriptions.is_empty() {
                    gone.extend(tables.patterns.remove(&place).and_then(|heard| heard.drain));
                }
            }
        }
        gone.into_iter().map(|drain| drain.leave(has_others)).collect()
    }

    /// Removes all subscriptions and returns their tasks.
    pub(super) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        let mut tables = self.tables.lock();
        let patterns = std::mem::take(&mut tables.patterns).into_values().filter_map(|heard| heard.drain);
        let members = std::mem::take(&mut tables.members).into_values().flatten();
        patterns.chain(members).map(|drain| drain.task).collect()
    }
}

impl Joining<'_> {
    /// Subscribes at the server where this has not been done yet. If this is cancelled or fails,
    /// [`Subscriptions::leave`] reverts what was done.
    pub(super) async fn join(
        &self,
        intake: &Arc<Intake>,
        subscription: &Arc<Subscription>,
        ending: &watch::Sender<bool>,
        left: &Mutex<Vec<Leaving>>,
    ) -> Result<(), JoinError> {
        for root in roots(subscription) {
            match subscription.group() {
                Some(group) => {
                    let target = Target::Member(Arc::clone(subscription));
                    let pattern = subscription.pattern();
                    let drain = intake.subscribe(root, pattern, Some(group), target, ending.subscribe());
                    let drain = drain.await.map_err(|error| JoinError::Client(Box::new(error)))?;
                    self.joined.tables.lock().enter(subscription, group, drain);
                }
                None => {
                    let place = (root, subscription.pattern().clone());
                    if !self.is_first(&place, subscription.id()) {
                        continue;
                    }
                    let target = Target::Pattern(subscription.pattern().clone());
                    let drain = intake.subscribe(root, &place.1, None, target, ending.subscribe());
                    let drain = drain.await.map_err(|error| JoinError::Client(Box::new(error)))?;
                    let mut tables = self.joined.tables.lock();
                    match tables.patterns.get_mut(&place) {
                        Some(heard) => heard.drain = Some(drain),
                        // All subscriptions have left in the meantime.
                        None => left.lock().push(drain.leave(false)),
                    }
                }
            }
        }
        Ok(())
    }

    fn is_first(&self, place: &(Root, Pattern), id: u64) -> bool {
        let mut tables = self.joined.tables.lock();
        let heard = tables.patterns.entry(place.clone()).or_default();
        heard.subscriptions.insert(id);
        heard.drain.is_none()
    }
}
