//! Token buckets: a number of waves a second for each source, and some seconds' worth at once.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use aether_core::clock::{self, Instant};

/// The buckets lie in sets of a fixed size, so that invented sources fill no table. There are 4096 (130 KiB). A
/// source whose set is full shares the emptiest bucket in it, so it takes little from others; with 1000 sources hardly
/// any does.
const SETS: usize = 512;
const WAYS: usize = 8;

/// Counts down the waves that each source may still emit.
#[derive(Debug)]
pub(super) struct Buckets {
    interval: Duration,
    /// How many waves may come at once, as the time in which they may be emitted.
    depth: Duration,
    /// Nobody else can compute which sources share a set.
    keys: RandomState,
    /// Made for the first wave.
    sets: OnceLock<Box<[Mutex<[Bucket; WAYS]>]>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// The hash of its source.
    owner: u64,
    /// The time at which it would be full if nothing were taken any more. Generic cell rate algorithm (ITU-T I.371). A
    /// bucket that is full is like one that nobody has used, so it can get another owner.
    full_at: Option<Instant>,
}

impl Bucket {
    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

impl Buckets {
    /// For a number of waves a second, of which as many may come at once as in this time.
    pub(super) fn new(rate: u32, depth: Duration) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self { interval, depth, keys: RandomState::new(), sets: OnceLock::new() }
    }

    fn set(&self, hash: u64) -> &Mutex<[Bucket; WAYS]> {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        // The hash also tells the buckets of a set apart.
        &sets[(hash % SETS as u64) as usize]
    }

    /// Takes one wave of a source, if there is one.
    pub(super) fn take(&self, source: &impl Hash) -> bool {
        let hash = self.keys.hash_one(source);
        let mut set = self.set(hash).lock();
        let now = clock::now();
        let is_owner = |bucket: &Bucket| bucket.owner == hash && bucket.full_at.is_some();
        let place = set.iter().position(is_owner).or_else(|| {
            let free = set.iter().position(|bucket| bucket.is_full(now))?;
            set[free] = Bucket { owner: hash, full_at: None };
            Some(free)
        });
        let place = place.or_else(|| (0..WAYS).max_by_key(|place| set[*place].full_at)).unwrap_or(0);
        let bucket = &mut set[place];
        let from = bucket.full_at.filter(|at| *at > now).unwrap_or(now);
        let after = from + self.interval;
        let fits = after <= now + self.depth;
        if fits {
            bucket.full_at = Some(after);
        }
        fits
    }

    /// Gives back a wave that was taken, and not emitted after all.
    pub(super) fn give_back(&self, source: &impl Hash) {
        let hash = self.keys.hash_one(source);
        let mut set = self.set(hash).lock();
        let of_source = set.iter_mut().find(|bucket| bucket.owner == hash);
        if let Some(at) = of_source.and_then(|bucket| bucket.full_at.as_mut()) {
            *at = at.checked_sub(self.interval).unwrap_or(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_source_has_a_bucket_of_its_own_that_refills() {
        aether_core::clock::follow_tokio();
        let buckets = Buckets::new(2, Duration::from_secs(1));
        // So few that no set gets more of them than it has buckets.
        for source in 0..100 {
            assert!(buckets.take(&source) && buckets.take(&source) && !buckets.take(&source), "{source}");
        }
        buckets.give_back(&7);
        assert!(buckets.take(&7) && !buckets.take(&7) && !buckets.take(&8));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(buckets.take(&8) && !buckets.take(&8));
        // At most a second's worth is left unused.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(buckets.take(&8) && buckets.take(&8) && !buckets.take(&8));
    }

    #[tokio::test(start_paused = true)]
    async fn invented_sources_share_buckets_and_take_none_from_those_that_have_one() {
        aether_core::clock::follow_tokio();
        let buckets = Buckets::new(1, Duration::from_secs(10));
        assert!(buckets.take(&"shop"));
        let taken = (0..100_000).filter(|invented| buckets.take(invented)).count();
        assert!(taken <= SETS * (WAYS + 10), "{taken}");
        assert_eq!((0..100).filter(|_| buckets.take(&"shop")).count(), 9);
    }
}
