//! The routes that were used last: those of each thread, and those of all.
//!
//! Both are bounded, so that made-up channels do not grow them. No entry is looked for when subscriptions change: each has
//! the number of the last change that it takes into account, and is checked against the tree where that is not the last.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::route::Route;
use crate::channel::Channel;
use crate::wave::Wave;

/// Together the most channels whose routes are remembered: 32,768, about 8 MiB.
const PAGES: usize = 256;
const SLOTS_PER_PAGE: usize = 128;

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

/// Calls `f` with the route of a wave's channel: the one that this thread used last for it, if nothing has changed since, or
/// the one that `find` finds.
#[inline]
pub(super) fn with_recent<T>(
    (router, generation): (u64, u64),
    wave: Wave,
    find: impl FnOnce(&Channel) -> Arc<Route>,
    f: impl FnOnce(&Route, Wave) -> T,
) -> T {
    RECENT.with(|recent| {
        let place = wave.channel().shard(RECENT_ROUTES);
        // Borrowed for the whole call: a callback or a waker that emits in the middle of it may read, not write.
        if let Ok(recent) = recent.try_borrow()
            && let Some(found) = &recent[place]
            && (found.router, found.generation) == (router, generation)
            && found.channel == *wave.channel()
        {
            return f(&found.route, wave);
        }
        let channel = wave.channel().clone();
        let route = find(&channel);
        let mut outdated = None;
        if let Ok(mut recent) = recent.try_borrow_mut() {
            let route = Arc::clone(&route);
            outdated = recent[place].replace(RecentRoute { router, generation, channel, route });
        }
        // What it alone kept alive may emit as it goes.
        drop(outdated);
        f(&route, wave)
    })
}

/// The route of a channel.
pub(super) struct CacheEntry {
    pub(super) channel: Channel,
    pub(super) route: Arc<Route>,
    /// Up to which change of the subscriptions it is known to hold.
    pub(super) generation: AtomicU64,
}

type Page = [ArcSwapOption<CacheEntry>; SLOTS_PER_PAGE];

/// Read without a lock, so that emitters on several threads do not meet. Entering a route replaces one slot.
pub(super) struct Cache {
    pages: [OnceLock<Box<Page>>; PAGES],
    /// The page that is to be swept next.
    sweep: AtomicUsize,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { pages: [const { OnceLock::new() }; PAGES], sweep: AtomicUsize::new(0) }
    }

    /// The two slots of a channel. Two that share one of them rarely share both.
    fn slots(&self, channel: &Channel) -> [&ArcSwapOption<CacheEntry>; 2] {
        let place = channel.shard(PAGES * SLOTS_PER_PAGE * SLOTS_PER_PAGE);
        let page = self.pages[place % PAGES]
            .get_or_init(|| Box::new([const { ArcSwapOption::const_empty() }; SLOTS_PER_PAGE]));
        let (first, second) = (place / PAGES % SLOTS_PER_PAGE, place / PAGES / SLOTS_PER_PAGE);
        [&page[first], &page[if second == first { (first + 1) % SLOTS_PER_PAGE } else { second }]]
    }

    /// What is known of a channel, outdated or not.
    pub(super) fn find(&self, channel: &Channel) -> Option<Arc<CacheEntry>> {
        for slot in self.slots(channel) {
            if let Some(entry) = &*slot.load()
                && entry.channel == *channel
            {
                return Some(Arc::clone(entry));
            }
        }
        None
    }

    /// Enters a route, in the place of an older one where both slots are taken. Hand it the number of the last change.
    pub(super) fn enter(&self, entry: Arc<CacheEntry>) {
        let generation = entry.generation.load(Ordering::Relaxed);
        let slots = self.slots(&entry.channel);
        let is_free = |slot: &&ArcSwapOption<CacheEntry>| {
            slot.load().as_ref().is_none_or(|other| {
                other.channel == entry.channel || other.generation.load(Ordering::Relaxed) != generation
            })
        };
        let same = |slot: &&ArcSwapOption<CacheEntry>| {
            slot.load().as_ref().is_some_and(|other| other.channel == entry.channel)
        };
        let slot = slots.iter().copied().find(same).or_else(|| slots.iter().copied().find(is_free));
        slot.unwrap_or(slots[entry.channel.shard(2)]).store(Some(entry));
    }

    /// Drops the outdated entries of one page, the next one each time, so that what is heard no more is given back.
    pub(super) fn sweep(&self, generation: u64) {
        let page = self.sweep.fetch_add(1, Ordering::Relaxed) % PAGES;
        for slot in self.pages[page].get().into_iter().flat_map(|page| page.iter()) {
            let is_outdated = slot
                .load()
                .as_ref()
                .is_some_and(|entry| entry.generation.load(Ordering::Relaxed) != generation);
            if is_outdated {
                slot.store(None);
            }
        }
    }
}
