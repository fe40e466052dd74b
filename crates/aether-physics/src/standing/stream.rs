//! One stream: its latest beats, and their rhythm.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::time::Duration;

use super::bursts::{Bursts, Place};
use super::history::History;
use super::period::{FEWEST, Finder, MOST, Rhythm, changed, order};
use super::rhythm::{Role, Standing};
use super::series::{Lapses, Series};
use crate::timeline::{Moment, nanos};

/// After this many consecutive failed searches, a stream is no longer periodic. With much jitter, a single search may
/// fail.
const DOUBTS: u32 = 2;
/// The period of a periodic stream is corrected after this many beats, and after [`LOOKED_EVERY`] while few are known.
const REFINED_EVERY: u64 = 32;
const FEW: usize = MOST / 4;
/// A change of the period is looked for after this many beats, in the latest [`RECENT`].
const LOOKED_EVERY: u64 = 8;
const RECENT: usize = 17;
/// The maximum number of moments between two searches in a stream without a rhythm.
const LONGEST_WAY: u64 = 512;

/// The latest moments of a stream, and its rhythm if it has one.
#[derive(Debug, Default)]
pub(super) struct PeriodicStream {
    /// Ascending; at most [`MOST`]. Of a stream in bursts, the first moments of the bursts.
    times: VecDeque<Moment>,
    bursts: Bursts,
    way: Way,
    /// The arrival of the latest wave.
    pub(super) heard: Moment,
    /// The total number of moments.
    pub(super) beats: u64,
    /// The total number of moments at which the rhythm is searched or checked next.
    search_at: u64,
    /// The total number of moments at which a change of the period is looked for next.
    look_at: u64,
    pub(super) standing: Option<Standing>,
    /// The period of the last rhythm that was lost, and its habits.
    past: Option<(f64, History)>,
}

/// The way of the waves from their source to the detector, as RFC 3550 measures it: the jitter is the mean difference of
/// the delays of two successive waves, and each difference counts one sixteenth.
#[derive(Debug, Default)]
struct Way {
    delay: Option<i64>,
    jitter: i64,
}

/// The result of recording a moment.
#[derive(Debug, PartialEq)]
pub(super) enum Noted {
    /// It was recorded.
    Yes,
    /// It was recorded, and ended a silence of this many periods that had been reported.
    Returned(f64),
    /// It is inside of a burst.
    Inside,
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
        if self.times.len() == MOST && place == 0 {
            return Noted::TooOld;
        }
        self.way.note(nanos(now.since(at)));
        self.heard = now;
        match self.bursts.note(at) {
            Place::Apart => {}
            Place::Inside => {
                if let Some(standing) = &mut self.standing {
                    standing.is_alive(now);
                }
                return Noted::Inside;
            }
            Place::Steady => self.forget(),
        }
        if self.times.len() == MOST {
            self.times.pop_front();
            self.times.insert(place - 1, at);
        } else {
            if self.times.len() == self.times.capacity() {
                // Doubling would exceed the bound.
                self.times.reserve_exact(self.times.len().max(4).min(MOST - self.times.len()));
            }
            self.times.insert(place.min(self.times.len()), at);
        }
        self.beats += 1;
        match &mut self.standing {
            Some(standing) if standing.role != Role::Candidate => {
                match standing.keep_step(at, now, watched) {
                    Some(silence) => Noted::Returned(silence),
                    None => Noted::Yes,
                }
            }
            standing => {
                if let Some(beginnings) = self.bursts.recognised() {
                    self.forget();
                    self.times.extend(beginnings);
                    self.beats = self.times.len() as u64;
                } else if let Some(standing) = standing {
                    standing.keep_step(at, now, watched);
                }
                Noted::Yes
            }
        }
    }

    /// Searches for a rhythm, or checks the one that is known.
    pub(super) fn search(&mut self, finder: &mut Finder, series: &mut Series, lapses: &Lapses, now: Moment) {
        self.look_at = self.beats + LOOKED_EVERY;
        if self.has_changed(series, lapses) {
            self.search_at = self.look_at;
            return;
        }
        if self.only_looks() {
            return;
        }
        series.fill(&self.times, lapses, now);
        self.search_at = self.beats + if self.times.len() <= FEW { LOOKED_EVERY } else { REFINED_EVERY };
        if let Some(standing) = &mut self.standing
            && standing.refine(series)
        {
            return;
        }
        let before = self.standing;
        self.lose_rhythm();
        let last = self.times.back().copied().unwrap_or(now);
        self.standing = finder.find(series).map(|rhythm| Standing::new(rhythm, series, last, now));
        self.remember();
        if let (None, Some(mut before)) = (self.standing, before)
            && before.doubts + 1 < DOUBTS
        {
            before.doubts += 1;
            self.standing = Some(before);
        }
        self.search_at = self.beats
            + match (&mut self.standing, before) {
                (Some(standing), Some(before)) => {
                    standing.continues(&before);
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
    }

    /// Whether the latest gaps agree on another period. The moments before the change are forgotten.
    fn has_changed(&mut self, series: &mut Series, lapses: &Lapses) -> bool {
        let (Some(before), Some(earlier)) = (self.standing, self.times.len().checked_sub(RECENT)) else {
            return false;
        };
        let mut gaps = [0.0; RECENT - 1];
        let moments = self.times.range(earlier..);
        for ((gap, from), to) in gaps.iter_mut().zip(moments.clone()).zip(moments.skip(1)) {
            *gap = to.since(*from).as_secs_f64();
        }
        let watched = lapses.watched_since();
        if self.times[earlier] < watched {
            return false;
        }
        let Some(period) = changed(&gaps, before.period, before.habit.jitter, self.times.len() <= FEW) else {
            return false;
        };
        self.times.drain(..earlier);
        let last = *self.times.back().unwrap_or(&before.silent_since(watched));
        series.fill(&self.times, lapses, last);
        let rhythm = Rhythm { period, order: order(&series.times, 1.0 / period) };
        let mut standing = Standing::new(rhythm, series, last, last);
        standing.continues(&before);
        self.lose_rhythm();
        self.standing = Some(standing);
        self.remember();
        true
    }

    /// Whether it is time to search for a rhythm or to check it.
    pub(super) fn due(&self) -> bool {
        let looks = self.standing.is_some_and(|standing| {
            standing.role == Role::Candidate || standing.may_have_changed() || self.times.len() <= FEW
        });
        let at = if looks { self.search_at.min(self.look_at) } else { self.search_at };
        self.beats >= at.max(FEWEST as u64)
    }

    /// Whether a search may take long.
    pub(super) fn folds(&self) -> bool {
        self.times.len() == MOST && !self.only_looks()
    }

    fn only_looks(&self) -> bool {
        self.standing.is_some() && self.beats < self.search_at
    }

    /// The latest moments, ascending.
    pub(super) fn moments(&self) -> &VecDeque<Moment> {
        &self.times
    }

    /// The jitter of the way, in seconds.
    pub(super) fn way_jitter(&self) -> f64 {
        self.way.jitter as f64 / 1e9
    }

    /// When the next beat counts as missing; `None` if never.
    pub(super) fn missing_at(&self, watched: Moment, shortest: Duration) -> Option<Moment> {
        self.standing?.missing_at(watched, self.way_jitter(), shortest)
    }

    /// Clears all moments and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        *self = Self { times: std::mem::take(&mut self.times), ..Self::default() };
    }

    /// Starts again with the next moment.
    fn forget(&mut self) {
        self.times.clear();
        (self.standing, self.past, self.search_at, self.look_at, self.beats) = (None, None, 0, 0, 0);
    }

    /// Ends the rhythm. Its habits are kept for the next one.
    pub(super) fn lose_rhythm(&mut self) {
        if let Some(standing) = self.standing.take() {
            self.past = Some((standing.period, standing.history));
        }
    }

    /// Gives a new rhythm the habits of the one before.
    fn remember(&mut self) {
        if let (Some(standing), Some((period, history))) = (&mut self.standing, self.past) {
            standing.history = history.at_another_period(period / standing.period);
        }
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

impl Way {
    fn note(&mut self, delay: i64) {
        if let Some(before) = self.delay.replace(delay) {
            let difference = delay.saturating_sub(before).saturating_abs();
            self.jitter = self.jitter.saturating_add(difference.saturating_sub(self.jitter) / 16);
        }
    }
}
