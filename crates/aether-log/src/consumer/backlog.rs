//! Waves that wait for a consumer, counted by segment of the log. The counts are remembered, so that each record is
//! read once, however often the backlog is asked for, and a consumer of a rare channel costs no more than a consumer of
//! all channels.
//!
//! The count of a segment is the number of waves that matched and were not settled when it was counted. Waves settled
//! there since are subtracted. Only a growing segment is read again, from where the count ended, and a segment that was
//! rewritten.

use std::collections::BTreeMap;

use crate::consumer::positions::Positions;
use crate::store::{Record, Span};

/// The waves that wait for one consumer.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    of: Of,
    /// By the first position of the segment.
    segments: BTreeMap<u64, Counted>,
    /// The oldest wave that waits, and when it was stored.
    oldest: Option<(u64, u64)>,
}

/// The state of the consumer for which the numbers were counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Of {
    pub(crate) pattern: String,
    pub(crate) floor: u64,
    /// Waves that were given up as they are not in the log any more: they are settled and were not counted.
    pub(crate) expired: u64,
    /// All that were ever settled.
    pub(crate) settled: u64,
}

/// A segment.
#[derive(Debug, Default)]
struct Counted {
    generation: u32,
    /// Up to here its records were looked at.
    to: u64,
    /// The waves that were not settled then, and the positions that were.
    unsettled: u64,
    settled: u64,
}

/// The waves that wait in all segments.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// The waves counted so far.
    pub(crate) waves: u64,
    /// The positions that were not looked at, without those that are settled.
    pub(crate) others: u64,
    /// The first segment in which something waits.
    pub(crate) first: Option<Span>,
}

impl Backlog {
    /// Forgets the counts that are no longer valid for a consumer in this state.
    pub(crate) fn begin(&mut self, of: Of, spans: &[Span]) {
        let is_same = self.of.pattern == of.pattern && self.of.expired == of.expired;
        if !is_same || of.floor < self.of.floor {
            (self.segments, self.oldest) = (BTreeMap::new(), None);
        } else if of.floor > self.of.floor {
            // Positions up to the floor are no longer in the set.
            self.segments = self.segments.split_off(&(of.floor + 1));
        }
        let generation = |first: &u64| {
            let at = spans.binary_search_by_key(first, |span| span.first).ok()?;
            Some(spans[at].generation)
        };
        let before = self.segments.len();
        self.segments.retain(|first, counted| generation(first) == Some(counted.generation));
        // After the end of a journal is lost, an older one may wait again.
        if self.segments.len() < before || of.settled < self.of.settled {
            self.oldest = None;
        }
        self.of = of;
    }

    /// Where a segment is to be looked at, if it is; `start` is the first position that may wait.
    pub(crate) fn wanted(&self, span: &Span, start: u64) -> Option<u64> {
        if span.last < span.first || start > span.last {
            return None;
        }
        match self.segments.get(&span.first) {
            Some(counted) => (counted.to < span.last).then_some(counted.to + 1),
            None => Some(start.max(span.first)),
        }
    }

    /// Before the records of a segment that is wanted from this position on.
    pub(crate) fn open(&mut self, span: &Span, from: u64, settled: &Positions) {
        let counted = self.segments.entry(span.first).or_default();
        counted.unsettled = counted.left(span.first, settled);
        counted.settled = settled.count(span.first, counted.to);
        (counted.generation, counted.to) = (span.generation, from - 1);
    }

    /// A record that matches.
    pub(crate) fn count(&mut self, span: &Span, record: &Record, settled: &Positions) {
        if let Some(counted) = self.segments.get_mut(&span.first)
            && record.position > counted.to
            && !settled.contains(record.position)
        {
            counted.unsettled += 1;
        }
    }

    /// All records of the segment were looked at.
    pub(crate) fn close(&mut self, span: &Span, settled: &Positions) {
        if let Some(counted) = self.segments.get_mut(&span.first) {
            counted.to = span.last;
            counted.settled = settled.count(span.first, span.last);
        }
    }

    /// It could not be looked at.
    pub(crate) fn fail(&mut self, span: &Span) {
        self.segments.remove(&span.first);
    }

    pub(crate) fn sum(&self, spans: &[Span], start: u64, settled: &Positions) -> Sum {
        let mut sum = Sum::default();
        for span in spans.iter().filter(|span| span.first <= span.last && start <= span.last) {
            let (waves, next) = match self.segments.get(&span.first) {
                Some(counted) => (counted.left(span.first, settled), counted.to + 1),
                None => (0, start.max(span.first)),
            };
            sum.waves += waves;
            sum.others += (span.last + 1).saturating_sub(next) - settled.count(next, span.last);
            if waves > 0 && sum.first.is_none() {
                sum.first = Some(*span);
            }
        }
        sum
    }

    /// The oldest wave that waits, if the one that was found last still does.
    pub(crate) fn oldest(&self, start: u64, settled: &Positions) -> Option<(u64, u64)> {
        self.oldest.filter(|(position, _)| *position >= start && !settled.contains(*position))
    }

    /// Where the oldest one may be at the earliest.
    pub(crate) fn oldest_from(&self, start: u64) -> u64 {
        self.oldest.map_or(start, |(position, _)| start.max(position))
    }

    pub(crate) fn found_oldest(&mut self, oldest: Option<(u64, u64)>) {
        self.oldest = oldest;
    }
}

impl Counted {
    /// How many of the counted waves still wait.
    fn left(&self, first: u64, settled: &Positions) -> u64 {
        // Fewer are settled if the journal has lost its end.
        (self.unsettled + self.settled).saturating_sub(settled.count(first, self.to))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn positions_of<const N: usize>(all: [u64; N]) -> Positions {
        Positions::of_ranges(all.map(|position| (position, 1)))
    }

    fn record(position: u64) -> Record {
        Record { position, micros: 0, kind: 0, level: 0, id: 0, name: Bytes::new(), body: Bytes::new() }
    }

    fn span(first: u64, last: u64, generation: u32) -> Span {
        Span { first, last, bytes: 0, generation }
    }

    /// Looks at what is wanted, as if each record of `positions` matched. Returns how many were looked at.
    fn look(
        backlog: &mut Backlog,
        spans: &[Span],
        start: u64,
        settled: &Positions,
        positions: &[u64],
    ) -> usize {
        let mut looked = 0;
        for span in spans {
            let Some(from) = backlog.wanted(span, start) else { continue };
            backlog.open(span, from, settled);
            for position in positions.iter().filter(|position| (from..=span.last).contains(position)) {
                backlog.count(span, &record(*position), settled);
                looked += 1;
            }
            backlog.close(span, settled);
        }
        looked
    }

    #[test]
    fn what_is_settled_since_is_subtracted_and_no_record_is_looked_at_twice() {
        let of = |floor, expired| Of { pattern: ">".to_owned(), floor, expired, settled: 0 };
        let mut backlog = Backlog::default();
        let mut settled = positions_of([2]);
        let mut spans = [span(1, 10, 0), span(11, 15, 0)];
        let positions: Vec<u64> = (1..=20).collect();
        backlog.begin(of(0, 0), &spans);
        assert_eq!(backlog.sum(&spans, 1, &settled).others, 14);
        assert_eq!(look(&mut backlog, &spans, 1, &settled, &positions), 15);
        let sum = backlog.sum(&spans, 1, &settled);
        assert_eq!((sum.waves, sum.others, sum.first), (14, 0, Some(spans[0])));
        // The last segment grows, and some are settled in both.
        spans[1].last = 20;
        [1, 3, 12, 19].into_iter().for_each(|position| assert!(settled.insert(position)));
        backlog.begin(of(0, 0), &spans);
        assert_eq!(backlog.sum(&spans, 1, &settled).others, 4);
        assert_eq!(look(&mut backlog, &spans, 1, &settled, &positions), 5);
        assert_eq!((backlog.sum(&spans, 1, &settled).waves, settled.count(1, 20)), (15, 5));
        settled.insert(20);
        assert_eq!(backlog.sum(&spans, 1, &settled).waves, 14);
        let lost = positions_of([1, 2]);
        assert_eq!(backlog.sum(&spans, 1, &lost).waves, 18, "the journal has lost its end");
        // A floor in the first segment: it is looked at again, the second is not.
        let mut behind = settled.clone();
        behind.remove_to(3);
        backlog.begin(of(3, 0), &spans);
        assert_eq!(look(&mut backlog, &spans, 4, &behind, &positions), 7);
        assert_eq!(backlog.sum(&spans, 4, &behind).waves, 14);
        // The first segment is rewritten without some of its waves.
        spans[0].generation = 1;
        backlog.begin(of(3, 0), &spans);
        assert_eq!(look(&mut backlog, &spans, 4, &behind, &[4, 9]), 2);
        assert_eq!(backlog.sum(&spans, 4, &behind).waves, 9);
        // One of them was given up because it is gone: everything is counted again.
        backlog.begin(of(3, 1), &spans);
        assert_eq!(backlog.sum(&spans, 4, &behind).waves, 0);
    }

    #[test]
    fn the_oldest_is_known_until_it_is_settled() {
        let (mut backlog, mut settled) = (Backlog::default(), Positions::default());
        backlog.found_oldest(Some((5, 700)));
        assert_eq!((backlog.oldest(1, &settled), backlog.oldest(6, &settled)), (Some((5, 700)), None));
        settled.insert(5);
        assert_eq!((backlog.oldest(1, &settled), backlog.oldest_from(1)), (None, 5));
        let of = |settled| Of { settled, ..Of::default() };
        backlog.begin(of(9), &[]);
        assert_eq!(backlog.oldest_from(1), 5);
        backlog.begin(of(8), &[]);
        assert_eq!(backlog.oldest_from(1), 1, "the journal has lost its end");
    }
}
