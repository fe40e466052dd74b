//! The waves of a window that may be delivered now, in the order in which they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use crate::consumer::error::WeightError;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::shares::Shares;
use crate::consumer::turns::Turns;

/// The facts about a wave that decide when it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) position: u64,
    /// Its strength, 0 the strongest.
    pub(super) level: u8,
    /// When it was stored, in microseconds since 1970.
    pub(super) micros: u64,
    /// Its key, if waves of one key are delivered one after the other.
    pub(super) key: Option<Arc<str>>,
    /// Its tenant, if the deliveries are divided among tenants and it has one.
    pub(super) tenant: Option<Arc<str>>,
}

/// Waves by rank. The rank of a wave is the time at which it was stored, and a time for each level that it is weaker: so
/// the strongest come first, and a weak one is overtaken for a bounded time.
///
/// Of each key only the first wave is here, or is away: in flight, or paused after a failure. The others wait behind it,
/// in the order of the log. It has the rank of the strongest of them, so that a strong wave does not wait for a weak one.
///
/// Fair between tenants, the tenant of a wave is decided by the wave alone: one that waits behind others of its key counts
/// for its own tenant when it is delivered.
#[derive(Debug)]
pub(super) struct Ready<T> {
    /// The time for each level.
    ageing: u64,
    waves: Turns<T>,
    lines: HashMap<Arc<str>, Line<T>>,
    /// The keys of the first waves of lines, by their positions.
    firsts: HashMap<u64, Arc<str>>,
    /// How many wait in lines.
    behind: usize,
}

/// The waves of a key.
#[derive(Debug)]
struct Line<T> {
    first: u64,
    /// The rank of the first wave while it is ready, its own, and its tenant.
    ready_at: Option<u64>,
    own: u64,
    tenant: Option<Arc<str>>,
    /// By position, with their ranks and tenants.
    behind: BTreeMap<u64, (u64, Option<Arc<str>>, T)>,
    ranks: BTreeSet<(u64, u64)>,
}

impl<T> Line<T> {
    /// The rank of the strongest.
    fn rank(&self) -> u64 {
        self.ranks.first().map_or(self.own, |(rank, _)| self.own.min(*rank))
    }
}

impl<T> Ready<T> {
    pub(super) fn new(options: &ConsumerOptions) -> Self {
        Self {
            ageing: u64::try_from(options.ageing.as_micros()).unwrap_or(u64::MAX),
            waves: Turns::new(options),
            lines: HashMap::new(),
            firsts: HashMap::new(),
            behind: 0,
        }
    }

    pub(super) fn set_weight(&mut self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        self.waves.set_weight(tenant, weight)
    }

    fn rank(&self, order: &Order) -> u64 {
        order.micros.saturating_add(self.ageing.saturating_mul(u64::from(order.level)))
    }

    /// Adds a wave, or one that was away and is ready again. Returns the one in whose place it is: the same, added before.
    pub(super) fn insert(&mut self, order: &Order, wave: T) -> Option<T> {
        let (rank, position, tenant) = (self.rank(order), order.position, order.tenant.as_ref());
        let Some(key) = &order.key else { return self.waves.insert(tenant, (rank, position), wave) };
        let Some(line) = self.lines.get_mut(key) else {
            let line = Line {
                first: position,
                ready_at: Some(rank),
                own: rank,
                tenant: tenant.cloned(),
                behind: BTreeMap::new(),
                ranks: BTreeSet::new(),
            };
            self.lines.insert(Arc::clone(key), line);
            self.firsts.insert(position, Arc::clone(key));
            return self.waves.insert(tenant, (rank, position), wave);
        };
        let first_of = line.tenant.as_ref();
        if position == line.first {
            let before = line.ready_at.and_then(|rank| self.waves.remove(first_of, (rank, position)));
            let rank = line.rank();
            line.ready_at = Some(rank);
            self.waves.insert(tenant, (rank, position), wave);
            return before;
        }
        let replaced = line.behind.insert(position, (rank, tenant.cloned(), wave));
        line.ranks.insert((rank, position));
        self.behind += usize::from(replaced.is_none());
        match line.ready_at {
            // An earlier one of the key, delivered again late.
            Some(ready_at) if position < line.first => {
                if let Some(first) = self.waves.remove(first_of, (ready_at, line.first)) {
                    line.behind.insert(line.first, (line.own, line.tenant.take(), first));
                    line.ranks.insert((line.own, line.first));
                    self.behind += 1;
                }
                self.firsts.remove(&line.first);
                self.lead(key);
            }
            Some(ready_at)
                if rank < ready_at
                    && self.waves.rerank(first_of, (ready_at, line.first), (rank, line.first)) =>
            {
                line.ready_at = Some(rank);
            }
            _ => {}
        }
        replaced.map(|(.., wave)| wave)
    }

    /// The position of the next wave.
    pub(super) fn next(&mut self) -> Option<u64> {
        self.waves.next().map(|(_, position)| position)
    }

    /// When there is a next wave, if all that wait do so for limits of time.
    pub(super) fn due(&mut self) -> Option<Instant> {
        self.waves.shares_mut()?.due()
    }

    /// The next waves, about in order.
    pub(super) fn next_mut(&mut self, most: usize) -> impl Iterator<Item = &mut T> {
        self.waves.next_mut(most)
    }

    /// Takes the next wave. It is in flight until it is [free](Self::free), and others of its key wait until it has
    /// [ended](Self::ended).
    pub(super) fn take(&mut self) -> Option<T> {
        let ((_, position), wave) = self.waves.take()?;
        if let Some(line) = self.firsts.get(&position).and_then(|key| self.lines.get_mut(key)) {
            line.ready_at = None;
        }
        Some(wave)
    }

    /// Takes this wave, wherever it waits. It looks at all that wait: for what people do.
    pub(super) fn take_at(&mut self, position: u64) -> Option<T> {
        if let Some(wave) = self.waves.remove_at(position) {
            if let Some(line) = self.firsts.get(&position).and_then(|key| self.lines.get_mut(key)) {
                line.ready_at = None;
            }
            return Some(wave);
        }
        let line = self.lines.values_mut().find(|line| line.behind.contains_key(&position))?;
        let (rank, _, wave) = line.behind.remove(&position)?;
        line.ranks.remove(&(rank, position));
        self.behind -= 1;
        Some(wave)
    }

    /// A wave that was taken is delivered, and counts for the limit of its tenant.
    pub(super) fn delivered(&mut self, position: u64) {
        if let Some(shares) = self.waves.shares_mut() {
            shares.delivered(position);
        }
    }

    /// A wave that was taken is not in flight any more.
    pub(super) fn free(&mut self, position: u64) {
        if let Some(shares) = self.waves.shares_mut() {
            shares.free(position);
        }
    }

    /// Another process may have delivered waves until now.
    #[cfg(feature = "jetstream")]
    pub(super) fn take_over(&mut self) {
        if let Some(shares) = self.waves.shares_mut() {
            shares.take_over();
        }
    }

    /// A wave that was taken is not delivered again. The next one of its key is ready.
    pub(super) fn ended(&mut self, position: u64) {
        if let Some(key) = self.firsts.remove(&position) {
            self.lead(&key);
        }
    }

    /// Makes the first one behind the first one of a key.
    fn lead(&mut self, key: &Arc<str>) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let Some((position, (own, tenant, wave))) = line.behind.pop_first() else {
            self.lines.remove(key);
            return;
        };
        self.behind -= 1;
        line.ranks.remove(&(own, position));
        (line.first, line.own, line.tenant) = (position, own, tenant);
        let rank = line.rank();
        line.ready_at = Some(rank);
        self.firsts.insert(position, Arc::clone(key));
        self.waves.insert(line.tenant.as_ref(), (rank, position), wave);
    }

    /// How many wait, those behind others of their key included.
    pub(super) fn len(&self) -> usize {
        self.waves.len() + self.behind
    }

    /// How many wait for limits, without those behind others of their key.
    pub(super) fn limited(&mut self) -> usize {
        self.waves.shares_mut().map_or(0, Shares::limited)
    }

    /// All that wait.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let behind = self.lines.values_mut().flat_map(|line| line.behind.values_mut());
        self.waves.next_mut(usize::MAX).chain(behind.map(|(.., wave)| wave))
    }

    /// Takes out all that wait. No key is held any more.
    #[cfg(feature = "jetstream")]
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.firsts.clear();
        self.behind = 0;
        let behind = std::mem::take(&mut self.lines).into_values().flat_map(|line| line.behind.into_values());
        self.waves.drain().chain(behind.map(|(.., wave)| wave))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::consumer::tenant::Tenant;

    const SECOND: u64 = 1_000_000;

    fn order(position: u64, level: u8, seconds: u64, key: &str) -> Order {
        let key = (!key.is_empty()).then(|| key.into());
        Order { position, level, micros: seconds * SECOND, key, tenant: None }
    }

    fn options(seconds: u64) -> ConsumerOptions {
        ConsumerOptions::default().ageing(Duration::from_secs(seconds))
    }

    fn ready(waves: impl IntoIterator<Item = Order>) -> Ready<u64> {
        let mut ready = Ready::new(&options(10));
        for order in waves {
            assert_eq!(ready.insert(&order, order.position), None);
        }
        ready
    }

    /// Takes and ends all.
    fn all(mut ready: Ready<u64>) -> Vec<u64> {
        let mut taken = Vec::new();
        while let Some(position) = ready.take() {
            taken.push(position);
            ready.ended(position);
        }
        assert!(ready.len() == 0 && ready.lines.is_empty() && ready.firsts.is_empty());
        taken
    }

    #[test]
    fn the_strongest_come_first_and_a_weak_one_is_overtaken_for_ten_seconds_a_level() {
        let weak = [order(1, 8, 100, "")];
        let strong = (2..100).map(|number| order(number, 0, 98 + number, ""));
        let taken = all(ready(weak.into_iter().chain(strong)));
        let place = taken.iter().position(|position| *position == 1);
        assert_eq!(place, Some(80), "the strong ones of the next 80 s");
        let same = [3, 1, 2].map(|position| order(position, 4, 7, ""));
        assert_eq!(all(ready(same)), [1, 2, 3], "and of these the oldest");
    }

    #[test]
    fn waves_of_a_key_come_one_after_the_other_in_the_order_of_the_log() {
        let mut ready = ready([order(1, 9, 1, "a"), order(2, 0, 1, "a"), order(3, 5, 1, "b")]);
        assert_eq!(ready.take(), Some(1), "as urgent as the one behind it");
        assert_eq!((ready.take(), ready.take()), (Some(3), None));
        ready.insert(&order(1, 9, 1, "a"), 1);
        assert_eq!((ready.take(), ready.take()), (Some(1), None), "it was away, and is first again");
        ready.ended(1);
        assert_eq!((ready.take(), ready.len()), (Some(2), 0));
        ready.insert(&order(4, 5, 1, "b"), 4);
        assert_eq!((ready.take(), ready.len()), (None, 1));
        ready.ended(3);
        assert_eq!(ready.take(), Some(4));
    }

    #[test]
    fn an_earlier_one_of_a_key_that_comes_late_goes_first_unless_one_is_away() {
        let mut ready = ready([order(5, 1, 1, "a"), order(7, 1, 1, "a"), order(3, 1, 1, "a")]);
        assert_eq!(ready.take(), Some(3));
        ready.insert(&order(1, 1, 1, "a"), 1);
        assert_eq!(ready.take(), None);
        ready.ended(3);
        assert_eq!(all(ready), [1, 5, 7]);
    }

    #[test]
    fn by_key_each_wave_counts_for_its_own_tenant_when_its_turn_comes() {
        let of = |tenant: &str, order: Order| Order { tenant: Some(tenant.into()), ..order };
        let mut ready = Ready::new(&options(10).fair_by(Tenant::Source));
        let waves = [
            of("flood", order(1, 0, 1, "a")),
            of("flood", order(2, 0, 1, "b")),
            of("flood", order(3, 0, 1, "c")),
            of("small", order(4, 9, 1, "a")),
            of("small", order(5, 9, 1, "d")),
            of("small", order(6, 9, 1, "e")),
        ];
        for wave in &waves {
            assert_eq!(ready.insert(wave, wave.position), None);
        }
        // A stronger one behind it does not cost the first one of a key its turn.
        ready.insert(&of("flood", order(7, 0, 0, "d")), 7);
        let mut taken = Vec::new();
        while let Some(position) = ready.take() {
            taken.push(position);
            ready.ended(position);
        }
        assert_eq!(taken, [1, 5, 7, 4, 2, 6, 3]);
        assert!(ready.len() == 0 && ready.lines.is_empty() && ready.firsts.is_empty());
    }

    #[test]
    fn a_wave_is_taken_out_of_the_middle_and_its_key_goes_on_when_it_has_ended() {
        let mut ready =
            ready([order(1, 9, 1, "a"), order(2, 0, 1, "a"), order(3, 5, 1, "a"), order(4, 0, 9, "")]);
        assert_eq!(
            (ready.take_at(2), ready.take_at(4), ready.take_at(2), ready.len()),
            (Some(2), Some(4), None, 2)
        );
        ready.ended(2);
        ready.ended(4);
        assert_eq!(
            (ready.take_at(1), ready.take()),
            (Some(1), None),
            "the first one is away, and holds its key"
        );
        ready.ended(1);
        ready.insert(&order(2, 0, 1, "a"), 2);
        assert_eq!(all(ready), [2, 3], "put back, it is in its place again");
    }

    #[test]
    fn any_order_of_arrival_and_of_ends_keeps_the_order_of_each_key() {
        for seed in 0..400 {
            let mut random = fastrand::Rng::with_seed(seed);
            let options = if seed % 2 == 0 { options(1) } else { options(1).fair_by(Tenant::Source) };
            let (mut ready, mut away, mut last) = (Ready::new(&options), Vec::new(), [0; 5]);
            let (mut next, mut ended) = (1, 0);
            let of = |position: u64| {
                let key = position * 7 % 5;
                let order = order(position, (position * 31 % 64) as u8, position / 8, &key.to_string());
                Order { tenant: Some((position % 3).to_string().into()), ..order }
            };
            while ended < 300 {
                match random.u8(..3) {
                    0 if next <= 300 => {
                        ready.insert(&of(next), next);
                        next += 1;
                    }
                    1 => away.extend(ready.take()),
                    _ if !away.is_empty() => {
                        let position = away.swap_remove(random.usize(..away.len()));
                        if random.u8(..4) == 0 {
                            ready.insert(&of(position), position);
                            continue;
                        }
                        ready.ended(position);
                        let key = (position * 7 % 5) as usize;
                        assert!(last[key] < position, "seed {seed}");
                        (last[key], ended) = (position, ended + 1);
                    }
                    _ => {}
                }
                let keys: BTreeSet<_> = away.iter().map(|position| position * 7 % 5).collect();
                assert_eq!(keys.len(), away.len(), "seed {seed}: two of a key at once");
            }
            assert_eq!(ready.len(), 0);
        }
    }
}
