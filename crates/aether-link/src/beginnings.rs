//! Which streams of a sender began after a join.
//!
//! A stream that a receiver has never heard may have begun before it joined. Then nothing is lost before its first
//! wave. The times of two processes cannot be compared exactly, but numbers of streams can: each new stream of a sender
//! has a higher number than all before. So a receiver that has joined asks the senders for the number of their next
//! stream. That one and all later ones began after the join.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::remembered::Remembered;
use aether_core::clock::Instant;
use aether_core::medium::NodeId;

/// The maximum number of remembered senders. The one silent for longest is evicted first.
const MAX_SENDERS: usize = 4096;

/// As long as a silent stream is tracked.
const KEPT: Duration = Duration::from_secs(3600);

/// The joins that are distinguished for a sender: the last ones between which it began streams.
const MAX_JOINS: usize = 8;

/// The answers of senders to joins. Each connection has one table, of at most 4096 senders and 1.5 MB.
#[derive(Debug)]
pub struct Beginnings(Mutex<Remembered<u64, VecDeque<Beginning>>>);

/// Streams from this number on began after this time, on our clock.
#[derive(Debug)]
struct Beginning {
    stream: u64,
    since: Instant,
}

impl Beginning {
    fn implies(&self, other: &Self) -> bool {
        self.stream <= other.stream && self.since >= other.since
    }
}

impl Default for Beginnings {
    fn default() -> Self {
        Self(Mutex::new(Remembered::new(MAX_SENDERS, KEPT)))
    }
}

impl Beginnings {
    /// Records the answer of a sender: it begins the stream of this number later than `since`, the time at which it was
    /// asked.
    pub fn note(&self, node: NodeId, stream: u64, since: Instant, now: Instant) {
        let mut senders = self.0.lock();
        let new = Beginning { stream, since };
        let Some(known) = senders.hear(node.principal, &node.number, now) else {
            senders.add(node.principal, node.number, VecDeque::from([new]), now);
            return;
        };
        // Answers may overtake one another.
        if known.iter().any(|known| known.implies(&new)) {
            return;
        }
        known.retain(|known| !new.implies(known));
        let place = known.partition_point(|known| known.stream < stream);
        known.insert(place, new);
        if known.len() > MAX_JOINS {
            known.pop_front();
        }
    }

    /// The latest time of which it is known that a stream began after it.
    pub fn since(&self, node: NodeId, stream: u64, now: Instant) -> Option<Instant> {
        let mut senders = self.0.lock();
        let known = senders.hear(node.principal, &node.number, now)?;
        known.iter().rev().find(|known| known.stream <= stream).map(|known| known.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stream_began_after_the_last_join_that_was_answered_with_its_number_or_a_lower_one() {
        let (table, start) = (Beginnings::default(), aether_core::clock::test_now());
        let at = |second| start + second * SECOND;
        assert_eq!(table.since(7.into(), 5, at(9)), None);
        // The last two are late, and tell nothing new.
        for (stream, second) in [(3, 1), (3, 2), (5, 4), (4, 3), (4, 2), (5, 4)] {
            table.note(7.into(), stream, at(second), at(9));
        }
        let since = [2, 3, 4, 5, 6].map(|stream| table.since(7.into(), stream, at(9)));
        assert_eq!(since, [None, Some(at(2)), Some(at(3)), Some(at(4)), Some(at(4))]);
        assert_eq!(table.since(8.into(), 5, at(9)), None, "of another sender");
    }

    #[test]
    fn it_is_bounded_and_forgets_the_earliest_joins_and_the_most_silent_senders() {
        let (table, start) = (Beginnings::default(), aether_core::clock::test_now());
        let at = |second: u64| start + u32::try_from(second).unwrap() * SECOND;
        for stream in 0..=MAX_JOINS as u64 {
            table.note(7.into(), stream, at(stream), at(99));
        }
        let since = [0, 1, 2].map(|stream| table.since(7.into(), stream, at(99)));
        assert_eq!(since, [None, Some(at(1)), Some(at(2))]);
        for node in 8..8 + MAX_SENDERS as u64 {
            table.note(node.into(), 0, start, at(99));
        }
        assert_eq!((table.since(7.into(), 1, at(99)), table.since(8.into(), 1, at(99))), (None, Some(start)));
    }
}
