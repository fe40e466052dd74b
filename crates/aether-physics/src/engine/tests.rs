//! Unit tests of the engine.

use std::time::Duration;

use super::*;
use crate::{FringeKind, Interfere, ResonanceOptions};
use aether_core::Source;
use aether_core::medium::Sequencer;

struct TestService {
    sequencer: Sequencer,
}

impl TestService {
    fn new(name: &str) -> Self {
        Self { sequencer: Sequencer::new(Source::new(name).unwrap()) }
    }

    fn claim(&self, channel: &str, key: &str, now: Instant) -> Wave {
        let mut wave = Wave::builder(channel).key(key).build().unwrap();
        wave.stamp(&self.sequencer, aether_core::clock::moment_of(now));
        wave
    }

    fn emit(&self, channel: &str, cause: Option<&Wave>, now: Instant) -> Wave {
        let builder = Wave::builder(channel);
        let builder = match cause {
            Some(cause) => builder.cause(cause.id()),
            None => builder,
        };
        let mut wave = builder.build().unwrap();
        wave.stamp(&self.sequencer, aether_core::clock::moment_of(now));
        wave
    }
}

fn findings(engine: &mut PhysicsEngine, now: Instant) -> Vec<Finding> {
    std::iter::from_fn(|| engine.tick(now)).collect()
}

#[test]
fn an_edge_is_found_once_with_its_lag_and_its_vibrators() {
    let mut engine = PhysicsEngine::default();
    let (shop, stock) = (TestService::new("shop"), TestService::new("stock"));
    let start = aether_core::clock::test_now();
    for second in 0..5 {
        let now = start + Duration::from_secs(second);
        let created = shop.emit("orders.created", None, now);
        let reserved = stock.emit("stock.reserved", Some(&created), now + Duration::from_millis(4));
        // The observer receives them late by different times; only the emission times count.
        engine.observe(&created, now + Duration::from_millis(50));
        engine.observe(&reserved, now + Duration::from_millis(70));
    }
    let map = engine.report().map;
    let edge = map.edge("orders.created", "stock.reserved").unwrap();
    assert_eq!((edge.waves, edge.median_lag, edge.effect), (5, Duration::from_millis(4), 1.0));
    assert_eq!(
        (edge.emitters.as_slice(), edge.handlers.as_slice()),
        (&["shop".to_owned()][..], &["stock".to_owned()][..])
    );
    let found = findings(&mut engine, start);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "related: orders.created -> stock.reserved after 4.00 ms (L0, 1.00 a wave, by stock)"
    );
    engine.report();
    assert!(findings(&mut engine, start).is_empty());
}

#[test]
fn too_many_waves_are_sampled_and_reported() {
    let mut engine = EngineOptions::default().waves_a_second(10).build().unwrap();
    let shop = TestService::new("shop");
    let start = aether_core::clock::test_now();
    for wave in 0..5000 {
        let now = start + Duration::from_millis(10 * wave);
        engine.observe(&shop.emit("orders.created", None, now), now);
    }
    let report = engine.report();
    assert_eq!(report.sampling.seen, 5000);
    assert_eq!(report.map.counts.waves, report.sampling.shown);
    assert!(report.sampling.shown < 1700, "{:?}", report.sampling);
    assert!(findings(&mut engine, start).iter().any(|finding| matches!(finding, Finding::Sampling { .. })));
}

#[test]
fn a_clock_that_jumps_is_a_finding() {
    let mut engine = PhysicsEngine::default();
    let shop = TestService::new("shop");
    let start = aether_core::clock::test_now() + Duration::from_secs(100);
    for now in [start, start - Duration::from_secs(50), start + Duration::from_secs(1000)] {
        engine.observe(&shop.emit("orders.created", None, now), now);
    }
    let jumps: Vec<String> = findings(&mut engine, start).iter().map(ToString::to_string).collect();
    assert_eq!(jumps, ["the clock jumped, 1 times so far", "the clock jumped, 2 times so far"]);
}

#[test]
fn unfetched_findings_are_bounded_and_counted() {
    let mut engine = PhysicsEngine::default();
    let shop = TestService::new("shop");
    let start = aether_core::clock::test_now() + Duration::from_secs(100_000);
    for wave in 0..3000_u64 {
        let now = start - Duration::from_secs(10 * wave);
        engine.observe(&shop.emit("orders.created", None, now), now);
    }
    assert_eq!(engine.report().findings_lost, 2999 - MAX_FINDINGS as u64);
    assert_eq!(findings(&mut engine, start).len(), MAX_FINDINGS);
}

#[test]
fn impossible_bounds_are_refused() {
    let refused = |options: EngineOptions| options.build().unwrap_err().to_string();
    let none = EngineOptions::default().waves_a_second(0);
    assert_eq!(refused(none), "engine.waves_a_second = 0 is not allowed: use 1 or more");
    let one = EngineOptions::default().resonance(ResonanceOptions::default().moments(1));
    assert_eq!(refused(one), "resonance.moments = 1 is not allowed: use 64 to 65536");
}

#[test]
fn a_heartbeat_is_found_and_missed_when_it_stops() {
    let mut engine = PhysicsEngine::default();
    let heart = TestService::new("heart");
    let start = aether_core::clock::test_now();
    let mut found = Vec::new();
    let mut now = start;
    for beat in 0..100 {
        now = start + Duration::from_secs(beat);
        engine.observe(&heart.emit("heart.beat", None, now), now);
        found.extend(findings(&mut engine, now));
    }
    assert!(
        matches!(&found[..], [Finding::Standing(stream)] if stream.channel.as_str() == "heart.beat"),
        "{found:?}"
    );
    let (mut alarm, mut missed) = (now, Vec::new());
    // Incidents are judged in between.
    while missed.is_empty() {
        alarm = engine.next_change().unwrap();
        missed = findings(&mut engine, alarm);
    }
    assert!(alarm <= now + Duration::from_millis(3500));
    assert!(matches!(&missed[..], [Finding::MissingBeat { .. }]), "{missed:?}");
    assert!(
        missed[0].to_string().starts_with("missing beat: heart.beat by heart beats every 1.00 s"),
        "{}",
        missed[0]
    );
    assert_eq!(engine.report().standing.len(), 1);
}

#[test]
fn claims_add_up_on_the_configured_channels() {
    let pattern = Pattern::new("probes.>").unwrap();
    let options = EngineOptions::default().interfere(pattern, Interfere::by_key().sources(2).rise(0.7));
    let mut engine = options.build().unwrap();
    let now = aether_core::clock::test_now();
    for name in ["oslo", "rome"] {
        let probe = TestService::new(name);
        for channel in ["probes.down", "orders.created"] {
            engine.observe(&probe.claim(channel, "db-7", now), now);
        }
    }
    let found = findings(&mut engine, now);
    let rises =
        |finding: &Finding| matches!(finding, Finding::Fringe(fringe) if fringe.kind == FringeKind::Rise);
    assert!(found.len() == 1 && rises(&found[0]), "{found:?}");
}

#[test]
fn during_a_pause_nothing_is_missed_and_nothing_decays() {
    let pattern = Pattern::new("probes.>").unwrap();
    let claims = Interfere::by_key().sources(2).rise(0.7).fall(0.5).window(Duration::from_secs(10));
    let mut engine = EngineOptions::default().waves_a_second(100).interfere(pattern, claims).build().unwrap();
    let (heart, shop) = (TestService::new("heart"), TestService::new("shop"));
    let start = aether_core::clock::test_now();
    let mut now = start;
    for beat in 0..40 {
        now = start + Duration::from_secs(beat);
        engine.observe(&heart.emit("heart.beat", None, now), now);
        findings(&mut engine, now);
    }
    for name in ["oslo", "rome"] {
        engine.observe(&TestService::new(name).claim("probes.down", "db-7", now), now);
    }
    assert!(matches!(&findings(&mut engine, now)[..], [Finding::Fringe(_)]));
    for _ in 0..3000 {
        engine.observe(&shop.emit("orders.created", None, now), now);
    }
    let until = engine.away_until().unwrap();
    assert_eq!((until, engine.next_change()), (now + Duration::from_secs(8), Some(until)));
    let found = findings(&mut engine, until - Duration::from_millis(1));
    assert!(matches!(&found[..], [Finding::Sampling { sampling }] if sampling.lately < 0.01), "{found:?}");
    assert!(found[0].to_string().starts_with("too many waves: looked at 0.0 % of the time"), "{}", found[0]);
    // It resumes a second late, because there was no tick, and then finds what was due nine seconds before.
    now = until + Duration::from_secs(1);
    assert!(findings(&mut engine, now).is_empty() && engine.away_until().is_none());
    assert_eq!(engine.sampling().away, Duration::from_secs(9));
    let found = findings(&mut engine, now + Duration::from_millis(3100));
    assert!(matches!(&found[..], [Finding::MissingBeat { .. }]), "{found:?}");
    assert!(findings(&mut engine, now + Duration::from_millis(9900)).is_empty());
    let found = findings(&mut engine, now + Duration::from_millis(10_100));
    assert!(matches!(&found[..], [Finding::Fringe(fringe)] if fringe.kind == FringeKind::Fall), "{found:?}");
}

#[test]
fn claims_are_held_while_waves_are_lost() {
    let pattern = Pattern::new("probes.>").unwrap();
    let claims = Interfere::by_key().sources(2).rise(0.7).fall(0.5).window(Duration::from_secs(10));
    let mut engine = EngineOptions::default().interfere(pattern, claims).build().unwrap();
    let now = aether_core::clock::test_now();
    for name in ["oslo", "rome"] {
        engine.observe(&TestService::new(name).claim("probes.down", "db-7", now), now);
    }
    assert!(matches!(&findings(&mut engine, now)[..], [Finding::Fringe(_)]));
    let later = now + Duration::from_secs(60);
    engine.lost(5, now, later);
    assert!(findings(&mut engine, later + Duration::from_millis(9900)).is_empty());
    let found = findings(&mut engine, later + Duration::from_millis(10_100));
    assert!(matches!(&found[..], [Finding::Fringe(fringe)] if fringe.kind == FringeKind::Fall), "{found:?}");
}

#[test]
fn lost_waves_shorten_the_observation() {
    let mut engine = EngineOptions::default().waves_a_second(100).build().unwrap();
    let shop = TestService::new("shop");
    let now = aether_core::clock::test_now();
    engine.observe(&shop.emit("orders.created", None, now), now);
    engine.lost(1000, now, now);
    engine.observe(&shop.emit("orders.created", None, now), now);
    // A debt of 1001 waves is paid back in ten seconds.
    assert_eq!(engine.away_until(), Some(now + Duration::from_millis(10_010)));
    assert_eq!((engine.sampling().seen, engine.sampling().shown), (2, 1));
}

#[test]
fn a_loss_reaches_the_map() {
    let map_with_losses = |losses: bool| {
        let mut engine = PhysicsEngine::default();
        let (shop, stock) = (TestService::new("shop"), TestService::new("stock"));
        engine.tuned("stock", &[Pattern::new("orders.created").unwrap()]);
        let start = aether_core::clock::test_now();
        for order in 0..400_u64 {
            let now = start + Duration::from_millis(order * 500 + order * order % 97);
            engine.observe(&shop.emit("orders.created", None, now), now);
            let later = now + Duration::from_millis(4);
            engine.observe(&stock.emit("stock.reserved", None, later), later);
            if losses && order % 4 == 0 {
                engine.lost(1, now, later);
            }
        }
        engine.report().map
    };
    assert!(map_with_losses(false).edge("orders.created", "stock.reserved").is_some());
    // Each loss may hide the wave that would show that an edge is none, so no window of time is complete.
    assert!(map_with_losses(true).edges.is_empty());
}
