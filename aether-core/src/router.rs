//! The router: from a wave's channel to the inboxes that hear it.
//!
//! One for each `Aether`. Vibrators register their subscriptions here; the local medium carries waves straight into
//! it, the others bring what came over the network. It never waits and never does I/O; where an emitter shall wait
//! for room it hands back a [`Waiting`].

mod accounts;
mod carried;
mod route;
mod trie;
mod waiting;

pub use accounts::InboxReport;
pub use carried::{Carried, Offered, Receipt};
pub use waiting::Waiting;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use crate::channel::{Channel, Pattern};
#[cfg(feature = "nats")]
use crate::clock::Instant;
use crate::echo::{EchoReason, NOBODY, Reflector};
use crate::floors::Heard;
use crate::hopping::Tuned;
#[cfg(feature = "nats")]
use crate::inbox::ShedReason;
use crate::inbox::{Inbox, Ledger};
use crate::source::Sequencer;
use crate::wave::Wave;
use accounts::Accounts;
use route::{Audience, Route};
use trie::Trie;

/// The route cache is split, because entering a route copies the shard it belongs to.
const SHARDS: usize = 128;
/// A shard that has this many routes is emptied: names made up without end do not grow the cache.
const ROUTES_PER_SHARD: usize = 64;

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
    /// What it hears is shown under another channel.
    tuned: Option<Arc<Tuned>>,
    /// Its vibrator has let go of it and keeps it for [`Router::mute`]'s reason.
    muted: AtomicBool,
    /// Since when the network brings all that is emitted.
    #[cfg(feature = "nats")]
    in_force: OnceLock<Instant>,
}

/// Waves of one channel that were sent to a pattern and lost on the way.
#[derive(Debug, Clone, Copy)]
#[cfg(feature = "nats")]
pub(crate) struct Lost {
    pub(crate) waves: u64,
    /// Whose subscription was in force at that time should have got them.
    pub(crate) since: Instant,
    /// They were sent by this process.
    pub(crate) is_own: bool,
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

    /// Whether it brings an inbox what another one, younger than it, is to bring it too: then this one stands for both.
    pub(crate) fn stands_for(&self, other: &Self) -> bool {
        self.group.is_none()
            && other.group.is_none()
            && self.id < other.id
            && self.pattern.overlaps(&other.pattern)
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
        match &self.tuned {
            None => wave,
            Some(tuned) => tuned.show(wave),
        }
    }

    /// The instance number of the vibrator that listens.
    fn listener(&self) -> u64 {
        self.sequencer.source().instance()
    }

    /// Notes that everything emitted from now on reaches it. For media, at the end of a join.
    #[cfg(feature = "nats")]
    pub(crate) fn is_in_force(&self) {
        self.in_force.get_or_init(Instant::now);
    }

    /// Whether it would have got all of these. Of its own waves, which it may not hear, nobody knows how many of those
    /// lost were.
    #[cfg(feature = "nats")]
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
    /// A lane of a hopping channel, which is shown as that channel.
    pub(crate) tuned: Option<Arc<Tuned>>,
}

/// A hasher for channels, which bring their own hash.
#[derive(Default)]
struct OwnHash(u64);

impl Hasher for OwnHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Read without a lock, so that emitters on several threads do not meet.
type Shard = ArcSwap<HashMap<Channel, Arc<Route>, BuildHasherDefault<OwnHash>>>;

/// How many routes a thread remembers; which of them a channel may use is up to its hash.
const RECENT_ROUTES: usize = 8;

thread_local! {
    /// The routes that this thread used last: most emits need neither a lock nor an atomic operation to find theirs.
    /// Outdated entries stay until they are replaced; what they keep alive is an emptied inbox.
    static RECENT: RefCell<[Option<RecentRoute>; RECENT_ROUTES]> = const { RefCell::new([const { None }; RECENT_ROUTES]) };
}

struct RecentRoute {
    router: u64,
    generation: u64,
    channel: Channel,
    route: Arc<Route>,
}

/// Patterns on one side, inboxes on the other.
pub struct Router {
    /// Tells the routers of a process apart.
    id: u64,
    /// Counts the changes of the trie.
    generation: AtomicU64,
    trie: RwLock<Trie>,
    cache: [Shard; SHARDS],
    last_id: AtomicU64,
    accounts: Accounts,
    reflector: OnceLock<Arc<Reflector>>,
}

impl Router {
    pub(crate) fn new() -> Self {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            trie: RwLock::default(),
            cache: std::array::from_fn(|_| Shard::default()),
            last_id: AtomicU64::new(0),
            accounts: Accounts::default(),
            reflector: OnceLock::new(),
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
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let Listener { sequencer, hears_own, observes, tuned } = listener;
        let subscription = Arc::new(Subscription {
            id,
            pattern,
            group,
            inbox,
            sequencer,
            hears_own,
            observes,
            tuned,
            muted: AtomicBool::new(false),
            #[cfg(feature = "nats")]
            in_force: OnceLock::new(),
        });
        let mut trie = self.trie.write();
        trie.insert(Arc::clone(&subscription));
        self.forget_routes();
        subscription
    }

    pub(crate) fn unsubscribe(&self, subscription: &Subscription) {
        let mut trie = self.trie.write();
        trie.remove(subscription);
        self.forget_routes();
    }

    /// Lets a subscription hear only what a younger one of its inbox hears as well, or everything again.
    ///
    /// A network brings a wave once for each pattern, and the oldest pattern's copy is the one that counts. When that
    /// pattern is left, some copies are in and some are still to come, by each of the ways: no moment is right for
    /// another pattern to take over. So the oldest one stays where it is and goes on standing for the others.
    pub(crate) fn mute(&self, subscription: &Subscription, muted: bool) {
        // Locked so that no route is worked out from the old state afterwards.
        let _trie = self.trie.write();
        subscription.muted.store(muted, Ordering::Relaxed);
        self.forget_routes();
    }

    /// Called with the tree locked for writing, so that no route of the old tree is entered afterwards.
    fn forget_routes(&self) {
        for shard in &self.cache {
            if !shard.load().is_empty() {
                shard.store(Arc::default());
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn shard(&self, channel: &Channel) -> &Shard {
        &self.cache[channel.shard(SHARDS)]
    }

    /// Calls `f` with the route of a wave's channel: the one this thread used last for it, or that of the cache.
    #[inline]
    fn with_route<T>(&self, wave: Wave, f: impl FnOnce(&Route, Wave) -> T) -> T {
        let generation = self.generation.load(Ordering::Acquire);
        RECENT.with(|recent| {
            let place = wave.channel().shard(RECENT_ROUTES);
            // Borrowed for the whole call: a callback or a waker that emits in the middle of it may read, not write.
            if let Ok(recent) = recent.try_borrow()
                && let Some(found) = &recent[place]
                && (found.router, found.generation) == (self.id, generation)
                && found.channel == *wave.channel()
            {
                return f(&found.route, wave);
            }
            let channel = wave.channel().clone();
            let route = self.route(&channel);
            if let Ok(mut recent) = recent.try_borrow_mut() {
                let route = Arc::clone(&route);
                recent[place] = Some(RecentRoute { router: self.id, generation, channel, route });
            }
            f(&route, wave)
        })
    }

    fn route(&self, channel: &Channel) -> Arc<Route> {
        match self.shard(channel).load().get(channel) {
            Some(route) => Arc::clone(route),
            None => self.find_route(channel),
        }
    }

    /// The route of a channel whose shard has none.
    #[cold]
    fn find_route(&self, channel: &Channel) -> Arc<Route> {
        // Held while the route is entered: it cannot become outdated before it is in the cache.
        let trie = self.trie.read();
        let route = Arc::new(Route::of(trie.matching(channel)));
        self.shard(channel).rcu(|routes| {
            let full = routes.len() >= ROUTES_PER_SHARD;
            let mut routes = if full { HashMap::default() } else { HashMap::clone(routes) };
            routes.insert(channel.clone(), Arc::clone(&route));
            routes
        });
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
        if let Some(reflector) = self.reflector.get() {
            reflector.reflect(
                wave,
                EchoReason::NoResonator,
                "nobody but observers hears the channel",
                NOBODY,
            );
        }
    }

    /// Offers a notice of the framework to all who hear it but observers, one of each group. Never waits. Returns
    /// whether there is anybody.
    pub fn tell(&self, notice: &Wave) -> bool {
        self.route(notice.channel()).tell(notice)
    }

    /// Where waves that nobody hears are reported.
    pub(crate) fn reflect_to(&self, reflector: Arc<Reflector>) {
        let _ = self.reflector.set(reflector);
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
    /// member in this process, if they may be handed over. Else, and if there is none, they are counted as lost with the
    /// member: they went to nobody else. Returns whether they were handed over.
    #[cfg(feature = "nats")]
    pub(crate) fn arrive_late(&self, member: &Subscription, waves: Vec<Wave>, hand_over: bool) -> bool {
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

    /// Counts waves that a network lost at each inbox that would have got them by this pattern.
    #[cfg(feature = "nats")]
    pub(crate) fn lost_upstream(&self, pattern: &Pattern, channel: &Channel, lost: Lost) {
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
