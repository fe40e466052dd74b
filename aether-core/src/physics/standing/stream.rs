//! One stream: its latest beats, and their rhythm.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::time::Duration;

use super::patience::Habit;
use super::period::{FEWEST, Finder, MOST, Rhythm, order, refined};
use super::series::{Lapses, Series};
use crate::physics::timeline::Moment;

/// After this many consecutive moments that are not beats, the phase is no longer trusted.
const LOST: u32 = 4;
/// After this many consecutive failed searches, a stream is no longer periodic. With much jitter, a single search may
/// fail.
const DOUBTS: u32 = 2;
/// The latest gaps of a stream in step have at least this mean cosine, at one turn per period: it is 0.67 at 10 %
/// jitter, 0.2 at 20 %, and 0 by chance. Below it, the rhythm is searched again.
const STEADY: f64 = 0.35;
/// The period of a periodic stream is corrected after this many beats.
const REFINED_EVERY: u64 = 32;
/// The maximum number of moments between two searches in a stream without a rhythm.
const LONGEST_WAY: u64 = 512;

/// The latest moments of a stream, and its rhythm if it has one.
#[derive(Debug, Default)]
pub(super) struct PeriodicStream {
    /// Ascending; at most [`MOST`].
    times: VecDeque<Moment>,
    /// The total number of moments.
    pub(super) beats: u64,
    /// The total number of moments at which the rhythm is searched or checked next.
    search_at: u64,
    pub(super) standing: Option<Standing>,
}

/// The rhythm of a periodic stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// The period in seconds.
    pub(super) period: f64,
    pub(super) order: f64,
    pub(super) habit: Habit,
    /// The last moment that was in step.
    last: Moment,
    /// Its arrival time, from which silences count.
    arrived: Moment,
    /// The number of out-of-step moments since then.
    off_beat: u32,
    /// The number of consecutive in-step moments needed before the phase is known again. Until then each moment is a
    /// sign of life.
    unsure: u32,
    /// The number of consecutive failed searches.
    doubts: u32,
    /// Whether its silence was reported.
    pub(super) missed: bool,
}

/// The result of recording a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It was recorded.
    Yes,
    /// It was known already.
    Repeated,
    /// It is older than all that are kept.
    TooOld,
}

impl PeriodicStream {
    /// Records a wave emitted at `at` that arrives at `now`. Waves before `watched` may have been missed.
    pub(super) fn note(&mut self, at: Moment, now: Moment, watched: Moment) -> Noted {
        let place = self.times.partition_point(|time| *time < at);
        if self.times.get(place) == Some(&at) {
            return Noted::Repeated;
        }
        if self.times.len() == MOST {
            if place == 0 {
                return Noted::TooOld;
            }
            self.times.pop_front();
            self.times.insert(place - 1, at);
        } else {
            if self.times.len() == self.times.capacity() {
                // Doubling would exceed the bound.
                self.times.reserve_exact(self.times.len().max(4).min(MOST - self.times.len()));
            }
            self.times.insert(place, at);
        }
        self.beats += 1;
        if let Some(standing) = &mut self.standing {
            standing.keep_step(at, now, watched);
        }
        Noted::Yes
    }

    /// Searches for a rhythm. Returns whether the stream has become periodic.
    pub(super) fn search(
        &mut self,
        finder: &mut Finder,
        series: &mut Series,
        lapses: &Lapses,
        now: Moment,
    ) -> bool {
        series.fill(&self.times, lapses, now);
        self.search_at = self.beats + REFINED_EVERY;
        if let Some(standing) = &mut self.standing
            && standing.refine(series)
        {
            return false;
        }
        let before = self.standing.take();
        let found = finder.find(series);
        self.standing =
            found.map(|rhythm| Standing::new(rhythm, series, self.times.back().copied().unwrap_or(now), now));
        if let (None, Some(before)) = (self.standing, before)
            && before.doubts + 1 < DOUBTS
        {
            self.standing = Some(Standing { doubts: before.doubts + 1, ..before });
        }
        self.search_at = self.beats
            + match (&mut self.standing, before) {
                (Some(standing), Some(before)) => {
                    // What is known about the last beat predates this search.
                    (standing.last, standing.arrived) = (before.last, before.arrived);
                    (standing.off_beat, standing.unsure) = (before.off_beat, before.unsure);
                    standing.missed = before.missed;
                    MOST as u64 / 2
                }
                (Some(_), None) => REFINED_EVERY,
                // Less and less often, so that an irregular stream costs less and less.
                (None, _) => (self.beats / 2).clamp(4, LONGEST_WAY),
            };
        if self.beats < MOST as u64 {
            // As soon as folding is possible.
            self.search_at = self.search_at.min(MOST as u64);
        }
        self.standing.is_some() && before.is_none()
    }

    /// Whether it is time to search for a rhythm, and whether that may take long.
    pub(super) fn due(&self) -> bool {
        self.beats >= self.search_at.max(FEWEST as u64)
    }

    pub(super) fn folds(&self) -> bool {
        self.times.len() == MOST
    }

    /// Clears all moments and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        *self = Self { times: std::mem::take(&mut self.times), ..Self::default() };
    }

    /// The phase of the beats: the mean direction of the folded moments.
    pub(super) fn phase(&self, period: f64) -> Duration {
        let Some(&last) = self.times.back() else { return Duration::ZERO };
        // Relative to the last one, so that the error of the period does not accumulate.
        let turn = |time: &Moment| TAU * (last.since(*time).as_secs_f64() / period).fract();
        let (sin, cos) = self.times.iter().rev().take(MOST / 8).fold((0.0, 0.0), |(sin, cos), time| {
            let turn = turn(time).sin_cos();
            (sin + turn.0, cos + turn.1)
        });
        let lag = f64::atan2(sin, cos) / TAU * period;
        let at = (last.nanos() as f64 / 1e9 - lag).rem_euclid(period);
        Duration::try_from_secs_f64(at).unwrap_or(Duration::ZERO)
    }
}

impl Standing {
    fn new(rhythm: Rhythm, series: &Series, last: Moment, arrived: Moment) -> Self {
        Self {
            period: rhythm.period,
            order: rhythm.order,
            habit: Habit::of(&series.gaps, rhythm.period),
            last,
            arrived,
            off_beat: 0,
            unsure: 0,
            doubts: 0,
            missed: false,
        }
    }

    /// Checks whether a moment is a beat: a whole number of periods after the last one.
    fn keep_step(&mut self, at: Moment, now: Moment, watched: Moment) {
        let turns = at.since(self.last).as_secs_f64() / self.period;
        let in_step = turns.round() >= 1.0 && (turns - turns.round()).abs() <= self.habit.tolerance();
        if self.arrived < watched {
            // The time since the last one was not fully observed.
            self.unsure = LOST;
        } else if self.unsure > 0 {
            self.unsure = if in_step { self.unsure - 1 } else { LOST };
        }
        self.off_beat = if in_step || self.unsure > 0 { 0 } else { self.off_beat + 1 };
        // After a silence the phase is unknown: a restarted process has a different one.
        if in_step || self.off_beat >= LOST || self.unsure > 0 || self.missed {
            (self.last, self.arrived) = (self.last.max(at), now);
            (self.off_beat, self.missed) = (0, false);
        }
    }

    /// Corrects the period. Returns false if the latest half of the moments is not in step, because it shows a change
    /// first.
    fn refine(&mut self, series: &Series) -> bool {
        let period = refined(&series.times, &series.gaps, self.period);
        let late = &series.gaps[series.times.len() / 2..];
        let known = || late.iter().filter(|gap| gap.is_finite());
        if known().next().is_none() {
            // There is no new information.
            return true;
        }
        let in_step =
            known().map(|gap| (TAU * (gap / period).fract()).cos()).sum::<f64>() / known().count() as f64;
        // A stream that skips every other beat has changed its period.
        if in_step < STEADY || Habit::of(late, period).missing_part() > 0.45 {
            return false;
        }
        (self.period, self.habit, self.doubts) = (period, Habit::of(&series.gaps, period), 0);
        self.order = order(&series.times, 1.0 / period);
        true
    }

    /// The start of the silence, as far as it was observed.
    pub(super) fn silent_since(&self, watched: Moment) -> Moment {
        self.arrived.max(watched)
    }

    /// When the next beat counts as missing, if none arrives and no lapse begins before.
    pub(super) fn missing_at(&self, watched: Moment) -> Option<Moment> {
        let patience =
            Duration::try_from_secs_f64(self.habit.patience() * self.period).unwrap_or(Duration::MAX);
        (!self.missed).then(|| self.silent_since(watched).plus(patience))
    }
}
