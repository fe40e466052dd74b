//! The service map: the result of [`Resonance::report`](super::Resonance::report).

mod dot;
mod json;
mod mermaid;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::duration::brief;
use aether_core::Channel;

/// The tier of an edge. Ordinary term: kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// L0: waves name their cause. Exact.
    Cause,
    /// L1: an emitter of B subscribes to A, and B follows A more often than by chance.
    Timing,
    /// L1k: like L1, among the waves of one coherence key.
    KeyedTiming,
    /// L2: timing alone, without knowledge of subscriptions. Groups only, no direction.
    Group,
}

impl Tier {
    /// L0, L1, L1k or L2.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cause => "L0",
            Self::Timing => "L1",
            Self::KeyedTiming => "L1k",
            Self::Group => "L2",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Tier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An edge of the service map: waves of `from` cause waves of `to`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Edge {
    /// The channel of the causes.
    pub from: Channel,
    /// The channel of the effects.
    pub to: Channel,
    /// The names of the vibrators that emit `from`; empty if unknown.
    pub emitters: Vec<String>,
    /// The names of the vibrators that subscribe to `from` and emit `to`; empty if unknown.
    pub handlers: Vec<String>,
    /// The kind of evidence.
    pub tier: Tier,
    /// The number of waves of `to` that named one of `from` as their cause (L0), or of waves of `from` in the sample.
    pub waves: u64,
    /// The median time from cause to effect.
    pub median_lag: Duration,
    /// Waves of `to` for each wave of `from`; by timing, those above chance.
    pub effect: f64,
    /// The smallest false discovery rate that accepts the edge; 0 for L0.
    pub q_value: f64,
    /// How sure the edge is, from 0 to 1. 1 for L0. By timing, it grows with the evidence that no other edges explain the
    /// effects, and falls while the edge is not found any more.
    pub confidence: f64,
    /// The time since the first effect that belongs to the edge, before the latest wave of any channel.
    pub first_seen_ago: Duration,
    /// The time since the latest effect that belongs to the edge, before the latest wave of any channel.
    pub last_seen_ago: Duration,
    /// The effects of the edge per second, lately.
    pub rate: f64,
    /// The waves of `from` per second, lately.
    pub from_rate: f64,
    /// The waves of `to` per second, lately.
    pub to_rate: f64,
}

/// One line for people.
impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} after {}", self.from, self.to, brief(self.median_lag))?;
        write!(f, " ({}, {:.2} a wave", self.tier, self.effect)?;
        if self.tier != Tier::Cause {
            write!(f, ", {:.0} % sure", 100.0 * self.confidence)?;
        }
        if !self.handlers.is_empty() {
            write!(f, ", by {}", self.handlers.join(", "))?;
        }
        f.write_str(")")
    }
}

impl Edge {
    /// Its label in a drawing: evidence, lag, waves for each cause, waves per second and, for a guess, how sure it is.
    fn label(&self) -> String {
        let lag = brief(self.median_lag);
        let label = format!("{} {lag} ×{:.2} {}/s", self.tier, self.effect, brief_number(self.rate));
        match self.tier {
            Tier::Cause => label,
            _ => format!("{label} {:.0} %", 100.0 * self.confidence),
        }
    }
}

/// A rate with two or three significant digits.
fn brief_number(number: f64) -> String {
    let decimals = match number {
        ..1.0 => 2,
        ..10.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

/// Channels whose waves occur together, by timing alone (L2): the same service, load or cause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// The channels, in the order of their names.
    pub channels: Vec<Channel>,
}

/// The waves that a [`Resonance`](super::Resonance) took in or left out, and the entries that it forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ResonanceCounts {
    /// Waves taken in.
    pub waves: u64,
    /// Waves that had been taken in before.
    pub duplicates: u64,
    /// Answers among them, which are edges of no channel.
    pub answers: u64,
    /// Waves of the framework's own channels, which are skipped.
    pub reserved: u64,
    /// Waves with a key that timing left out; see
    /// [`ResonanceOptions::keyed_a_second`](super::ResonanceOptions::keyed_a_second).
    pub thinned: u64,
    /// Waves that timing left out because they arrived more than 0.8 s after their emission.
    pub late: u64,
    /// Timing currently samples one key in this many.
    pub one_key_in: u32,
    /// Causes that were not seen, or were forgotten.
    pub unknown_causes: u64,
    /// Channels that were forgotten because there were too many.
    pub channels_forgotten: u64,
    /// Edges that were forgotten because there were too many.
    pub edges_forgotten: u64,
    /// Vibrators that were forgotten because there were too many.
    pub vibrators_forgotten: u64,
    /// Patterns of a vibrator and emitters of a channel beyond the maximum for each.
    pub names_left_out: u64,
    /// The number of times that the clock went back by more than 0.8 s.
    pub jumps_back: u64,
    /// The number of times that it went forward by more than a minute, by a jump or without a wave.
    pub jumps_forth: u64,
}

/// The service map: the channels that follow each other, with the evidence and the lag.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResonanceMap {
    /// The edges, ordered by the names of their channels.
    pub edges: Vec<Edge>,
    /// The groups, the largest first.
    pub groups: Vec<Group>,
    /// The counts so far.
    pub counts: ResonanceCounts,
}

impl ResonanceMap {
    /// The edge between two channels.
    #[must_use]
    pub fn edge(&self, from: &str, to: &str) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.from.as_str() == from && edge.to.as_str() == to)
    }
}

impl ResonanceMap {
    /// The map without the channels on which programs of Aether talk about themselves: descriptions, dead letters, the
    /// replicas of fields, and checks.
    #[must_use]
    pub fn without_plumbing(mut self) -> Self {
        self.edges.retain(|edge| !edge.from.is_plumbing() && !edge.to.is_plumbing());
        for group in &mut self.groups {
            group.channels.retain(|channel| !channel.is_plumbing());
        }
        // One channel alone is related to nothing.
        self.groups.retain(|group| group.channels.len() > 1);
        self
    }
}

impl ResonanceMap {
    /// All channels of the map, in the order of their names.
    fn channels(&self) -> Vec<&Channel> {
        let ends = self.edges.iter().flat_map(|edge| [&edge.from, &edge.to]);
        let mut channels: Vec<&Channel> =
            ends.chain(self.groups.iter().flat_map(|group| &group.channels)).collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }
}

/// The index of a channel among the channels of the map.
fn place(channels: &[&Channel], channel: &Channel) -> usize {
    channels.partition_point(|known| *known < channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(from: &str, to: &str) -> ResonanceMap {
        let channel = |name: &str| Channel::new(name).unwrap();
        let edge = Edge {
            from: channel(from),
            to: channel(to),
            emitters: vec!["shop".into()],
            handlers: vec!["a \"b\" \\".into()],
            tier: Tier::Cause,
            waves: 3,
            median_lag: Duration::from_micros(1500),
            effect: 0.5,
            q_value: 0.0,
            confidence: 1.0,
            first_seen_ago: Duration::from_secs(90),
            last_seen_ago: Duration::from_millis(250),
            rate: 2.0,
            from_rate: 4.0,
            to_rate: 2.5,
        };
        let group = Group { channels: vec![channel(from), channel("z.z")] };
        ResonanceMap { edges: vec![edge], groups: vec![group], counts: ResonanceCounts::default() }
    }

    #[test]
    fn what_programs_say_about_themselves_is_left_out() {
        let plain = map("orders.created", "orders.paid");
        assert_eq!(plain.clone().without_plumbing().edges, plain.edges);
        assert_eq!(plain.without_plumbing().groups.len(), 1);
        let beats = map("field.shop.beats", "aether.letters.1f");
        let without = beats.without_plumbing();
        assert_eq!((without.edges.len(), without.groups.len()), (0, 0));
    }

    #[test]
    fn dot_is_valid_for_graphviz() {
        assert_eq!(
            map("a.b", "c\"d\\").to_dot(),
            "digraph resonance {\n  rankdir=LR;\n  node [shape=box];\n  n0 [label=\"a.b\"];\n  \
             n1 [label=\"c\\\"d\\\\\"];\n  n2 [label=\"z.z\"];\n  \
             n0 -> n1 [label=\"L0 1.50 ms ×0.50 2.0/s\", style=solid, tooltip=\"a \\\"b\\\" \\\\\", comment=\"100 % sure, seen from 90.0 s to 250 ms ago\"];\n  \
             subgraph cluster_0 { style=dotted; label=\"L2\"; n0; n2; }\n}\n"
        );
    }

    #[test]
    fn mermaid_output_escapes_special_characters() {
        let chart = map("a.b", "\"]#<b`").to_mermaid();
        assert!(chart.contains("  n0[\"#34;#93;#35;#60;b#96;\"]\n  n1[\"a.b\"]\n"), "{chart}");
        assert!(
            chart.contains("  n1 -->|\"L0 1.50 ms ×0.50 2.0#47;s\"| n0\n  subgraph g0[\"L2\"]\n    n1\n"),
            "{chart}"
        );
    }

    #[test]
    fn json_holds_everything() {
        let json = map("a.b", "c\"d").to_json();
        assert_eq!(json["edges"][0]["to"], "c\"d");
        assert_eq!(json["edges"][0]["tier"], "L0");
        assert_eq!(json["edges"][0]["median_lag_ms"], 1.5);
        assert_eq!(json["edges"][0]["confidence"], 1.0);
        assert_eq!(json["edges"][0]["first_seen_seconds_ago"], 90.0);
        assert_eq!(json["edges"][0]["last_seen_seconds_ago"], 0.25);
        assert_eq!(json["edges"][0]["waves_a_second"], 2.0);
        assert_eq!(json["edges"][0]["from_waves_a_second"], 4.0);
        assert_eq!(json["edges"][0]["to_waves_a_second"], 2.5);
        assert_eq!(json["groups"][0][1], "z.z");
        assert_eq!(json["counts"]["waves"], 0);
    }
}
