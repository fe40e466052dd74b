//! Unit tests of the service map: its findings, and its bounds.

use super::*;
use aether_core::{Source, WaveId};

/// A synthetic stream of waves, fed to the detector in the order of time.
struct ResonanceStage {
    resonance: Resonance,
    /// Time, channel, source and key.
    sent: Vec<(u64, &'static str, String, Option<String>)>,
    random: fastrand::Rng,
}

impl ResonanceStage {
    fn new() -> Self {
        Self { resonance: Resonance::default(), sent: Vec::new(), random: fastrand::Rng::with_seed(7) }
    }

    fn tuned(&mut self, vibrator: &str, pattern: &str) {
        self.resonance.tuned(vibrator, &[Pattern::new(pattern).unwrap()]);
    }

    /// Poisson arrivals at `rate` for 300 s; returns their times in microseconds.
    fn arrivals(&mut self, rate: f64) -> Vec<u64> {
        let mut at = 0.0;
        std::iter::from_fn(|| {
            at -= (1.0 - self.random.f64()).ln() / rate;
            (at < 300.0).then_some((at * 1e6) as u64)
        })
        .collect()
    }

    fn after(&mut self, times: &[u64], lag: std::ops::Range<u64>) -> Vec<u64> {
        times.iter().map(|at| at + self.random.u64(lag.clone())).collect()
    }

    fn send(&mut self, channel: &'static str, times: &[u64]) {
        self.send_by(channel, channel, times);
    }

    fn send_by(&mut self, source: &str, channel: &'static str, times: &[u64]) {
        self.sent.extend(times.iter().map(|at| (*at, channel, source.to_owned(), None)));
    }

    fn map(mut self) -> ResonanceMap {
        self.sent.sort_unstable();
        for (index, (at, channel, source, key)) in self.sent.iter().enumerate() {
            self.resonance.sight(&Sighting {
                channel: &Channel::new(channel).unwrap(),
                kind: Kind::Event,
                source: &Source::with_instance(source, 1).unwrap(),
                sequence: 1 + index as u64,
                cause: None,
                key: key.as_deref(),
                now: Duration::from_micros(*at),
                age: Duration::ZERO,
            });
        }
        self.resonance.report()
    }
}

fn edges(map: &ResonanceMap) -> Vec<(String, String, Tier)> {
    map.edges.iter().map(|edge| (edge.from.to_string(), edge.to.to_string(), edge.tier)).collect()
}

impl ResonanceStage {
    /// One channel that answers another after 8 to 12 ms, and an unrelated one.
    fn asked_and_answered() -> Self {
        let mut stage = Self::new();
        let asked = stage.arrivals(2.0);
        let answered = stage.after(&asked, 8_000..12_000);
        let other = stage.arrivals(4.0);
        stage.send("asked", &asked);
        stage.send("answered", &answered);
        stage.send("other", &other);
        stage
    }
}

#[test]
fn timing_finds_an_edge_from_a_subscription_to_an_emission() {
    let mut stage = ResonanceStage::asked_and_answered();
    stage.tuned("answered", "asked");
    stage.tuned("other", "asked");
    let map = stage.map();
    assert_eq!(edges(&map), [("asked".into(), "answered".into(), Tier::Timing)]);
    let edge = &map.edges[0];
    assert!((0.95..1.1).contains(&edge.effect) && edge.q_value < 1e-6, "{edge:?}");
    let lag = edge.median_lag.as_secs_f64();
    assert!((0.008..0.012).contains(&lag), "{lag}");
    assert_eq!(edge.handlers, ["answered"]);
    assert!((0.9..=1.0).contains(&edge.confidence), "{edge:?}");
    for rate in [edge.rate, edge.from_rate, edge.to_rate] {
        assert!((1.7..2.3).contains(&rate), "{edge:?}");
    }
    assert!(edge.first_seen_ago > Duration::from_secs(250), "{edge:?}");
    assert!(edge.last_seen_ago < Duration::from_secs(10), "{edge:?}");
}

#[test]
fn a_chain_is_explained_by_its_steps() {
    let mut stage = ResonanceStage::new();
    let first = stage.arrivals(2.0);
    let second = stage.after(&first, 5_000..60_000);
    let third = stage.after(&second, 20_000..24_000);
    stage.send("first", &first);
    stage.send("second", &second);
    stage.send("third", &third);
    for vibrator in ["second", "third"] {
        stage.tuned(vibrator, ">");
    }
    let expected = [("first", "second"), ("second", "third")];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned(), Tier::Timing));
    assert_eq!(edges(&stage.map()), expected);
}

#[test]
fn unrelated_channels_with_bursts_in_common_get_no_edge() {
    const NAMES: [&str; 10] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    let mut stage = ResonanceStage::new();
    let bursts = stage.arrivals(0.2);
    for name in NAMES {
        stage.tuned(name, ">");
        let three = [bursts.clone(), bursts.clone(), bursts.clone()].concat();
        let times = stage.after(&three, 0..100_000);
        stage.send(name, &times);
    }
    let found = edges(&stage.map());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn both_parents_of_a_diamond_are_found() {
    let mut stage = ResonanceStage::new();
    let first = stage.arrivals(2.0);
    let (left, right) = (stage.after(&first, 5_000..8_000), stage.after(&first, 6_000..10_000));
    let met = [stage.after(&left, 10_000..14_000), stage.after(&right, 9_000..12_000)].concat();
    for (channel, times) in [("first", &first), ("left", &left), ("right", &right), ("met", &met)] {
        stage.send(channel, times);
    }
    for (vibrator, pattern) in [("left", "first"), ("right", "first"), ("met", ">")] {
        stage.tuned(vibrator, pattern);
    }
    let expected = [("first", "left"), ("first", "right"), ("left", "met"), ("right", "met")];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned(), Tier::Timing));
    let map = stage.map();
    assert_eq!(edges(&map), expected);
    assert!(map.edges.iter().all(|edge| (0.8..1.2).contains(&edge.effect)), "{:?}", map.edges);
}

#[test]
fn an_effect_within_ten_microseconds_is_found() {
    let mut stage = ResonanceStage::new();
    let first = stage.arrivals(5.0);
    let second = stage.after(&first, 1..10);
    stage.send("first", &first);
    stage.send("second", &second);
    stage.tuned("second", "first");
    let map = stage.map();
    assert_eq!(edges(&map), [("first".into(), "second".into(), Tier::Timing)]);
    let lag = map.edges[0].median_lag;
    assert!((1..12).contains(&lag.as_micros()), "{lag:?}");
}

#[test]
fn a_channel_keeps_all_of_its_many_parents() {
    const PARENTS: [&str; 20] = [
        "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13", "p14", "p15",
        "p16", "p17", "p18", "p19",
    ];
    let mut stage = ResonanceStage::new();
    for parent in PARENTS {
        let causes = stage.arrivals(0.5);
        let audited = stage.after(&causes, 4_000..6_000);
        stage.send(parent, &causes);
        stage.send_by(parent, "audit", &audited);
        stage.tuned(parent, parent);
    }
    let mut expected = PARENTS.map(|parent| (parent.to_owned(), "audit".to_owned(), Tier::Timing)).to_vec();
    expected.sort();
    assert_eq!(edges(&stage.map()), expected);
}

#[test]
fn a_burst_that_is_handled_wave_by_wave_keeps_its_first_edge() {
    let mut stage = ResonanceStage::new();
    let (mut items, mut handled) = (Vec::new(), Vec::new());
    for start in stage.arrivals(0.3) {
        let mut free = start;
        for item in 0..10 {
            items.push(start + item * 200);
            free += stage.random.u64(400..1_600);
            handled.push(free);
        }
    }
    let done = stage.after(&handled, 1_000..1_300);
    for (channel, times) in [("items", &items), ("handled", &handled), ("done", &done)] {
        stage.send(channel, times);
        stage.tuned(channel, ">");
    }
    let expected = [("handled", "done"), ("items", "handled")];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned(), Tier::Timing));
    assert_eq!(edges(&stage.map()), expected);
}

#[test]
fn without_announcements_there_are_groups_and_no_edges() {
    let mut stage = ResonanceStage::asked_and_answered();
    for (beat, offset) in [("beat.a", 100_000), ("beat.b", 300_000)] {
        let times: Vec<u64> = (0..300).map(|second| second * 1_000_000 + offset).collect();
        stage.send(beat, &times);
    }
    let map = stage.map();
    assert!(map.edges.is_empty());
    let groups: Vec<Vec<&str>> =
        map.groups.iter().map(|group| group.channels.iter().map(Channel::as_str).collect()).collect();
    assert_eq!(groups, [["answered", "asked"]]);
}

#[test]
fn keys_find_what_timing_alone_cannot() {
    // 400 waves a second, so that each is followed by hundreds of others within the window.
    let mut stage = ResonanceStage::new();
    let asked = stage.arrivals(400.0);
    let answered = stage.after(&asked, 100_000..300_000);
    for (order, (asked, answered)) in asked.iter().zip(&answered).enumerate() {
        let key = Some(format!("order-{order}"));
        stage.sent.push((*asked, "asked", "asked".to_owned(), key.clone()));
        stage.sent.push((*answered, "answered", "answered".to_owned(), key));
    }
    stage.tuned("answered", "asked");
    let map = stage.map();
    assert_eq!(edges(&map), [("asked".into(), "answered".into(), Tier::KeyedTiming)]);
    assert!((0.4..1.1).contains(&map.edges[0].effect), "{:?}", map.edges[0]);
}

#[test]
fn waves_with_a_known_cause_are_not_explained_by_timing() {
    let mut resonance = Resonance::default();
    resonance.tuned("b", &[Pattern::new("a").unwrap()]);
    let sources = ["a", "b"].map(|name| Source::with_instance(name, 1).unwrap());
    let channels = ["a", "b"].map(|name| Channel::new(name).unwrap());
    for wave in 0..2000_u64 {
        let now = Duration::from_millis(wave * 100 + wave * wave % 37);
        let cause = WaveId { source: sources[0].clone(), sequence: 2 * wave + 1 };
        for (which, cause, now) in [(0, None, now), (1, Some(&cause), now + Duration::from_millis(5))] {
            resonance.sight(&Sighting {
                channel: &channels[which],
                kind: Kind::Event,
                source: &sources[which],
                sequence: 2 * wave + 1 + which as u64,
                cause,
                key: None,
                now,
                age: Duration::ZERO,
            });
        }
    }
    assert_eq!(edges(&resonance.report()), [("a".into(), "b".into(), Tier::Cause)]);
}

/// Waves of two channels, of which the second follows the first by 5 ms.
struct Pair {
    resonance: Resonance,
    channels: [Channel; 2],
    sources: [Source; 2],
    sent: u64,
    random: fastrand::Rng,
}

impl Pair {
    fn new() -> Self {
        // Two minutes of moments.
        let mut resonance = ResonanceOptions::default().moments(256).build().unwrap();
        resonance.tuned("b", &[Pattern::new("a").unwrap()]);
        Self {
            resonance,
            channels: ["a", "b"].map(|name| Channel::new(name).unwrap()),
            sources: ["a", "b"].map(|name| Source::with_instance(name, 1).unwrap()),
            sent: 0,
            random: fastrand::Rng::with_seed(5),
        }
    }

    fn sight(&mut self, which: usize, kind: Kind, cause: Option<u64>, now: Duration) -> u64 {
        self.sent += 1;
        let cause = cause.map(|sequence| WaveId { source: self.sources[0].clone(), sequence });
        self.resonance.sight(&Sighting {
            channel: &self.channels[which],
            kind,
            source: &self.sources[which],
            sequence: self.sent,
            cause: cause.as_ref(),
            key: None,
            now,
            age: Duration::ZERO,
        });
        self.sent
    }

    /// Two pairs a second, at irregular times. `follows` is whether B follows A or comes at any time.
    fn minutes(&mut self, minutes: std::ops::Range<u64>, follows: bool, mut each: impl FnMut(&mut Self)) {
        for half_second in minutes.start * 120..minutes.end * 120 {
            let mut time = || Duration::from_millis(half_second * 500 + self.random.u64(0..500));
            let (a, b) = (time(), time());
            self.sight(0, Kind::Event, None, a);
            self.sight(1, Kind::Event, None, if follows { a + Duration::from_millis(5) } else { b });
            each(self);
        }
    }
}

#[test]
fn an_exact_edge_hides_a_guess_about_the_same_pair() {
    let mut pair = Pair::new();
    pair.minutes(0..3, true, |_| {});
    assert_eq!(edges(&pair.resonance.report()), [("a".into(), "b".into(), Tier::Timing)]);
    let at = Duration::from_secs(181);
    let cause = pair.sight(0, Kind::Event, None, at);
    pair.sight(1, Kind::Event, Some(cause), at + Duration::from_millis(5));
    assert_eq!(edges(&pair.resonance.report()), [("a".into(), "b".into(), Tier::Cause)]);
}

#[test]
fn a_guess_stays_for_ten_minutes_of_absence_and_gets_less_sure() {
    let mut pair = Pair::new();
    pair.minutes(0..3, true, |_| {});
    let sure = pair.resonance.report().edges[0].confidence;
    let (mut less_sure, mut left) = (sure, None);
    for minute in 3..30 {
        pair.minutes(minute..minute + 1, false, |_| {});
        let Some(edge) = pair.resonance.report().edges.pop() else {
            left = Some(minute);
            break;
        };
        less_sure = edge.confidence;
    }
    // The moments of the first minutes are displaced in the sixth, and the ten minutes begin.
    assert!(left.is_some_and(|left| (13..=17).contains(&left)), "{left:?}");
    assert!(less_sure < 0.25 * sure, "{less_sure} of {sure}");
}

#[test]
fn unobserved_time_is_no_evidence_against_a_guess() {
    let mut pair = Pair::new();
    pair.minutes(0..3, true, |_| {});
    assert_eq!(pair.resonance.report().edges.len(), 1);
    let mut since = 0;
    // Waves are lost in every other second, so no window of time is complete.
    pair.minutes(3..100, false, |pair| {
        since += 1;
        if since % 4 == 0 {
            pair.resonance.interrupted();
        }
    });
    assert_eq!(edges(&pair.resonance.report()), [("a".into(), "b".into(), Tier::Timing)]);
}

#[test]
fn an_answer_makes_no_edge_from_its_question_to_itself() {
    let mut pair = Pair::new();
    for second in 0..100 {
        let at = Duration::from_secs(second);
        let asked = pair.sight(0, Kind::Query, None, at);
        let channels = pair.channels.clone();
        // The answer has the channel of the question, and the handler as its source.
        pair.channels[1] = channels[0].clone();
        pair.sight(1, Kind::Response, Some(asked), at + Duration::from_millis(3));
        pair.channels = channels;
        pair.sight(1, Kind::Event, Some(asked), at + Duration::from_millis(4));
    }
    let map = pair.resonance.report();
    assert_eq!(edges(&map), [("a".into(), "b".into(), Tier::Cause)]);
    assert_eq!((map.edges[0].effect, map.counts.answers), (1.0, 100));
}

/// An unbounded number of synthetic names, each with everything that can be remembered of it.
fn flood(resonance: &mut Resonance, waves: u64) {
    for wave in 0..waves {
        let name = format!("{}.{wave}", "flood".repeat(20));
        let cause = WaveId { source: Source::with_instance(&name, wave).unwrap(), sequence: wave.max(1) };
        resonance.sight(&Sighting {
            channel: &Channel::new(&name).unwrap(),
            kind: Kind::Event,
            source: &Source::with_instance(&name, wave + 1).unwrap(),
            sequence: wave + 1,
            cause: Some(&cause),
            key: Some(&name),
            now: Duration::from_micros(wave * 10),
            age: Duration::ZERO,
        });
        resonance.tuned(&name, &[Pattern::everything()]);
    }
}

#[test]
fn a_flood_of_names_is_bounded_and_counted() {
    let options = ResonanceOptions::default().channels(16).moments(64).waves(256).edges(32).vibrators(8);
    let mut resonance = options.build().unwrap();
    flood(&mut resonance, 20_000);
    let weight = resonance.weight();
    assert!(weight <= resonance.max_weight(), "{weight} of {}", resonance.max_weight());
    let counts = resonance.counts();
    assert_eq!(counts.waves, 20_000);
    assert_eq!(counts.channels_forgotten, 20_000 - 16);
    assert_eq!(counts.vibrators_forgotten, 20_000 - 8);
    assert_eq!(counts.edges_forgotten, 19_999 - 32);
    flood(&mut resonance, 1000);
    assert!(resonance.weight() <= weight + 4096, "its memory no longer grows");
    assert!(resonance.report().edges.len() <= 32);
}

#[test]
fn many_emitters_of_one_channel_are_bounded_and_counted() {
    let mut resonance = Resonance::default();
    let channel = Channel::new("a").unwrap();
    for number in 0..100 {
        resonance.sight(&Sighting {
            channel: &channel,
            kind: Kind::Event,
            source: &Source::with_instance(&format!("v{number}"), number + 1).unwrap(),
            sequence: 1,
            cause: None,
            key: None,
            now: Duration::from_secs(number),
            age: Duration::ZERO,
        });
    }
    assert_eq!(resonance.counts().names_left_out as usize, 100 - track::MAX_EMITTERS);
}

#[test]
fn jumping_clocks_and_extreme_ages_are_survived() {
    let mut resonance = Resonance::default();
    let (channel, source) = (Channel::new("a").unwrap(), Source::new("a").unwrap());
    for sequence in 1..2000 {
        let (now, age) = match sequence % 4 {
            0 => (Duration::MAX, Duration::ZERO),
            1 => (Duration::ZERO, Duration::MAX),
            2 => (Duration::from_secs(1 << 40), Duration::MAX),
            _ => (Duration::from_secs(5), Duration::from_secs(3)),
        };
        resonance.sight(&Sighting {
            channel: &channel,
            kind: Kind::Event,
            source: &source,
            sequence,
            cause: None,
            key: Some("k"),
            now,
            age,
        });
    }
    let counts = resonance.counts();
    assert!(counts.jumps_back >= 900 && counts.jumps_forth >= 400, "{counts:?}");
    assert!(counts.late >= 1400, "{counts:?}");
    assert!(resonance.report().edges.is_empty());
}

#[test]
fn the_frameworks_own_channels_are_left_out() {
    let mut resonance = Resonance::default();
    resonance.sight(&Sighting {
        channel: &Channel::with_reserved("_aether.vibrators").unwrap(),
        kind: Kind::Event,
        source: &Source::new("a").unwrap(),
        sequence: 1,
        cause: None,
        key: None,
        now: Duration::ZERO,
        age: Duration::ZERO,
    });
    assert_eq!((resonance.counts().reserved, resonance.counts().waves), (1, 0));
}
