//! Nodes that are there, by what they show or by what peers say, and have not introduced themselves yet.
//!
//! A token does not prove that they are there now: anybody who has seen it can show it again. So a process tells them of
//! itself, waits for them for a while when it connects, and does not take waves for confirmed that they may have missed.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::table::MAX_PEERS;
use aether_core::clock::Instant;

/// Nodes that heard of this process and have not answered receive it again, this number at each beat.
const AGAIN: usize = 16;
/// Waves are not confirmed for this long after connecting because of nodes that do not answer.
const MISSED_FOR: Duration = Duration::from_secs(60);

/// A node that shows itself, or was told of this process.
#[derive(Debug, Clone, Copy)]
struct Stranger {
    node: u64,
    /// Whether it shows itself by a token.
    has_token: bool,
    /// Whether it was told of this process.
    told: bool,
}

#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Those that show themselves, at most [`MAX_PEERS`]. The one that waits longest to be told comes first.
    shown: VecDeque<Stranger>,
    /// Those that peers named when they introduced themselves, while this process connects. At most [`MAX_PEERS`].
    named: HashSet<u64>,
    /// Those that had not answered when connecting ended, and until when that counts.
    missed: Option<(HashSet<u64>, Instant)>,
    /// Whether connecting has ended.
    has_met: bool,
}

impl Strangers {
    /// A node shows itself by a token.
    pub(super) fn show(&mut self, node: u64) {
        match self.shown.iter_mut().find(|stranger| stranger.node == node) {
            Some(stranger) => stranger.has_token = true,
            None => self.add(Stranger { node, has_token: true, told: false }),
        }
    }

    /// A node was told of this process.
    pub(super) fn told(&mut self, node: u64) {
        let place = self.shown.iter().position(|stranger| stranger.node == node);
        let known = place.and_then(|place| self.shown.remove(place));
        let has_token = known.is_some_and(|stranger| stranger.has_token);
        self.add(Stranger { node, has_token, told: true });
    }

    /// The oldest one makes room.
    fn add(&mut self, stranger: Stranger) {
        if self.shown.len() >= MAX_PEERS
            && let Some(oldest) = self.shown.pop_front()
        {
            self.remove(oldest.node);
        }
        self.shown.push_back(stranger);
    }

    /// A peer names others, which are expected while this process connects.
    pub(super) fn name(&mut self, nodes: impl Iterator<Item = u64>) {
        if !self.has_met {
            let room = MAX_PEERS - self.named.len();
            self.named.extend(nodes.take(room));
        }
    }

    /// A node has introduced itself, left, or is not seen any more. Returns whether it has shown itself by a token.
    pub(super) fn remove(&mut self, node: u64) -> bool {
        let has_token = self.shown.iter().any(|stranger| stranger.node == node && stranger.has_token);
        self.shown.retain(|stranger| stranger.node != node);
        self.named.remove(&node);
        if let Some((missed, _)) = &mut self.missed {
            missed.remove(&node);
        }
        has_token
    }

    /// How many are kept, including those who were named.
    pub(super) fn len(&self) -> usize {
        self.shown.len() + self.named.len()
    }

    /// Whether anybody is expected.
    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.named.is_empty()
    }

    /// Connecting has ended. Returns the number of nodes that show themselves and have not answered.
    pub(super) fn met(&mut self, now: Instant) -> usize {
        self.has_met = true;
        self.named.clear();
        let missed: HashSet<u64> = self.shown.iter().map(|stranger| stranger.node).collect();
        let number = missed.len();
        self.missed = (number > 0).then_some((missed, now + MISSED_FOR));
        number
    }

    /// The number of nodes that showed themselves when connecting ended and still have not answered.
    pub(super) fn missed(&self, now: Instant) -> usize {
        self.missed.as_ref().filter(|(_, until)| now < *until).map_or(0, |(missed, _)| missed.len())
    }

    /// The nodes that learn of this process at a beat: `most` that did not yet, and some again.
    pub(super) fn due(&self, most: usize) -> Vec<u64> {
        let told = |told| {
            self.shown.iter().filter(move |stranger| stranger.told == told).map(|stranger| stranger.node)
        };
        told(false).take(most).chain(told(true).take(AGAIN)).collect()
    }

    /// All that were told of this process.
    pub(super) fn all_told(&self) -> impl Iterator<Item = u64> {
        self.shown.iter().filter(|stranger| stranger.told).map(|stranger| stranger.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::clock;

    #[test]
    fn nodes_that_were_not_told_come_first_and_the_others_in_turn() {
        let mut strangers = Strangers::default();
        (0..40).for_each(|node| strangers.told(node));
        (40..50).for_each(|node| strangers.show(node));
        let due = strangers.due(4);
        assert_eq!(due, (40..44).chain(0..16).collect::<Vec<_>>());
        due.into_iter().for_each(|node| strangers.told(node));
        assert_eq!(strangers.due(100), (44..50).chain(16..32).collect::<Vec<_>>());
        (0..2 * MAX_PEERS as u64).for_each(|node| strangers.show(node));
        assert_eq!(strangers.shown.len(), MAX_PEERS);
    }

    #[test]
    fn nodes_that_do_not_answer_count_until_they_do_or_for_a_minute() {
        let (mut strangers, now) = (Strangers::default(), clock::test_now());
        strangers.told(1);
        strangers.told(2);
        strangers.name([2, 3].into_iter());
        assert!(!strangers.is_empty());
        assert_eq!((strangers.met(now), strangers.missed(now)), (2, 2), "nobody has seen the third");
        strangers.name([4].into_iter());
        strangers.show(5);
        strangers.remove(1);
        assert_eq!((strangers.missed(now), strangers.missed(now + MISSED_FOR)), (1, 0));
        strangers.remove(2);
        assert_eq!(strangers.missed(now), 0);
        strangers.remove(5);
        assert!(strangers.is_empty());
    }
}
