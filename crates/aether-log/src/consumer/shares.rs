//! The waves that may be delivered now, each tenant in its turn.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use crate::consumer::error::WeightError;
use crate::consumer::limit::Limit;
use crate::consumer::quotas::Quotas;

/// The rank of a wave, and its position: the smallest is delivered first.
pub(super) type Rank = (u64, u64);

/// The virtual time of one delivery to a tenant of weight 1. In 128 bits, 2^64 of them have room.
const DELIVERY: u128 = 1 << 64;
/// The virtual time of tenants that wait for their limits: behind all others.
const HELD: u128 = u128::MAX;
/// The greatest number of tenants whose weight is not 1.
const MAX_WEIGHTS: usize = 65_536;

/// Self-clocked fair queueing: a tenant's turn comes one delivery, divided by its weight, after its last one; or after the
/// last delivery of all, if nothing of the tenant waited then. So nothing is kept of a tenant of which nothing waits: its
/// last turn is never later than the last delivery of all.
#[derive(Debug)]
pub(super) struct Shares<T> {
    /// By turn. Waves of one turn are in the order in which they have come to it.
    turns: BTreeMap<Turn, Waiting<T>>,
    /// The turns of tenants.
    tenants: HashMap<Arc<str>, Turn>,
    weights: HashMap<Arc<str>, NonZeroU32>,
    quotas: Option<Box<Quotas>>,
    /// The turn of the last delivery, in virtual time.
    now: u128,
    /// How many turns were given.
    given: u64,
    len: usize,
}

/// A virtual time, and a number that no other turn has.
type Turn = (u128, u64);

/// The waves of a tenant. At least one.
#[derive(Debug)]
struct Waiting<T> {
    tenant: Arc<str>,
    waves: BTreeMap<Rank, T>,
}

impl<T> Shares<T> {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            turns: BTreeMap::new(),
            tenants: HashMap::new(),
            weights: HashMap::new(),
            quotas: limit.is_some().then(|| Box::new(Quotas::new(limit, Instant::now()))),
            now: 0,
            given: 0,
            len: 0,
        }
    }

    /// Changes the weight of a tenant, from its next turn on.
    pub(super) fn set_weight(&mut self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        if weight == NonZeroU32::MIN {
            self.weights.remove(tenant);
        } else if let Some(known) = self.weights.get_mut(tenant) {
            *known = weight;
        } else if self.weights.len() < MAX_WEIGHTS {
            self.weights.insert(tenant.into(), weight);
        } else {
            return Err(WeightError::TooMany);
        }
        Ok(())
    }

    /// Gives waves that wait a turn.
    fn give(&mut self, waiting: Waiting<T>) {
        let weight = self.weights.get(&waiting.tenant).map_or(1, |weight| weight.get());
        self.give_at(self.now + DELIVERY / u128::from(weight), waiting);
    }

    fn give_at(&mut self, time: u128, waiting: Waiting<T>) {
        let turn = (time, self.given);
        self.given += 1;
        self.tenants.insert(Arc::clone(&waiting.tenant), turn);
        self.turns.insert(turn, waiting);
    }

    /// Gives a tenant a turn that waited for its limit.
    fn let_go(&mut self, tenant: &str) {
        let turn = self.tenants.get(tenant).filter(|(time, _)| *time == HELD);
        if let Some(waiting) = turn.and_then(|turn| self.turns.remove(turn)) {
            self.give(waiting);
        }
    }

    /// The waves of a tenant.
    pub(super) fn of_mut(&mut self, tenant: &str) -> Option<&mut BTreeMap<Rank, T>> {
        let turn = self.tenants.get(tenant)?;
        self.turns.get_mut(turn).map(|waiting| &mut waiting.waves)
    }

    pub(super) fn insert(&mut self, tenant: &Arc<str>, rank: Rank, wave: T) -> Option<T> {
        let before = match self.of_mut(tenant) {
            Some(waves) => waves.insert(rank, wave),
            None => {
                let waves = BTreeMap::from([(rank, wave)]);
                self.give(Waiting { tenant: Arc::clone(tenant), waves });
                None
            }
        };
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, tenant: &str, rank: Rank) -> Option<T> {
        let waves = self.of_mut(tenant)?;
        let wave = waves.remove(&rank)?;
        if waves.is_empty()
            && let Some(turn) = self.tenants.remove(tenant)
        {
            self.turns.remove(&turn);
        }
        self.len -= 1;
        Some(wave)
    }

    /// Takes out the wave of this position. It looks at all.
    pub(super) fn remove_at(&mut self, position: u64) -> Option<T> {
        let found = self.turns.values().find_map(|Waiting { tenant, waves }| {
            let rank = waves.keys().copied().find(|(_, at)| *at == position)?;
            Some((Arc::clone(tenant), rank))
        });
        let (tenant, rank) = found?;
        self.remove(&tenant, rank)
    }

    /// The rank of the next wave. Tenants before it that are over their limits are held from then on.
    pub(super) fn next(&mut self) -> Option<Rank> {
        let free = match &mut self.quotas {
            Some(quotas) => {
                let now = Instant::now();
                if quotas.opens(now).is_some() {
                    return None;
                }
                quotas.let_go(now)
            }
            None => Vec::new(),
        };
        free.iter().for_each(|tenant| self.let_go(tenant));
        loop {
            let first = self.turns.first_entry().filter(|first| first.key().0 != HELD)?;
            let tenant = &first.get().tenant;
            match self.quotas.as_mut().filter(|quotas| !quotas.admit(tenant)) {
                Some(quotas) => {
                    quotas.hold(tenant);
                    let waiting = first.remove();
                    self.give_at(HELD, waiting);
                }
                None => return first.get().waves.first_key_value().map(|(rank, _)| *rank),
            }
        }
    }

    /// When there is a next wave, if its tenant waits for time.
    pub(super) fn due(&self) -> Option<Instant> {
        let quotas = self.quotas.as_ref()?;
        let is_any_held = self.turns.last_key_value().is_some_and(|((time, _), _)| *time == HELD);
        quotas.opens(Instant::now()).or(quotas.due().filter(|_| is_any_held))
    }

    /// Takes the next wave.
    pub(super) fn take(&mut self) -> Option<(Rank, T)> {
        self.next()?;
        let ((turn, _), mut waiting) = self.turns.pop_first()?;
        let wave = waiting.waves.pop_first()?;
        if let Some(quotas) = &mut self.quotas {
            quotas.take(&waiting.tenant, wave.0.1, Instant::now());
        }
        self.now = turn;
        self.len -= 1;
        if waiting.waves.is_empty() {
            self.tenants.remove(&waiting.tenant);
        } else {
            self.give(waiting);
        }
        Some(wave)
    }

    /// The wave at this position is delivered.
    pub(super) fn delivered(&mut self, position: u64) {
        if let Some(quotas) = &mut self.quotas {
            quotas.delivered(position, Instant::now());
        }
    }

    /// The wave at this position is not in flight any more.
    pub(super) fn free(&mut self, position: u64) {
        if let Some(tenant) = self.quotas.as_mut().and_then(|quotas| quotas.ended(position)) {
            self.let_go(&tenant);
        }
    }

    /// Another process may have delivered waves until now.
    #[cfg(feature = "jetstream")]
    pub(super) fn take_over(&mut self) {
        if let Some(quotas) = &mut self.quotas {
            quotas.take_over(Instant::now());
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// How many of them wait for limits.
    pub(super) fn limited(&mut self) -> usize {
        self.next();
        match &self.quotas {
            None => 0,
            Some(quotas) if quotas.opens(Instant::now()).is_some() => self.len,
            Some(quotas) => {
                let held = self.turns.values().filter(|waiting| !quotas.admit(&waiting.tenant));
                held.map(|waiting| waiting.waves.len()).sum()
            }
        }
    }

    /// The next waves: of each tenant about as many.
    pub(super) fn next_mut(&mut self, most: usize) -> impl Iterator<Item = &mut T> {
        let of_each = most.div_ceil(self.turns.len().max(1));
        self.turns.values_mut().flat_map(move |waiting| waiting.waves.values_mut().take(of_each)).take(most)
    }

    /// Takes out all.
    #[cfg(feature = "jetstream")]
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.tenants.clear();
        self.len = 0;
        std::mem::take(&mut self.turns).into_values().flat_map(|waiting| waiting.waves.into_values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(weight: u32) -> NonZeroU32 {
        NonZeroU32::new(weight).unwrap()
    }

    /// Waves of a tenant by their ranks. Each holds the name of its tenant.
    fn insert(shares: &mut Shares<Arc<str>>, tenant: &str, ranks: impl IntoIterator<Item = u64>) {
        let tenant = Arc::from(tenant);
        for rank in ranks {
            assert_eq!(shares.insert(&tenant, (rank, rank), Arc::clone(&tenant)), None);
        }
    }

    /// The tenants of the next waves.
    fn taken(shares: &mut Shares<Arc<str>>, most: usize) -> String {
        (0..most).map_while(|_| shares.take()).map(|(_, tenant)| tenant.to_string()).collect()
    }

    #[test]
    fn each_tenant_gets_its_part_and_of_each_the_strongest_comes_first() {
        let mut shares = Shares::new(Limit::default());
        insert(&mut shares, "a", (0..100).rev());
        insert(&mut shares, "b", 100..105);
        assert_eq!(taken(&mut shares, 6), "ababab");
        assert_eq!(shares.next(), Some((3, 3)));
        assert_eq!((shares.remove_at(50).as_deref(), shares.remove_at(50)), (Some("a"), None));
        shares.set_weight("a", weight(3)).unwrap();
        assert_eq!(taken(&mut shares, 8), "abaaabaa");
        assert_eq!((taken(&mut shares, 200).len(), shares.len()), (90, 0));
        assert!(shares.turns.is_empty() && shares.tenants.is_empty(), "nothing is kept of them");
    }

    #[test]
    fn a_tenant_that_had_nothing_waiting_gets_no_more_for_it_and_one_that_comes_again_and_again_too() {
        let mut shares = Shares::new(Limit::default());
        insert(&mut shares, "a", 0..2000);
        assert_eq!(taken(&mut shares, 1000), "a".repeat(1000));
        insert(&mut shares, "b", 0..200);
        assert_eq!(taken(&mut shares, 10), "ababababab");
        // One after the other, and the next one when the last one is taken.
        let mut turns = String::new();
        for rank in 0..300 {
            if !turns.contains('c') || turns.ends_with('c') {
                insert(&mut shares, "c", [rank]);
            }
            turns += &taken(&mut shares, 1);
        }
        let of = |tenant| turns.matches(tenant).count();
        assert!(["a", "b", "c"].map(of).iter().all(|turns| (99..=101).contains(turns)), "{turns}");
    }

    #[test]
    fn tenants_that_are_always_new_starve_nobody() {
        let mut shares = Shares::new(Limit::default());
        insert(&mut shares, "old", 0..200);
        for number in 0..100 {
            insert(&mut shares, &format!("new-{number}"), [number]);
            assert_eq!(taken(&mut shares, 2), format!("oldnew-{number}"));
        }
    }

    #[test]
    fn tenants_over_their_limits_are_passed_over_until_one_of_their_waves_has_ended() {
        let mut shares = Shares::new(Limit::at_once(NonZeroU32::MIN));
        insert(&mut shares, "a", 0..4);
        insert(&mut shares, "b", 4..6);
        assert_eq!((taken(&mut shares, 9).as_str(), shares.limited(), shares.due()), ("ab", 4, None));
        insert(&mut shares, "c", 6..7);
        assert_eq!((shares.next(), taken(&mut shares, 9).as_str()), (Some((6, 6)), "c"));
        assert_eq!(shares.remove("b", (5, 5)).as_deref(), Some("b"), "while it waits");
        [0, 4, 6].into_iter().for_each(|position| shares.free(position));
        assert_eq!((taken(&mut shares, 9).as_str(), shares.limited()), ("a", 2));
        shares.free(1);
        assert_eq!((shares.next_mut(9).count(), shares.next()), (2, Some((2, 2))));
        insert(&mut shares, "b", 7..8);
        shares.free(2);
        assert_eq!((taken(&mut shares, 9).as_str(), shares.limited(), shares.len()), ("ab", 1, 1));
        assert_eq!(shares.remove_at(3).as_deref(), Some("a"));
        assert!(shares.turns.is_empty() && shares.tenants.is_empty());
    }

    #[test]
    fn the_weights_have_a_bound_and_the_weight_1_takes_no_place() {
        let mut shares = Shares::<()>::new(Limit::default());
        for number in 0..MAX_WEIGHTS {
            shares.set_weight(&number.to_string(), weight(2)).unwrap();
        }
        assert_eq!(shares.set_weight("more", weight(2)), Err(WeightError::TooMany));
        shares.set_weight("7", weight(9)).unwrap();
        shares.set_weight("more", weight(1)).unwrap();
        shares.set_weight("8", weight(1)).unwrap();
        assert_eq!(shares.set_weight("more", weight(2)), Ok(()));
    }

    /// Two tenants of which waves wait get deliveries in the ratio of their weights, up to one delivery of each, in every
    /// stretch of time. None waits for more than one turn of each other one.
    #[test]
    fn any_order_of_arrivals_keeps_the_parts_and_starves_nobody() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let weights: Vec<u32> = (0..random.usize(2..7)).map(|_| random.u32(1..9)).collect();
            let tenants = 0..weights.len();
            let names: Vec<Arc<str>> = tenants.clone().map(|tenant| tenant.to_string().into()).collect();
            let mut shares = Shares::new(Limit::default());
            for (name, given) in names.iter().zip(&weights) {
                shares.set_weight(name, weight(*given)).unwrap();
            }
            let mut waiting = vec![0; weights.len()];
            // Deliveries to others, and by pairs the lead of one, since both wait.
            let (mut waited, mut lead) = (vec![0; weights.len()], HashMap::new());
            let mut position = 0;
            for _ in 0..500 {
                if random.bool() {
                    let tenant = random.usize(tenants.clone());
                    for _ in 0..random.u64(1..20) {
                        position += 1;
                        shares.insert(&names[tenant], (random.u64(..100), position), tenant);
                        waiting[tenant] += 1;
                    }
                    continue;
                }
                for _ in 0..random.u64(1..20) {
                    let Some((_, taken)) = shares.take() else { break };
                    waiting[taken] -= 1;
                    for other in tenants.clone().filter(|other| *other != taken) {
                        if waiting[other] == 0 {
                            waited[other] = 0;
                            lead.remove(&(taken, other));
                            lead.remove(&(other, taken));
                            continue;
                        }
                        waited[other] += 1;
                        let [own, its] = [taken, other].map(|tenant| 1.0 / f64::from(weights[tenant]));
                        let of_taken = lead.entry((taken, other)).or_insert(0.0);
                        *of_taken += own;
                        assert!(*of_taken <= own + its + 1e-9, "seed {seed}: {of_taken}");
                        *lead.entry((other, taken)).or_insert(0.0) -= own;
                        let turns = tenants.clone().filter(|tenant| *tenant != other);
                        let most: u32 = turns.map(|tenant| weights[tenant] / weights[other] + 1).sum();
                        assert!(waited[other] <= most, "seed {seed}: {} of {most}", waited[other]);
                    }
                    waited[taken] = 0;
                    if waiting[taken] == 0 {
                        lead.retain(|(one, other), _| *one != taken && *other != taken);
                    }
                }
            }
            while shares.take().is_some() {}
            assert!(shares.turns.is_empty() && shares.tenants.is_empty() && shares.len() == 0);
        }
    }
}
