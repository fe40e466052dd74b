//! The waves of a synthetic system: shared bursty load, lags, noise, heartbeats and decoys.

use std::time::Duration;

use aether::physics::{Resonance, Sighting};
use aether_core::{Kind, Source, WaveId};

use super::system::{DECOYS, HEARTBEATS, System};

/// The share of each channel's waves without a cause, in addition to the caused ones.
const NOISE: f64 = 0.1;
/// Unrelated waves per second on each channel.
const BACKGROUND: f64 = 0.02;
/// The duration of a slot in seconds. The load is constant within a slot.
const SLOT: f64 = 0.5;
/// The rate of decoys in waves per second at normal load.
const DECOY_RATE: f64 = 4.0;

/// The amount of traffic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traffic {
    /// The average number of waves per second for the whole system. If absent, the system's own rates apply.
    pub(super) a_second: Option<f64>,
    /// The number of coherence keys, or 0 for waves without one.
    pub(super) keys: usize,
}

/// One wave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: f64,
    pub(super) channel: usize,
    pub(super) key: usize,
    /// The wave that caused this one.
    pub(super) cause: Option<usize>,
}

impl Traffic {
    /// Generates all waves of a period in order of time. Causes are indices into them.
    pub(super) fn waves(&self, system: &System, seconds: f64, random: &mut fastrand::Rng) -> Vec<Sent> {
        let load = load(seconds, random);
        let faster = self.a_second.map_or(1.0, |wanted| wanted / a_second(system, &load));
        let mut sent: Vec<Sent> = Vec::new();
        let key = |random: &mut fastrand::Rng| if self.keys == 0 { 0 } else { 1 + random.usize(..self.keys) };
        let mut of: Vec<Vec<usize>> = vec![Vec::new(); system.channels.len()];
        for (root, rate) in &system.roots {
            for at in arrivals(rate * faster, &load, seconds, random) {
                of[*root].push(sent.len());
                sent.push(Sent { at, channel: *root, key: key(random), cause: None });
            }
        }
        for channel in in_order(system) {
            for edge in system.edges.iter().filter(|edge| edge.from == channel) {
                for cause in of[channel].clone() {
                    if random.f64() < edge.chance {
                        let at = sent[cause].at + edge.lag * (edge.scatter * normal(random)).exp();
                        of[edge.to].push(sent.len());
                        sent.push(Sent { at, channel: edge.to, key: sent[cause].key, cause: Some(cause) });
                    }
                }
            }
        }
        for (channel, waves) in of.iter().take(system.size).enumerate() {
            let rate = NOISE * waves.len() as f64 / seconds + BACKGROUND;
            for at in arrivals(rate, &[], seconds, random) {
                sent.push(Sent { at, channel, key: key(random), cause: None });
            }
        }
        for beat in 0..HEARTBEATS {
            let first = random.f64();
            for second in 0..seconds as usize {
                let at = first + second as f64 + 0.004 * normal(random);
                sent.push(Sent { at, channel: system.size + beat, key: key(random), cause: None });
            }
        }
        for decoy in 0..DECOYS {
            for at in arrivals(DECOY_RATE * faster, &load, seconds, random) {
                let channel = system.size + HEARTBEATS + decoy;
                sent.push(Sent { at, channel, key: key(random), cause: None });
            }
        }
        sort(&mut sent);
        sent
    }
}

/// The waves per second of a system at its own rates, without the few that do not follow the load.
fn a_second(system: &System, load: &[f64]) -> f64 {
    let mut rates = vec![0.0; system.size];
    system.roots.iter().for_each(|(root, rate)| rates[*root] += rate);
    for channel in in_order(system) {
        for edge in system.edges.iter().filter(|edge| edge.from == channel) {
            rates[edge.to] += rates[channel] * edge.chance;
        }
    }
    let even = rates.iter().sum::<f64>() * (1.0 + NOISE) + DECOY_RATE * DECOYS as f64;
    even * load.iter().sum::<f64>() / load.len() as f64
}

/// The load shared by all roots and decoys, by slot: a slow swing, and bursts of three times the load.
fn load(seconds: f64, random: &mut fastrand::Rng) -> Vec<f64> {
    let slots = (seconds / SLOT).ceil() as usize;
    let swing = |slot: usize| 1.0 + 0.5 * (std::f64::consts::TAU * slot as f64 * SLOT / 47.0).sin();
    let mut load: Vec<f64> = (0..slots).map(swing).collect();
    let mut slot = 0;
    while slot < slots {
        let (pause, burst) = (exponential(10.0, random) as usize + 1, exponential(4.0, random) as usize + 1);
        let end = (slot + pause + burst).min(slots);
        load[(slot + pause).min(end)..end].iter_mut().for_each(|load| *load += 2.0);
        slot += pause + burst;
    }
    load
}

/// Poisson arrivals at a rate that follows the load, or at a constant rate if there is no load.
fn arrivals(rate: f64, load: &[f64], seconds: f64, random: &mut fastrand::Rng) -> Vec<f64> {
    let peak = load.iter().copied().fold(0.0, f64::max);
    let peak = if load.is_empty() { 1.0 } else { peak };
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    loop {
        at += exponential(1.0 / (rate * peak), random);
        if at >= seconds {
            return arrivals;
        }
        let here = load.get((at / SLOT) as usize).copied().unwrap_or(1.0);
        if random.f64() < here / peak {
            arrivals.push(at);
        }
    }
}

/// The channels of a system, causes before effects.
fn in_order(system: &System) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < system.size {
        let before = order.len();
        for channel in 0..system.size {
            let ready = system.edges.iter().all(|edge| edge.to != channel || order.contains(&edge.from));
            if ready && !order.contains(&channel) {
                order.push(channel);
            }
        }
        assert!(order.len() > before, "the edges of a system must not form a cycle");
    }
    order
}

/// Sorts the waves by time and updates the indices of the causes.
fn sort(sent: &mut Vec<Sent>) {
    let mut order: Vec<usize> = (0..sent.len()).collect();
    order.sort_by(|a, b| sent[*a].at.total_cmp(&sent[*b].at));
    let mut place = vec![0; sent.len()];
    order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
    let sorted =
        order.iter().map(|old| Sent { cause: sent[*old].cause.map(|cause| place[cause]), ..sent[*old] });
    *sent = sorted.collect();
}

/// The detector's other inputs than waves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// The cause of each wave that has one.
    pub(super) causes: bool,
    /// The announcements of which vibrators hear which channels.
    pub(super) announcements: bool,
}

/// Shows the waves to the detector. Each arrives up to 5 ms late, so some overtake their causes.
pub(super) fn show(
    system: &System,
    waves: &[Sent],
    resonance: &mut Resonance,
    shown: Shown,
    random: &mut fastrand::Rng,
) {
    show_until(system, waves, resonance, shown, random, |_, _| {});
}

/// The same. Calls `before` ahead of each wave, with the time since the beginning.
pub(super) fn show_until(
    system: &System,
    waves: &[Sent],
    resonance: &mut Resonance,
    shown: Shown,
    random: &mut fastrand::Rng,
    mut before: impl FnMut(&mut Resonance, Duration),
) {
    let (emitters, tuned) = system.emitters(random);
    if shown.announcements {
        tuned.iter().for_each(|(service, patterns)| resonance.tuned(service, patterns));
    }
    let sources: Vec<Source> = emitters
        .iter()
        .enumerate()
        .map(|(channel, name)| Source::with_instance(name, 1 + channel as u64).expect("a valid name"))
        .collect();
    let id = |wave: usize| WaveId { source: sources[waves[wave].channel].clone(), sequence: 1 + wave as u64 };
    let keys: Vec<String> = (0..=waves.iter().map(|wave| wave.key).max().unwrap_or(0))
        .map(|key| format!("order-{key}"))
        .collect();
    let mut arrivals: Vec<(f64, usize)> =
        waves.iter().enumerate().map(|(index, wave)| (wave.at + 0.005 * random.f64(), index)).collect();
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (arrival, index) in arrivals {
        let wave = &waves[index];
        before(resonance, Duration::from_secs_f64(arrival));
        let cause = wave.cause.filter(|_| shown.causes).map(id);
        resonance.sight(&Sighting {
            channel: &system.channels[wave.channel],
            kind: Kind::Event,
            source: &sources[wave.channel],
            sequence: 1 + index as u64,
            cause: cause.as_ref(),
            key: (wave.key > 0).then(|| keys[wave.key].as_str()),
            now: Duration::from_secs_f64(10.0 + arrival),
            age: Duration::from_secs_f64(arrival - wave.at),
        });
    }
}

fn exponential(mean: f64, random: &mut fastrand::Rng) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// The Box-Muller method.
fn normal(random: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}
