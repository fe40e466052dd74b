//! The track of one channel: the times, keys and emitters of its latest waves.

use std::collections::VecDeque;

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::spans::{Span, Spans};
use super::table::ENTRY;
use aether_core::Channel;
use aether_core::wave::{MAX_NAME_BYTES, MAX_SOURCE_BYTES};

/// The maximum number of emitters kept per channel. Many services may emit on one, such as an audit log.
pub(super) const MAX_EMITTERS: usize = 64;

/// One emission.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrackedWave {
    /// The time in the [`Spans`](super::spans::Spans), in nanoseconds.
    pub(super) at: i64,
    /// The hash of the coherence key; 0 for none.
    pub(super) key: u32,
    /// Whether a known cause explains it, so that timing need not.
    pub(super) caused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Track {
    /// Waves since the track began.
    pub(super) heard: u64,
    /// The number of them that were kept for timing at first.
    kept: u64,
    pub(super) emitters: SmallVec<[SmolStr; 2]>,
    moments: VecDeque<TrackedWave>,
    /// The start of the period without gaps.
    since: i64,
}

impl Track {
    /// Resets a track and keeps its memory.
    pub(super) fn anew(mut self, since: i64) -> Self {
        self.emitters.clear();
        self.moments.clear();
        Self { heard: 0, kept: 0, since, ..self }
    }

    /// Records an emitter. Returns false if there are too many to keep.
    pub(super) fn emitted_by(&mut self, name: &str) -> bool {
        if self.emitters.iter().any(|known| known == name) {
            return true;
        }
        if self.emitters.len() == MAX_EMITTERS {
            return false;
        }
        self.emitters.push(SmolStr::new(name));
        true
    }

    /// Adds an emission. Beyond `most`, the oldest is dropped.
    pub(super) fn push(&mut self, moment: TrackedWave, most: usize) {
        if self.moments.len() >= most
            && let Some(oldest) = self.moments.pop_front()
        {
            self.since = self.since.max(oldest.at);
        }
        self.kept += 1;
        self.moments.push_back(moment);
    }

    /// The waves per second over the time that its moments cover.
    pub(super) fn rate(&self, spans: &Spans) -> f64 {
        let left_out = self.heard as f64 / self.kept.max(1) as f64;
        per_second(self.moments.len(), spans.observed(self.since)) * left_out
    }

    pub(super) fn stream(&self) -> TrackIndex {
        TrackIndex::new(&self.moments, self.since)
    }

    /// The maximum memory of one track, in bytes. A ring grows by doubling, so it may be twice its bound.
    pub(super) fn max_weight(moments: usize) -> usize {
        moments.next_power_of_two() * size_of::<TrackedWave>()
            + MAX_EMITTERS * (MAX_SOURCE_BYTES + size_of::<SmolStr>())
            + size_of::<(Channel, Self)>()
            + MAX_NAME_BYTES
            + ENTRY
    }

    /// Its current memory, in bytes, approximately.
    pub(super) fn weight(&self) -> usize {
        self.moments.capacity() * size_of::<TrackedWave>()
            + self.emitters.iter().map(SmolStr::len).sum::<usize>()
            + self.emitters.capacity() * size_of::<SmolStr>()
    }
}

/// Waves per second. Less than a second counts as one.
pub(super) fn per_second(waves: usize, nanoseconds: i64) -> f64 {
    waves as f64 / (nanoseconds as f64 / 1e9).max(1.0)
}

/// Which waves may belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Join {
    /// All waves.
    Time,
    /// Waves of one coherence key.
    Key,
}

/// A moment, ordered by key and then by time. For a join by time alone, all keys are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) key: u32,
    pub(super) at: i64,
}

/// The emissions of one channel, sorted for searching.
#[derive(Debug)]
pub(super) struct TrackIndex {
    pub(super) since: i64,
    /// The triggers, by join: all waves.
    triggers: [Vec<Point>; 2],
    /// The effects, by join: the waves without a known cause.
    effects: [Vec<Point>; 2],
    /// The triggers in the order of time, with their keys.
    triggers_in_time: Vec<Point>,
    effects_in_time: Vec<Point>,
}

impl TrackIndex {
    fn new(moments: &VecDeque<TrackedWave>, since: i64) -> Self {
        let layout = |keep: &dyn Fn(&TrackedWave) -> bool, join: Join| {
            let mut points: Vec<Point> = moments
                .iter()
                .filter(|moment| keep(moment) && (join == Join::Time || moment.key != 0))
                .map(|moment| Point { key: if join == Join::Key { moment.key } else { 0 }, at: moment.at })
                .collect();
            points.sort_unstable();
            points
        };
        let in_time = |keep: &dyn Fn(&TrackedWave) -> bool| {
            let kept = moments.iter().filter(|moment| keep(moment));
            let mut points: Vec<Point> =
                kept.map(|moment| Point { key: moment.key, at: moment.at }).collect();
            points.sort_unstable_by_key(|point| point.at);
            points
        };
        let (all, unexplained) = (|_: &TrackedWave| true, |moment: &TrackedWave| !moment.caused);
        Self {
            since,
            triggers: [layout(&all, Join::Time), layout(&all, Join::Key)],
            effects: [layout(&unexplained, Join::Time), layout(&unexplained, Join::Key)],
            triggers_in_time: in_time(&all),
            effects_in_time: in_time(&unexplained),
        }
    }

    pub(super) fn triggers(&self, join: Join) -> &[Point] {
        &self.triggers[join as usize]
    }

    pub(super) fn effects(&self, join: Join) -> &[Point] {
        &self.effects[join as usize]
    }

    /// The triggers within a span, in the order of time.
    pub(super) fn triggers_between(&self, span: Span) -> &[Point] {
        between(&self.triggers_in_time, span)
    }

    /// The effects within a span, in the order of time.
    pub(super) fn effects_between(&self, span: Span) -> &[Point] {
        between(&self.effects_in_time, span)
    }

    /// Whether the gaps are regular enough for a beat: their median absolute deviation is below 0.15 of their median,
    /// as for standing waves.
    pub(super) fn is_beat(&self) -> bool {
        let mut gaps: Vec<i64> =
            self.triggers_in_time.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        if gaps.len() < 8 {
            return false;
        }
        let middle = gaps.len() / 2;
        let median = *gaps.select_nth_unstable(middle).1;
        let mut deviations: Vec<i64> = gaps.iter().map(|gap| (gap - median).abs()).collect();
        let deviation = *deviations.select_nth_unstable(middle).1;
        (deviation as f64) < 0.15 * median as f64
    }
}

fn between(points: &[Point], span: Span) -> &[Point] {
    let from = points.partition_point(|point| point.at < span.start);
    let to = points.partition_point(|point| point.at < span.end);
    &points[from..to.max(from)]
}

impl Point {
    /// The point as needed for a join. `None` if the join is by key and it has none.
    pub(super) fn joined(self, join: Join) -> Option<Self> {
        match join {
            Join::Time => Some(Self { key: 0, ..self }),
            Join::Key => (self.key != 0).then_some(self),
        }
    }
}

/// The lags of all points with the trigger's key that follow it within `window`.
pub(super) fn lags_after(points: &[Point], trigger: Point, window: i64) -> impl Iterator<Item = i64> + '_ {
    let from = points.partition_point(|point| *point <= trigger);
    points[from..]
        .iter()
        .take_while(move |point| point.key == trigger.key && point.at < trigger.at + window)
        .map(move |point| point.at - trigger.at)
}

/// The lags by which all points with the trigger's key precede it, within `window`.
pub(super) fn lags_before(points: &[Point], trigger: Point, window: i64) -> impl Iterator<Item = i64> + '_ {
    let to = points.partition_point(|point| *point < trigger);
    points[..to]
        .iter()
        .rev()
        .take_while(move |point| point.key == trigger.key && point.at > trigger.at - window)
        .map(move |point| trigger.at - point.at)
}
