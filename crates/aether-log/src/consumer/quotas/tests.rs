//! Rates and waves at once, with the time passed in.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn rate(waves: u32, period: Duration) -> Limit {
    Limit::rate(number(waves), period)
}

/// Quotas that are open.
fn quotas(limit: Limit) -> (Quotas, Instant) {
    let begun = Instant::now();
    let quotas = Quotas::new(limit, begun);
    assert_eq!(quotas.opens(begun), (!limit.period().is_zero()).then(|| begun + limit.period()));
    let now = begun + limit.period();
    assert_eq!(quotas.opens(now), None);
    (quotas, now)
}

/// Delivers a wave of a tenant if that is admitted.
fn deliver(quotas: &mut Quotas, tenant: &Arc<str>, position: u64, now: Instant) -> bool {
    let is_admitted = quotas.admit(tenant);
    if is_admitted {
        quotas.take(tenant, position, now);
        quotas.delivered(position, now);
    }
    is_admitted
}

#[test]
fn a_period_has_as_many_deliveries_as_the_rate_and_each_has_a_period() {
    let (mut quotas, begun) = quotas(rate(10, SECOND));
    let acme = Arc::from("acme");
    let mut position = 0;
    let mut all = |quotas: &mut Quotas, at: Instant| {
        let mut delivered = 0;
        while deliver(quotas, &acme, position, at) {
            quotas.ended(position);
            (position, delivered) = (position + 1, delivered + 1);
        }
        delivered
    };
    for period in 0..50 {
        let at = begun + period * SECOND;
        quotas.let_go(at);
        assert_eq!(all(&mut quotas, at), 10, "together");
        assert_eq!(quotas.due(), Some(at + SECOND));
        quotas.let_go(at + SECOND - Duration::from_nanos(1));
        assert_eq!(all(&mut quotas, at + SECOND - Duration::from_nanos(1)), 0);
    }
    let at = begun + 50 * SECOND;
    assert_eq!(&*quotas.let_go(at)[0], "acme");
    assert!(
        quotas.tenants.is_empty() && quotas.due.is_empty(),
        "nothing is kept after a period without waves"
    );
}

#[test]
fn a_wave_that_is_taken_and_not_delivered_holds_a_place_and_does_not_count() {
    let (mut quotas, begun) = quotas(rate(1, SECOND));
    let acme = Arc::from("acme");
    quotas.take(&acme, 1, begun);
    assert!(!quotas.admit("acme") && quotas.admit("other"));
    assert_eq!(quotas.due(), Some(begun + SECOND), "not before that");
    quotas.let_go(begun + SECOND);
    assert!(!quotas.admit("acme") && quotas.due() == Some(begun + 2 * SECOND), "it is still on its way");
    assert_eq!(quotas.ended(1), Some(Arc::clone(&acme)));
    assert_eq!(quotas.ended(1), None);
    assert!(deliver(&mut quotas, &acme, 2, begun + SECOND) && !quotas.admit("acme"));
    quotas.let_go(begun + 9 * SECOND);
    assert!(quotas.admit("acme"), "its delivery is over, and the wave is in flight");
    quotas.ended(2);
    quotas.let_go(begun + 99 * SECOND);
    assert!(quotas.tenants.is_empty() && quotas.due.is_empty() && quotas.flights.is_empty());
}

#[test]
fn in_flight_are_never_more_than_the_limit_and_nothing_is_kept_of_what_has_ended() {
    let (mut quotas, now) = quotas(Limit::at_once(number(2)));
    let acme = Arc::from("acme");
    for round in 0..1000 {
        assert!(
            deliver(&mut quotas, &acme, 2 * round, now) && deliver(&mut quotas, &acme, 2 * round + 1, now)
        );
        assert!(!quotas.admit("acme") && quotas.tenants["acme"].noted.is_empty());
        assert_eq!(quotas.ended(2 * round), Some(Arc::clone(&acme)));
        assert!(quotas.admit("acme"));
        quotas.ended(2 * round + 1);
        assert!(quotas.tenants.is_empty() && quotas.flights.is_empty() && quotas.due.is_empty());
    }
}

#[test]
fn a_process_that_takes_over_waits_for_a_period() {
    let (mut quotas, now) = quotas(rate(5, SECOND).and(Limit::at_once(number(2))));
    quotas.take_over(now);
    assert_eq!(quotas.opens(now + SECOND / 2), Some(now + SECOND));
    assert_eq!(quotas.opens(now + SECOND), None);
    let forever = Quotas::new(rate(5, Duration::MAX), now);
    assert!(forever.opens(now + SECOND).is_some());
    assert!(!rate(5, Duration::ZERO).is_some());
}

#[test]
fn a_flood_of_tenants_has_a_bound_and_those_without_a_place_get_one() {
    let (mut quotas, now) = quotas(rate(1, SECOND));
    let tenant = |number: usize| Arc::from(number.to_string());
    for number in 0..MAX_TENANTS {
        assert!(deliver(&mut quotas, &tenant(number), number as u64, now));
        quotas.ended(number as u64);
    }
    for late in ["late", "later"].map(Arc::from) {
        assert!(!quotas.admit(&late));
        quotas.hold(&late);
    }
    quotas.hold(&tenant(7));
    assert_eq!((quotas.due(), quotas.let_go(now).len()), (Some(now + SECOND), 0));
    let free = quotas.let_go(now + SECOND);
    assert_eq!((free.len(), &*free[MAX_TENANTS]), (MAX_TENANTS + 2, "late"));
    assert!(quotas.tenants.is_empty() && quotas.without_place.is_empty());
}

/// Waves of tenants come and end at random times. No stretch of one period has more deliveries than the rate, none waits for
/// more than a part of a period longer than it has to, and a bounded number of deliveries is noted.
#[test]
fn any_order_of_deliveries_and_ends_keeps_both_limits() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (waves, most) = (random.u32(1..40), random.u32(1..6));
        let (mut quotas, mut now) = quotas(rate(waves, SECOND).and(Limit::at_once(number(most))));
        let tenants = ["a", "b", "c"].map(Arc::from);
        let mut delivered: [Vec<Instant>; 3] = Default::default();
        let (mut taken, mut running) = (Vec::new(), Vec::new());
        for position in 0..4000 {
            now += Duration::from_micros(random.u64(0..50_000));
            quotas.let_go(now);
            let tenant = random.usize(0..3);
            let flights = taken.iter().chain(&running).filter(|(_, of)| *of == tenant).count();
            let on_way = taken.iter().filter(|(_, of)| *of == tenant).count();
            let since = |ago: Duration| {
                let recent = delivered[tenant].iter().filter(|at| **at + ago > now);
                recent.count() + on_way
            };
            let is_admitted = quotas.admit(&tenants[tenant]);
            let may = |ago| flights < most as usize && since(ago) < waves as usize;
            assert!(!is_admitted || may(SECOND), "seed {seed}: too early");
            assert!(is_admitted || !may(SECOND + 2 * SECOND / NOTED_TOGETHER), "seed {seed}: too late");
            if is_admitted {
                quotas.take(&tenants[tenant], position, now);
                taken.push((position, tenant));
            }
            if !taken.is_empty() && random.bool() {
                let (position, tenant) = taken.swap_remove(random.usize(..taken.len()));
                match random.u8(..8) {
                    0 => drop(quotas.ended(position)),
                    _ => {
                        quotas.delivered(position, now);
                        delivered[tenant].push(now);
                        running.push((position, tenant));
                    }
                }
            }
            if !running.is_empty() && random.bool() {
                let (position, tenant) = running.swap_remove(random.usize(..running.len()));
                assert_eq!(quotas.ended(position), Some(Arc::clone(&tenants[tenant])));
            }
            let noted = quotas.tenants.values().map(|usage| usage.noted.len()).max().unwrap_or(0);
            assert!(noted <= NOTED_TOGETHER as usize + 2, "seed {seed}: {noted}");
        }
        taken.into_iter().chain(running).for_each(|(position, _)| drop(quotas.ended(position)));
        quotas.let_go(now + 9 * SECOND);
        quotas.let_go(now + 99 * SECOND);
        assert!(quotas.tenants.is_empty() && quotas.due.is_empty() && quotas.flights.is_empty());
    }
}
