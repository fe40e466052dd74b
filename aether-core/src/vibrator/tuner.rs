//! The patterns that a receiver hears: joining and leaving them, also beside a task that owns the receiver.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Emitter;
use crate::amplitude::Floor;
use crate::bus::SubscriptionGuard;
use crate::channel::{Channel, ChannelError, Pattern};
use crate::inbox::{Inbox, Ledger};
use crate::medium::JoinError;
use crate::router::{Listener, Subscription};
use crate::source::Source;

/// Changes what a [`Receiver`](super::Receiver) hears, and reads its account, while a task owns the receiver.
///
/// Cloning it is one reference count. It keeps the [`Aether`](crate::Aether) alive, but not the subscriptions: they end
/// when the receiver is dropped. From then on nothing can be joined, and the account stays readable.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Vibrator};
///
/// let aether = Aether::local();
/// let (emitter, mut receiver) = Vibrator::create("stock", &aether).await?.split();
/// let tuner = receiver.tuner();
/// let counting = tokio::spawn(async move {
///     let mut waves = 0;
///     while receiver.receive().await.is_some() {
///         waves += 1;
///     }
///     waves
/// });
///
/// tuner.resonate_on("orders.*").await?;
/// let shop = aether.emitter("shop")?;
/// shop.emit_wave("orders.created", &"a lamp").await?;
/// assert_eq!(tuner.ledger().offered, 1);
/// aether.close().await?;
/// assert_eq!(counting.await?, 1);
/// # drop(emitter);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Tuner {
    shared: Arc<TunerShared>,
}

/// The state that a receiver and its tuners share.
#[derive(Debug)]
struct TunerShared {
    /// Names the inbox in rosters and accounts.
    source: Source,
    /// The emitter of the vibrator. Its own waves are heard only with `hears_own`, answers carry its name, and it leads
    /// to the bus.
    emitter: Emitter,
    inbox: Arc<Inbox>,
    hears_own: bool,
    observes: bool,
    /// `None` once the receiver was dropped.
    tuned: Mutex<Option<Tuned>>,
    /// Notified when it was.
    ended: Notify,
}

impl Tuner {
    pub(super) fn new(
        source: Source,
        emitter: Emitter,
        inbox: Arc<Inbox>,
        hears_own: bool,
        observes: bool,
    ) -> Self {
        let tuned = Mutex::new(Some(Tuned::default()));
        Self {
            shared: Arc::new(TunerShared {
                source,
                emitter,
                inbox,
                hears_own,
                observes,
                tuned,
                ended: Notify::new(),
            }),
        }
    }

    pub(super) fn emitter(&self) -> &Emitter {
        &self.shared.emitter
    }

    /// The inbox, for libraries that subscribe it to channels on the [bus](crate::bus).
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.shared.inbox
    }

    /// How it hears, for libraries that subscribe its inbox to channels on the [bus](crate::bus).
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener {
            sequencer: Arc::clone(self.shared.emitter.sequencer()),
            hears_own: self.shared.hears_own,
            observes: self.shared.observes,
            relabel: None,
        }
    }

    /// Waits until the receiver is dropped.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn closed(&self) {
        loop {
            let mut ended = std::pin::pin!(self.shared.ended.notified());
            // Before the look, so that no end is missed.
            ended.as_mut().enable();
            if self.shared.tuned.lock().is_none() {
                return;
            }
            ended.await;
        }
    }

    /// The name and the instance number under which rosters list the vibrator, or the receiver that was made
    /// [beside](crate::VibratorBuilder::create_beside) an emitter.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.shared.source
    }

    /// The account of the inbox.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.inbox.ledger()
    }

    /// The floor in effect: the configured one, or the higher one that overload has recently caused.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        self.shared.inbox.effective_floor()
    }

    /// Subscribes to the channels of a pattern. Once this returns, no wave is missed. Ordinary term: subscribe.
    /// Nothing changes for a pattern that is heard already. A pattern that changed rules have ended is heard again,
    /// if they allow it now.
    ///
    /// # Errors
    /// [`JoinError`] if the pattern is not valid, the rules or the server do not allow it, the medium is closed, the
    /// receiver was dropped, or it hears 16,384 patterns already.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the pattern is not heard.
    pub async fn resonate_on<P>(&self, pattern: P) -> Result<(), JoinError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.join(pattern.try_into().map_err(ChannelError::from)?, None).await
    }

    /// Subscribes to the channels of a pattern as a member of a group. Each wave goes to one of the members of the group
    /// that hear its channel, whatever their patterns and in all processes together. Ordinary term: queue group,
    /// consumer group.
    ///
    /// In process the members take turns. A member that is full, or whose floor is above the wave, is passed over while
    /// another one has room. If none has room, `emit` waits for the first that does.
    ///
    /// A vibrator gets a wave once as a lone listener, however many of its patterns match, and once more for each group
    /// whose turn falls to it. One that hears a channel alone and in two groups may get three copies.
    ///
    /// On NATS, waves that are emitted in a burst on one channel travel together and reach one member together.
    /// Commands travel alone, so a group shares even a burst of them: use [`Kind::Command`](crate::Kind) for work.
    ///
    /// # Errors
    /// [`JoinError`] if the pattern or the name of the group is not valid, the rules or the server do not allow it,
    /// the medium is closed, the receiver was dropped or hears 16,384 patterns already, or the vibrator is an
    /// observer. A group's name follows the rules of a channel.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the pattern is not heard.
    pub async fn resonate_in_group<P>(&self, pattern: P, group: &str) -> Result<(), JoinError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let group = Channel::new(group)?;
        if self.shared.observes {
            return Err(JoinError::Observer { group });
        }
        self.join(pattern.try_into().map_err(ChannelError::from)?, Some(group.as_str().into())).await
    }

    async fn join(&self, pattern: Pattern, group: Option<Arc<str>>) -> Result<(), JoinError> {
        let TunerShared { emitter, inbox, tuned, .. } = &*self.shared;
        let aether = emitter.aether();
        let found = {
            let mut tuned = tuned.lock();
            let tuned = tuned.as_mut().ok_or(JoinError::Dropped)?;
            let found = tuned.find(&pattern, group.as_deref());
            found.iter().filter(|found| found.has_ended()).for_each(|ended| tuned.forget(ended));
            let found = found.filter(|found| !found.has_ended());
            if found.is_none() {
                tuned.check_room()?;
            }
            found
        };
        if let Some(subscription) = found {
            if !subscription.is_muted() {
                return Ok(());
            }
            // The medium still has it. Joining again reports whether the medium was closed.
            let announcing = PendingAnnouncement::begin(self, &subscription);
            let (joined, ()) =
                tokio::join!(aether.medium().join(Arc::clone(&subscription)), announcing.announced());
            joined?;
            let tuned = tuned.lock();
            if tuned.as_ref().ok_or(JoinError::Dropped)?.has(&subscription) {
                aether.router().mute(&subscription, false);
                announcing.stays();
                return Ok(());
            }
        }
        self.finish_joining(aether.bus().subscribe(pattern, group, Arc::clone(inbox), self.listener())).await
    }

    /// Joins a subscription and announces it. Enters it last, so that a cancelled join leaves nothing behind.
    async fn finish_joining(&self, guard: SubscriptionGuard) -> Result<(), JoinError> {
        let aether = self.shared.emitter.aether();
        let subscription = Arc::clone(guard.subscription());
        subscription.open();
        let announcing = PendingAnnouncement::begin(self, &subscription);
        let (joined, ()) = tokio::join!(guard.join(), announcing.announced());
        joined?;
        let needless = match self.shared.tuned.lock().as_mut() {
            Some(tuned) => tuned.insert(Arc::clone(&subscription))?,
            None => return Err(JoinError::Dropped),
        };
        guard.keep();
        announcing.stays();
        if let Some(needless) = needless {
            aether.bus().leave(&needless);
            aether.presence().detune(self.source().instance(), needless.id());
        }
        Ok(())
    }

    /// Stops hearing a pattern, in all groups. Queued waves can still be received. Ordinary term: unsubscribe. Nothing
    /// changes for a pattern that is not heard.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    pub fn detune<P>(&self, pattern: P) -> Result<(), ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let pattern = pattern.try_into()?;
        let aether = self.shared.emitter.aether();
        let mut tuned = self.shared.tuned.lock();
        let Some(tuned_to) = tuned.as_mut() else { return Ok(()) };
        let Detuned { muted, gone } = tuned_to.detune(&pattern, aether.promises().crosses_processes);
        for subscription in &muted {
            aether.router().mute(subscription, true);
        }
        drop(tuned);
        for subscription in &gone {
            aether.bus().leave(subscription);
        }
        for subscription in muted.iter().chain(&gone) {
            aether.presence().detune(self.source().instance(), subscription.id());
        }
        Ok(())
    }

    /// Ends all subscriptions and the inbox. From now on nothing can be joined.
    pub(super) fn end(&self) {
        let aether = self.shared.emitter.aether();
        let tuned = self.shared.tuned.lock().take();
        self.shared.ended.notify_waiters();
        for subscription in tuned.into_iter().flat_map(Tuned::into_all) {
            aether.bus().leave(&subscription);
        }
        aether.presence().close(self.source().instance());
        aether.router().close_inbox(self.source().instance());
    }
}

/// A subscription that is announced to senders that respect floors. Dropping this takes the announcement back.
struct PendingAnnouncement<'a> {
    tuner: &'a Tuner,
    subscription: Option<&'a Subscription>,
}

impl<'a> PendingAnnouncement<'a> {
    fn begin(tuner: &'a Tuner, subscription: &'a Subscription) -> Self {
        let announcing = Self { tuner, subscription: (!tuner.shared.observes).then_some(subscription) };
        announcing.enter();
        announcing
    }

    fn enter(&self) {
        if let Some(subscription) = self.subscription {
            let instance = self.tuner.source().instance();
            let presence = self.tuner.emitter().aether().presence();
            presence.tune(instance, subscription.id(), subscription.heard());
        }
    }

    /// Returns when the announcement has been sent.
    async fn announced(&self) {
        if self.subscription.is_some() {
            let aether = self.tuner.emitter().aether();
            aether.presence().announced(aether.bus(), self.tuner.source().instance()).await;
        }
    }

    fn stays(mut self) {
        // Another join of the same pattern may have been cancelled meanwhile.
        self.enter();
        // Rules that changed meanwhile may have ended it, and taken back what was announced so far.
        self.subscription.take_if(|subscription| !subscription.has_ended());
    }
}

impl Drop for PendingAnnouncement<'_> {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription {
            let instance = self.tuner.source().instance();
            self.tuner.emitter().aether().presence().detune(instance, subscription.id());
        }
    }
}

/// The maximum number of subscriptions of a vibrator. All of them may match one channel, and the first emit to it
/// looks at each.
const MAX_SUBSCRIPTIONS: usize = 16_384;

/// The patterns that a vibrator is tuned to. Leaving one over a network looks at all of them once.
#[derive(Debug, Default)]
pub(super) struct Tuned {
    /// Those without and those with a group.
    by_pattern: HashMap<Pattern, Vec<Arc<Subscription>>>,
    /// The number of all of them.
    count: usize,
}

/// The result of leaving a pattern.
#[derive(Debug, Default)]
pub(super) struct Detuned {
    /// Subscriptions that stay because younger ones depend on them.
    pub(super) muted: Vec<Arc<Subscription>>,
    /// Subscriptions that are no longer needed. Some may be of other patterns.
    pub(super) gone: Vec<Arc<Subscription>>,
}

/// The subscriptions by age. They are left one after the other, and a network sees in which order.
fn in_order(subscriptions: impl Iterator<Item = Arc<Subscription>>) -> Vec<Arc<Subscription>> {
    let mut all: Vec<_> = subscriptions.collect();
    all.sort_unstable_by_key(|subscription| subscription.id());
    all
}

fn is_alone(subscription: &Subscription) -> bool {
    subscription.group().is_none()
}

impl Tuned {
    pub(super) fn find(&self, pattern: &Pattern, group: Option<&str>) -> Option<Arc<Subscription>> {
        self.by_pattern.get(pattern)?.iter().find(|other| other.group() == group).cloned()
    }

    /// Fails if there is no room for another subscription.
    pub(super) fn check_room(&self) -> Result<(), JoinError> {
        match self.count {
            MAX_SUBSCRIPTIONS.. => Err(JoinError::TooManyPatterns { most: MAX_SUBSCRIPTIONS }),
            _ => Ok(()),
        }
    }

    /// Enters a subscription. If the same one was made twice at the same time, hands back the one that is not needed.
    /// Fails if others have taken the room meanwhile.
    pub(super) fn insert(&mut self, new: Arc<Subscription>) -> Result<Option<Arc<Subscription>>, JoinError> {
        if self.find(new.pattern(), new.group()).is_none() {
            self.check_room()?;
        }
        let same = self.by_pattern.entry(new.pattern().clone()).or_default();
        match same.iter_mut().find(|other| other.group() == new.group()) {
            // The older one stays.
            Some(other) if other.id() <= new.id() => Ok(Some(new)),
            Some(other) => Ok(Some(std::mem::replace(other, new))),
            None => {
                same.push(new);
                self.count += 1;
                Ok(None)
            }
        }
    }

    /// Whether a subscription is still there.
    pub(super) fn has(&self, subscription: &Subscription) -> bool {
        let same = self.by_pattern.get(subscription.pattern());
        same.is_some_and(|all| all.iter().any(|other| other.id() == subscription.id()))
    }

    /// Leaves a pattern, in all groups. Over a network an old subscription may stand in for younger ones: one on which a
    /// younger one depends stays as long as that is so.
    pub(super) fn detune(&mut self, pattern: &Pattern, crosses: bool) -> Detuned {
        let mut detuned = Detuned::default();
        let Some(all) = self.by_pattern.remove(pattern) else { return detuned };
        self.count -= all.len();
        for left in all {
            if left.is_muted() {
                self.keep(left);
            } else if crosses && is_alone(&left) {
                let needless = in_order(self.muted_for(&left).cloned());
                needless.iter().for_each(|needless| self.forget(needless));
                detuned.gone.extend(needless);
                if self.has_younger(&left) {
                    detuned.muted.push(Arc::clone(&left));
                    self.keep(left);
                } else {
                    detuned.gone.push(left);
                }
            } else {
                detuned.gone.push(left);
            }
        }
        detuned
    }

    fn keep(&mut self, subscription: Arc<Subscription>) {
        self.count += 1;
        self.by_pattern.entry(subscription.pattern().clone()).or_default().push(subscription);
    }

    /// Whether a younger subscription is heard that shares channels with this one.
    fn has_younger(&self, one: &Subscription) -> bool {
        self.overlapping(one).any(|other| !other.is_muted() && other.id() > one.id())
    }

    /// The muted subscriptions that only this one depends on.
    fn muted_for<'a>(&'a self, one: &'a Subscription) -> impl Iterator<Item = &'a Arc<Subscription>> {
        let muted = self.overlapping(one).filter(|other| other.is_muted() && other.id() < one.id());
        muted.filter(|muted| !self.has_younger(muted))
    }

    /// The subscriptions without a group that share channels with this one.
    fn overlapping<'a>(&'a self, one: &'a Subscription) -> impl Iterator<Item = &'a Arc<Subscription>> {
        let all = self.by_pattern.iter().filter(|(pattern, _)| pattern.overlaps(one.pattern()));
        all.flat_map(|(_, all)| all).filter(|other| is_alone(other))
    }

    /// Forgets a subscription that rules have ended, or that is not needed.
    pub(super) fn forget(&mut self, ended: &Subscription) {
        let Some(all) = self.by_pattern.get_mut(ended.pattern()) else { return };
        let before = all.len();
        all.retain(|other| other.id() != ended.id());
        self.count -= before - all.len();
        if all.is_empty() {
            self.by_pattern.remove(ended.pattern());
        }
    }

    /// All subscriptions.
    pub(super) fn into_all(self) -> Vec<Arc<Subscription>> {
        in_order(self.by_pattern.into_values().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{Inbox, InboxOptions};
    use crate::router::{Listener, Router};
    use crate::source::{Sequencer, Source};

    #[test]
    fn joins_that_pass_the_check_together_find_no_room_in_the_end() {
        let (router, inbox) = (Router::new(), Arc::new(Inbox::new(InboxOptions::default()).unwrap()));
        let subscribe = |number: usize| {
            let sequencer = Arc::new(Sequencer::new(Source::framework()));
            let listener = Listener { sequencer, hears_own: false, observes: false, relabel: None };
            let pattern = Pattern::new(format!("a.{number}")).unwrap();
            router.subscribe(pattern, None, Arc::clone(&inbox), listener)
        };
        let mut tuned = Tuned::default();
        let joining: Vec<_> =
            (0..=MAX_SUBSCRIPTIONS).map(|number| (tuned.check_room(), subscribe(number))).collect();
        assert!(joining.iter().all(|(checked, _)| checked.is_ok()));
        let refused =
            |joined: &Result<_, _>| matches!(joined, Err(JoinError::TooManyPatterns { most: 16_384 }));
        let entered: Vec<_> = joining.into_iter().map(|(_, new)| tuned.insert(new)).collect();
        assert!(
            entered[..MAX_SUBSCRIPTIONS].iter().all(Result::is_ok) && refused(&entered[MAX_SUBSCRIPTIONS])
        );
        assert!(tuned.find(&Pattern::new("a.16384").unwrap(), None).is_none());
        // Another one of a pattern that is there needs no room, and one that leaves makes some.
        assert!(tuned.insert(subscribe(0)).is_ok());
        tuned.detune(&Pattern::new("a.1").unwrap(), true);
        assert!(tuned.insert(subscribe(1)).is_ok() && refused(&tuned.insert(subscribe(20_000))));
    }
}
