//! Groups: channels whose waves occur together, by timing alone (tier L2).
//!
//! Without knowledge of subscriptions, a chain, a fork and a common load look the same in timing. So only a group is
//! reported, without a direction. Each channel without an edge joins the channel with which its relation is most certain.
//! Two periodic streams are never joined: they keep their distance without a relation.
//!
//! Pure statistics, used by [`report`](super::report).

use super::excess::{self, Control};
use super::map::Group;
use super::spans::Spans;
use super::track::{Join, TrackIndex};
use aether_core::Channel;

/// The maximum number of sampled triggers of a pair: there are many pairs, and the strongest relation of each channel
/// suffices.
const TRIGGERS: usize = 256;
/// The smallest effect, as a multiple of an edge's: no subscriptions rule chance out.
const STRICTER: f64 = 5.0;

/// The smallest ratio of the waves to those by chance. A shared load that changes within a window adds some to many; a
/// relation adds many to few.
const LEAST_LIFT: f64 = 2.0;

/// The thresholds of an edge in a group.
pub(super) struct Bar {
    pub(super) false_discovery_rate: f64,
    pub(super) least_effect: f64,
}

/// The groups, the largest first, of the channels for which `known` is false and of their closest relations.
pub(super) fn groups(
    spans: &Spans,
    channels: &[&Channel],
    streams: &[TrackIndex],
    known: &[bool],
    bar: &Bar,
    random: &mut fastrand::Rng,
) -> Vec<Group> {
    let beats: Vec<bool> = streams.iter().map(TrackIndex::is_beat).collect();
    let mut bonds = Vec::new();
    for (from, a) in streams.iter().enumerate() {
        for (to, b) in streams.iter().enumerate() {
            if from == to || (known[from] && known[to]) || (beats[from] && beats[to]) {
                continue;
            }
            let triggers = excess::choose(spans, a, b, Join::Time, TRIGGERS, random);
            let excess = excess::excess(&triggers, b.effects(Join::Time), Control::Phantoms, random);
            bonds.extend(excess.map(|excess| (from, to, excess)));
        }
    }
    let p_values: Vec<f64> = bonds.iter().map(|(_, _, excess)| excess.p_value).collect();
    let mut strongest: Vec<Option<(f64, usize)>> = vec![None; channels.len()];
    for ((from, to, excess), q_value) in bonds.iter().zip(excess::q_values(&p_values)) {
        let strong = excess.effect >= STRICTER * bar.least_effect && excess.lift >= LEAST_LIFT;
        if !strong || q_value > bar.false_discovery_rate {
            continue;
        }
        for (one, other) in [(*from, *to), (*to, *from)] {
            if !known[one] && strongest[one].is_none_or(|(score, _)| excess.score > score) {
                strongest[one] = Some((excess.score, other));
            }
        }
    }
    let mut leader: Vec<usize> = (0..channels.len()).collect();
    for (one, bond) in strongest.iter().enumerate() {
        if let Some((_, other)) = bond {
            let (one, other) = (lead(&leader, one), lead(&leader, *other));
            leader[one] = other;
        }
    }
    let mut groups: Vec<Group> = (0..channels.len())
        .map(|leading| {
            let members = (0..channels.len()).filter(|member| lead(&leader, *member) == leading);
            Group { channels: members.map(|member| channels[member].clone()).collect() }
        })
        .filter(|group| group.channels.len() > 1)
        .collect();
    groups.sort_by(|a, b| b.channels.len().cmp(&a.channels.len()).then_with(|| a.channels.cmp(&b.channels)));
    groups
}

fn lead(leader: &[usize], mut member: usize) -> usize {
    while leader[member] != member {
        member = leader[member];
    }
    member
}
