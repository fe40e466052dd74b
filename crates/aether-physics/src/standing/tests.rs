use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn detector() -> StandingWaves {
    StandingWaves::new(StandingOptions::default()).unwrap()
}

fn channel() -> Channel {
    Channel::new("stock.alive").unwrap()
}

fn source(instance: u64) -> Source {
    Source::with_instance("stock", instance).unwrap()
}

fn findings(streams: &mut StandingWaves, now: Instant) -> Vec<Finding> {
    let mut findings = Vec::new();
    loop {
        match streams.tick(now) {
            Some(finding) => findings.push(finding),
            None if streams.next_change().is_some_and(|due| due <= now) => {}
            None => return findings,
        }
    }
}

/// Beats one second apart; returns the findings and the time of the last beat.
fn beat_for(streams: &mut StandingWaves, beats: u32, from: Instant) -> (Vec<Finding>, Instant) {
    let mut found = Vec::new();
    for beat in 1..=beats {
        let now = from + beat * SECOND;
        streams.beat(&channel(), &source(1), Duration::ZERO, now);
        found.extend(findings(streams, now));
    }
    (found, from + beats * SECOND)
}

#[test]
fn a_heartbeat_is_found_missed_once_and_resumes() {
    let mut streams = detector();
    let (found, last) = beat_for(&mut streams, 200, aether_core::clock::test_now());
    assert!(matches!(&found[..], [Finding::Standing(wave)] if wave.period == SECOND), "{found:?}");
    let wave = streams.stream(&channel(), &source(1)).unwrap();
    assert!(
        wave.regularity > 0.999 && wave.jitter < 1e-3 && wave.missing == 0.0 && wave.beats == 200,
        "{wave:?}"
    );
    assert_eq!(streams.standing().collect::<Vec<_>>(), std::slice::from_ref(&wave));
    // The deadline of the beat before last has passed, the deadline of the last one has not.
    let awaited = last + 31 * SECOND / 10;
    assert_eq!(findings(&mut streams, awaited - Duration::from_millis(1)), []);
    let due = streams.next_change().unwrap();
    assert_eq!(due, awaited);
    let missing = findings(&mut streams, due);
    let [Finding::MissingBeat { stream, silence, phi, also_silent }] = &missing[..] else {
        panic!("{missing:?}")
    };
    assert_eq!((&stream.channel, *silence, also_silent.len()), (&channel(), due - last, 0));
    assert!(*phi >= 5.0);
    assert_eq!(streams.next_change(), None, "it is reported once");
    assert!(streams.stream(&channel(), &source(1)).unwrap().silent);
    let (again, end) = beat_for(&mut streams, 5, last + 10 * SECOND + Duration::from_millis(317));
    let [Finding::Resumed { stream, silence, also_silent: 0 }] = &again[..] else { panic!("{again:?}") };
    assert_eq!((&stream.channel, *silence), (&channel(), Duration::from_millis(11_317)));
    assert!(!streams.stream(&channel(), &source(1)).unwrap().silent);
    assert!(matches!(findings(&mut streams, end + 4 * SECOND)[..], [Finding::MissingBeat { .. }]));
}

#[test]
fn moments_are_emission_times() {
    let mut streams = detector();
    let start = aether_core::clock::test_now();
    for beat in 1..=40u32 {
        // In flight for up to half a period.
        let delay = Duration::from_millis(u64::from(beat * 7919 % 500));
        streams.beat(&channel(), &source(1), delay, start + beat * SECOND + delay);
    }
    findings(&mut streams, start + 41 * SECOND);
    let wave = streams.stream(&channel(), &source(1)).unwrap();
    assert!((wave.period.as_secs_f64() - 1.0).abs() < 1e-6 && wave.jitter < 1e-3, "{wave:?}");
}

#[test]
fn the_phase_is_the_offset_within_the_period() {
    let mut streams = detector();
    let start = aether_core::clock::test_now();
    streams.beat(&channel(), &source(2), Duration::ZERO, start);
    let (_, _) = beat_for(&mut streams, 128, start + Duration::from_millis(300));
    let wave = streams.stream(&channel(), &source(1)).unwrap();
    assert!((wave.phase.as_secs_f64() - 0.3).abs() < 0.01, "{wave:?}");
}

#[test]
fn a_changed_period_is_learnt_within_thirty_beats() {
    let mut streams = detector();
    let (_, mut now) = beat_for(&mut streams, 150, aether_core::clock::test_now());
    for period in [2 * SECOND, SECOND / 2, SECOND, 13 * SECOND / 10, SECOND] {
        for _ in 0..30 {
            now += period;
            streams.beat(&channel(), &source(1), Duration::ZERO, now);
            findings(&mut streams, now);
        }
        let wave = streams.stream(&channel(), &source(1)).unwrap();
        assert!((wave.period.as_secs_f64() / period.as_secs_f64() - 1.0).abs() < 0.01, "{wave:?}");
    }
}

#[test]
fn a_stream_that_becomes_irregular_is_no_longer_periodic() {
    let mut streams = detector();
    let (_, mut now) = beat_for(&mut streams, 150, aether_core::clock::test_now());
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..600 {
        now += Duration::from_secs_f64(-random.f64().max(1e-9).ln());
        streams.beat(&channel(), &source(1), Duration::ZERO, now);
        findings(&mut streams, now);
    }
    assert_eq!(streams.stream(&channel(), &source(1)), None);
    assert_eq!(findings(&mut streams, now + 1000 * SECOND), []);
}

#[test]
fn a_flood_of_names_is_bounded_and_counted() {
    let mut streams = StandingWaves::new(StandingOptions::default().max_streams(8)).unwrap();
    let (_, mut now) = beat_for(&mut streams, 20, aether_core::clock::test_now());
    for first in (2..5002).step_by(8) {
        for _ in 0..13 {
            now += SECOND;
            (first..first + 8).for_each(|name| streams.beat(&channel(), &source(name), Duration::ZERO, now));
        }
        assert!(streams.streams() <= 8 && streams.due.len() <= 8 && streams.deadlines.len() <= 8);
    }
    let counts = streams.counts();
    assert_eq!((counts.streams_evicted, counts.standing_evicted), (5001 - 8, 1));
    assert_eq!(findings(&mut streams, now).len(), 8, "the remaining streams are periodic");
}

#[test]
fn clocks_that_jump_are_survived_and_counted() {
    let mut streams = detector();
    let now = aether_core::clock::test_now() + 100_000 * SECOND;
    let (_, last) = beat_for(&mut streams, 30, now);
    streams.beat(&channel(), &source(1), Duration::ZERO, now - 90_000 * SECOND);
    streams.beat(&channel(), &source(1), Duration::MAX, last);
    assert_eq!(streams.counts().clock_jumps, 1);
    let (_, last) = beat_for(&mut streams, 200, last + 500_000 * SECOND);
    let wave = streams.stream(&channel(), &source(1)).unwrap();
    assert!((wave.period.as_secs_f64() - 1.0).abs() < 0.01, "{wave:?}");
    for _ in 0..130 {
        streams.beat(&channel(), &source(1), Duration::MAX, last);
    }
    assert!(streams.counts().too_old >= 129);
}

#[test]
fn impossible_options_are_refused() {
    let options = StandingOptions::default();
    assert!(StandingWaves::new(options.clone().max_streams(0)).is_err());
    assert!(StandingWaves::new(options.clone().max_streams(1 << 17)).is_err());
    assert!(StandingWaves::new(options.clone().shortest_silence(2 * 3600 * SECOND)).is_err());
}

/// Shows one stream through observations of the given lengths in milliseconds; returns the findings and the end time.
fn watch_through_looks(
    streams: &mut StandingWaves,
    start: Instant,
    moments: impl Iterator<Item = Duration>,
    looks: impl Iterator<Item = (Duration, Duration)>,
) -> (Vec<Finding>, Instant) {
    let (mut found, mut now, mut moments) = (Vec::new(), start, moments.peekable());
    for (look, away) in looks {
        let (until, again) = (now + look, now + look + away);
        while let Some(at) = moments.next_if(|at| start + *at < again) {
            if start + at >= until {
                continue;
            }
            while let Some(due) = streams.next_change().filter(|due| *due <= start + at) {
                // What is due by then may have been due during a lapse.
                found.extend(findings(streams, due.max(now)));
            }
            streams.beat(&channel(), &source(1), Duration::ZERO, start + at);
            found.extend(findings(streams, start + at));
        }
        while let Some(due) = streams.next_change().filter(|due| *due <= until) {
            found.extend(findings(streams, due.max(now)));
        }
        now = again;
        streams.not_seen(until, now);
    }
    (found, now)
}

fn missing(found: &[Finding]) -> usize {
    found.iter().filter(|finding| matches!(finding, Finding::MissingBeat { .. })).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A stream that keeps beating is never missed, whatever is not observed of it, and its period stays the same. One
    /// that stops during a lapse is missed once it is observed for long enough.
    #[test]
    fn unobserved_beats_are_not_missing(
        seed: u64,
        period in 50u64..4000,
        jitter in 0.0f64..0.1,
        longest in 100u64..20_000,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut streams = detector();
        let start = aether_core::clock::test_now();
        let millis = Duration::from_millis;
        let mut beats = (1..200_000u64).map({
            let mut random = random.fork();
            move |beat| {
                let late = jitter * (random.f64() + random.f64() + random.f64() - 1.5);
                millis(period).mul_f64(beat as f64 + late)
            }
        });
        let mut looks: Vec<_> =
            (0..40).map(|_| (millis(random.u64(1..longest)), millis(random.u64(1..longest)))).collect();
        // The stream becomes periodic before the first lapse.
        looks[0].0 = (millis(period) * 130).max(12 * SECOND);
        let (found, end) = watch_through_looks(&mut streams, start, &mut beats, looks.into_iter());
        prop_assert!(matches!(found[0], Finding::Standing(_)), "{found:?}");
        prop_assert_eq!(missing(&found), 0, "{:?}", found);
        let wave = streams.stream(&channel(), &source(1)).unwrap();
        prop_assert!((wave.period.as_secs_f64() * 1e3 / period as f64 - 1.0).abs() < 0.03, "{wave:?}");
        // The stream has stopped.
        let before = findings(&mut streams, end + millis(period) * 19 / 10);
        prop_assert_eq!(missing(&before), 0);
        let after = findings(&mut streams, end + (millis(period) * 7 / 2).max(SECOND));
        prop_assert_eq!(missing(&after), 1, "{:?}", streams.stream(&channel(), &source(1)));
    }

    /// Regular observation does not make a stream regular.
    #[test]
    fn regular_observation_creates_no_period(seed: u64, shape in 1usize..5, mean in 10.0f64..3000.0, look in 50u64..2000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut streams = detector();
        let mut at = 0.0;
        let moments = std::iter::from_fn(move || {
            // Gaps of a gamma distribution.
            at += (0..shape).map(|_| -mean / shape as f64 * (1.0 - random.f64()).ln()).sum::<f64>();
            Some(Duration::from_secs_f64(at / 1e3))
        });
        let looks = std::iter::repeat_n((Duration::from_millis(look), Duration::from_millis(8000 - look)), 100);
        let (found, _) = watch_through_looks(&mut streams, aether_core::clock::test_now(), moments, looks);
        prop_assert_eq!(found, []);
    }
}

#[test]
fn a_period_is_found_through_observations_too_short_for_it_alone() {
    let mut streams = detector();
    let beats = (1..10_000u32).map(|beat| beat * SECOND);
    let looks = std::iter::repeat_n((8 * SECOND, Duration::from_millis(8300)), 6);
    let (found, _) = watch_through_looks(&mut streams, aether_core::clock::test_now(), beats, looks);
    assert!(matches!(&found[..], [Finding::Standing(wave)] if wave.period == SECOND), "{found:?}");
    let wave = streams.stream(&channel(), &source(1)).unwrap();
    assert!(wave.missing == 0.0 && wave.jitter < 1e-3, "{wave:?}");
}
