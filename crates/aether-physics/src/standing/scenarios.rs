//! Small systems whose truth is known: what must be found in them, and that nothing else is.

use fastrand::Rng;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Waves of streams, in any order: the time in seconds, the stream, and the stream of the cause.
#[derive(Default)]
struct System {
    waves: Vec<(f64, usize, Option<usize>)>,
    /// The source of each stream; by default each has its own.
    sources: Vec<Source>,
    /// Whether all streams are on one channel.
    one_channel: bool,
}

/// A finding and its time in seconds.
type Found = (f64, Finding);

impl System {
    fn of(sources: &[(&str, u64)]) -> Self {
        let sources = sources.iter().map(|(name, instance)| Source::with_instance(name, *instance).unwrap());
        Self { sources: sources.collect(), ..Self::default() }
    }

    fn emit(&mut self, stream: usize, times: impl IntoIterator<Item = f64>) {
        self.waves.extend(times.into_iter().map(|time| (time, stream, None)));
    }

    fn source(&self, stream: usize) -> Source {
        self.sources
            .get(stream)
            .cloned()
            .unwrap_or_else(|| Source::with_instance("stock", 1 + stream as u64).unwrap())
    }

    /// Plays the waves until a time in seconds, with a tick whenever one is due.
    fn findings(mut self, until: f64) -> Vec<Found> {
        self.waves.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut streams = StandingWaves::new(StandingOptions::default()).unwrap();
        let start = aether_core::clock::test_now();
        let mut found = Vec::new();
        let mut tick = |streams: &mut StandingWaves, until: Instant| {
            while let Some(due) = streams.next_change().filter(|due| *due <= until) {
                found.extend(streams.tick(due).map(|finding| ((due - start).as_secs_f64(), finding)));
            }
        };
        for &(time, stream, cause) in self.waves.iter().filter(|wave| wave.0 <= until) {
            let now = start + Duration::from_secs_f64(time);
            tick(&mut streams, now);
            let channel = if self.one_channel { 0 } else { stream };
            let channel = Channel::new(format!("stream.n{channel}")).unwrap();
            let source = self.source(stream);
            match cause {
                Some(cause) => {
                    streams.caused_beat(&channel, &source, &self.source(cause), Duration::ZERO, now)
                }
                None => streams.beat(&channel, &source, Duration::ZERO, now),
            }
            tick(&mut streams, now);
        }
        tick(&mut streams, start + Duration::from_secs_f64(until));
        found
    }
}

fn stream(wave: &StandingWave) -> usize {
    wave.channel.as_str().trim_start_matches("stream.n").parse().unwrap()
}

/// The missing beats: the time, the named stream, the silence in seconds and the streams that it explains.
fn missing(found: &[Found]) -> Vec<(f64, usize, f64, Vec<usize>)> {
    let missing = found.iter().filter_map(|(at, finding)| match finding {
        Finding::MissingBeat { stream: named, silence, also_silent, .. } => {
            let mut others: Vec<usize> = also_silent.iter().map(stream).collect();
            others.sort_unstable();
            Some((*at, stream(named), silence.as_secs_f64(), others))
        }
        _ => None,
    });
    missing.collect()
}

fn standing(found: &[Found]) -> Vec<(usize, Duration)> {
    let standing = found.iter().filter_map(|(_, finding)| match finding {
        Finding::Standing(wave) => Some((stream(wave), wave.period)),
        _ => None,
    });
    standing.collect()
}

fn resumed(found: &[Found]) -> Vec<(usize, f64, usize)> {
    let resumed = found.iter().filter_map(|(_, finding)| match finding {
        Finding::Resumed { stream: wave, silence, also_silent } => {
            Some((stream(wave), silence.as_secs_f64(), *also_silent))
        }
        _ => None,
    });
    resumed.collect()
}

fn timer(period: f64, from: f64, until: f64, jitter: f64, random: &mut Rng) -> Vec<f64> {
    let beats = ((until - from) / period).ceil() as u32;
    (0..beats).map(|beat| from + period * (f64::from(beat) + jitter * random.f64())).collect()
}

#[test]
fn one_lost_beat_in_a_hundred_is_no_alarm_and_a_stop_is_one() {
    let mut random = Rng::with_seed(1);
    let mut system = System::default();
    for stream in 0..20 {
        let times = timer(1.0, random.f64(), 1800.0, 0.05, &mut random);
        let heard: Vec<f64> = times.into_iter().filter(|_| random.f64() >= 0.01).collect();
        // One after the other stops.
        system.emit(stream, heard.into_iter().filter(|time| *time < 1000.0 + 40.0 * stream as f64));
    }
    let missing = missing(&system.findings(1900.0));
    let named: Vec<usize> = missing.iter().map(|missing| missing.1).collect();
    assert_eq!(named, (0..20).collect::<Vec<_>>(), "{missing:?}");
    assert!(missing.iter().all(|missing| missing.2 <= 3.5), "{missing:?}");
}

#[test]
fn pauses_become_a_habit_and_a_stop_is_still_noticed() {
    let mut random = Rng::with_seed(2);
    let mut system = System::default();
    let mut times = timer(1.0, 0.0, 10_000.0, 0.02, &mut random);
    let mut pause_until = 0.0;
    for time in &mut times {
        if random.f64() < 0.05 {
            pause_until = *time + 0.5 + 2.5 * random.f64();
        }
        // Beats of a pause come at its end, one after the other.
        *time = time.max(pause_until + 1e-4 * random.f64());
    }
    let last = times.iter().copied().fold(0.0, f64::max);
    system.emit(0, times);
    let missing = missing(&system.findings(10_100.0));
    assert!((1..=3).contains(&missing.len()), "{missing:?}");
    assert!(missing.last().unwrap().0 > last, "{missing:?}");
}

#[test]
fn bursts_and_batches_beat_with_their_beginnings() {
    for (period, size, apart) in [(5.0, 10, 0.01), (0.5, 40, 0.002), (0.5, 500, 0.0002), (2.0, 4, 0.02)] {
        let mut random = Rng::with_seed(3);
        let mut system = System::default();
        let mut end = 0.0;
        for burst in timer(period, 0.0, 200.0 * period, 0.02, &mut random) {
            end = burst + f64::from(size) * apart;
            system.emit(0, (0..size).map(|wave| burst + apart * (f64::from(wave) + 0.3 * random.f64())));
        }
        let found = system.findings(end + 20.0 * period);
        let [(0, learnt)] = standing(&found)[..] else { panic!("{period} {size}: {:?}", standing(&found)) };
        assert!((learnt.as_secs_f64() / period - 1.0).abs() < 0.03, "{learnt:?}");
        let missing = missing(&found);
        assert!(missing.len() == 1 && missing[0].0 > end, "{period} {size}: {missing:?}");
        assert!(missing[0].2 <= 3.5 * period, "{missing:?}");
    }
}

#[test]
fn a_limiter_is_not_missing_when_its_queue_is_empty() {
    for (seed, load) in [(4, 0.5), (5, 0.7), (6, 0.9), (7, 0.97)] {
        let mut random = Rng::with_seed(seed);
        let mut system = System::default();
        let (mut arrival, mut free) = (0.0, 0.0f64);
        // Work by chance, done one after the other at 50 a second.
        while arrival < 600.0 {
            arrival -= 0.02 / load * (1.0 - random.f64()).ln();
            let at = free.max(arrival);
            system.emit(0, [at]);
            free = at + 0.02;
        }
        assert_eq!(missing(&system.findings(free)), [], "load {load}");
    }
}

#[test]
fn work_in_lumps_is_not_missing_between_them_even_if_its_rate_changes() {
    let mut random = Rng::with_seed(16);
    let mut system = System::default();
    let mut time = 0.0;
    while time < 900.0 {
        let apart = if time < 300.0 { 0.05 } else { 0.065 };
        for _ in 0..random.u32(5..60) {
            system.emit(0, [time]);
            time += apart * (1.0 + 0.1 * random.f64());
        }
        time += 4.0 * random.f64();
    }
    assert!(missing(&system.findings(900.0)).len() <= 1);
}

#[test]
fn a_load_of_a_few_seconds_is_no_beat() {
    let mut system = System::default();
    for run in 0..20 {
        system.emit(
            run,
            timer(0.02, 60.0 * run as f64, 60.0 * run as f64 + 8.0, 0.05, &mut Rng::with_seed(run as u64)),
        );
    }
    assert_eq!(system.findings(1300.0), []);
}

/// Four streams in a chain, each 2 ms after the one before; the streams from `broken` on stop at 100 s.
fn chain(with_causes: bool, broken: usize) -> Vec<Found> {
    let mut random = Rng::with_seed(8);
    let mut system = System::default();
    for first in timer(0.1, 0.0, 120.0, 0.05, &mut random) {
        let mut time = first;
        for stream in (0..4).filter(|stream| *stream < broken || first < 100.0) {
            system.waves.push((time, stream, with_causes.then(|| stream.checked_sub(1)).flatten()));
            time += 0.002 + 0.0002 * random.f64();
        }
    }
    system.findings(120.0)
}

#[test]
fn a_chain_beats_once_and_its_stop_is_one_finding() {
    for with_causes in [true, false] {
        let found = chain(with_causes, 0);
        assert_eq!(standing(&found).iter().map(|standing| standing.0).collect::<Vec<_>>(), [0], "{found:?}");
        let missing = missing(&found);
        assert!(missing.len() == 1 && missing[0].1 == 0 && missing[0].3 == [1, 2, 3], "{missing:?}");
        assert!(missing[0].0 < 101.1, "{missing:?}");
    }
}

#[test]
fn a_stop_in_the_middle_of_a_chain_names_the_source_that_stopped() {
    for with_causes in [true, false] {
        let missing = missing(&chain(with_causes, 2));
        assert!(missing.len() == 1 && missing[0].1 == 2 && missing[0].3 == [3], "{missing:?}");
    }
}

#[test]
fn an_echo_that_its_source_no_longer_emits_is_not_missing() {
    let mut system = System::of(&[("shop", 1), ("shop", 1)]);
    let mut random = Rng::with_seed(9);
    for time in timer(0.1, 0.0, 200.0, 0.05, &mut random) {
        system.waves.push((time, 0, None));
        // Sold out after 100 s: another answer on another channel.
        system.waves.push((time + 0.002, if time < 100.0 { 1 } else { 2 }, Some(0)));
    }
    assert_eq!(missing(&system.findings(199.0)), []);
}

#[test]
fn a_source_that_stops_is_one_finding_with_all_of_its_streams() {
    let mut system = System::of(&[("stock", 1), ("stock", 1), ("stock", 1), ("other", 2)]);
    let mut random = Rng::with_seed(10);
    for (stream, period) in [0.5, 1.0, 7.0].into_iter().enumerate() {
        system.emit(stream, timer(period, 0.0, 200.0, 0.02, &mut random));
        system.emit(stream, timer(period, 260.0, 400.0, 0.02, &mut random));
    }
    system.emit(3, timer(1.0, 0.3, 400.0, 0.02, &mut random));
    let found = system.findings(399.0);
    let missing = missing(&found);
    assert!(missing.len() == 1 && missing[0].1 == 0 && missing[0].3 == [1, 2], "{missing:?}");
    assert!(matches!(resumed(&found)[..], [(0, 55.0..65.0, 1..=2)]), "{:?}", resumed(&found));
}

#[test]
fn a_broker_that_is_away_is_one_finding_and_those_that_do_not_return_are_others() {
    let mut system = System::default();
    let mut random = Rng::with_seed(11);
    for stream in 0..30 {
        let period = [0.5, 1.0, 2.0][stream % 3];
        system.emit(stream, timer(period, random.f64(), 200.0, 0.05, &mut random));
        if stream != 13 {
            system.emit(stream, timer(period, 215.0 + random.f64(), 300.0, 0.05, &mut random));
        }
    }
    let found = system.findings(299.0);
    let missing = missing(&found);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert_eq!((missing[0].3.len(), missing[1].1, missing[1].3.len()), (29, 13, 0), "{missing:?}");
    assert_eq!(resumed(&found).len(), 1);
}

#[test]
fn what_falls_silent_because_of_an_outage_is_part_of_it() {
    let mut system = System::of(&[("shop", 1), ("stock", 2), ("shop", 1), ("stock", 2)]);
    let mut random = Rng::with_seed(15);
    // The stock stops at 100 s. The shop goes on until its orders in flight are too many.
    system.emit(0, timer(0.2, 0.0, 103.0, 0.02, &mut random));
    system.emit(1, timer(0.2, 0.05, 100.0, 0.02, &mut random));
    system.waves.extend(timer(0.2, 0.1, 100.0, 0.02, &mut random).into_iter().map(|time| (time, 2, Some(1))));
    system.emit(3, timer(1.0, 0.0, 100.0, 0.02, &mut random));
    system.emit(4, timer(1.0, 0.5, 200.0, 0.02, &mut random));
    let missing = missing(&system.findings(199.0));
    assert!(missing.len() == 1 && missing[0].1 == 1, "{missing:?}");
}

#[test]
fn a_restarted_service_ends_the_silence_of_the_one_before() {
    let mut system = System::of(&[("stock", 1), ("stock", 2), ("stock", 3)]);
    system.one_channel = true;
    let mut random = Rng::with_seed(12);
    for (stream, (from, until)) in [(0.0, 100.0), (110.0, 140.0), (140.5, 160.0)].into_iter().enumerate() {
        system.emit(stream, timer(1.0, from, until, 0.02, &mut random));
    }
    let found: Vec<Finding> = system.findings(200.0).into_iter().map(|found| found.1).collect();
    let kinds: Vec<&str> = found.iter().map(Finding::as_str).collect();
    // The second replaces the first after a silence, the third the second before its silence is noticed.
    assert_eq!(kinds, ["standing_wave", "missing_beat", "resumed", "missing_beat"], "{found:?}");
    let Finding::Resumed { stream, .. } = &found[2] else { panic!() };
    assert_eq!(stream.source.instance(), 2);
    let Finding::MissingBeat { stream, .. } = &found[3] else { panic!() };
    assert_eq!(stream.source.instance(), 3);
}

#[test]
fn a_service_deployed_anew_is_not_missing_and_one_of_several_instances_is() {
    let mut random = Rng::with_seed(14);
    for (begins, expected) in
        [(58.0, &["standing_wave"][..]), (0.0, &["standing_wave", "standing_wave", "missing_beat"])]
    {
        let mut system = System::of(&[("stock", 1), ("stock", 2)]);
        system.one_channel = true;
        system.emit(0, timer(1.0, 0.0, 60.0, 0.02, &mut random));
        system.emit(1, timer(1.0, begins, 100.0, 0.02, &mut random));
        let found = system.findings(99.0);
        assert_eq!(found.iter().map(|found| found.1.as_str()).collect::<Vec<_>>(), expected, "{found:?}");
    }
}

#[test]
fn a_period_below_the_jitter_of_the_way_is_no_beat() {
    let mut streams = StandingWaves::new(StandingOptions::default()).unwrap();
    let (channel, start, mut random) =
        (Channel::new("load").unwrap(), aether_core::clock::test_now(), Rng::with_seed(13));
    let source = Source::with_instance("load", 1).unwrap();
    let mut found = Vec::new();
    for wave in 0..100_000u32 {
        // Every 2 ms, up to 5 ms on the way.
        let (sent, age) = (start + wave * SECOND / 500, Duration::from_secs_f64(0.005 * random.f64()));
        streams.beat(&channel, &source, age, sent + age);
        found.extend(streams.tick(sent + age));
    }
    assert_eq!(found, []);
}
