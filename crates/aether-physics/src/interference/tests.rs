use super::*;
use aether_core::{Phase, Source};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn channel() -> Channel {
    Channel::new("probes.down").unwrap()
}

fn source(instance: u64) -> Source {
    Source::with_instance("probe", instance).unwrap()
}

fn claim(amplitude: f32, phase: Phase, sequence: u64) -> Claim {
    Claim { amplitude: Amplitude::new(amplitude).unwrap(), phase, sequence, age: Duration::ZERO }
}

fn asserts(amplitude: f32) -> Claim {
    claim(amplitude, Phase::ASSERT, 1)
}

fn retracts(amplitude: f32) -> Claim {
    claim(amplitude, Phase::RETRACT, 2)
}

/// A detector of two sources that reports at once, and its start time.
fn pair() -> (Interference, Instant) {
    (
        Interfere::by_key().sources(2).rise(0.7).window(30 * SECOND).build().unwrap(),
        aether_core::clock::test_now(),
    )
}

fn amplitude_of(detector: &Interference, now: Instant) -> f32 {
    detector.resultant(&channel(), "db", now).unwrap().amplitude
}

/// All fringes that are due.
fn fringes(detector: &mut Interference, now: Instant) -> Vec<Fringe> {
    std::iter::from_fn(|| detector.tick(now)).collect()
}

fn kinds(detector: &mut Interference, now: Instant) -> Vec<FringeKind> {
    fringes(detector, now).iter().map(|fringe| fringe.kind).collect()
}

#[test]
fn two_halves_are_three_quarters_and_a_retraction_takes_one_away() {
    let (mut detector, now) = pair();
    detector.claim(&channel(), "db", &source(1), asserts(0.5), now);
    assert_eq!(amplitude_of(&detector, now), 0.5);
    detector.claim(&channel(), "db", &source(2), asserts(0.5), now);
    assert_eq!(amplitude_of(&detector, now), 0.75);
    detector.claim(&channel(), "db", &source(3), retracts(0.5), now);
    let sum = detector.resultant(&channel(), "db", now).unwrap();
    assert!((sum.amplitude - 0.5).abs() < 1e-6 && (sum.coherence - 1.0 / 3.0).abs() < 1e-6, "{sum:?}");
    assert_eq!(sum.sources, 2);
}

#[test]
fn a_source_that_retracts_its_claim_leaves_nothing() {
    let (mut detector, now) = pair();
    detector.claim(&channel(), "db", &source(1), asserts(0.9), now);
    detector.claim(&channel(), "db", &source(1), retracts(0.9), now + SECOND);
    assert_eq!(amplitude_of(&detector, now + SECOND), 0.0);
    // The assertion arrives again, older than the current claim of its source.
    let late = Claim { age: SECOND, ..asserts(0.9) };
    detector.claim(&channel(), "db", &source(1), late, now + SECOND);
    assert_eq!((amplitude_of(&detector, now + SECOND), detector.counts().superseded), (0.0, 1));
}

#[test]
fn a_claim_halves_with_each_window() {
    let (mut detector, now) = pair();
    detector.claim(&channel(), "db", &source(1), asserts(0.75), now);
    let after = |windows: u32| amplitude_of(&detector, now + 30 * SECOND * windows);
    // Evidence 2 ln 2, ln 2, ln 2 / 2.
    assert!((after(0) - 0.75).abs() < 1e-4 && (after(1) - 0.5).abs() < 1e-4, "{} {}", after(0), after(1));
    assert!((after(2) - (1.0 - 0.5f32.sqrt())).abs() < 1e-4);
    assert_eq!(after(2000), 0.0);
}

#[test]
fn a_fringe_rises_once_and_falls_by_itself_at_the_next_change() {
    let (mut detector, now) = pair();
    assert_eq!(detector.next_change(), None);
    detector.claim(&channel(), "db", &source(1), asserts(0.5), now);
    assert_eq!(detector.next_change(), Some(now), "a key is due for a check");
    assert_eq!((kinds(&mut detector, now), detector.next_change()), (vec![], None));
    detector.claim(&channel(), "db", &source(2), asserts(0.5), now);
    let risen = fringes(&mut detector, now);
    assert_eq!(
        (risen.len(), risen[0].kind, risen[0].sources, &*risen[0].key),
        (1, FringeKind::Rise, 2, "db")
    );
    detector.claim(&channel(), "db", &source(2), claim(0.5, Phase::ASSERT, 2), now);
    assert_eq!(kinds(&mut detector, now), [], "it was reported already");
    // From 2 ln 2 to ln 2 in one window.
    let due = detector.next_change().unwrap();
    assert!(due >= now + 30 * SECOND && due < now + 31 * SECOND, "{:?}", due - now);
    assert_eq!(kinds(&mut detector, due - 5 * Duration::from_millis(1)), []);
    assert_eq!(kinds(&mut detector, due), [FringeKind::Fall]);
    assert_eq!(detector.next_change(), None);
}

#[test]
fn one_loud_source_is_not_enough_and_a_source_counts_for_three_windows() {
    let (mut detector, now) = pair();
    detector.claim(&channel(), "db", &source(1), asserts(1.0), now);
    assert_eq!(kinds(&mut detector, now), []);
    assert!(amplitude_of(&detector, now) < 1.0);
    let later = now + 91 * SECOND;
    detector.claim(&channel(), "db", &source(2), asserts(0.9), later);
    assert_eq!(kinds(&mut detector, later), [], "the first has expired");
    assert_eq!(detector.resultant(&channel(), "db", later).unwrap().sources, 1);
}

#[test]
fn short_lived_changes_are_not_reported() {
    let options = Interfere::by_key().sources(2).rise(0.7).window(30 * SECOND).settle(4 * SECOND);
    let mut detector = options.build().unwrap();
    let now = aether_core::clock::test_now();
    let both = |detector: &mut Interference, now, phase, sequence| {
        for probe in [1, 2] {
            detector.claim(&channel(), "db", &source(probe), claim(0.9, phase, sequence), now);
        }
    };
    both(&mut detector, now, Phase::ASSERT, 1);
    assert_eq!((kinds(&mut detector, now), detector.next_change()), (vec![], Some(now + 4 * SECOND)));
    both(&mut detector, now + 3 * SECOND, Phase::RETRACT, 2);
    assert_eq!((kinds(&mut detector, now + 3 * SECOND), detector.next_change()), (vec![], None));
    both(&mut detector, now + 5 * SECOND, Phase::ASSERT, 3);
    assert_eq!(kinds(&mut detector, now + 5 * SECOND), []);
    assert_eq!(kinds(&mut detector, now + 8 * SECOND), []);
    assert_eq!(kinds(&mut detector, now + 9 * SECOND), [FringeKind::Rise]);
    both(&mut detector, now + 10 * SECOND, Phase::RETRACT, 4);
    assert_eq!(
        (kinds(&mut detector, now + 10 * SECOND), detector.next_change()),
        (vec![], Some(now + 14 * SECOND))
    );
    assert_eq!(kinds(&mut detector, now + 14 * SECOND), [FringeKind::Fall]);
}

#[test]
fn settling_restarts_when_a_source_expires_meanwhile() {
    let options = Interfere::by_key().sources(2).rise(0.7).window(2 * SECOND).settle(8 * SECOND);
    let mut detector = options.build().unwrap();
    let now = aether_core::clock::test_now();
    detector.claim(&channel(), "db", &source(1), asserts(1.0), now);
    detector.claim(&channel(), "db", &source(2), asserts(1.0), now + 4 * SECOND);
    assert_eq!(kinds(&mut detector, now + 4 * SECOND), []);
    // The first counts for six seconds only, and is repeated within the eight.
    assert_eq!(detector.next_change(), Some(now + 6 * SECOND));
    assert_eq!((kinds(&mut detector, now + 6 * SECOND), detector.next_change()), (vec![], None));
    detector.claim(&channel(), "db", &source(1), claim(1.0, Phase::ASSERT, 2), now + 9 * SECOND);
    assert_eq!(kinds(&mut detector, now + 9 * SECOND), []);
    assert_eq!(kinds(&mut detector, now + 12 * SECOND), []);
}

#[test]
fn a_fringe_that_recovers_while_it_settles_falls_when_it_has_decayed() {
    let options = Interfere::by_key().sources(1).rise(0.7).window(SECOND).settle(60 * SECOND);
    let mut detector = options.build().unwrap();
    let now = aether_core::clock::test_now();
    let mut sequence = 0;
    // Kept up until it has settled.
    for second in 0..=120 {
        sequence += 1;
        let at = now + SECOND / 2 * second;
        detector.claim(&channel(), "db", &source(1), claim(0.99, Phase::ASSERT, sequence), at);
        assert_eq!(kinds(&mut detector, at).len(), usize::from(second == 120));
    }
    let later = now + 60 * SECOND;
    detector.claim(&channel(), "db", &source(1), claim(0.99, Phase::RETRACT, sequence + 1), later + SECOND);
    assert_eq!(kinds(&mut detector, later + SECOND), []);
    detector.claim(&channel(), "db", &source(1), claim(0.9, Phase::ASSERT, sequence + 2), later + 2 * SECOND);
    assert_eq!(kinds(&mut detector, later + 2 * SECOND), []);
    // 0.9 becomes 0.5 in 1.7 windows, and the minute begins then.
    let decayed = detector.next_change().unwrap();
    assert!(decayed < later + 4 * SECOND);
    assert_eq!(kinds(&mut detector, decayed), []);
    assert_eq!(kinds(&mut detector, decayed + 59 * SECOND), []);
    assert_eq!(kinds(&mut detector, decayed + 60 * SECOND), [FringeKind::Fall]);
}

#[test]
fn an_evicted_key_is_reported_if_it_had_risen() {
    let mut detector = Interfere::by_key().sources(1).rise(0.7).max_keys(2).build().unwrap();
    let now = aether_core::clock::test_now();
    detector.claim(&channel(), "db", &source(1), asserts(0.9), now);
    assert_eq!(kinds(&mut detector, now), [FringeKind::Rise]);
    for key in ["a", "b"] {
        detector.claim(&channel(), key, &source(1), asserts(0.1), now);
    }
    assert_eq!(detector.next_change(), Some(now));
    let gone = fringes(&mut detector, now);
    assert_eq!((gone.len(), gone[0].kind, &*gone[0].key), (1, FringeKind::Forgotten, "db"));
    assert_eq!((detector.keys(), detector.counts().keys_evicted, detector.next_change()), (2, 1, None));
}

#[test]
fn a_flood_of_keys_and_sources_is_bounded() {
    let mut detector = Interfere::by_key().sources(1).rise(0.7).max_keys(16).max_sources(4).build().unwrap();
    let now = aether_core::clock::test_now();
    for n in 1..=10_000u64 {
        let at = now + Duration::from_micros(n);
        detector.claim(&channel(), &format!("key{}", n % 64), &source(n), asserts(0.9), at);
        if n % 100 == 0 {
            while detector.tick(at).is_some() {}
        }
        assert!(
            detector.dirty.len() <= 16 && detector.deadlines.len() <= 16 && detector.forgotten.len() <= 16
        );
        assert!(detector.dirty.capacity() <= 16 && detector.keys() <= 16);
    }
    let counts = detector.counts();
    assert_eq!(counts.claims, 10_000);
    assert_eq!(counts.keys_evicted, 10_000 - 16);
}

#[test]
fn a_clock_that_jumps_is_survived_and_counted() {
    let (mut detector, now) = pair();
    let far = now + 1000 * 86_400 * SECOND;
    detector.claim(&channel(), "db", &source(1), asserts(0.9), far);
    let ancient = Claim { age: Duration::MAX, ..asserts(0.9) };
    detector.claim(&channel(), "db", &source(2), ancient, now);
    assert_eq!((kinds(&mut detector, now), detector.counts().clock_jumps), (vec![], 1));
    detector.claim(&channel(), "db", &source(3), asserts(0.9), now + SECOND);
    assert_eq!(kinds(&mut detector, now + SECOND), [FringeKind::Rise]);
    let due = detector.next_change().unwrap();
    assert!(due > now + SECOND && due < now + 300 * SECOND, "relative to the current clock");
    assert_eq!(kinds(&mut detector, due), [FringeKind::Fall]);
}

#[test]
fn waves_without_a_claim_are_counted() {
    let (mut detector, now) = pair();
    detector.observe(&Wave::builder("a").build().unwrap(), now);
    detector.observe(&Wave::builder("a").key("k").build().unwrap(), now);
    let counts = detector.counts();
    assert_eq!((counts.keyless, counts.sourceless, counts.claims, detector.keys()), (1, 1, 0, 0));
}

/// Claims at moments in seconds: by which probe, about which key, and whether it asserts.
type Claims = Vec<(f64, u64, String, bool)>;

/// Feeds claims as a driver does: a tick whenever something can change, and after each claim.
fn fed(detector: &mut Interference, start: Instant, mut claims: Claims) -> Vec<(f64, Fringe)> {
    claims.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = Vec::new();
    let mut tick = |detector: &mut Interference, now: Instant| {
        found.extend(fringes(detector, now).into_iter().map(|fringe| ((now - start).as_secs_f64(), fringe)));
    };
    for (sequence, (second, probe, key, asserts)) in claims.into_iter().enumerate() {
        let now = start + Duration::from_secs_f64(second);
        while let Some(due) = detector.next_change().filter(|due| *due <= now) {
            tick(detector, due);
        }
        let phase = if asserts { Phase::ASSERT } else { Phase::RETRACT };
        detector.claim(&channel(), &key, &source(probe), claim(0.7, phase, sequence as u64 + 1), now);
        tick(detector, now);
    }
    let end = start + 100_000 * SECOND;
    while let Some(due) = detector.next_change().filter(|due| *due <= end) {
        tick(detector, due);
    }
    found
}

#[test]
fn sources_that_always_assert_everything_light_nothing_and_hide_nothing() {
    let mut random = fastrand::Rng::with_seed(9);
    let mut claims = Claims::new();
    // Three of twenty probes assert all of 100 keys all the time.
    for probe in 1..=3 {
        for key in 0..100 {
            let mut at = 20.0 * random.f64();
            while at < 3600.0 {
                claims.push((at, probe, format!("key{key}"), true));
                at += 10.0 + 20.0 * random.f64();
            }
        }
    }
    // Ten faults after ten minutes. The honest probes never retract, and each has six blips an hour.
    let faults: Vec<(f64, String)> =
        (0..10).map(|n| (600.0 + 300.0 * f64::from(n), format!("key{}", 7 * n))).collect();
    for (from, key) in &faults {
        for probe in 4..=20 {
            claims.extend(
                (0..6).map(|n| (from + 10.0 * f64::from(n) + 3.0 * random.f64(), probe, key.clone(), true)),
            );
        }
    }
    for probe in 4..=20 {
        claims.extend((0..6).map(|n| {
            (600.0 * f64::from(n) + 500.0 * random.f64(), probe, format!("key{}", random.u32(..100)), true)
        }));
    }
    let mut detector = Interfere::by_key().build().unwrap();
    let found = fed(&mut detector, aether_core::clock::test_now(), claims);
    let rises: Vec<(f64, String)> = found
        .iter()
        .filter(|(at, fringe)| fringe.kind == FringeKind::Rise && *at >= 600.0)
        .map(|(at, fringe)| (*at, fringe.key.to_string()))
        .collect();
    let is_true = |(at, key): &&(f64, String)| {
        faults.iter().any(|(from, faulty)| key == faulty && (*from..from + 60.0).contains(at))
    };
    assert_eq!((rises.len(), rises.iter().filter(is_true).count()), (10, 10), "{rises:?}");
}

#[test]
fn keys_that_rise_at_once_by_the_same_sources_are_one_alert() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut claims = Claims::new();
    // After an hour of peace, ten probes lose sight of 50 keys for five minutes.
    for key in 0..50 {
        for probe in 1..=10 {
            let begin = 3600.0 - 4.0 * (1.0 - random.f64()).ln();
            claims.extend((0..30).map(|n| (begin + 10.0 * f64::from(n), probe, format!("key{key}"), true)));
            claims.push((3910.0 + 5.0 * random.f64(), probe, format!("key{key}"), false));
        }
    }
    // Meanwhile other probes see a fault of their own.
    claims.extend((11..=14).map(|probe| (3605.0, probe, "another".to_owned(), true)));
    claims.push((0.0, 20, "some".to_owned(), true));
    let mut detector = Interfere::by_key().build().unwrap();
    let found = fed(&mut detector, aether_core::clock::test_now(), claims);
    let of = |kind| found.iter().filter(move |(_, fringe)| fringe.kind == kind).map(|(_, fringe)| fringe);
    let (rises, falls): (Vec<_>, Vec<_>) = (of(FringeKind::Rise).collect(), of(FringeKind::Fall).collect());
    assert_eq!((rises.len(), falls.len()), (2, 2), "{rises:?}");
    let most = of(FringeKind::Changed).max_by_key(|fringe| fringe.lit).unwrap();
    assert_eq!((most.lit, most.keys.len()), (50, 50));
    assert!(of(FringeKind::Changed).count() < 40, "changes are gathered");
    let partition = rises.iter().find(|fringe| &*fringe.key != "another").unwrap();
    assert_eq!((&most.id, &most.key), (&partition.id, &partition.key));
    let end = falls.iter().find(|fringe| fringe.id == partition.id).unwrap();
    assert_eq!((end.lit, end.keys.len(), &end.key), (0, 1, &partition.key));
}

#[test]
fn claims_do_not_fade_while_claims_may_have_been_missed() {
    let (mut detector, now) = pair();
    for probe in [1, 2] {
        detector.claim(&channel(), "db", &source(probe), asserts(0.5), now);
    }
    assert_eq!(kinds(&mut detector, now), [FringeKind::Rise]);
    detector.not_seen(now, now + 100 * SECOND);
    assert_eq!(kinds(&mut detector, now + 100 * SECOND), []);
    assert_eq!(amplitude_of(&detector, now + 100 * SECOND), 0.75);
    let due = detector.next_change().unwrap();
    assert!(due >= now + 130 * SECOND && due < now + 131 * SECOND, "{:?}", due - now);
    assert_eq!(kinds(&mut detector, due), [FringeKind::Fall]);
    assert_eq!(detector.counts().clock_jumps, 0);
}

#[test]
fn a_forgotten_key_leaves_its_alert_to_the_others() {
    let mut detector = Interfere::by_key().sources(1).rise(0.7).max_keys(2).build().unwrap();
    let now = aether_core::clock::test_now();
    for key in ["a", "b"] {
        detector.claim(&channel(), key, &source(1), asserts(0.9), now);
    }
    assert_eq!(kinds(&mut detector, now), [FringeKind::Rise]);
    detector.claim(&channel(), "c", &source(2), asserts(0.1), now);
    let later = now + 2 * SECOND;
    let changed = fringes(&mut detector, later);
    assert_eq!((changed.len(), changed[0].kind, changed[0].lit), (1, FringeKind::Changed, 1));
    assert_eq!(changed[0].keys, ["b"]);
    detector.claim(&channel(), "d", &source(2), asserts(0.1), later);
    let gone = fringes(&mut detector, later);
    assert_eq!(
        (gone[0].kind, gone[0].lit, &gone[0].keys[..]),
        (FringeKind::Forgotten, 0, &["b".to_owned()][..])
    );
}

#[test]
fn contradictory_options_are_refused() {
    let refused = |options: Interfere| options.build().unwrap_err().option();
    assert_eq!(refused(Interfere::by_key().rise(f32::NAN)), "interference.rise");
    assert_eq!(refused(Interfere::by_key().fall(-0.1)), "interference.fall");
    assert_eq!(refused(Interfere::by_key().rise(1.0)), "interference.rise");
    assert_eq!(refused(Interfere::by_key().rise(0.5).fall(0.5)), "interference.rise");
    assert_eq!(refused(Interfere::by_key().window(Duration::ZERO)), "interference.window");
    assert_eq!(refused(Interfere::by_key().settle(Duration::MAX)), "interference.settle");
    assert_eq!(refused(Interfere::by_key().sources(0)), "interference.sources");
    let nine = Interfere::by_key().sources(9).build().unwrap_err();
    assert_eq!(nine.to_string(), "interference.sources = 9 is not allowed: use 1 to max_sources, which is 8");
    assert_eq!(refused(Interfere::by_key().max_keys(0)), "interference.max_keys");
    assert_eq!(refused(Interfere::by_key().max_sources(65)), "interference.max_sources");
    assert!(Interfere::by_key().build().is_ok());
}

/// A claim about one of three keys, by one of twelve sources where eight are kept.
fn any_claim() -> impl Strategy<Value = (usize, u64, Claim)> {
    let phase = prop_oneof![
        Just(Phase::ASSERT),
        Just(Phase::RETRACT),
        (0f32..7.0).prop_map(|p| Phase::new(p).unwrap())
    ];
    (0usize..3, 1u64..13, any::<u16>(), phase, 0u64..4, 0u64..200_000).prop_map(
        |(key, source, loss, phase, sequence, millis)| {
            let amplitude = Amplitude::from_loss(loss % 8192);
            // Equal numbers of one source are the same wave, equal in everything.
            let (phase, amplitude, age) = match sequence {
                0 => (Phase::ASSERT, Amplitude::NORMAL, Duration::from_secs(3)),
                _ => (phase, amplitude, Duration::from_millis(millis)),
            };
            let sequence = if sequence == 0 { 0 } else { millis << 16 | u64::from(loss) };
            (key, source, Claim { amplitude, phase, sequence, age })
        },
    )
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// Everything observable after these claims: sums to the bit, and fringes.
fn seen(claims: &[(usize, u64, Claim)], now: Instant) -> (Vec<Option<[u64; 3]>>, Vec<String>) {
    let mut detector = Interfere::by_key().sources(2).rise(0.6).fall(0.3).build().unwrap();
    for (key, instance, claim) in claims {
        detector.claim(&channel(), KEYS[*key], &source(*instance), *claim, now);
    }
    let later = now + 7 * SECOND;
    let sums = KEYS.map(|key| {
        detector.resultant(&channel(), key, later).map(|sum| {
            assert!((0.0..1.0).contains(&sum.amplitude) && (0.0..=1.0).contains(&sum.coherence), "{sum:?}");
            [sum.amplitude.to_bits().into(), sum.coherence.to_bits().into(), sum.sources as u64]
        })
    });
    let mut reported: Vec<_> =
        fringes(&mut detector, now).iter().map(|fringe| format!("{fringe:?}")).collect();
    reported.sort_unstable();
    (sums.to_vec(), reported)
}

proptest! {
    #[test]
    fn neither_order_nor_repetition_changes_anything(
        claims in prop::collection::vec(any_claim(), 1..60),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        seed: u64,
    ) {
        let now = aether_core::clock::test_now();
        let mut shuffled = claims.clone();
        shuffled.extend(again.iter().map(|index| *index.get(&claims)));
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        prop_assert_eq!(seen(&claims, now), seen(&shuffled, now));
    }

    #[test]
    fn an_assertion_and_its_retraction_cancel_exactly(
        pairs in prop::collection::vec((any::<u16>(), 0u64..1_000_000), 1..4),
        after in 0u64..1_000_000,
    ) {
        let now = aether_core::clock::test_now();
        let mut detector = Interfere::by_key().build().unwrap();
        for (index, (loss, millis)) in pairs.iter().enumerate() {
            let amplitude = Amplitude::from_loss(*loss);
            // Retractions come after all assertions.
            for (first, phase) in [(1, Phase::ASSERT), (5, Phase::RETRACT)] {
                let claim = Claim { amplitude, phase, sequence: 1, age: Duration::from_millis(*millis) };
                detector.claim(&channel(), "db", &source(first + index as u64), claim, now);
            }
        }
        let sum = detector.resultant(&channel(), "db", now + Duration::from_millis(after)).unwrap();
        prop_assert_eq!((sum.amplitude, sum.coherence, sum.sources > pairs.len()), (0.0, 0.0, false));
    }
}
