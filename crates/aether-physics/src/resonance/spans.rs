//! One timeline from a clock that may jump.
//!
//! Used by [`Resonance`](super::Resonance). A jump of the clock or an unobserved period ends a span. The next one
//! begins far enough away that no window reaches from one into the other.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest lag that is searched, in nanoseconds. Source: the prototype; chains of 150 ms steps needed it.
pub(super) const WINDOW: i64 = 800_000_000;
/// The largest distance of a phantom to its trigger, in windows.
pub(super) const REACH: i64 = 2;
/// The distance between two spans.
const APART: i64 = 8 * WINDOW;
/// After this time without a wave, either the clock jumped or nothing was sent. The two cannot be distinguished.
const QUIET: i64 = 60_000_000_000;
/// About 73 years. Greater times are reduced to this one, so that no sum overflows.
const LATEST: i64 = 1 << 61;
/// The maximum number of spans. Beyond it, the oldest is dropped.
const MAX_SPANS: usize = 256;

/// A fully observed period, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
    /// The distance of this timeline to the caller's clock.
    shift: i64,
}

impl Span {
    /// All of the time since a place.
    pub(super) fn since(start: i64) -> Self {
        Self { start, end: i64::MAX, shift: 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Spans {
    shift: i64,
    spans: VecDeque<Span>,
    /// The latest place so far. Later than the end of the last span if its end was not observed.
    reached: i64,
    cut: bool,
    pub(super) jumps_back: u64,
    pub(super) jumps_forth: u64,
}

impl Spans {
    /// The place of the caller's time. It may go back by up to one window, as the clocks of several threads do. More
    /// counts as a clock that was set back.
    pub(super) fn place(&mut self, now: Duration) -> i64 {
        let raw = i64::try_from(now.as_nanos()).unwrap_or(LATEST).min(LATEST);
        let at = raw.saturating_add(self.shift);
        let Some(span) = self.spans.back_mut() else {
            self.open(at);
            return at;
        };
        let back = at < self.reached - WINDOW;
        let forth = at > self.reached + QUIET;
        if back || forth || self.cut {
            self.jumps_back += u64::from(back);
            self.jumps_forth += u64::from(forth);
            let begin = self.reached + APART;
            // A cut alone keeps the distance if it is far enough.
            let begin = if back || forth { begin } else { begin.max(at) };
            self.shift = begin.saturating_sub(raw);
            self.open(begin);
            return begin;
        }
        span.end = span.end.max(at);
        self.reached = self.reached.max(at);
        at
    }

    /// Ends the span: something was not observed.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// Ends the span at an earlier time of the caller's clock: something was not observed since.
    pub(super) fn cut_since(&mut self, since: Duration) {
        self.cut = true;
        let since = i64::try_from(since.as_nanos()).unwrap_or(LATEST).min(LATEST).saturating_add(self.shift);
        if let Some(span) = self.spans.back_mut() {
            span.end = span.end.min(since).max(span.start);
        }
    }

    /// The latest place.
    pub(super) fn now(&self) -> i64 {
        self.reached
    }

    /// The time that was observed since a place, in nanoseconds.
    pub(super) fn observed(&self, since: i64) -> i64 {
        self.spans.iter().map(|span| (span.end - span.start.max(since)).max(0)).sum()
    }

    /// The time since a place in which a window could be examined, in nanoseconds.
    pub(super) fn examined(&self, since: i64) -> i64 {
        self.usable(since).map(|span| span.end - span.start).sum()
    }

    /// The time of the caller's clock at a place.
    pub(super) fn clock_at(&self, at: i64) -> i64 {
        let later = self.spans.partition_point(|span| span.start - APART / 2 <= at);
        self.spans.get(later.saturating_sub(1)).map_or(at, |span| at - span.shift)
    }

    fn open(&mut self, at: i64) {
        self.cut = false;
        self.reached = at;
        if self.spans.len() == MAX_SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back(Span { start: at, end: at, shift: self.shift });
    }

    /// The spans since `from` in which a trigger, its window and the windows of its phantoms were fully observed.
    pub(super) fn usable(&self, from: i64) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().filter_map(move |span| {
            let start = span.start.max(from) + REACH * WINDOW;
            let end = span.end - (REACH + 1) * WINDOW;
            (start < end).then_some(Span { start, end, ..*span })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_passes_as_the_clock_does() {
        let mut spans = Spans::default();
        let first = spans.place(seconds(100));
        assert_eq!(spans.place(seconds(103)) - first, 3_000_000_000);
        assert_eq!(spans.place(Duration::from_millis(102_500)) - first, 2_500_000_000);
        assert_eq!((spans.jumps_back, spans.jumps_forth, spans.spans.len()), (0, 0, 1));
    }

    #[test]
    fn jumps_begin_a_new_span_and_are_counted() {
        let mut spans = Spans::default();
        for now in [seconds(1_000), seconds(1_010), seconds(5), seconds(15), Duration::MAX, Duration::ZERO] {
            let before = spans.spans.back().map_or(0, |span| span.end);
            assert!(spans.place(now) >= before);
        }
        assert_eq!((spans.jumps_back, spans.jumps_forth), (2, 1));
        let usable: Vec<_> = spans.usable(0).collect();
        assert_eq!(usable.len(), 2, "{usable:?}");
        assert!(usable[0].end + (REACH + 1) * WINDOW < usable[1].start - REACH * WINDOW);
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_takes_no_more_memory() {
        let mut spans = Spans::default();
        for step in 0..10_000 {
            spans.place(if step % 2 == 0 { Duration::MAX } else { Duration::ZERO });
        }
        assert_eq!(spans.spans.len(), MAX_SPANS);
        assert_eq!(spans.jumps_back + spans.jumps_forth, 9_999);
        assert!(spans.spans.iter().all(|span| span.end < LATEST + 100 * QUIET * 100));
    }

    #[test]
    fn a_loss_ends_the_span_when_it_began() {
        let mut spans = Spans::default();
        let first = spans.place(seconds(10));
        spans.place(seconds(20));
        spans.cut_since(seconds(15));
        let again = spans.place(seconds(21));
        spans.place(seconds(31));
        let ends: Vec<_> = spans.usable(0).map(|span| span.end + (REACH + 1) * WINDOW).collect();
        assert_eq!((ends[0] - first, ends.len()), (5_000_000_000, 2));
        assert_eq!(spans.observed(0), 15_000_000_000);
        assert_eq!(spans.examined(0), 15_000_000_000 - 2 * (2 * REACH + 1) * WINDOW);
        assert_eq!(spans.clock_at(again), 21_000_000_000);
        assert_eq!(spans.clock_at(first), 10_000_000_000);
        // The caller's clock went on meanwhile, and so do the places.
        assert!(again >= first + 11_000_000_000);
    }

    #[test]
    fn unobserved_periods_are_in_no_window() {
        let mut spans = Spans::default();
        spans.place(seconds(10));
        spans.place(seconds(20));
        spans.cut();
        let again = spans.place(seconds(21));
        spans.place(seconds(31));
        assert_eq!(spans.usable(0).count(), 2);
        assert!(spans.usable(0).last().is_some_and(|span| span.start == again + REACH * WINDOW));
        assert_eq!(spans.usable(again).count(), 1);
    }
}
