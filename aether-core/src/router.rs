//! The router: delivers a wave to the inboxes whose patterns match its channel.
//!
//! Each `Aether` has one. Vibrators register their subscriptions here. The local medium carries waves straight into it;
//! other media deliver what arrives over the network. The router never waits and never does I/O: if an emitter has to
//! wait for room, it returns a [`Waiting`].

mod accounts;
mod cache;
mod delivery;
mod route;
mod subscription;
mod table;
mod trie;

pub use accounts::InboxReport;
pub use delivery::{
    BatchSettled, Carried, Crowded, Durability, NotStored, Offered, Receipt, Settled, Stored, StoredRange,
    Waiting,
};
pub use subscription::{Heard, Listener, Lost, Relabel, Subscription};

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::channel::{Channel, Pattern};
use crate::inbox::{Inbox, Ledger, ShedReason};
use crate::sync::{AtomicU64, RwLock, RwLockWriteGuard};
use crate::wave::Wave;
use accounts::InboxAccounts;
use cache::{Cache, CacheEntry, Routed, with_recent};
use route::{Audience, Route};
use table::Table;

/// The largest number of waves that are worth offering together: more save nothing and keep the receiver waiting.
pub const MOST_TOGETHER: usize = 64;

/// Waves to carry, the first of which have this channel.
struct Run<'a> {
    channel: Channel,
    waves: &'a mut VecDeque<Wave>,
}

impl Routed for Run<'_> {
    fn channel(&self) -> &Channel {
        &self.channel
    }
}

/// Whether a wave has no receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unheard {
    Known,
    /// It was reported, and the report could not be verified.
    Unverified,
}

type OnUnheard = Box<dyn Fn(&Wave, Unheard) + Send + Sync>;

/// A routing table: from channels to the inboxes whose patterns match.
pub struct Router {
    /// Identifies the router within the process.
    id: u64,
    /// Incremented with every change of the table.
    generation: AtomicU64,
    table: RwLock<Table>,
    cache: Cache,
    last_id: AtomicU64,
    accounts: InboxAccounts,
    on_unheard: OnceLock<OnUnheard>,
    /// The filter of waves from a network.
    filter: OnceLock<Arc<dyn ArrivalFilter>>,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// A router without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        static LAST_ID: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            table: RwLock::default(),
            cache: Cache::new(),
            last_id: AtomicU64::new(0),
            accounts: InboxAccounts::default(),
            on_unheard: OnceLock::new(),
            filter: OnceLock::new(),
        }
    }

    /// Adds a vibrator's inbox to the accounts.
    pub(crate) fn open_inbox(&self, listener: u64, vibrator: &str, inbox: Arc<Inbox>) {
        self.accounts.open(listener, vibrator, inbox);
    }

    /// Sheds what is left in a vibrator's inbox and folds its account into the total of its name.
    pub(crate) fn close_inbox(&self, listener: u64) {
        self.accounts.close(listener);
    }

    /// Closes all inboxes: queued waves can still be received, but no more arrive.
    pub(crate) fn close(&self) {
        self.accounts.close_all();
    }

    /// The accounts of all inboxes, open and closed, by vibrator name.
    #[must_use]
    pub fn reports(&self) -> Vec<InboxReport> {
        self.accounts.reports()
    }

    /// The sum of the accounts of all inboxes, open and closed.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.accounts.sum()
    }

    /// Adds a subscription. The caller joins it on the medium.
    pub fn subscribe(
        &self,
        pattern: Pattern,
        group: Option<Arc<str>>,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> Arc<Subscription> {
        let mut table = self.table.write();
        // Assigned under the lock, so that subscriptions are inserted in the order of their ids.
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let subscription = Arc::new(Subscription::new(id, pattern, group, inbox, listener));
        table.insert(&subscription);
        self.changed(table);
        subscription
    }

    /// Removes a subscription. The caller leaves it on the medium.
    pub fn unsubscribe(&self, subscription: &Subscription) {
        let mut table = self.table.write();
        table.remove(subscription);
        self.changed(table);
    }

    /// Restricts a subscription to what a younger one of its inbox also matches, or lifts that restriction.
    ///
    /// A network delivers a wave once for each pattern, and the inbox accepts the copy of its oldest pattern. When that
    /// pattern is unsubscribed, some copies have arrived and some are still in flight, so no moment is right for
    /// another pattern to take over. The oldest subscription therefore stays in place and keeps delivering for the
    /// others.
    pub(crate) fn mute(&self, subscription: &Subscription, muted: bool) {
        let mut table = self.table.write();
        subscription.set_muted(muted);
        table.touch(subscription);
        self.changed(table);
    }

    /// Sets the generation and unlocks the table. Every route is checked before its next use.
    fn changed(&self, table: RwLockWriteGuard<'_, Table>) {
        let generation = table.changes();
        self.generation.store(generation, Ordering::Release);
        drop(table);
        self.cache.sweep(generation);
    }

    /// Calls `f` with the route of a wave's channel: the one last used by this thread, or the cache's.
    #[inline]
    fn with_route<R: Routed, T>(&self, routed: R, f: impl FnOnce(&Route, R) -> T) -> T {
        let generation = self.generation.load(Ordering::Acquire);
        with_recent((self.id, generation), routed, |channel| self.route(channel), f)
    }

    #[inline(never)]
    fn route(&self, channel: &Channel) -> Arc<Route> {
        let known = self.cache.find(channel);
        match &known {
            Some(entry)
                if entry.generation.load(Ordering::Acquire) == self.generation.load(Ordering::Acquire) =>
            {
                Arc::clone(&entry.route)
            }
            _ => self.find_route(channel, known),
        }
    }

    /// Looks up the route of a channel that is not cached or may be outdated.
    #[cold]
    fn find_route(&self, channel: &Channel, known: Option<Arc<CacheEntry>>) -> Arc<Route> {
        let table = self.table.read();
        // The generation changes only while the table is locked for writing.
        let generation = self.generation.load(Ordering::Relaxed);
        let known_since =
            known.as_ref().map(|entry| (&entry.route, entry.generation.load(Ordering::Relaxed)));
        let route = table.route(channel, known_since);
        drop(table);
        match known {
            Some(entry) if Arc::ptr_eq(&entry.route, &route) => {
                entry.generation.fetch_max(generation, Ordering::Release);
            }
            _ => {
                let (channel, route) = (channel.clone(), Arc::clone(&route));
                let generation = AtomicU64::new(generation);
                self.cache.enter(Arc::new(CacheEntry { channel, route, generation }));
            }
        }
        route
    }

    /// Offers a wave emitted in this process to all matching inboxes. If inboxes have no room and make emitters wait,
    /// returns [`Carried::Waiting`] for them.
    #[must_use = "dropping a Waiting sheds at once"]
    #[inline]
    pub fn carry(&self, wave: Wave) -> Carried {
        let carried = self.with_route(wave, |route, wave| {
            self.reflect_if_unheard(route, &wave);
            route.carry(wave)
        });
        match carried {
            Ok(inboxes) => Carried::Done(Offered::to(inboxes)),
            Err(waiting) => Carried::Waiting(waiting),
        }
    }

    /// How many waves like this one should be carried together now, as [`Medium::room_for`](crate::medium::Medium)
    /// returns it.
    pub fn room_for(&self, wave: &Wave) -> usize {
        self.with_route(wave, |route, wave| route.room_for(wave)).clamp(1, MOST_TOGETHER)
    }

    /// Like [`Router::carry`], for the first waves of `waves`, which have one channel, `run` of them. They are offered to
    /// each inbox under one lock. Returns the waves that have to wait, if there are any. If not all waves of the run were
    /// carried, the others are left in `waves` and have to be carried after those that wait.
    #[must_use = "dropping a Waiting sheds at once"]
    pub fn carry_run(&self, waves: &mut VecDeque<Wave>, run: usize) -> Option<Waiting> {
        let run = run.min(waves.len());
        let channel = waves.front()?.channel().clone();
        self.with_route(Run { channel, waves }, |route, Run { waves, .. }| {
            waves.iter().take(run).for_each(|wave| self.reflect_if_unheard(route, wave));
            route.carry_run(waves, run)
        })
    }

    /// Like [`Router::carry`], but without waiting: if one of the inboxes has no room, the wave is offered to none and
    /// handed back.
    ///
    /// # Errors
    /// The wave, if an inbox has no room.
    pub fn try_carry(&self, wave: Wave) -> Result<Offered, Wave> {
        self.with_route(wave, |route, wave| {
            self.reflect_if_unheard(route, &wave);
            route.try_carry(wave)
        })
    }

    /// Reflects a command, a query, or a wave whose source asked, if it has no receiver, observers not counted. For
    /// questions `ask` reports that itself.
    #[inline]
    fn reflect_if_unheard(&self, route: &Route, wave: &Wave) {
        if wave.wants_echo() && !wave.is_question() && !route.has_resonator(wave) {
            self.reflect_unheard(wave);
        }
    }

    /// Reflects a wave that has no receiver, according to a medium.
    pub fn reflect_unheard(&self, wave: &Wave) {
        if let Some(on_unheard) = self.on_unheard.get() {
            on_unheard(wave, Unheard::Known);
        }
    }

    /// Counts a wave that has no receiver according to a report that could not be verified.
    pub fn count_unverified(&self, wave: &Wave) {
        if let Some(on_unheard) = self.on_unheard.get() {
            on_unheard(wave, Unheard::Unverified);
        }
    }

    /// Offers a notice of the framework to all matching inboxes but the observers', and to one member of each group.
    /// Never waits. Returns whether there is any receiver.
    pub fn notify(&self, notice: &Wave) -> bool {
        self.route(notice.channel()).notify(notice)
    }

    /// Sets a callback for waves without a receiver, observers not counted, whose failure is reported to their source.
    /// Only the first callback is kept.
    pub(crate) fn on_unheard(&self, callback: impl Fn(&Wave, Unheard) + Send + Sync + 'static) {
        let _ = self.on_unheard.set(Box::new(callback));
    }

    /// Checks waves from a network. Only the first filter is kept.
    pub(crate) fn set_filter(&self, filter: Arc<dyn ArrivalFilter>) {
        let _ = self.filter.set(filter);
    }

    /// The waves from a network that may pass by a subscription.
    #[inline]
    fn admitted(&self, mut waves: Vec<Wave>, arrival: Arrival<'_>) -> Vec<Wave> {
        if let Some(filter) = self.filter.get() {
            filter.filter(&mut waves, arrival);
        }
        waves
    }

    fn admitted_for(&self, member: &Subscription, waves: Vec<Wave>) -> Vec<Wave> {
        self.admitted(
            waves,
            Arrival { pattern: &member.pattern, member: Some(member.id), group: member.group() },
        )
    }

    /// Offers waves of one channel, delivered by a network for a pattern, to the ungrouped subscribers of that pattern.
    /// Never waits: a full inbox sheds its weakest wave. Inboxes that also match the channel by an older pattern
    /// receive the waves by that one. Observers get questions without a reply path.
    pub fn arrive(&self, pattern: &Pattern, waves: Vec<Wave>) {
        // Dropping the waves that found no room offers them at once.
        drop(self.arrive_if_room(pattern, waves));
    }

    /// Like [`Router::arrive`], but hands back waves that have to wait for room in inboxes whose emitters wait.
    pub fn arrive_if_room(&self, pattern: &Pattern, waves: Vec<Wave>) -> Crowded {
        let (waves, mut crowded) =
            (self.admitted(waves, Arrival { pattern, member: None, group: None }), Crowded::default());
        if let Some(first) = waves.first() {
            self.route(first.channel()).arrive(pattern, waves, Audience::All, Some(&mut crowded));
        }
        crowded
    }

    /// Like [`Router::arrive`], for questions whose observers get separate copies; see [`Router::arrive_seen`].
    pub fn arrive_asked(&self, pattern: &Pattern, questions: Vec<Wave>) {
        let questions = self.admitted(questions, Arrival { pattern, member: None, group: None });
        self.arrive_for_audience(pattern, questions, Audience::Answerers);
    }

    /// Like [`Router::arrive`], for questions and answers meant only for the observers among the subscribers.
    pub fn arrive_seen(&self, pattern: &Pattern, waves: Vec<Wave>) {
        self.arrive_for_audience(pattern, waves, Audience::Observers);
    }

    fn arrive_for_audience(&self, pattern: &Pattern, waves: Vec<Wave>, audience: Audience) {
        let Some(first) = waves.first() else { return };
        self.route(first.channel()).arrive(pattern, waves, audience, None);
    }

    /// Offers waves of one channel, delivered by a network, to one member of a group.
    pub fn arrive_for(&self, member: &Subscription, waves: Vec<Wave>) {
        drop(self.arrive_for_if_room(member, waves));
    }

    /// Like [`Router::arrive_for`], but hands back waves that have to wait for room. A member that has left, which its
    /// medium may not know yet, gets none of them: [`Router::arrive_late`].
    pub fn arrive_for_if_room(&self, member: &Subscription, waves: Vec<Wave>) -> Crowded {
        if member.has_ended() {
            self.arrive_late(member, waves, true);
            return Crowded::default();
        }
        let (waves, mut crowded) = (self.admitted_for(member, waves), Crowded::default());
        if waves.first().is_some_and(|wave| member.pattern.matches(wave.channel())) {
            crowded.offer(&member.inbox, waves);
        }
        crowded
    }

    /// Offers waves of one channel, delivered by a network for a group member that has left meanwhile, to another
    /// member in this process. If there is none, or `hand_over` is false, the waves are counted as lost with the member
    /// that left, because no other process received them. Returns whether another member received them.
    pub fn arrive_late(&self, member: &Subscription, waves: Vec<Wave>, hand_over: bool) -> bool {
        let waves = self.admitted_for(member, waves);
        let Some(channel) = waves.first().map(|wave| wave.channel().clone()) else { return hand_over };
        let another =
            member.group().filter(|_| hand_over).and_then(|group| self.route(&channel).member_of(group));
        match &another {
            Some(another) => another.inbox.offer_all(waves),
            None => {
                member.inbox.count_closed(waves.len() as u64);
                member.inbox.report(&waves, ShedReason::Closed);
            }
        }
        another.is_some()
    }

    /// Counts waves lost by a network at each inbox that should have received them by this pattern; see
    /// `Gaps` of `aether-link`, which detects them.
    pub fn lost_upstream(&self, pattern: &Pattern, channel: &Channel, lost: Lost) {
        self.route(channel).lost_upstream(pattern, lost);
    }

    /// Shows an answer between two vibrators of this process to the observers of its channel. Never waits.
    pub fn observe(&self, answer: &Wave) {
        self.route(answer.channel()).observe(answer);
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("inboxes", &self.reports()).finish_non_exhaustive()
    }
}

/// How waves arrive from a network.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// The pattern for which the network delivers them.
    pub pattern: &'a Pattern,
    /// The id of the subscription that gets them alone, as a member of a group.
    pub member: Option<u64>,
    /// The group of that member.
    pub group: Option<&'a str>,
}

/// Decides which waves from a network may pass.
pub trait ArrivalFilter: Send + Sync {
    /// Removes waves of one channel that may not pass. Called for each delivery, before the inboxes get it.
    fn filter(&self, waves: &mut Vec<Wave>, arrival: Arrival<'_>);
}

#[cfg(test)]
mod tests;
