//! The route caches: one per thread and one shared.
//!
//! Both are bounded, so that made-up channels cannot grow them. Subscription changes do not search them for entries:
//! each entry has the generation of the table that it reflects, and is checked against the changes since, or against
//! the tree, if that is not the current one.
//!
//! A route stays valid through changes of patterns that do not match its channel. [`Changes`] finds that at a cost
//! that depends on the number of changes and not on the number of patterns that match the channel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::route::Route;
use crate::channel::{Channel, Pattern};
use crate::sync::{ArcSwapOption, AtomicU64, thread_local};
use crate::wave::Wave;

/// The capacity is 32,768 routes, about 8 MiB. The threads of loom have small stacks.
const PAGES: usize = if cfg!(aether_loom) { 2 } else { 256 };
const SLOTS_PER_PAGE: usize = if cfg!(aether_loom) { 2 } else { 128 };

/// The number of routes that a thread remembers; a channel's slot follows from its hash.
const RECENT_ROUTES: usize = 8;

thread_local! {
    /// The routes last used by this thread: most emits find theirs with neither a lock nor an atomic operation.
    /// Outdated entries stay until they are replaced; they keep at most an emptied inbox alive.
    static RECENT: RefCell<[Option<RecentRoute>; RECENT_ROUTES]> = const { RefCell::new([const { None }; RECENT_ROUTES]) };
}

struct RecentRoute {
    router: u64,
    generation: u64,
    channel: Channel,
    route: Arc<Route>,
}

/// What is carried by the route of its channel.
pub(super) trait Routed {
    fn channel(&self) -> &Channel;
}

impl Routed for Wave {
    #[inline]
    fn channel(&self) -> &Channel {
        Wave::channel(self)
    }
}

impl Routed for &Wave {
    fn channel(&self) -> &Channel {
        Wave::channel(self)
    }
}

/// Calls `f` with the route of the channel: the one last used by this thread, if nothing has changed since, or the
/// result of `find`.
#[inline]
pub(super) fn with_recent<R: Routed, T>(
    (router, generation): (u64, u64),
    routed: R,
    find: impl FnOnce(&Channel) -> Arc<Route>,
    f: impl FnOnce(&Route, R) -> T,
) -> T {
    RECENT.with(|recent| {
        let place = routed.channel().shard(RECENT_ROUTES);
        // Borrowed for the whole call: a callback or a waker that emits during the call may read but not write.
        let borrowed = recent.try_borrow().ok();
        let known = borrowed.as_ref().and_then(|recent| recent[place].as_ref()).filter(|found| {
            (found.router, found.generation) == (router, generation) && found.channel == *routed.channel()
        });
        let found;
        // One call of `f`, so that it is inlined.
        let route = match known {
            Some(known) => &known.route,
            None => {
                drop(borrowed);
                found = find_and_keep(recent, (router, generation), routed.channel(), find);
                &found
            }
        };
        f(route, routed)
    })
}

#[cold]
#[inline(never)]
fn find_and_keep(
    recent: &RefCell<[Option<RecentRoute>; RECENT_ROUTES]>,
    (router, generation): (u64, u64),
    channel: &Channel,
    find: impl FnOnce(&Channel) -> Arc<Route>,
) -> Arc<Route> {
    let route = find(channel);
    let mut outdated = None;
    if let Ok(mut recent) = recent.try_borrow_mut() {
        let (channel, route) = (channel.clone(), Arc::clone(&route));
        outdated =
            recent[channel.shard(RECENT_ROUTES)].replace(RecentRoute { router, generation, channel, route });
    }
    // Dropping the last reference may run code that emits.
    drop(outdated);
    route
}

/// A cached route of a channel.
pub(super) struct CacheEntry {
    pub(super) channel: Channel,
    pub(super) route: Arc<Route>,
    /// The latest generation for which the route is known to be valid.
    pub(super) generation: AtomicU64,
}

type Page = [ArcSwapOption<CacheEntry>; SLOTS_PER_PAGE];

/// Read without a lock, so that emitters on several threads do not contend. Inserting a route replaces one slot.
pub(super) struct Cache {
    pages: [OnceLock<Box<Page>>; PAGES],
    /// The page to sweep next.
    sweep: AtomicUsize,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { pages: [const { OnceLock::new() }; PAGES], sweep: AtomicUsize::new(0) }
    }

    /// The two slots of a channel. Two channels that share one of them rarely share both.
    fn slots(&self, channel: &Channel) -> [&ArcSwapOption<CacheEntry>; 2] {
        let place = channel.shard(PAGES * SLOTS_PER_PAGE * SLOTS_PER_PAGE);
        let page = self.pages[place % PAGES]
            .get_or_init(|| Box::new(std::array::from_fn(|_| ArcSwapOption::empty())));
        let (first, second) = (place / PAGES % SLOTS_PER_PAGE, place / PAGES / SLOTS_PER_PAGE);
        [&page[first], &page[if second == first { (first + 1) % SLOTS_PER_PAGE } else { second }]]
    }

    /// The cached route of a channel, outdated or not.
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

    /// Inserts a route and replaces the older one if both slots are taken. The entry carries the current generation.
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

    /// Drops the outdated entries of one page, in turn, so that unused inboxes are freed. Entries that may still be
    /// valid stay: a route of many patterns is expensive to make.
    pub(super) fn sweep(&self, generation: u64) {
        let page = self.sweep.fetch_add(1, Ordering::Relaxed) % PAGES;
        for slot in self.pages[page].get().into_iter().flat_map(|page| page.iter()) {
            let is_outdated = slot
                .load()
                .as_ref()
                .is_some_and(|entry| entry.generation.load(Ordering::Relaxed) + REMEMBERED < generation);
            if is_outdated {
                slot.store(None);
            }
        }
    }
}

/// The number of changes that are remembered. To compare a channel with all of them takes some microseconds.
pub(super) const REMEMBERED: u64 = 256;

/// Counts the changes, and remembers the latest.
#[derive(Default)]
pub(super) struct Changes {
    count: u64,
    latest: VecDeque<Pattern>,
}

impl Changes {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn note(&mut self, pattern: &Pattern) {
        self.count += 1;
        self.latest.push_front(pattern.clone());
        self.latest.truncate(REMEMBERED as usize);
    }

    /// Whether no change after this many concerns the channel. `false` if too many have come to know.
    pub(super) fn leave_alone(&self, channel: &Channel, since: u64) -> bool {
        let newer = usize::try_from(self.count.saturating_sub(since)).unwrap_or(usize::MAX);
        newer <= self.latest.len() && self.latest.iter().take(newer).all(|pattern| !pattern.matches(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_left_alone_until_a_change_matches_it_or_too_many_have_come() {
        let channel = Channel::new("a.b").unwrap();
        let mut changes = Changes::default();
        let change = |changes: &mut Changes, pattern: &str| changes.note(&Pattern::new(pattern).unwrap());
        assert!(changes.leave_alone(&channel, 0));
        for _ in 0..REMEMBERED {
            change(&mut changes, "b.*");
        }
        assert!(changes.leave_alone(&channel, 0));
        change(&mut changes, "b.*");
        assert!(!changes.leave_alone(&channel, 0) && changes.leave_alone(&channel, 1));
        change(&mut changes, "a.>");
        change(&mut changes, "c");
        let count = changes.count();
        assert!(!changes.leave_alone(&channel, count - 2) && changes.leave_alone(&channel, count - 1));
        assert_eq!(changes.latest.len() as u64, REMEMBERED);
    }
}
