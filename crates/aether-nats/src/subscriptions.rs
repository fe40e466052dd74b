//! The server subscriptions of this process, and the messages that a join causes.
//!
//! There is one subscription for each pattern and root, regardless of the number of vibrators that hear it. Each group
//! member has two, one for its waves and one for its questions. [`receiver`](super::receiver) has the tasks that drain them.
//!
//! [`Nats`](super::Nats) sends the notices of [`joins`](super::joins), and runs one task per connection that takes
//! the notices of others and the answers to ours. The sending task answers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_nats::{Message, SubscribeError};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, watch};
use tokio::task::JoinHandle;

use super::authentication::{Arrived, SealingGuard};
use super::connection::{Leaving, NatsShared};
use super::joins::{JOINS, JoinNotice, answers_for};
use super::receiver::{NatsReceiver, SubscriptionTask, Target};
use super::subjects::Root;
use aether_core::medium::Subscription;
use aether_core::{Channel, JoinError, Pattern, clock};

/// The server subscriptions of this process.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// Joins run one after the other, so that a second join for the same pattern waits for the first.
    joining: tokio::sync::Mutex<()>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    patterns: HashMap<(Root, Pattern), PatternHearers>,
    members: HashMap<u64, Vec<SubscriptionTask>>,
    /// The number of group members with the same pattern.
    groups: HashMap<(Box<str>, Pattern), usize>,
}

impl Tables {
    /// Adds one of the subscriptions of a group member.
    fn enter(&mut self, subscription: &Subscription, group: &str, task: SubscriptionTask) {
        let tasks = self.members.entry(subscription.id()).or_default();
        if tasks.is_empty() {
            *self.groups.entry((group.into(), subscription.pattern().clone())).or_default() += 1;
        }
        tasks.push(task);
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
    task: Option<SubscriptionTask>,
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
        if let Some(task) = self.tables.lock().patterns.get(&place).and_then(|heard| heard.task.as_ref()) {
            task.is_in_force();
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
                    gone.extend(tables.patterns.remove(&place).and_then(|heard| heard.task));
                }
            }
        }
        gone.into_iter().map(|task| task.leave(has_others)).collect()
    }

    /// Removes all subscriptions and returns their tasks.
    pub(super) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        let mut tables = self.tables.lock();
        let patterns = std::mem::take(&mut tables.patterns).into_values().filter_map(|heard| heard.task);
        let members = std::mem::take(&mut tables.members).into_values().flatten();
        patterns.chain(members).map(|task| task.task).collect()
    }
}

impl Joining<'_> {
    /// Subscribes at the server where this has not been done yet. If this is cancelled or fails,
    /// [`Subscriptions::leave`] reverts what was done.
    pub(super) async fn join(
        &self,
        receiver: &Arc<NatsReceiver>,
        subscription: &Arc<Subscription>,
        ending: &watch::Sender<bool>,
        left: &Mutex<Vec<Leaving>>,
    ) -> Result<(), JoinError> {
        for root in roots(subscription) {
            match subscription.group() {
                Some(group) => {
                    let target = Target::Member(Arc::clone(subscription));
                    let pattern = subscription.pattern();
                    let task = receiver.subscribe(root, pattern, Some(group), target, ending.subscribe());
                    let task = task.await.map_err(|error| JoinError::Client(Box::new(error)))?;
                    self.joined.tables.lock().enter(subscription, group, task);
                }
                None => {
                    let place = (root, subscription.pattern().clone());
                    if !self.is_first(&place, subscription.id()) {
                        continue;
                    }
                    let target = Target::Pattern(subscription.pattern().clone());
                    let task = receiver.subscribe(root, &place.1, None, target, ending.subscribe());
                    let task = task.await.map_err(|error| JoinError::Client(Box::new(error)))?;
                    let mut tables = self.joined.tables.lock();
                    match tables.patterns.get_mut(&place) {
                        Some(heard) => heard.task = Some(task),
                        // All subscriptions have left in the meantime.
                        None => left.lock().push(task.leave(false)),
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
        heard.task.is_none()
    }
}

impl NatsShared {
    /// Sends the notice of a join that is in force.
    ///
    /// Cancel safety: cancelled while it waits for room in the client, nothing is sent.
    pub(super) async fn tell_join(&self, pattern: &Pattern) {
        let notice = self.joins.notice(pattern).and_then(|wave| self.frame(&wave, clock::now()).ok());
        let Some(frame) = notice else { return };
        let subject = self.subject(Root::Questions, JOINS);
        if let Some(frame) = self.sealed(Root::Questions, JOINS, &subject, frame) {
            // Fails only when the client has ended.
            let _ = self.client.publish(subject, frame).await;
        }
    }

    /// Opens a control message.
    fn open_notice(&self, message: Message, before: &str, guard: &mut SealingGuard) -> Option<Arrived> {
        self.state.took_message();
        self.sealing.open(Root::Questions, before, message, guard)
    }
}

/// Starts the task that takes the notices of others, and the answers to ours.
pub(super) async fn listen(
    shared: &Arc<NatsShared>,
    mut ending: watch::Receiver<bool>,
) -> Result<(), SubscribeError> {
    let answers_on = answers_for(shared.node);
    let mut notices = shared.client.subscribe(shared.subject(Root::Questions, JOINS)).await?;
    let mut answers = shared.client.subscribe(shared.subject(Root::Questions, &answers_on)).await?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let before = shared.subject(Root::Questions, "");
        let mut guards = [shared.sealing.guard(false), shared.sealing.guard(false)];
        let Ok(answers_on) = Channel::with_reserved(&answers_on) else { return };
        loop {
            // Once the client has ended, the end is all that is left to wait for.
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => return,
                Some(message) = answers.next() => {
                    if let Some(answer) = shared.open_notice(message, &before, &mut guards[0]) {
                        shared.joins.note_answer(&answer, &answers_on);
                    }
                }
                Some(message) = notices.next() => {
                    let notice = shared.open_notice(message, &before, &mut guards[1]);
                    let notice = notice.filter(|_| shared.joins.admits_one(clock::now()));
                    if let Some(notice) = notice.and_then(|notice| JoinNotice::read(&notice.message.payload)) {
                        shared.announcements.joined(notice);
                    }
                }
            }
        }
    });
    Ok(())
}
