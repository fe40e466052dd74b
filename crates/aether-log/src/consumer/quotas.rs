//! The deliveries of each tenant that count for its limit.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use crate::consumer::limit::Limit;

/// The greatest number of tenants that are counted.
const MAX_TENANTS: usize = 65_536;
/// The deliveries of a tenant within this part of a period are noted together, and count until a period after the last one.
const NOTED_TOGETHER: u32 = 32;

/// The deliveries of the last period, and the waves in flight. Nothing is kept of a tenant that has neither.
#[derive(Debug)]
pub(super) struct Quotas {
    limit: Limit,
    tenants: HashMap<Arc<str>, Usage>,
    /// With a rate: each of these tenants, by the instant at which it is looked at again.
    due: BTreeSet<(Instant, Arc<str>)>,
    /// The tenants of waves in flight by position, and whether the delivery was noted.
    flights: HashMap<u64, (Arc<str>, bool)>,
    /// Tenants that wait for a place among these.
    without_place: VecDeque<Arc<str>>,
    /// Nothing is delivered earlier.
    opens: Instant,
}

#[derive(Debug, Default)]
struct Usage {
    noted: VecDeque<Bucket>,
    /// The waves in `noted`, and the ones in flight that are not there yet.
    counted: u32,
    in_flight: u32,
}

/// Deliveries that are noted together.
#[derive(Debug)]
struct Bucket {
    first: Instant,
    last: Instant,
    waves: u32,
}

impl Quotas {
    pub(super) fn new(limit: Limit, now: Instant) -> Self {
        Self {
            limit,
            tenants: HashMap::new(),
            due: BTreeSet::new(),
            flights: HashMap::new(),
            without_place: VecDeque::new(),
            opens: now + limit.period(),
        }
    }

    /// Another process may have delivered waves until now.
    #[cfg(feature = "jetstream")]
    pub(super) fn take_over(&mut self, now: Instant) {
        self.opens = now + self.limit.period();
    }

    /// When something may be delivered, if not yet.
    pub(super) fn opens(&self, now: Instant) -> Option<Instant> {
        Some(self.opens).filter(|opens| *opens > now)
    }

    /// Whether one more wave of a tenant may be delivered.
    pub(super) fn admit(&self, tenant: &str) -> bool {
        match self.tenants.get(tenant) {
            Some(usage) => self.limit.allows(usage.counted, usage.in_flight),
            None => self.tenants.len() < MAX_TENANTS,
        }
    }

    /// A tenant waits until it is [let go](Self::let_go), or one of its waves has [ended](Self::ended).
    pub(super) fn hold(&mut self, tenant: &Arc<str>) {
        if !self.tenants.contains_key(tenant) {
            self.without_place.push_back(Arc::clone(tenant));
        }
    }

    /// The tenants that need not wait any more, as far as it is time that they waited for.
    pub(super) fn let_go(&mut self, now: Instant) -> Vec<Arc<str>> {
        let (mut free, period) = (Vec::new(), self.limit.period());
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, tenant)) = self.due.pop_first() else { break };
            let Some(usage) = self.tenants.get_mut(&tenant) else { continue };
            while let Some(noted) = usage.noted.pop_front_if(|noted| noted.last + period <= now) {
                usage.counted -= noted.waves;
            }
            match usage.noted.front() {
                Some(noted) => drop(self.due.insert((noted.last + period, Arc::clone(&tenant)))),
                // It counts from its delivery on, which is not before now.
                None if usage.in_flight > 0 => drop(self.due.insert((now + period, Arc::clone(&tenant)))),
                None => drop(self.tenants.remove(&tenant)),
            }
            free.push(tenant);
        }
        let places = MAX_TENANTS.saturating_sub(self.tenants.len()).min(self.without_place.len());
        free.extend(self.without_place.drain(..places));
        free
    }

    /// When tenants are let go that wait for time.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// A wave of a tenant is taken.
    pub(super) fn take(&mut self, tenant: &Arc<str>, position: u64, now: Instant) {
        let period = self.limit.period();
        let usage = self.tenants.entry(Arc::clone(tenant)).or_insert_with(|| {
            if !period.is_zero() {
                self.due.insert((now + period, Arc::clone(tenant)));
            }
            Usage::default()
        });
        usage.counted += 1;
        usage.in_flight += 1;
        self.flights.insert(position, (Arc::clone(tenant), false));
    }

    /// The wave is delivered.
    pub(super) fn delivered(&mut self, position: u64, now: Instant) {
        let period = self.limit.period();
        let Some((tenant, is_noted)) = self.flights.get_mut(&position).filter(|_| !period.is_zero()) else {
            return;
        };
        let Some(usage) = self.tenants.get_mut(tenant) else { return };
        *is_noted = true;
        let together = period / NOTED_TOGETHER;
        match usage.noted.back_mut().filter(|noted| now < noted.first + together) {
            Some(noted) => (noted.last, noted.waves) = (now, noted.waves + 1),
            None => usage.noted.push_back(Bucket { first: now, last: now, waves: 1 }),
        }
    }

    /// The wave is not in flight any more. If it was not delivered, it does not count. Returns its tenant, which need not
    /// wait any more.
    pub(super) fn ended(&mut self, position: u64) -> Option<Arc<str>> {
        let (tenant, is_noted) = self.flights.remove(&position)?;
        let usage = self.tenants.get_mut(&tenant)?;
        usage.in_flight -= 1;
        usage.counted -= u32::from(!is_noted);
        if usage.in_flight == 0 && self.limit.period().is_zero() {
            self.tenants.remove(&tenant);
        }
        Some(tenant)
    }
}

#[cfg(test)]
mod tests;
