//! The waves that may be delivered now, each tenant in its turn.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::consumer::error::WeightError;

/// The rank of a wave, and its position: the smallest is delivered first.
pub(super) type Rank = (u64, u64);

/// The virtual time of one delivery to a tenant of weight 1. In 128 bits, 2^64 of them have room.
const DELIVERY: u128 = 1 << 64;
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
    pub(super) fn new() -> Self {
        Self {
            turns: BTreeMap::new(),
            tenants: HashMap::new(),
            weights: HashMap::new(),
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
        let turn = (self.now + DELIVERY / u128::from(weight), self.given);
        self.given += 1;
        self.tenants.insert(Arc::clone(&waiting.tenant), turn);
        self.turns.insert(turn, waiting);
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

    /// The rank of the next wave.
    pub(super) fn next(&self) -> Option<Rank> {
        self.turns.first_key_value()?.1.waves.first_key_value().map(|(rank, _)| *rank)
    }

    /// Takes the next wave.
    pub(super) fn take(&mut self) -> Option<(Rank, T)> {
        let ((turn, _), mut waiting) = self.turns.pop_first()?;
        let wave = waiting.waves.pop_first()?;
        self.now = turn;
        self.len -= 1;
        if waiting.waves.is_empty() {
            self.tenants.remove(&waiting.tenant);
        } else {
            self.give(waiting);
        }
        Some(wave)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
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
        let mut shares = Shares::new();
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
        let mut shares = Shares::new();
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
        let mut shares = Shares::new();
        insert(&mut shares, "old", 0..200);
        for number in 0..100 {
            insert(&mut shares, &format!("new-{number}"), [number]);
            assert_eq!(taken(&mut shares, 2), format!("oldnew-{number}"));
        }
    }

    #[test]
    fn the_weights_have_a_bound_and_the_weight_1_takes_no_place() {
        let mut shares = Shares::<()>::new();
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
            let mut shares = Shares::new();
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
