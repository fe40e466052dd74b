//! Unit tests of the service map: its findings, and its bounds.

use super::*;
use crate::source::{Source, WaveId};

/// A synthetic stream of waves, fed to the detector in the order of time.
struct ResonanceStage {
    resonance: Resonance,
    sent: Vec<(u64, &'static str, Option<String>)>,
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
        self.sent.extend(times.iter().map(|at| (*at, channel, None)));
    }

    /// The source of each channel has its name.
    fn map(mut self) -> ResonanceMap {
        self.sent.sort_unstable();
        for (index, (at, channel, key)) in self.sent.iter().enumerate() {
            self.resonance.sight(&Sighting {
                channel: &Channel::new(channel).unwrap(),
                source: &Source::with_instance(channel, 1).unwrap(),
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
        stage.sent.push((*asked, "asked", Some(format!("order-{order}"))));
        stage.sent.push((*answered, "answered", Some(format!("order-{order}"))));
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

/// An unbounded number of synthetic names, each with everything that can be remembered of it.
fn flood(resonance: &mut Resonance, waves: u64) {
    for wave in 0..waves {
        let name = format!("{}.{wave}", "flood".repeat(20));
        let cause = WaveId { source: Source::with_instance(&name, wave).unwrap(), sequence: wave.max(1) };
        resonance.sight(&Sighting {
            channel: &Channel::new(&name).unwrap(),
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
        source: &Source::new("a").unwrap(),
        sequence: 1,
        cause: None,
        key: None,
        now: Duration::ZERO,
        age: Duration::ZERO,
    });
    assert_eq!((resonance.counts().reserved, resonance.counts().waves), (1, 0));
}
