//! Computes the map: exact edges, tested pairs, and the explanation of indirect ones.

use std::time::Duration;

use super::Resonance;
use super::excess::{self, Excess};
use super::explain::{self, Candidate};
use super::groups::{self, Bar};
use super::map::{Edge, ResonanceMap, Tier};
use super::track::{Join, Track, TrackIndex};
use crate::channel::Channel;

/// The maximum number of sampled triggers of a pair.
const TRIGGERS: usize = 1024;
/// A pair is joined by keys if at least this percentage of the effects has a key that occurs on the other channel.
const SHARED_KEYS: usize = 10;
/// The seed of random choices, fixed so that equal input gives an equal report.
const SEED: u64 = 0x0061_6574_6865_7221;

/// A pair that may be an edge, as indices of channels.
struct ChannelPair {
    from: usize,
    to: usize,
    join: Join,
    excess: Excess,
}

pub(super) fn report(resonance: &Resonance) -> ResonanceMap {
    let mut tracks: Vec<(&Channel, &Track)> = resonance.tracks.iter().collect();
    tracks.sort_unstable_by_key(|(channel, _)| *channel);
    let streams: Vec<TrackIndex> = tracks.iter().map(|(_, track)| track.stream()).collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut edges = exact(resonance);
    edges.extend(by_timing(resonance, &tracks, &streams, &mut random));
    edges.sort_by(|a, b| (&a.from, &a.to, a.tier).cmp(&(&b.from, &b.to, b.tier)));

    let channels: Vec<&Channel> = tracks.iter().map(|(channel, _)| *channel).collect();
    let known: Vec<bool> = channels
        .iter()
        .map(|channel| edges.iter().any(|edge| edge.from == **channel || edge.to == **channel))
        .collect();
    let bar = Bar {
        false_discovery_rate: resonance.options.false_discovery_rate,
        least_effect: resonance.options.least_effect,
    };
    let groups = groups::groups(&resonance.spans, &channels, &streams, &known, &bar, &mut random);
    ResonanceMap { edges, groups, counts: resonance.counts() }
}

fn exact(resonance: &Resonance) -> Vec<Edge> {
    let edge = |(from, to, link): (&Channel, &Channel, &super::causes::CauseLink)| Edge {
        from: from.clone(),
        to: to.clone(),
        emitters: link.emitters.iter().map(ToString::to_string).collect(),
        handlers: link.handlers.iter().map(ToString::to_string).collect(),
        tier: Tier::Cause,
        waves: link.waves,
        median_lag: duration(link.median_lag()),
        effect: link.waves as f64
            / resonance.tracks.peek(from).map_or(link.waves, |track| track.heard).max(1) as f64,
        q_value: 0.0,
    };
    resonance.causes.edges().map(edge).collect()
}

fn by_timing(
    resonance: &Resonance,
    channels: &[(&Channel, &Track)],
    streams: &[TrackIndex],
    random: &mut fastrand::Rng,
) -> Vec<Edge> {
    let mut pairs = Vec::new();
    for (to, (_, effects)) in channels.iter().enumerate() {
        for (from, (channel, _)) in channels.iter().enumerate() {
            if from != to && handlers(resonance, effects, channel).next().is_some() {
                pairs.extend(test(resonance, streams, from, to, random));
            }
        }
    }
    let p_values: Vec<f64> = pairs.iter().map(|pair| pair.excess.p_value).collect();
    let q_values = excess::q_values(&p_values);
    let options = &resonance.options;
    let found: Vec<(ChannelPair, f64)> = pairs
        .into_iter()
        .zip(q_values)
        .filter(|(pair, q)| *q <= options.false_discovery_rate && pair.excess.effect >= options.least_effect)
        .collect();
    let mut edges = Vec::new();
    for to in 0..channels.len() {
        let into: Vec<&(ChannelPair, f64)> = found.iter().filter(|(pair, _)| pair.to == to).collect();
        let candidates: Vec<Candidate<'_>> = into
            .iter()
            .map(|(pair, _)| Candidate { stream: &streams[pair.from], join: pair.join, lag: pair.excess.lag })
            .collect();
        for index in explain::explain(&resonance.spans, &candidates, &streams[to], random) {
            let (pair, q_value) = into[index];
            let ((from, causes), (to, effects)) = (channels[pair.from], channels[pair.to]);
            edges.push(Edge {
                from: from.clone(),
                to: to.clone(),
                emitters: causes.emitters.iter().map(ToString::to_string).collect(),
                handlers: handlers(resonance, effects, from).map(str::to_owned).collect(),
                tier: if pair.join == Join::Key { Tier::KeyedTiming } else { Tier::Timing },
                waves: pair.excess.triggers as u64,
                median_lag: duration(pair.excess.lag),
                effect: pair.excess.effect,
                q_value: *q_value,
            });
        }
    }
    edges
}

/// The vibrators that emit on `effects` and subscribe to `channel`.
fn handlers<'a>(
    resonance: &'a Resonance,
    effects: &'a Track,
    channel: &'a Channel,
) -> impl Iterator<Item = &'a str> {
    let names = effects.emitters.iter().map(smol_str::SmolStr::as_str);
    names.filter(move |name| resonance.listeners.hears(name, channel))
}

fn test(
    resonance: &Resonance,
    streams: &[TrackIndex],
    from: usize,
    to: usize,
    random: &mut fastrand::Rng,
) -> Option<ChannelPair> {
    let (a, b) = (&streams[from], &streams[to]);
    let join = joined(a, b);
    let triggers = excess::choose(&resonance.spans, a, b, join, TRIGGERS, random);
    let excess = excess::excess(&triggers, b.effects(join), random)?;
    Some(ChannelPair { from, to, join, excess })
}

/// By keys if the two share them, otherwise by time.
fn joined(a: &TrackIndex, b: &TrackIndex) -> Join {
    let (known, keyed) = (a.triggers(Join::Key), b.effects(Join::Key));
    let step = (keyed.len() / 100).max(1);
    let tried = keyed.iter().step_by(step);
    let shared = tried.clone().filter(|effect| {
        let from = known.partition_point(|point| point.key < effect.key);
        known.get(from).is_some_and(|point| point.key == effect.key)
    });
    if shared.count() * 100 > tried.count() * SHARED_KEYS && keyed.len() * 2 > b.effects(Join::Time).len() {
        Join::Key
    } else {
        Join::Time
    }
}

fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(nanoseconds.unsigned_abs())
}
