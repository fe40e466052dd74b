//! A scrape matches what happened.

use std::time::{Duration, Instant};

use crate::support::{self, Metrics};
use aether_core::{Aether, InboxOptions, Kind, Vibrator, Wave, WhenFull};
use aether_gateway::{GatewayOptions, OTHER};

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_counts_every_wave_and_its_ledgers_add_up() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default()).await;

    // One receiver takes three of fifty waves; another is closed with waves in its inbox.
    let small = InboxOptions::overload().max_waves(10).sojourn_cap(None);
    let mut slow = Vibrator::builder("slow \"quoted\\\"").inbox(small).create(&aether).await.unwrap();
    slow.resonate_on("orders.>").await.unwrap();
    let gone = Vibrator::create("gone", &aether).await.unwrap();
    gone.resonate_on("orders.>").await.unwrap();

    let (shop, begun) = (Vibrator::create("shop", &aether).await.unwrap(), Instant::now());
    for _ in 0..40 {
        shop.emit_bytes("orders.created", "12345").await.unwrap();
    }
    for _ in 0..10 {
        let command =
            Wave::builder("orders.\"odd\\").kind(Kind::Command).amplitude(0.9).text("123").build().unwrap();
        shop.emit(command).await.unwrap();
    }
    for _ in 0..3 {
        slow.receive().await.unwrap();
    }
    drop(gone);
    running.observes(50).await;

    let answer = running.get("/metrics").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let metrics = Metrics::read(&answer.body);

    let odd = [("channel", "orders.\"odd\\"), ("kind", "command")];
    assert_eq!(metrics.value("aether_observed_waves_total", &odd), 10.0);
    assert_eq!(metrics.value("aether_observed_payload_bytes_total", &odd), 30.0);
    let created = [("channel", "orders.created"), ("kind", "event")];
    assert_eq!(metrics.value("aether_observed_waves_total", &created), 40.0);
    assert_eq!(metrics.sum("aether_observed_waves_total", &[]), 50.0);
    assert_eq!(metrics.value("aether_wave_age_seconds_count", &[]), 50.0);
    assert!(metrics.value("aether_wave_age_seconds_sum", &[]) > 0.0);
    assert_eq!(metrics.value("aether_wave_age_seconds_bucket", &[("le", "+Inf")]), 50.0);

    let of_slow = [("vibrator", "slow \"quoted\\\"")];
    assert_eq!(metrics.value("aether_inbox_offered_waves_total", &of_slow), 50.0);
    assert_eq!(metrics.value("aether_inbox_delivered_waves_total", &of_slow), 3.0);
    assert_eq!(metrics.value("aether_inbox_queued_waves", &of_slow), 7.0);
    let full = [of_slow[0], ("reason", "full")];
    assert_eq!(metrics.value("aether_inbox_shed_waves_total", &full), 40.0);
    assert_eq!(metrics.value("aether_inbox_shed_waves_total", &[of_slow[0], ("reason", "expired")]), 0.0);
    let floor = metrics.value("aether_inbox_effective_floor", &of_slow);
    // It falls again a second after an eviction, which is later than the beginning.
    let may_have_fallen = begun.elapsed() >= Duration::from_secs(1);
    assert!((0.4..=0.5).contains(&floor) || may_have_fallen, "the evicted waves had 0.5: {floor}");
    assert_eq!(metrics.value("aether_inbox_effective_floor", &[("vibrator", "shop")]), 0.0);

    // The slow inbox had room for all ten commands; the closed one had received and then dropped them.
    let reflected = |outcome| metrics.value("aether_reflected_waves_total", &[("outcome", outcome)]);
    assert_eq!(["echoed", "buried", "left_to_asker", "unconfirmed"].map(reflected), [0.0, 10.0, 0.0, 0.0]);
    assert_eq!(metrics.value("aether_reflecting_waves", &[]), 0.0);
    assert_eq!(metrics.value("aether_dead_letters", &[]), 10.0);
    let letters = |what: &str| metrics.value(&format!("aether_dead_letters_{what}_total"), &[]);
    assert_eq!(["buried", "taken", "overflowed"].map(letters), [10.0, 0.0, 0.0]);
    assert_eq!(metrics.value("aether_medium_shed_at_source_waves_total", &[]), 0.0);
    let page = running.get("/status").await.body;
    assert!(page.contains(
        "10 commands and queries failed here: 0 reported to their sources, 10 became dead letters"
    ));

    // One cell holds all reasons, because a column for each would be too wide.
    assert!(page.contains("<td class=\"lost\"><span>40 full</span> </td>"), "{page}");
    assert!(page.contains("<span>40 full</span> <span>+ 50 closed</span>"), "{page}");

    for vibrator in ["slow \"quoted\\\"", "gateway", "shop", "gone"] {
        adds_up(&metrics, "aether_inbox_", &[("vibrator", vibrator)]);
    }
    adds_up(&metrics, "aether_", &[]);
    adds_up(&metrics, "aether_outbox_", &[]);
    // The closed inbox keeps its line and is part of the process sum. Four inboxes received the orders: three, and the
    // inbox of the physics.
    assert_eq!(metrics.value("aether_offered_waves_total", &[]), 200.0);
    assert_eq!(metrics.value("aether_shed_waves_total", &[("reason", "closed")]), 50.0);
    let of_gone = [("vibrator", "gone")];
    assert_eq!(metrics.value("aether_inbox_offered_waves_total", &of_gone), 50.0);
    assert_eq!(metrics.value("aether_inbox_shed_waves_total", &[of_gone[0], ("reason", "closed")]), 50.0);
    assert_eq!(metrics.value("aether_inboxes", &of_gone), 0.0);

    assert_eq!(metrics.value("aether_outbox_offered_waves_total", &[]), 0.0, "there is none in process");
    assert_eq!(metrics.value("aether_medium_connected", &[]), 1.0);
    assert_eq!(metrics.value("aether_medium_connects_total", &[]), 1.0);
    assert_eq!(metrics.value("aether_ready", &[]), 1.0);
    assert_eq!(metrics.value("aether_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    let started = metrics.value("aether_start_time_seconds", &[]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(started <= now && now - started < 600.0, "{started}");
    running.stop().await;
}

pub(crate) fn adds_up(metrics: &Metrics, prefix: &str, labels: &[(&str, &str)]) {
    let offered = metrics.value(&format!("{prefix}offered_waves_total"), labels);
    let delivered = metrics.value(&format!("{prefix}delivered_waves_total"), labels);
    let shed = metrics.sum(&format!("{prefix}shed_waves_total"), labels);
    let lost = match prefix {
        "aether_outbox_" => 0.0,
        _ => metrics.value(&format!("{prefix}lost_upstream_waves_total"), labels),
    };
    let queued = metrics.value(&format!("{prefix}queued_waves"), labels);
    assert_eq!(offered, delivered + shed + lost + queued, "{prefix} {labels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unbounded_number_of_names_does_not_grow_the_metrics() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default().max_channels(20)).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for n in 0..1000 {
        shop.emit_bytes(format!("made.up.{n}"), "x").await.unwrap();
    }
    running.observes(1000).await;
    let text = running.get("/metrics").await.body;
    let metrics = Metrics::read(&text);
    assert_eq!(text.matches("aether_observed_waves_total{").count(), 21);
    assert_eq!(metrics.value("aether_observed_waves_total", &[("channel", OTHER), ("kind", "event")]), 980.0);
    assert_eq!(metrics.sum("aether_observed_waves_total", &[]), 1000.0);
    running.stop().await;
}

/// The observer is not polled while the waves are emitted: there is one thread and no await point.
#[tokio::test]
async fn observing_never_delays_an_emitter_and_missed_waves_are_counted() {
    let aether = Aether::local();
    let inbox = GatewayOptions::observer_inbox().max_waves(8);
    let mut running = support::run(&aether, GatewayOptions::default().inbox(inbox)).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for _ in 0..100 {
        shop.try_emit(Wave::from_bytes("a", "x").unwrap()).unwrap();
    }
    running.observes(8).await;
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.sum("aether_observed_waves_total", &[]), 8.0);
    let missed = [("vibrator", "gateway"), ("reason", "full")];
    assert_eq!(metrics.value("aether_inbox_shed_waves_total", &missed), 92.0);
    running.stop().await;
}

/// The inbox of an observer must not make emitters wait, whatever the default of other vibrators is.
#[test]
fn the_observer_sheds_and_does_not_cap_the_wait() {
    let shown = format!("{:?}", GatewayOptions::observer_inbox());
    assert!(shown.contains(&format!("{:?}", WhenFull::Shed)), "{shown}");
    assert!(shown.contains(&format!("sojourn_cap: {:?}", None::<Duration>)), "{shown}");
}
