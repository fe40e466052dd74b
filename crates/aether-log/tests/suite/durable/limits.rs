//! Limits for each tenant: the promise on each kind of log, rates in paused time, and two processes of a consumer in
//! JetStream.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use aether_core::{Aether, Wave};
use aether_log::{ConsumeError, Consumer, ConsumerOptions, Delivery, DurableLog, Limit, Tenant};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::durable::keyed::{member, server};
use crate::durable::stage::{Place, connect, none_until, quick, receive};

const SECOND: Duration = Duration::from_secs(1);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn limited(limit: Limit) -> ConsumerOptions {
    quick().fair_by(Tenant::Token(1)).limit(limit)
}

fn billing(log: &DurableLog, limit: Limit) -> Consumer {
    log.consumer("billing", "orders.>", limited(limit)).unwrap()
}

async fn emit(aether: &Aether, tenant: &str, waves: usize, amplitude: f32) {
    let shop = aether.emitter("shop").unwrap();
    for _ in 0..waves {
        let wave = Wave::builder(format!("orders.{tenant}.created")).amplitude(amplitude);
        shop.emit(wave.text("a lamp").build().unwrap()).await.unwrap();
    }
}

fn tenant(delivery: &Delivery) -> &str {
    delivery.wave().channel().as_str().split('.').nth(1).unwrap()
}

/// Between these moments a wave was delivered.
struct Between(Instant, Instant);

async fn handle(consumer: &Consumer) -> Between {
    let asked = Instant::now();
    let delivery = receive(consumer).await;
    let came = Instant::now();
    delivery.ack().await.unwrap();
    Between(asked, came)
}

/// However the deliveries lay between their moments, a period had more of them than this.
fn assert_rate(deliveries: &[Between], most: usize, period: Duration) {
    for stretch in deliveries.windows(most + 1) {
        let longest = stretch[most].1 - stretch[0].0;
        assert!(longest >= period, "{} in {longest:?}", most + 1);
    }
}

pub(crate) async fn d20_no_tenant_gets_more_than_its_limit_and_holds_up_no_other(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, "flood", 12, 1.0).await;
    emit(&aether, "small", 3, 0.1).await;
    let consumer = billing(&log, Limit::at_once(number(2)));
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(receive(&consumer).await);
    }
    let of_small = open.iter().position(|delivery| tenant(delivery) == "small").unwrap();
    let tenants: Vec<_> = open.iter().map(tenant).collect();
    assert_eq!(tenants.iter().filter(|tenant| **tenant == "flood").count(), 2, "{tenants:?}");
    assert!(consumer.receive().now_or_never().is_none());
    open.remove(of_small).ack().await.unwrap();
    open.push(receive(&consumer).await);
    assert_eq!(tenant(&open[3]), "small", "the flood has its two");
    let queue = consumer.queue().await.unwrap();
    assert!((1..=10).contains(&queue.limited) && queue.limited <= queue.waiting, "{queue:?}");
    // However it ends, another one may begin.
    let mut of_flood = open.extract_if(.., |delivery| tenant(delivery) == "flood");
    let (first, second) = (of_flood.next().unwrap(), of_flood.next().unwrap());
    drop(of_flood);
    first.release();
    let next = receive(&consumer).await;
    assert_eq!((tenant(&next), next.attempt()), ("flood", 1));
    second.nack("no ink");
    let last = receive(&consumer).await;
    assert_eq!(tenant(&last), "flood");
    Delivery::ack_all(open.into_iter().chain([next, last])).await.unwrap();
    for _ in 0..10 {
        handle(&consumer).await;
    }
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.waiting, account.in_flight), (15, 0, 0), "{account:?}");

    let (period, most) = (SECOND / 4, 5);
    let rate = limited(Limit::rate(number(most), period)).limit(Limit::at_once(number(3)));
    let consumer = log.consumer("archive", "orders.flood.*", rate).unwrap();
    let mut deliveries = Vec::new();
    for _ in 0..12 {
        deliveries.push(handle(&consumer).await);
    }
    assert_rate(&deliveries, most as usize, period);
    let refused =
        async || log.consumer("plain", "orders.>", quick().limit(Limit::at_once(number(2))))?.ready().await;
    assert!(matches!(refused().await, Err(ConsumeError::NoTenants)));
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_used_in_full_and_never_exceeded_also_after_a_restart() {
    let place = Place::folder();
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, "flood", 100, 1.0).await;
    emit(&aether, "small", 10, 0.1).await;
    let rate = Limit::rate(number(10), SECOND);
    let (consumer, opened) = (billing(&log, rate), Instant::now());
    let mut delivered = BTreeMap::<String, Vec<Duration>>::new();
    for wave in 0..60 {
        let delivery = receive(&consumer).await;
        assert_eq!(delivery.attempt(), 1);
        delivered.entry(tenant(&delivery).to_owned()).or_default().push(opened.elapsed());
        delivery.ack().await.unwrap();
        if wave == 19 {
            assert_eq!(delivered.values().map(Vec::len).collect::<Vec<_>>(), [10, 10], "in turn");
            assert_eq!(consumer.queue().await.unwrap().limited, 90);
        }
    }
    assert!(*delivered["small"].last().unwrap() < SECOND + SECOND / 100, "{delivered:?}");
    let in_time = |delivered: &[Duration]| {
        for (wave, at) in delivered.iter().enumerate() {
            // A timer may be a millisecond late.
            let due = SECOND * (wave as u32 / 10 + 1);
            assert!(*at >= due && *at < due + SECOND / 50, "{wave}: {delivered:?}");
        }
    };
    in_time(&delivered["flood"]);
    consumer.close().await;
    drop((aether, log));
    let log = place.open().await;
    let (consumer, opened) = (billing(&log, rate), Instant::now());
    let mut again = Vec::new();
    for _ in 0..50 {
        receive(&consumer).await.ack().await.unwrap();
        again.push(opened.elapsed());
    }
    in_time(&again);
}

#[tokio::test(start_paused = true)]
async fn tenants_below_their_limits_get_their_parts_as_before() {
    let place = Place::folder();
    let log = place.open().await;
    let aether = connect(&log).await;
    for (tenant, waves) in [("held", 10), ("large", 100), ("small", 100)] {
        emit(&aether, tenant, waves, 0.5).await;
    }
    let consumer = billing(&log, Limit::at_once(number(1)));
    consumer.set_weight("large", number(3)).unwrap();
    let mut held = Vec::new();
    let mut large = 0;
    while held.is_empty() {
        let delivery = receive(&consumer).await;
        if tenant(&delivery) == "held" { held.push(delivery) } else { delivery.ack().await.unwrap() }
    }
    for _ in 0..80 {
        let delivery = receive(&consumer).await;
        assert_ne!(tenant(&delivery), "held");
        large += u32::from(tenant(&delivery) == "large");
        delivery.ack().await.unwrap();
    }
    assert!((59..=61).contains(&large), "three of four: {large}");
}

#[tokio::test(start_paused = true)]
async fn any_order_of_ends_keeps_both_limits_and_loses_no_wave() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::folder();
        let log = place.open().await;
        let aether = connect(&log).await;
        for tenant in ["a", "b", "c"] {
            emit(&aether, tenant, 100, 0.5).await;
        }
        let limit = limited(Limit::rate(number(7), SECOND)).limit(Limit::at_once(number(3)));
        let limit = limit.max_attempts(number(100));
        let consumer = log.consumer("billing", "orders.>", limit).unwrap();
        let mut delivered = BTreeMap::<String, Vec<Between>>::new();
        let (mut open, mut acknowledged) = (Vec::<Delivery>::new(), 0);
        while acknowledged < 300 {
            let asked = Instant::now();
            // Cancelled at any point, a wave that was not delivered does not count.
            let within = Duration::from_millis(random.u64(0..300));
            match tokio::time::timeout(within, consumer.receive()).await {
                Ok(delivery) => {
                    let delivery = delivery.unwrap();
                    let of = tenant(&delivery).to_owned();
                    delivered.entry(of).or_default().push(Between(asked, Instant::now()));
                    open.push(delivery);
                }
                Err(_) if open.is_empty() => {}
                Err(_) => {
                    let delivery = open.swap_remove(random.usize(..open.len()));
                    match random.u8(..12) {
                        0 => delivery.release(),
                        1 => drop(delivery),
                        _ => {
                            delivery.ack().await.unwrap();
                            acknowledged += 1;
                        }
                    }
                }
            }
            for of in ["a", "b", "c"] {
                assert!(open.iter().filter(|delivery| tenant(delivery) == of).count() <= 3, "seed {seed}");
            }
        }
        delivered.values().for_each(|deliveries| assert_rate(deliveries, 7, SECOND));
        let account = consumer.account().await.unwrap();
        assert!(account.adds_up() && account.waiting + account.dead == 0, "{account:?}");
    }
}

/// So long that nothing comes again because of it.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_together_keep_the_limit_also_when_one_takes_over() {
    for is_closed in [true, false] {
        let streams = tempfile::tempdir().unwrap();
        let server = server(&streams).await;
        let (first, second) = (member(&server.url(), LONG).await, member(&server.url(), LONG).await);
        let aether = connect(&second).await;
        emit(&aether, "flood", 40, 0.5).await;
        let (most, period) = (10, SECOND / 2);
        let limit = Limit::rate(number(most), period);
        let (handling, standing_by) = (billing(&first, limit), billing(&second, limit));
        let mut deliveries = Vec::new();
        for _ in 0..15 {
            deliveries.push(handle(&handling).await);
        }
        standing_by.ready().await.unwrap();
        assert!(standing_by.receive().now_or_never().is_none());
        match is_closed {
            true => handling.close().await,
            false => drop(handling),
        }
        for _ in 15..40 {
            deliveries.push(handle(&standing_by).await);
        }
        assert_rate(&deliveries, most as usize, period);
        none_until(&standing_by, async || standing_by.account().await.unwrap().waiting == 0).await;
    }
}
