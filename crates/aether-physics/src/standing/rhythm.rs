//! The rhythm of a periodic stream: which of its moments are beats, and when the next one is missing.

use std::f64::consts::TAU;
use std::time::Duration;

use super::history::History;
use super::patience::Habit;
use super::period::{Rhythm, order, refined};
use super::series::Series;
use crate::timeline::Moment;

/// After this many consecutive moments that are not beats, the phase is no longer trusted.
const LOST: u32 = 4;
/// The latest gaps of a stream in step have at least this mean cosine, at one turn per period: it is 0.67 at 10 %
/// jitter, 0.2 at 20 %, and 0 by chance. Below it, the rhythm is searched again.
const STEADY: f64 = 0.35;
/// A rhythm that has stood for less is not a beat: limiters, batches and load generators are as regular for a while.
const STOOD: Duration = Duration::from_secs(10);
/// A shorter period, in seconds, is not a beat: timers and schedulers work in steps of milliseconds.
const SHORTEST: f64 = 0.005;
/// A period shorter than this many times the jitter of the way is not a beat.
const ABOVE_JITTER: f64 = 3.0;
/// A wave may be on its way for this many times the jitter longer than the one before.
const LATE_ON_THE_WAY: f64 = 4.0;

/// A gap that differs from the period by a larger share of it may show another period.
const ODD: f64 = 0.05;
/// Gaps of half a period are odd every other time, because a moment between two beats is none.
const MOST_ODD: u32 = 16;

/// The part that the stream plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It has not been regular for long enough.
    Candidate,
    /// It is regular by itself.
    Beat,
    /// It is regular because another stream is.
    Echo,
}

/// The rhythm of a periodic stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// The period in seconds.
    pub(super) period: f64,
    pub(super) order: f64,
    pub(super) habit: Habit,
    pub(super) history: History,
    pub(super) role: Role,
    /// The first moment of the rhythm.
    since: Moment,
    /// The last moment that was in step.
    last: Moment,
    /// The arrival of the last sign of life, from which silences count.
    arrived: Moment,
    /// The number of out-of-step moments since then.
    off_beat: u32,
    /// The number of consecutive in-step moments needed before the phase is known again. Until then each moment is a
    /// sign of life.
    unsure: u32,
    /// Rises with each gap that is not one period long, and falls half as fast with each that is.
    odd: u32,
    /// The number of consecutive failed searches.
    pub(super) doubts: u32,
    /// Whether its silence was reported, alone or with others.
    pub(super) silent: bool,
}

impl Standing {
    /// A rhythm that was found in these moments, of which `last` is the latest.
    pub(super) fn new(rhythm: Rhythm, series: &Series, last: Moment, arrived: Moment) -> Self {
        let habit = Habit::of(&series.gaps, rhythm.period);
        let mut history = History::default();
        let turns = series.gaps.iter().filter(|gap| gap.is_finite()).map(|gap| gap / rhythm.period);
        turns.filter(|turns| *turns >= 0.5).for_each(|turns| history.note(turns, habit.late()));
        let span = series.times.last().copied().unwrap_or_default();
        Self {
            period: rhythm.period,
            order: rhythm.order,
            habit,
            history,
            role: Role::Candidate,
            since: last.minus(Duration::try_from_secs_f64(span).unwrap_or_default()),
            last,
            arrived,
            off_beat: 0,
            unsure: 0,
            odd: 0,
            doubts: 0,
            silent: false,
        }
    }

    /// Continues an earlier rhythm of the stream, whose period has changed.
    pub(super) fn continues(&mut self, before: &Self) {
        // What is known about the last beat predates the search.
        (self.last, self.arrived) = (before.last, before.arrived);
        (self.off_beat, self.unsure) = (before.off_beat, before.unsure);
        (self.silent, self.role) = (before.silent, before.role);
        self.since = self.since.min(before.since);
    }

    /// Continues the rhythm of another instance, which this stream replaces.
    pub(super) fn inherited(&self, last: Moment, arrived: Moment) -> Self {
        let mut standing = *self;
        (standing.last, standing.off_beat, standing.doubts) = (last, 0, 0);
        standing.restart(arrived);
        standing
    }

    /// Checks whether a moment is a beat: a whole number of periods after the last one. Returns the silence that it ends,
    /// in periods as far as they were observed, if that was reported.
    pub(super) fn keep_step(&mut self, at: Moment, now: Moment, watched: Moment) -> Option<f64> {
        let turns = at.since(self.last).as_secs_f64() / self.period;
        self.odd =
            if (turns - 1.0).abs() > ODD { MOST_ODD.min(self.odd + 2) } else { self.odd.saturating_sub(1) };
        let in_step = turns.round() >= 1.0 && (turns - turns.round()).abs() <= self.habit.tolerance();
        let is_known = self.arrived >= watched && self.unsure == 0;
        if self.arrived < watched {
            // The time since the last one was not fully observed.
            self.unsure = LOST;
        } else if self.unsure > 0 {
            self.unsure = if in_step { self.unsure - 1 } else { LOST };
        }
        self.off_beat = if in_step || self.unsure > 0 { 0 } else { self.off_beat + 1 };
        let observed = if is_known { now.since(self.arrived).as_secs_f64() / self.period } else { 0.0 };
        let silence = self.silent.then_some(observed);
        if in_step && is_known && !self.silent {
            self.history.note(turns, self.habit.late());
        }
        // After a silence the phase is unknown: a restarted process has a different one.
        if in_step || self.off_beat >= LOST || self.unsure > 0 || self.silent {
            (self.last, self.arrived) = (self.last.max(at), now);
            (self.off_beat, self.silent) = (0, false);
        }
        silence
    }

    /// Records a wave that is not a beat and yet a sign of life, such as one inside of a burst.
    pub(super) fn is_alive(&mut self, now: Moment) {
        self.arrived = self.arrived.max(now);
    }

    /// Silences count from now, and each moment is a sign of life until the phase is known again.
    pub(super) fn restart(&mut self, now: Moment) {
        (self.arrived, self.unsure, self.silent) = (now, LOST, false);
    }

    /// Corrects the period. Returns false if the latest half of the moments is not in step, because it shows a change
    /// first.
    pub(super) fn refine(&mut self, series: &Series) -> bool {
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

    /// Whether the rhythm has stood for long enough, and is slow enough for the jitter of the way, to be a beat.
    pub(super) fn is_beat(&self, way_jitter: f64) -> bool {
        let shortest = f64::max(SHORTEST, ABOVE_JITTER * way_jitter);
        self.last.since(self.since) >= STOOD && self.period >= shortest
    }

    /// Whether the period may have changed: the latest gaps are not one period long.
    pub(super) fn may_have_changed(&self) -> bool {
        self.odd >= LOST
    }

    /// Whether two streams have the same period.
    pub(super) fn has_period_of(&self, other: &Self) -> bool {
        (self.period / other.period - 1.0).abs() < 0.05
    }

    /// The start of the silence, as far as it was observed.
    pub(super) fn silent_since(&self, watched: Moment) -> Moment {
        self.arrived.max(watched)
    }

    /// When the beat after the last one was due.
    pub(super) fn was_due(&self, watched: Moment) -> Moment {
        self.silent_since(watched).plus(self.periods(1.0 + self.habit.lateness()))
    }

    /// The last moment at which the stream can have stopped, if it has. One beat may have been lost before.
    pub(super) fn stopped_before(&self, watched: Moment) -> Moment {
        self.silent_since(watched).plus(self.periods(2.0 + self.habit.lateness()))
    }

    /// Whether more than one beat is overdue.
    pub(super) fn is_overdue(&self, watched: Moment, now: Moment) -> bool {
        now.since(self.silent_since(watched)) > self.periods(2.0)
    }

    /// When the next beat counts as missing, if none arrives and no lapse begins before; `None` if never. A silence is
    /// at least as long as `shortest`.
    pub(super) fn missing_at(&self, watched: Moment, way_jitter: f64, shortest: Duration) -> Option<Moment> {
        if self.silent {
            return None;
        }
        let patience = self.periods(self.habit.patience(&self.history)?).max(shortest);
        let on_the_way = Duration::try_from_secs_f64(LATE_ON_THE_WAY * way_jitter).unwrap_or_default();
        Some(self.silent_since(watched).plus(patience.saturating_add(on_the_way)))
    }

    fn periods(&self, periods: f64) -> Duration {
        Duration::try_from_secs_f64(periods * self.period).unwrap_or(Duration::MAX)
    }
}
