//! Systems that fool a map by timing, with their true edges: bursts shared by unrelated channels, diamonds, questions with
//! answers, batches and hubs.

use std::collections::BTreeSet;
use std::time::Duration;

use aether::physics::{Resonance, Sighting};
use aether_core::{Channel, Kind, Pattern, Source};
use fastrand::Rng;

use crate::random::{exponential, normal, poisson, uniform};

/// The duration of all traps in seconds.
pub(super) const SECONDS: f64 = 600.0;

/// A system, and the waves of ten minutes.
pub(super) struct Trap {
    pub(super) channels: Vec<Channel>,
    pub(super) truth: BTreeSet<(usize, usize)>,
    /// The channels that each vibrator hears, by its number.
    hears: Vec<Vec<usize>>,
    waves: Vec<Sent>,
}

struct Sent {
    at: f64,
    channel: usize,
    vibrator: usize,
    kind: Kind,
}

impl Trap {
    /// Channels that nobody hears yet, each emitted by the vibrator of its number.
    fn new(channels: usize) -> Self {
        let name = |number| Channel::new(format!("trap.c{number}")).expect("a valid name");
        Self {
            channels: (0..channels).map(name).collect(),
            truth: BTreeSet::new(),
            hears: vec![Vec::new(); channels],
            waves: Vec::new(),
        }
    }

    /// Unrelated channels that share bursts of a length in seconds, which come every `pause` seconds on average. Each
    /// vibrator hears everything.
    pub(super) fn bursts(length: f64, pause: f64, waves: f64, random: &mut Rng) -> Self {
        const CHANNELS: usize = 60;
        let mut trap = Self::new(CHANNELS);
        trap.hears = vec![(0..CHANNELS).collect(); CHANNELS];
        for channel in 0..CHANNELS {
            trap.send(channel, &arrivals(0.2, random));
        }
        for start in arrivals(1.0 / pause, random) {
            for channel in 0..CHANNELS {
                let times: Vec<f64> =
                    (0..poisson(random, waves)).map(|_| start + length * random.f64()).collect();
                trap.send(channel, &times);
            }
        }
        trap
    }

    /// The same bursts drive chains of three channels, so their edges are true, and as many unrelated channels.
    pub(super) fn bursts_beside_edges(length: f64, random: &mut Rng) -> Self {
        let mut trap = Self::bursts(length, 8.0, 2.0, random);
        let chains = 10;
        for chain in 0..chains {
            let (one, two, three) = (3 * chain, 3 * chain + 1, 3 * chain + 2);
            let first = trap.times(one);
            trap.waves.retain(|wave| wave.channel != two && wave.channel != three);
            let second = after(&first, 0.9, uniform(random, 0.002, 0.05), 0.3, random);
            let third = after(&second, 0.9, uniform(random, 0.002, 0.05), 0.3, random);
            trap.send(two, &second);
            trap.send(three, &third);
            trap.truth.extend([(one, two), (two, three)]);
        }
        trap
    }

    /// A wave that goes two ways which meet again: A, B and C, D.
    pub(super) fn diamonds(random: &mut Rng) -> Self {
        const DIAMONDS: usize = 8;
        let mut trap = Self::new(4 * DIAMONDS);
        for diamond in 0..DIAMONDS {
            let [a, b, c, d] = [0, 1, 2, 3].map(|corner| 4 * diamond + corner);
            let mut lag = || (uniform(random, 0.002_f64.ln(), 0.05_f64.ln())).exp();
            let lags = [lag(), lag(), lag(), lag()];
            let first = arrivals(uniform(random, 0.5, 4.0), random);
            let left = after(&first, 1.0, lags[0], 0.3, random);
            let right = after(&first, 1.0, lags[1], 0.3, random);
            let mut met = after(&left, 1.0, lags[2], 0.3, random);
            met.extend(after(&right, 1.0, lags[3], 0.3, random));
            for (channel, times) in [(a, &first), (b, &left), (c, &right), (d, &met)] {
                trap.send(channel, times);
                trap.hears[channel] = if channel == d { vec![a, b, c] } else { vec![a] };
                trap.hears[channel].extend(random.choose_multiple(0..4 * DIAMONDS, 2));
            }
            trap.truth.extend([(a, b), (a, c), (b, d), (c, d)]);
        }
        trap
    }

    /// Questions that are answered on their channel after 1 to 20 ms. An event follows the answer within 10 us.
    pub(super) fn questions(random: &mut Rng) -> Self {
        const SERVICES: usize = 15;
        let mut trap = Self::new(2 * SERVICES);
        for service in 0..SERVICES {
            let (question, event) = (2 * service, 2 * service + 1);
            let asked = arrivals(uniform(random, 1.0, 5.0), random);
            let answered = after(&asked, 1.0, uniform(random, 0.001, 0.02), 0.3, random);
            let told: Vec<f64> = answered.iter().map(|at| at + uniform(random, 1e-6, 1e-5)).collect();
            trap.send(question, &asked);
            let answers = answered.iter();
            trap.waves.extend(answers.map(|at| Sent {
                at: *at,
                channel: question,
                vibrator: event,
                kind: Kind::Response,
            }));
            trap.send(event, &told);
            trap.hears[event] = vec![question];
            trap.hears[event].extend(random.choose_multiple(0..2 * SERVICES, 2));
            trap.truth.insert((question, event));
        }
        trap
    }

    /// Events of which one follows another within 10 us.
    pub(super) fn at_once(random: &mut Rng) -> Self {
        const PAIRS: usize = 15;
        let mut trap = Self::new(2 * PAIRS);
        for pair in 0..PAIRS {
            let (from, to) = (2 * pair, 2 * pair + 1);
            let first = arrivals(uniform(random, 1.0, 20.0), random);
            let second: Vec<f64> = first.iter().map(|at| at + uniform(random, 1e-6, 1e-5)).collect();
            trap.send(from, &first);
            trap.send(to, &second);
            trap.hears[to] = vec![from];
            trap.hears[to].extend(random.choose_multiple(0..2 * PAIRS, 2));
            trap.truth.insert((from, to));
        }
        trap
    }

    /// Ten waves of A make one batch B, which is unpacked into ten waves of C, each of which causes one of D.
    pub(super) fn batches(random: &mut Rng) -> Self {
        const LINES: usize = 8;
        let mut trap = Self::new(4 * LINES);
        for line in 0..LINES {
            let [a, b, c, d] = [0, 1, 2, 3].map(|step| 4 * line + step);
            let items = arrivals(uniform(random, 2.0, 20.0), random);
            let full: Vec<f64> = items.chunks_exact(10).filter_map(|items| items.last().copied()).collect();
            let batches = after(&full, 1.0, uniform(random, 0.001, 0.01), 0.3, random);
            let gap = uniform(random, 0.0002, 0.002);
            let unpacked: Vec<f64> =
                batches.iter().flat_map(|at| (1..=10).map(move |item| at + gap * f64::from(item))).collect();
            let done = after(&unpacked, 1.0, uniform(random, 0.001, 0.02), 0.3, random);
            for (channel, times) in [(a, &items), (b, &batches), (c, &unpacked), (d, &done)] {
                trap.send(channel, times);
                trap.hears[channel] = vec![a, b, c, d];
            }
            trap.truth.extend([(a, b), (b, c), (c, d)]);
        }
        trap
    }

    /// Imports: bursts of ten to thirty waves of A within some milliseconds, handled one after the other by B, whose
    /// waves C handles at once.
    pub(super) fn imports(random: &mut Rng) -> Self {
        const LINES: usize = 8;
        let mut trap = Self::new(3 * LINES);
        for line in 0..LINES {
            let [a, b, c] = [0, 1, 2].map(|step| 3 * line + step);
            let work = uniform(random, 0.0005, 0.004);
            let (mut items, mut handled) = (Vec::new(), Vec::new());
            let mut free: f64 = 0.0;
            for start in arrivals(uniform(random, 0.1, 0.5), random) {
                for item in 0..random.u32(10..30) {
                    let at = start + 0.0002 * f64::from(item);
                    free = free.max(at) + work * (0.2 * normal(random)).exp();
                    items.push(at);
                    handled.push(free);
                }
            }
            let done = after(&handled, 1.0, uniform(random, 0.001, 0.01), 0.3, random);
            for (channel, times) in [(a, &items), (b, &handled), (c, &done)] {
                trap.send(channel, times);
                trap.hears[channel] = vec![a, b, c];
            }
            trap.truth.extend([(a, b), (b, c)]);
        }
        trap
    }

    /// One channel that forty follow, and one that follows forty, on which forty services emit.
    pub(super) fn hubs(random: &mut Rng) -> Self {
        const SPOKES: usize = 40;
        let (hub, audit, others) = (0, 1, 2);
        let mut trap = Self::new(others + 2 * SPOKES);
        let first = arrivals(3.0, random);
        trap.send(hub, &first);
        for spoke in 0..SPOKES {
            let (follower, parent) = (others + spoke, others + SPOKES + spoke);
            let lag = |random: &mut Rng| uniform(random, 0.002_f64.ln(), 0.05_f64.ln()).exp();
            let followed = after(&first, 0.8, lag(random), 0.3, random);
            trap.send(follower, &followed);
            trap.hears[follower] = vec![hub];
            trap.hears[follower].extend(random.choose_multiple(0..others + 2 * SPOKES, 3));
            trap.truth.insert((hub, follower));
            let causes = arrivals(uniform(random, 0.2, 1.0), random);
            trap.send(parent, &causes);
            let audited = after(&causes, 1.0, lag(random), 0.3, random);
            let by = audited.iter().map(|at| Sent {
                at: *at,
                channel: audit,
                vibrator: parent,
                kind: Kind::Event,
            });
            trap.waves.extend(by);
            trap.hears[parent] = vec![parent];
            trap.hears[parent].extend(random.choose_multiple(0..others + 2 * SPOKES, 3));
            trap.truth.insert((parent, audit));
        }
        trap
    }

    fn send(&mut self, channel: usize, times: &[f64]) {
        let sent = times.iter().map(|at| Sent { at: *at, channel, vibrator: channel, kind: Kind::Event });
        self.waves.extend(sent);
    }

    fn times(&self, channel: usize) -> Vec<f64> {
        self.waves.iter().filter(|wave| wave.channel == channel).map(|wave| wave.at).collect()
    }

    /// Shows the waves to the detector. Each arrives up to 5 ms late.
    pub(super) fn show(&self, resonance: &mut Resonance, random: &mut Rng) {
        for (vibrator, hears) in self.hears.iter().enumerate() {
            let patterns: Vec<Pattern> =
                hears.iter().map(|channel| Pattern::from(&self.channels[*channel])).collect();
            resonance.tuned(&format!("v{vibrator}"), &patterns);
        }
        let source = |number: usize| Source::with_instance(&format!("v{number}"), 1 + number as u64);
        let sources: Vec<Source> =
            (0..self.channels.len()).map(|number| source(number).expect("a valid name")).collect();
        let mut order: Vec<(f64, &Sent)> =
            self.waves.iter().map(|wave| (wave.at + 0.005 * random.f64(), wave)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (number, (arrival, wave)) in order.into_iter().enumerate() {
            resonance.sight(&Sighting {
                channel: &self.channels[wave.channel],
                kind: wave.kind,
                source: &sources[wave.vibrator],
                sequence: 1 + number as u64,
                cause: None,
                key: None,
                now: Duration::from_secs_f64(10.0 + arrival),
                age: Duration::from_secs_f64(arrival - wave.at),
            });
        }
    }
}

/// Poisson arrivals at a rate per second.
fn arrivals(rate: f64, random: &mut Rng) -> Vec<f64> {
    let mut at = 0.0;
    std::iter::from_fn(|| {
        at += exponential(random, 1.0 / rate);
        (at < SECONDS).then_some(at)
    })
    .collect()
}

/// Effects of a share of the times, after a lag with this scatter: the standard deviation of its logarithm.
fn after(times: &[f64], chance: f64, lag: f64, scatter: f64, random: &mut Rng) -> Vec<f64> {
    let mut effects = Vec::new();
    for at in times {
        if random.f64() < chance {
            effects.push(at + lag * (scatter * normal(random)).exp());
        }
    }
    effects
}
