//! The router: from a wave's channel to the inboxes that hear it.
//!
//! One for each `Aether`. Vibrators register their subscriptions here; the local medium carries waves straight into
//! it, the others bring what came over the network. It never waits and never does I/O; where an emitter shall wait
//! for room it hands back a [`Waiting`].

mod trie;
mod waiting;

pub use waiting::Waiting;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::channel::{Channel, Pattern};
use crate::inbox::{Inbox, Ledger, Offer};
use crate::wave::Wave;
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
    /// The instance number of the vibrator that listens.
    listener: u64,
    hears_own: bool,
    /// Its vibrator has let go of it and keeps it for [`Router::mute`]'s reason.
    muted: AtomicBool,
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

    /// A vibrator does not hear its own waves unless it asked for them, shares them in a group, or asked a question.
    fn hears(&self, wave: &Wave) -> bool {
        self.hears_own
            || self.group.is_some()
            || self.listener != wave.source().instance()
            || wave.is_question()
    }
}

/// What became of a wave that was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The number the wave got.
    pub sequence: u64,
    /// To how many inboxes it was offered; `None` where the medium cannot know.
    pub receivers: Option<usize>,
}

/// How a wave was taken.
#[derive(Debug)]
pub enum Carried {
    /// It is where it should be.
    Done(Receipt),
    /// Some inboxes have no room; [`Waiting::finish`] waits for them.
    Waiting(Waiting),
}

/// The members of the groups and the lone subscribers that hear one channel.
#[derive(Default)]
struct Route {
    /// One subscription for each inbox, though several of its patterns may match.
    alone: Box<[Arc<Subscription>]>,
    groups: Box<[GroupRoute]>,
}

struct GroupRoute {
    members: Box<[Arc<Subscription>]>,
    /// Whose turn it is, modulo the number of members.
    turn: AtomicUsize,
}

impl GroupRoute {
    fn next(&self) -> &Arc<Subscription> {
        &self.members[self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len()]
    }
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

/// An inbox and whose it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InboxReport {
    /// The vibrator's name.
    pub vibrator: String,
    /// The account of its inbox.
    pub ledger: Ledger,
    /// What it hears in effect.
    pub effective_floor: crate::Floor,
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
    inboxes: Mutex<Inboxes>,
}

#[derive(Default)]
struct Inboxes {
    open: HashMap<u64, (String, Arc<Inbox>)>,
    /// The sum of the accounts of those that are gone.
    gone: Ledger,
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
            inboxes: Mutex::default(),
        }
    }

    /// Enters a vibrator's inbox into the accounts.
    pub(crate) fn open_inbox(&self, listener: u64, vibrator: &str, inbox: Arc<Inbox>) {
        self.inboxes.lock().open.insert(listener, (vibrator.to_owned(), inbox));
    }

    /// Sheds what is left in a vibrator's inbox and moves its account to those of the gone.
    pub(crate) fn close_inbox(&self, listener: u64) {
        let mut inboxes = self.inboxes.lock();
        if let Some((_, inbox)) = inboxes.open.remove(&listener) {
            inbox.abandon();
            inboxes.gone += inbox.ledger();
        }
    }

    /// Closes all inboxes: what is queued can still be received, nothing more comes.
    pub(crate) fn close(&self) {
        for (_, inbox) in self.inboxes.lock().open.values() {
            inbox.close();
        }
    }

    /// The accounts of all inboxes that are open, by vibrator.
    #[must_use]
    pub fn reports(&self) -> Vec<InboxReport> {
        let report = |(vibrator, inbox): &(String, Arc<Inbox>)| InboxReport {
            vibrator: vibrator.clone(),
            ledger: inbox.ledger(),
            effective_floor: inbox.effective_floor(),
        };
        let mut reports: Vec<_> = self.inboxes.lock().open.values().map(report).collect();
        reports.sort_by(|a, b| a.vibrator.cmp(&b.vibrator));
        reports
    }

    /// The sum of the accounts of all inboxes there are and ever were.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let inboxes = self.inboxes.lock();
        inboxes.open.values().fold(inboxes.gone, |sum, (_, inbox)| sum + inbox.ledger())
    }

    pub(crate) fn subscribe(
        &self,
        pattern: Pattern,
        group: Option<Arc<str>>,
        inbox: Arc<Inbox>,
        listener: u64,
        hears_own: bool,
    ) -> Arc<Subscription> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let subscription = Arc::new(Subscription {
            id,
            pattern,
            group,
            inbox,
            listener,
            hears_own,
            muted: AtomicBool::new(false),
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
    pub fn carry(&self, wave: Wave) -> Carried {
        self.with_route(wave, Route::carry)
    }

    /// The same without waiting: hands the wave back, offered to nobody, if one of the inboxes has no room.
    ///
    /// # Errors
    /// The wave.
    pub fn try_carry(&self, wave: Wave) -> Result<Receipt, Wave> {
        self.with_route(wave, Route::try_carry)
    }

    /// Offers waves of one channel that a network brought for a pattern to the lone subscribers of that pattern. Never
    /// waits: a full inbox sheds its weakest. Inboxes that hear the channel by an older pattern as well got them by
    /// that one.
    pub fn arrive(&self, pattern: &Pattern, waves: Vec<Wave>) {
        let Some(first) = waves.first() else { return };
        self.route(first.channel()).arrive(pattern, waves);
    }

    /// Offers waves of one channel that a network brought for one member of a group.
    pub fn arrive_for(&self, member: &Subscription, waves: Vec<Wave>) {
        if waves.first().is_some_and(|wave| member.pattern.matches(wave.channel())) {
            member.inbox.offer_all(waves);
        }
    }
}

impl Route {
    fn of(mut matching: Vec<Arc<Subscription>>) -> Self {
        // The oldest subscription of an inbox stands for all of its lone ones, if one of them is not muted.
        matching.sort_by_key(|subscription| subscription.id);
        let mut alone: Vec<(Arc<Subscription>, bool)> = Vec::new();
        let mut groups: Vec<(Arc<str>, Vec<Arc<Subscription>>)> = Vec::new();
        for subscription in matching {
            match &subscription.group {
                None => {
                    let is_heard = !subscription.is_muted();
                    match alone.iter_mut().find(|other| Arc::ptr_eq(&other.0.inbox, &subscription.inbox)) {
                        Some((_, any_is_heard)) => *any_is_heard |= is_heard,
                        None => alone.push((subscription, is_heard)),
                    }
                }
                // As on NATS, a group is its name: members may come by different patterns.
                Some(name) => match groups.iter_mut().find(|group| group.0 == *name) {
                    Some((_, members)) => members.push(subscription),
                    None => groups.push((name.clone(), vec![subscription])),
                },
            }
        }
        let group = |members: Vec<_>| GroupRoute { members: members.into(), turn: AtomicUsize::new(0) };
        let alone = alone.into_iter().filter_map(|(oldest, is_heard)| is_heard.then_some(oldest));
        Self {
            alone: alone.collect(),
            groups: groups.into_iter().map(|(_, members)| group(members)).collect(),
        }
    }

    fn carry(&self, wave: Wave) -> Carried {
        let sequence = wave.sequence();
        let mut receivers = 0;
        let mut full = SmallVec::new();
        let mut handed_back = None;
        let mut offer = |subscription: &Subscription, wave| {
            receivers += 1;
            if let Err(wave) = subscription.inbox.offer(wave, Offer::IfRoom) {
                full.push(Arc::clone(&subscription.inbox));
                handed_back = Some(wave);
            }
        };
        // Everyone gets a clone but the last, who gets the wave itself: one receiver costs no reference count.
        let mut last: Option<&Subscription> = None;
        self.each_target(&wave, |subscription| {
            if let Some(subscription) = last.replace(subscription) {
                offer(subscription, wave.clone());
            }
        });
        if let Some(subscription) = last {
            offer(subscription, wave);
        }
        let receipt = Receipt { sequence, receivers: Some(receivers) };
        match handed_back {
            Some(wave) => Carried::Waiting(Waiting::new(wave, full, receipt)),
            None => Carried::Done(receipt),
        }
    }

    fn arrive(&self, pattern: &Pattern, mut waves: Vec<Wave>) {
        let mut targets = self.alone.iter().filter(|s| s.pattern == *pattern).peekable();
        while let Some(subscription) = targets.next() {
            if targets.peek().is_some() {
                let heard = waves.iter().filter(|wave| subscription.hears(wave)).cloned();
                subscription.inbox.offer_all(heard);
            } else {
                let heard = waves.drain(..).filter(|wave| subscription.hears(wave));
                subscription.inbox.offer_all(heard);
            }
        }
    }

    fn try_carry(&self, wave: Wave) -> Result<Receipt, Wave> {
        let mut targets: SmallVec<[&Subscription; 8]> = SmallVec::new();
        self.each_target(&wave, |subscription| targets.push(subscription));
        if !targets.iter().all(|subscription| subscription.inbox.has_room_for(&wave)) {
            return Err(wave);
        }
        for subscription in &targets {
            // Room that another emitter took in between is made by shedding the weakest, which is counted.
            let _ = subscription.inbox.offer(wave.clone(), Offer::Now);
        }
        Ok(Receipt { sequence: wave.sequence(), receivers: Some(targets.len()) })
    }

    /// Calls `f` with each subscription that shall get the wave: all that stand alone, one of each group.
    fn each_target<'a>(&'a self, wave: &Wave, mut f: impl FnMut(&'a Subscription)) {
        for subscription in self.alone.iter().filter(|subscription| subscription.hears(wave)) {
            f(subscription);
        }
        for group in &self.groups {
            f(group.next());
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("inboxes", &self.reports()).finish_non_exhaustive()
    }
}
