//! The subscriptions that the server keeps for this process, and the tasks that drain them.
//!
//! One for each pattern and root, however many vibrators hear it, and two for each member of a group: its waves and
//! its questions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, watch};
use tokio::task::JoinHandle;

use super::Root;
use super::intake::{Drain, Intake, Leaving, Target};
use crate::channel::Pattern;
use crate::medium::JoinError;
use crate::router::Subscription;

#[derive(Default)]
pub(super) struct Subscriptions {
    /// Joins are made one after the other, so that a second one for the same pattern waits for the first.
    joining: tokio::sync::Mutex<()>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    patterns: HashMap<(Root, Pattern), PatternHearers>,
    members: HashMap<u64, Vec<Drain>>,
    /// How many members of a group there are with the same pattern.
    groups: HashMap<(Box<str>, Pattern), usize>,
}

impl Tables {
    /// Enters one of the subscriptions of a member of a group.
    fn enter(&mut self, subscription: &Subscription, group: &str, drain: Drain) {
        let drains = self.members.entry(subscription.id()).or_default();
        if drains.is_empty() {
            *self.groups.entry((group.into(), subscription.pattern().clone())).or_default() += 1;
        }
        drains.push(drain);
    }

    /// Counts a member less. Whether there are others with the same pattern.
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

/// What a pattern is heard by in this process.
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

/// What a subscription needs of the server: waves, and questions as one who could answer or as one who watches.
fn roots(subscription: &Subscription) -> [Root; 2] {
    [Root::Waves, if subscription.observes() { Root::Seen } else { Root::Questions }]
}

impl Subscriptions {
    pub(super) async fn one_at_a_time(&self) -> Joining<'_> {
        Joining { joined: self, _turn: self.joining.lock().await }
    }

    /// The server has what was joined for a subscription.
    pub(super) fn is_in_force(&self, subscription: &Subscription) {
        subscription.mark_in_force();
        let place = (Root::Waves, subscription.pattern().clone());
        if let Some(drain) = self.tables.lock().patterns.get(&place).and_then(|heard| heard.drain.as_ref()) {
            drain.is_in_force();
        }
    }

    /// Ends what nobody needs any more. What is returned is ready when the client has been told so.
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

    /// Forgets all subscriptions and returns their tasks.
    pub(super) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        let mut tables = self.tables.lock();
        let patterns = std::mem::take(&mut tables.patterns).into_values().filter_map(|heard| heard.drain);
        let members = std::mem::take(&mut tables.members).into_values().flatten();
        patterns.chain(members).map(|drain| drain.task).collect()
    }
}

impl Joining<'_> {
    /// Subscribes at the server where that is not done yet. Cancelled or failed, [`Subscriptions::leave`] takes back what was
    /// done.
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
                        // Left by everybody in the meantime.
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
