//! Computes the map: exact edges, tested pairs, and the explanation of indirect ones.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Resonance;
use super::excess::{self, Control, Excess};
use super::explain::{self, Candidate, Explained};
use super::groups::{self, Bar};
use super::guesses::{self, Guess};
use super::listeners::Listeners;
use super::map::{Edge, ResonanceMap, Tier};
use super::track::{Join, Track, TrackIndex, per_second};
use aether_core::Channel;

/// The maximum number of sampled triggers of a pair.
const TRIGGERS: usize = 1024;
/// A pair is joined by keys if at least this percentage of the effects has a key that occurs on the other channel.
const SHARED_KEYS: usize = 10;
/// A guess that was reported before needs this part of the effect, and may be chance at this multiple of the rate.
const KNOWN_EFFECT: f64 = 0.5;
const KNOWN_DISCOVERY_RATE: f64 = 10.0;
/// A new guess of a later report may be chance at this multiple of the rate.
const AGAIN_DISCOVERY_RATE: f64 = 0.1;
/// The gain in log-likelihood that makes a guess half sure.
const HALF_SURE: f64 = 10.0;
/// The seed of random choices, fixed so that equal input gives an equal report.
const SEED: u64 = 0x0061_6574_6865_7221;

/// A pair that may be an edge, as indices of channels.
struct ChannelPair {
    from: usize,
    to: usize,
    join: Join,
    excess: Excess,
}

pub(super) fn report(resonance: &mut Resonance) -> ResonanceMap {
    let mut tracks: Vec<(&Channel, &Track)> = resonance.tracks.iter().collect();
    tracks.sort_unstable_by_key(|(channel, _)| *channel);
    let streams: Vec<TrackIndex> = tracks.iter().map(|(_, track)| track.stream()).collect();
    let channels: Vec<&Channel> = tracks.iter().map(|(channel, _)| *channel).collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut edges = exact(resonance);
    let exact: BTreeSet<(Channel, Channel)> =
        edges.iter().map(|edge| (edge.from.clone(), edge.to.clone())).collect();
    let is_exact = |from: &Channel, to: &Channel| exact.contains(&(from.clone(), to.clone()));
    let is_gone = |channel: &Channel| channels.binary_search(&channel).is_err();

    let found = by_timing(resonance, &tracks, &streams, &is_exact, &mut random);
    let outdated = |from: &Channel, to: &Channel| is_exact(from, to) || is_gone(from) || is_gone(to);
    for mut edge in resonance.guesses.update(found, outdated, &resonance.spans) {
        let track = |channel: &Channel| channels.binary_search(&channel).ok().map(|index| tracks[index].1);
        if let (Some(causes), Some(effects)) = (track(&edge.from), track(&edge.to)) {
            edge.emitters = causes.emitters.iter().map(ToString::to_string).collect();
            edge.handlers = handlers(&resonance.listeners, effects, &edge.from).map(str::to_owned).collect();
        }
        edges.push(edge);
    }
    edges.sort_by(|a, b| (&a.from, &a.to, a.tier).cmp(&(&b.from, &b.to, b.tier)));

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
    let spans = &resonance.spans;
    let clock = spans.clock_at(spans.now());
    let edge = |(from, to, link): (&Channel, &Channel, &super::causes::CauseLink)| {
        let heard = resonance.tracks.peek(from).map_or(link.waves, |track| track.heard).max(1);
        let (latest, since) = link.lately();
        Edge {
            from: from.clone(),
            to: to.clone(),
            emitters: link.emitters.iter().map(ToString::to_string).collect(),
            handlers: link.handlers.iter().map(ToString::to_string).collect(),
            tier: Tier::Cause,
            waves: link.waves,
            median_lag: duration(link.median_lag()),
            effect: link.waves as f64 / heard as f64,
            q_value: 0.0,
            confidence: 1.0,
            first_seen_ago: guesses::ago(clock, spans.clock_at(link.first)),
            last_seen_ago: guesses::ago(clock, spans.clock_at(link.last)),
            rate: per_second(latest, spans.observed(since)),
            from_rate: rate(resonance, from),
            to_rate: rate(resonance, to),
        }
    };
    resonance.causes.edges().map(edge).collect()
}

/// The waves per second of a channel.
fn rate(resonance: &Resonance, channel: &Channel) -> f64 {
    resonance.tracks.peek(channel).map_or(0.0, |track| track.rate(&resonance.spans))
}

fn by_timing(
    resonance: &Resonance,
    channels: &[(&Channel, &Track)],
    streams: &[TrackIndex],
    is_exact: &dyn Fn(&Channel, &Channel) -> bool,
    random: &mut fastrand::Rng,
) -> Vec<Guess> {
    let mut pairs = Vec::new();
    for (to, (effect, effects)) in channels.iter().enumerate() {
        for (from, (channel, _)) in channels.iter().enumerate() {
            let may_cause = from != to && handlers(&resonance.listeners, effects, channel).next().is_some();
            if may_cause && !is_exact(channel, effect) {
                pairs.extend(test(resonance, streams, from, to, random));
            }
        }
    }
    let tested = pairs.len();
    let p_values: Vec<f64> = pairs.iter().map(|pair| pair.excess.p_value).collect();
    let q_values = excess::q_values(&p_values);
    let options = &resonance.options;
    let place = |channel: &Channel| channels.binary_search_by_key(&channel, |(channel, _)| *channel).ok();
    let known: BTreeSet<(usize, usize)> =
        resonance.guesses.ends().filter_map(|(from, to)| Some((place(from)?, place(to)?))).collect();
    // Each report tests the same pairs again.
    let again = resonance.guesses.reports > 0;
    let entering = options.false_discovery_rate * if again { AGAIN_DISCOVERY_RATE } else { 1.0 };
    let bar = |from: usize, to: usize| match known.contains(&(from, to)) {
        true => (options.false_discovery_rate * KNOWN_DISCOVERY_RATE, options.least_effect * KNOWN_EFFECT),
        false => (entering, options.least_effect),
    };
    let accepted: Vec<ChannelPair> = pairs
        .into_iter()
        .zip(q_values)
        .filter(|(pair, q)| {
            let (rate, effect) = bar(pair.from, pair.to);
            *q <= rate && pair.excess.effect >= effect
        })
        .map(|(pair, _)| pair)
        .collect();
    let mut explained_pairs = Vec::new();
    for to in 0..channels.len() {
        let into: Vec<&ChannelPair> = accepted.iter().filter(|pair| pair.to == to).collect();
        let candidates: Vec<Candidate<'_>> = into
            .iter()
            .map(|pair| Candidate {
                stream: &streams[pair.from],
                join: pair.join,
                known: known.contains(&(pair.from, pair.to)),
            })
            .collect();
        for explained in explain::explain(&resonance.spans, &candidates, &streams[to], again, random) {
            let pair = into[explained.index];
            if explained.effect >= bar(pair.from, pair.to).1 {
                explained_pairs.push((pair, explained));
            }
        }
    }
    // The share of edges that may be chance is a share of the edges left. All other pairs were tested, too.
    let mut p_values: Vec<f64> = explained_pairs.iter().map(|(pair, _)| pair.excess.p_value).collect();
    p_values.resize(tested, 1.0);
    let q_values = excess::q_values(&p_values);
    explained_pairs
        .into_iter()
        .zip(q_values)
        .filter(|((pair, _), q)| *q <= bar(pair.from, pair.to).0)
        .map(|((pair, explained), q)| {
            let ends = [pair.from, pair.to].map(|index| channels[index].0);
            guess(resonance, ends, pair, &explained, q)
        })
        .collect()
}

fn guess(
    resonance: &Resonance,
    [from, to]: [&Channel; 2],
    pair: &ChannelPair,
    explained: &Explained,
    q_value: f64,
) -> Guess {
    let from_rate = rate(resonance, from);
    let edge = Edge {
        from: from.clone(),
        to: to.clone(),
        emitters: Vec::new(),
        handlers: Vec::new(),
        tier: if pair.join == Join::Key { Tier::KeyedTiming } else { Tier::Timing },
        waves: pair.excess.triggers as u64,
        median_lag: duration(explained.lag),
        effect: explained.effect,
        q_value,
        confidence: (1.0 - q_value) * explained.gain / (explained.gain + HALF_SURE),
        first_seen_ago: Duration::ZERO,
        last_seen_ago: Duration::ZERO,
        rate: explained.effect * from_rate,
        from_rate,
        to_rate: rate(resonance, to),
    };
    let spans = &resonance.spans;
    let (first, last) = (spans.clock_at(explained.first), spans.clock_at(explained.last));
    Guess { edge, first, last, found: spans.now() }
}

/// The vibrators that emit on `effects` and subscribe to `channel`.
fn handlers<'a>(
    listeners: &'a Listeners,
    effects: &'a Track,
    channel: &'a Channel,
) -> impl Iterator<Item = &'a str> {
    let names = effects.emitters.iter().map(smol_str::SmolStr::as_str);
    names.filter(move |name| listeners.hears(name, channel))
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
    let excess = excess::excess(&triggers, b.effects(join), Control::PhantomsAndBefore, random)?;
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
