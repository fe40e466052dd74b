//! The router: from a wave's channel to the inboxes that hear it.
//!
//! One for each `Aether`. Vibrators register their subscriptions here; the local medium carries waves straight into
//! it, the others bring what came over the network. It never waits and never does I/O; where an emitter shall wait
//! for room it hands back a [`Waiting`].

mod accounts;
mod cache;
mod carried;
mod heard;
mod hearers;
mod offered;
mod route;
mod table;
mod trie;
mod waiting;

pub use accounts::InboxReport;
pub use carried::Carried;
pub use heard::Heard;
pub use offered::{Offered, Receipt};
pub use waiting::Waiting;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::inbox::ShedReason;
use crate::inbox::{Inbox, Ledger};
use crate::source::Sequencer;
use crate::wave::Wave;
use accounts::Accounts;
use cache::{Cache, CacheEntry, with_recent};
use route::{Audience, Route};
use table::Table;

/// One vibrator's interest in one pattern, alone or as a member of a group.
///
/// Made by [`Vibrator::resonate_on`](crate::Vibrator::resonate_on); a medium reads it to know what to bring.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    pattern: Pattern,
    group: Option<Arc<str>>,
    inbox: Arc<Inbox>,
    /// That of the vibrator that listens.
    sequencer: Arc<Sequencer>,
    hears_own: bool,
    observes: bool,
    /// What its waves pass through before they are in the inbox.
    relabel: Option<Arc<dyn Relabel>>,
    /// Its vibrator has let go of it and keeps it for [`Router::mute`]'s reason.
    muted: AtomicBool,
    /// Since when the network brings all that is emitted.
    in_force: OnceLock<Instant>,
}

/// Waves of one channel that were sent to a pattern and lost on the way, for [`Router::lost_upstream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub waves: u64,
    /// Subscriptions that were in force at that time should have got all of them.
    pub since: Instant,
    /// Whether this process sent them.
    pub is_own: bool,
}

impl Subscription {
    /// A number that no other subscription of this router has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What is heard.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The group whose members share the waves, if it is one.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Both, as its vibrator announces them.
    pub(crate) fn heard(&self) -> Heard {
        Heard { pattern: self.pattern.clone(), group: self.group.clone() }
    }

    /// Whether it only stands in for younger subscriptions of its inbox.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    /// Whether it belongs to an observer: it hears questions and answers, and is nobody that could answer.
    #[must_use]
    pub fn observes(&self) -> bool {
        self.observes
    }

    /// A vibrator does not hear its own waves unless it asked for them, shares them in a group, or asked a question
    /// that it could answer.
    fn hears(&self, wave: &Wave) -> bool {
        self.hears_own
            || self.group.is_some()
            || self.listener() != wave.source().instance()
            || (wave.is_question() && !self.observes)
    }

    /// A wave as its vibrator is to see it.
    #[inline]
    fn shown(&self, wave: Wave) -> Wave {
        match &self.relabel {
            None => wave,
            Some(relabel) => relabel.relabel(wave),
        }
    }

    /// The instance number of the vibrator that listens.
    fn listener(&self) -> u64 {
        self.sequencer.source().instance()
    }

    /// Notes that the subscription is in force: everything emitted from now on reaches it. A medium that detects losses
    /// calls this at the end of a join; what was lost before is then not counted for this subscription. The first call
    /// counts.
    pub fn mark_in_force(&self) {
        self.in_force.get_or_init(Instant::now);
    }

    /// Whether it would have got all of these. Of its own waves, which it may not hear, nobody knows how many of those
    /// lost were.
    fn misses(&self, lost: Lost) -> bool {
        self.in_force.get().is_some_and(|in_force| *in_force <= lost.since)
            && (self.hears_own || !lost.is_own || !self.sequencer.has_begun())
    }
}

/// Who listens, and how.
#[derive(Debug)]
pub(crate) struct Listener {
    /// That of the vibrator.
    pub(crate) sequencer: Arc<Sequencer>,
    pub(crate) hears_own: bool,
    pub(crate) observes: bool,
    /// Shows what comes under another channel.
    pub(crate) relabel: Option<Arc<dyn Relabel>>,
}

/// Shows the waves of a subscription under another channel than the one they came on.
pub(crate) trait Relabel: std::fmt::Debug + Send + Sync {
    /// Called once for each wave that is offered to the inbox.
    fn relabel(&self, wave: Wave) -> Wave;
}

type OnUnheard = Box<dyn Fn(&Wave) + Send + Sync>;

/// Patterns on one side, inboxes on the other.
pub struct Router {
    /// Tells the routers of a process apart.
    id: u64,
    /// Counts the changes of the table.
    generation: AtomicU64,
    table: RwLock<Table>,
    cache: Cache,
    last_id: AtomicU64,
    accounts: Accounts,
    on_unheard: OnceLock<OnUnheard>,
}

impl Router {
    pub(crate) fn new() -> Self {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            table: RwLock::default(),
            cache: Cache::new(),
            last_id: AtomicU64::new(0),
            accounts: Accounts::default(),
            on_unheard: OnceLock::new(),
        }
    }

    /// Enters a vibrator's inbox into the accounts.
    pub(crate) fn open_inbox(&self, listener: u64, vibrator: &str, inbox: Arc<Inbox>) {
        self.accounts.open(listener, vibrator, inbox);
    }

    /// Sheds what is left in a vibrator's inbox and moves its account to those of the gone.
    pub(crate) fn close_inbox(&self, listener: u64) {
        self.accounts.close(listener);
    }

    /// Closes all inboxes: what is queued can still be received, nothing more comes.
    pub(crate) fn close(&self) {
        self.accounts.close_all();
    }

    /// The accounts of all inboxes there are and ever were, by the names of their vibrators.
    #[must_use]
    pub fn reports(&self) -> Vec<InboxReport> {
        self.accounts.reports()
    }

    /// The sum of the accounts of all inboxes there are and ever were.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.accounts.sum()
    }

    pub(crate) fn subscribe(
        &self,
        pattern: Pattern,
        group: Option<Arc<str>>,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> Arc<Subscription> {
        let Listener { sequencer, hears_own, observes, relabel } = listener;
        let mut table = self.table.write();
        let subscription = Arc::new(Subscription {
            // Under the lock, so that they are entered in their order.
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            pattern,
            group,
            inbox,
            sequencer,
            hears_own,
            observes,
            relabel,
            muted: AtomicBool::new(false),
            in_force: OnceLock::new(),
        });
        table.insert(&subscription);
        self.changed(table);
        subscription
    }

    pub(crate) fn unsubscribe(&self, subscription: &Subscription) {
        let mut table = self.table.write();
        table.remove(subscription);
        self.changed(table);
    }

    /// Lets a subscription hear only what a younger one of its inbox hears as well, or everything again.
    ///
    /// A network brings a wave once for each pattern, and the oldest pattern's copy is the one that counts. When that
    /// pattern is left, some copies are in and some are still to come, by each of the ways: no moment is right for
    /// another pattern to take over. So the oldest one stays where it is and goes on standing for the others.
    pub(crate) fn mute(&self, subscription: &Subscription, muted: bool) {
        let mut table = self.table.write();
        subscription.muted.store(muted, Ordering::Relaxed);
        table.touch(subscription);
        self.changed(table);
    }

    /// Counts a change of the table and ends it. From now on every route is checked before it is used.
    fn changed(&self, table: RwLockWriteGuard<'_, Table>) {
        let generation = self.generation.fetch_add(1, Ordering::Release) + 1;
        drop(table);
        self.cache.sweep(generation);
    }

    /// Calls `f` with the route of a wave's channel: the one this thread used last for it, or that of the cache.
    #[inline]
    fn with_route<T>(&self, wave: Wave, f: impl FnOnce(&Route, Wave) -> T) -> T {
        let generation = self.generation.load(Ordering::Acquire);
        with_recent((self.id, generation), wave, |channel| self.route(channel), f)
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

    /// The route of a channel of which none is known, or one that may be outdated.
    #[cold]
    fn find_route(&self, channel: &Channel, known: Option<Arc<CacheEntry>>) -> Arc<Route> {
        let table = self.table.read();
        // It changes only while the table is locked for writing.
        let generation = self.generation.load(Ordering::Relaxed);
        let route = table.route(channel, known.as_ref().map(|entry| &entry.route));
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

    /// Offers a wave emitted in this process to all who hear it. Inboxes that have no room and whose emitters shall
    /// wait are handed back as [`Carried::Waiting`].
    #[must_use = "a Waiting that is dropped gives up waiting"]
    #[inline]
    pub fn carry(&self, wave: Wave) -> Carried {
        let carried = self.with_route(wave, |route, wave| {
            self.reflect_unheard(route, &wave);
            route.carry(wave)
        });
        match carried {
            Ok(inboxes) => Carried::Done(Offered::to(inboxes)),
            Err(waiting) => Carried::Waiting(waiting),
        }
    }

    /// The same without waiting: hands the wave back, offered to nobody, if one of the inboxes has no room.
    ///
    /// # Errors
    /// The wave.
    pub fn try_carry(&self, wave: Wave) -> Result<Offered, Wave> {
        self.with_route(wave, |route, wave| {
            self.reflect_unheard(route, &wave);
            route.try_carry(wave)
        })
    }

    /// Reflects a command or query that nobody but observers hears. An asker learns it from `ask`.
    #[inline]
    fn reflect_unheard(&self, route: &Route, wave: &Wave) {
        if wave.kind().reflects() && !wave.is_question() && !route.has_resonator(wave) {
            self.reflect_nobody(wave);
        }
    }

    /// Reflects a wave of which a medium knows that nobody hears it.
    pub fn reflect_nobody(&self, wave: &Wave) {
        if let Some(on_unheard) = self.on_unheard.get() {
            on_unheard(wave);
        }
    }

    /// Offers a notice of the framework to all who hear it but observers, one of each group. Never waits. Returns
    /// whether there is anybody.
    pub fn tell(&self, notice: &Wave) -> bool {
        self.route(notice.channel()).tell(notice)
    }

    /// Called with each command and query that nobody but observers hears. The first callback stays.
    pub(crate) fn on_unheard(&self, callback: impl Fn(&Wave) + Send + Sync + 'static) {
        let _ = self.on_unheard.set(Box::new(callback));
    }

    /// Offers waves of one channel that a network brought for a pattern to the lone subscribers of that pattern. Never
    /// waits: a full inbox sheds its weakest. Inboxes that hear the channel by an older pattern as well got them by
    /// that one. Observers get questions without the way to answer.
    pub fn arrive(&self, pattern: &Pattern, waves: Vec<Wave>) {
        self.arrive_for_audience(pattern, waves, Audience::All);
    }

    /// The same for questions of which observers get a copy of their own, see [`Router::arrive_seen`].
    pub fn arrive_asked(&self, pattern: &Pattern, questions: Vec<Wave>) {
        self.arrive_for_audience(pattern, questions, Audience::Answerers);
    }

    /// The same for questions and answers that only the observers among the subscribers shall see.
    pub fn arrive_seen(&self, pattern: &Pattern, waves: Vec<Wave>) {
        self.arrive_for_audience(pattern, waves, Audience::Observers);
    }

    fn arrive_for_audience(&self, pattern: &Pattern, waves: Vec<Wave>, audience: Audience) {
        let Some(first) = waves.first() else { return };
        self.route(first.channel()).arrive(pattern, waves, audience);
    }

    /// Offers waves of one channel that a network brought for one member of a group.
    pub fn arrive_for(&self, member: &Subscription, waves: Vec<Wave>) {
        if waves.first().is_some_and(|wave| member.pattern.matches(wave.channel())) {
            member.inbox.offer_all(waves);
        }
    }

    /// Offers waves of one channel, which a network brought for a member of a group that has left meanwhile, to another
    /// member in this process. Where there is none, or `hand_over` is false, the waves are counted as lost with the
    /// member that left. Returns whether another member got them.
    pub fn arrive_late(&self, member: &Subscription, waves: Vec<Wave>, hand_over: bool) -> bool {
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

    /// Counts waves of a channel that a network lost, at each inbox that would have got them by this pattern: see
    /// [`Gaps`](crate::medium::link::Gaps), which finds them.
    pub fn lost_upstream(&self, pattern: &Pattern, channel: &Channel, lost: Lost) {
        self.route(channel).lost_upstream(pattern, lost);
    }

    /// Shows an answer that goes from one vibrator of this process to another to the observers of its channel. Never
    /// waits.
    pub fn show(&self, answer: &Wave) {
        self.route(answer.channel()).show(answer);
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("inboxes", &self.reports()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
