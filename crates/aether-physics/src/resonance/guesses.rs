//! The edges by timing that were reported. A guess that is not found any more stays for a while, so that the map stays
//! the same.
//!
//! Used by [`report`](super::report). Time in which nothing could be examined does not count as absence.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::map::Edge;
use super::spans::Spans;
use super::table::{ENTRY, bounded};
use aether_core::Channel;
use aether_core::wave::MAX_NAME_BYTES;

/// A guess leaves the map after this time in which it could have been found and was not, in nanoseconds.
const STAYS: i64 = 600_000_000_000;

type Ends = (Channel, Channel);

#[derive(Debug)]
pub(super) struct Guesses {
    known: LruCache<Ends, Guess>,
    pub(super) forgotten: u64,
    pub(super) reports: u64,
}

/// An edge by timing.
#[derive(Debug, Clone)]
pub(super) struct Guess {
    /// The edge, without the names of its vibrators.
    pub(super) edge: Edge,
    /// The caller's time of its first and its latest effect, in nanoseconds.
    pub(super) first: i64,
    pub(super) last: i64,
    /// The place of the latest report that found it.
    pub(super) found: i64,
}

impl Guesses {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { known: bounded(most), forgotten: 0, reports: 0 }
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = (&Channel, &Channel)> {
        self.known.iter().map(|((from, to), _)| (from, to))
    }

    /// Takes in the guesses of a report. Returns these and the earlier ones that still hold. A guess that is `outdated`
    /// is forgotten.
    pub(super) fn update(
        &mut self,
        found: Vec<Guess>,
        outdated: impl Fn(&Channel, &Channel) -> bool,
        spans: &Spans,
    ) -> Vec<Edge> {
        self.reports += 1;
        for mut guess in found {
            let ends = (guess.edge.from.clone(), guess.edge.to.clone());
            if let Some(before) = self.known.get(&ends) {
                guess.first = guess.first.min(before.first);
                guess.last = guess.last.max(before.last);
            }
            let gone = self.known.push(ends.clone(), guess);
            self.forgotten += u64::from(gone.is_some_and(|(known, _)| known != ends));
        }
        let absent = |guess: &Guess| spans.examined(guess.found);
        let leaving: Vec<Ends> = self
            .known
            .iter()
            .filter(|((from, to), guess)| absent(guess) > STAYS || outdated(from, to))
            .map(|(ends, _)| ends.clone())
            .collect();
        for ends in leaving {
            self.known.pop(&ends);
        }
        let clock = spans.clock_at(spans.now());
        let current = |guess: &Guess| {
            let mut edge = guess.edge.clone();
            edge.confidence *= 1.0 - absent(guess) as f64 / STAYS as f64;
            edge.first_seen_ago = ago(clock, guess.first);
            edge.last_seen_ago = ago(clock, guess.last);
            edge
        };
        self.known.iter().map(|(_, guess)| current(guess)).collect()
    }

    /// The maximum memory for this many guesses, in bytes.
    pub(super) fn max_weight(edges: usize) -> usize {
        edges * (GUESS + 2 * MAX_NAME_BYTES)
    }

    /// Its current memory, in bytes, approximately.
    pub(super) fn weight(&self) -> usize {
        self.known.len() * (GUESS + 2 * MAX_NAME_BYTES)
    }
}

const GUESS: usize = size_of::<(Ends, Guess)>() + ENTRY;

/// The time between two moments of one clock.
pub(super) fn ago(now: i64, then: i64) -> Duration {
    Duration::from_nanos(now.saturating_sub(then).max(0).unsigned_abs())
}
