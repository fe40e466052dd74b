//! Scores the accuracy of a map.

use std::collections::BTreeSet;

use aether::physics::{Edge, ResonanceMap, Tier};

use super::system::System;

/// The score of one map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Score {
    /// The number of its edges.
    pub(super) found: f64,
    /// The share of its edges that are true.
    pub(super) precision: f64,
    /// The share of the true edges that it contains.
    pub(super) recall: f64,
    /// The share of its edges between unrelated channels.
    pub(super) unrelated: f64,
}

impl Score {
    /// Scores the exact edges, or those found by timing.
    pub(super) fn of(map: &ResonanceMap, system: &System, exact: bool) -> Self {
        let found: BTreeSet<(usize, usize)> = map
            .edges
            .iter()
            .filter(|edge| (edge.tier == Tier::Cause) == exact)
            .filter_map(|edge| Some((system.index(&edge.from)?, system.index(&edge.to)?)))
            .collect();
        let truth: BTreeSet<(usize, usize)> = system.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        let related = system.related();
        let right = found.intersection(&truth).count() as f64;
        let unrelated =
            found.iter().filter(|(a, b)| !related.contains(&(*a, *b)) && !related.contains(&(*b, *a)));
        let count = found.len().max(1) as f64;
        Self {
            found: found.len() as f64,
            precision: right / count,
            recall: right / truth.len() as f64,
            unrelated: unrelated.count() as f64 / count,
        }
    }
}

/// The confidence of each edge, and whether it is true.
pub(super) fn confidences(map: &ResonanceMap, system: &System) -> Vec<(f64, bool)> {
    let is_true = |edge: &Edge| {
        let ends = (system.index(&edge.from), system.index(&edge.to));
        system.edges.iter().any(|known| ends == (Some(known.from), Some(known.to)))
    };
    map.edges.iter().map(|edge| (edge.confidence, is_true(edge))).collect()
}

/// The share of the channels with edges that are in a group, and the share of the pairs within groups that are
/// connected by edges, regardless of direction.
pub(super) fn groups(map: &ResonanceMap, system: &System) -> (f64, f64) {
    let mut part: Vec<usize> = (0..system.channels.len()).collect();
    for edge in &system.edges {
        let (from, to) = (part[edge.from], part[edge.to]);
        part.iter_mut().filter(|part| **part == from).for_each(|part| *part = to);
    }
    let (mut grouped, mut pairs, mut right) = (0, 0, 0);
    for group in &map.groups {
        let members: Vec<usize> = group.channels.iter().filter_map(|channel| system.index(channel)).collect();
        grouped += members.iter().filter(|member| **member < system.size).count();
        for (index, a) in members.iter().enumerate() {
            for b in &members[index + 1..] {
                pairs += 1;
                right += usize::from(part[*a] == part[*b]);
            }
        }
    }
    (grouped as f64 / system.size as f64, f64::from(right as u32) / f64::from(pairs.max(1)))
}
