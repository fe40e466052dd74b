//! Who is let into an inbox: what is kept for the strong, and the emitters that wait outside.
//!
//! Pure data: no lock and no clock of its own. The last quarter of an inbox whose emitters wait is kept for waves that
//! are stronger than others: the weakest of the levels offered recently may use three quarters, the strongest all, and
//! those between them the steps between. Where all waves have one level they use all of it, but for waves that are weaker
//! than normal: these leave the last eighth free even before anything stronger has come.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use crate::clock::Moment;

/// What "recently" means for the levels that an inbox keeps room for: one to two of these.
pub(super) const LEVELS_WINDOW: Duration = Duration::from_secs(10);

/// Where an emitter stands among those that wait: the strongest first, then whoever came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePosition {
    pub(super) level: u8,
    ticket: u64,
}

impl QueuePosition {
    /// That of who comes now, behind all others of its level.
    pub(super) const fn of_newcomer(level: u8) -> Self {
        Self { level, ticket: u64::MAX }
    }
}

/// The levels offered recently, and the emitters that wait.
#[derive(Default)]
pub(super) struct Admission {
    /// A bit for each level that was offered in the current window; level 0 is the lowest bit.
    seen: u64,
    /// The same of the window before.
    seen_before: u64,
    window_start: Option<Moment>,
    waiting: BTreeMap<QueuePosition, Waker>,
    last_ticket: u64,
    /// The level of the wave that was taken last while emitters waited, and the last ticket by then.
    taken: Option<(u8, u64)>,
}

impl Admission {
    /// Whether this level was offered in the current window.
    #[inline]
    pub(super) fn has_seen(&self, level: u8) -> bool {
        self.seen & (1 << level) != 0
    }

    /// Notes that a level was offered.
    pub(super) fn see(&mut self, level: u8) {
        self.seen |= 1 << level;
    }

    /// Forgets the levels that were last offered too long ago. What was seen before the first call counts as recent.
    pub(super) fn turn_to(&mut self, now: Moment) {
        let since = self.window_start.map_or(LEVELS_WINDOW, |start| now.saturating_duration_since(start));
        if since >= LEVELS_WINDOW {
            self.seen_before = std::mem::take(&mut self.seen);
            self.window_start = Some(now);
        }
    }

    /// Whether there are stronger and weaker waves.
    pub(super) fn tells_apart(&self) -> bool {
        (self.seen | self.seen_before).count_ones() > 1
    }

    /// Whether waves that are weaker than normal were offered.
    pub(super) fn has_weak(&self) -> bool {
        (self.seen | self.seen_before) >> NORMAL_LEVEL > 1
    }

    /// How much of `total` waves of this level leave to stronger ones.
    pub(super) fn kept(&self, total: usize, level: u8) -> usize {
        self.kept_by_rank(total, level).max(kept_from_weak(total, level))
    }

    /// What is kept for the levels that were offered recently.
    fn kept_by_rank(&self, total: usize, level: u8) -> usize {
        let seen = self.seen | self.seen_before | 1 << level;
        let stronger = (seen & ((1 << level) - 1)).count_ones();
        match seen.count_ones() - 1 {
            0 => 0,
            others => (kept_of(total) as u128 * u128::from(stronger) / u128::from(others)) as usize,
        }
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether somebody who waits comes before a place.
    pub(super) fn is_before(&self, place: QueuePosition) -> bool {
        self.first().is_some_and(|first| first < place)
    }

    /// The emitter that is next.
    pub(super) fn first(&self) -> Option<QueuePosition> {
        self.waiting.first_key_value().map(|(place, _)| *place)
    }

    /// A place behind all others of this level.
    pub(super) fn place(&mut self, level: u8) -> QueuePosition {
        self.last_ticket += 1;
        QueuePosition { level, ticket: self.last_ticket }
    }

    pub(super) fn wait(&mut self, place: QueuePosition, waker: &Waker) {
        self.waiting.insert(place, waker.clone());
    }

    /// Whether who has this place waits still; with this waker from now on.
    pub(super) fn waits_still(&mut self, place: QueuePosition, waker: &Waker) -> bool {
        let waiting = self.waiting.get_mut(&place);
        waiting.map(|waiting| waiting.clone_from(waker)).is_some()
    }

    /// Takes an emitter out. None if it was called already.
    pub(super) fn leave(&mut self, place: QueuePosition) -> Option<Waker> {
        self.waiting.remove(&place)
    }

    /// Takes the next emitter out, to wake it.
    pub(super) fn call_first(&mut self) -> Option<Waker> {
        self.waiting.pop_first().map(|(_, waker)| waker)
    }

    /// Takes all out, to wake them.
    pub(super) fn call_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// Notes that a wave was taken while emitters waited.
    pub(super) fn took(&mut self, level: u8) {
        if !self.waiting.is_empty() {
            self.taken = Some((level, self.last_ticket));
        }
    }

    /// Whether an emitter waits because stronger waves pass it, and not because the receiver is stuck.
    pub(super) fn is_passed(&self, place: QueuePosition) -> bool {
        self.taken.is_some_and(|(level, ticket)| level < place.level && ticket >= place.ticket)
    }
}

/// The level of waves of normal amplitude, which is the default.
const NORMAL_LEVEL: u8 = 4;

/// How much of `total` waves of this level leave free whether stronger ones have come or not: those that are weaker than
/// normal an eighth, at least one, but not everything.
pub(super) const fn kept_from_weak(total: usize, level: u8) -> usize {
    match level > NORMAL_LEVEL {
        true if total < 16 => {
            if total > 1 {
                1
            } else {
                0
            }
        }
        true => total / 8,
        false => 0,
    }
}

/// The part that is kept for waves that are not the weakest.
pub(super) const fn kept_of(total: usize) -> usize {
    total / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amplitude::{Amplitude, HalfLife, Signal};

    #[test]
    fn the_weakest_level_leaves_a_quarter_the_strongest_nothing_and_others_a_part() {
        let mut admission = Admission::default();
        assert_eq!([0, 2, 4].map(|level| admission.kept(1000, level)), [0; 3]);
        admission.see(2);
        assert_eq!([0, 2, 4].map(|level| admission.kept(1000, level)), [0, 0, 250]);
        admission.see(0);
        admission.see(4);
        assert_eq!([0, 2, 4].map(|level| admission.kept(1000, level)), [0, 125, 250]);
        assert_eq!(admission.kept(3, 4), 0, "there is nothing to divide");
        assert_eq!(admission.kept(usize::MAX, 4), usize::MAX / 4);
    }

    #[test]
    fn waves_weaker_than_normal_leave_an_eighth_and_at_least_one_whether_others_came_or_not() {
        assert_eq!(NORMAL_LEVEL, Signal::new(Amplitude::NORMAL, HalfLife::NEVER).level());
        let mut admission = Admission::default();
        assert!(!admission.has_weak());
        admission.see(4);
        assert!(!admission.has_weak());
        admission.see(5);
        assert!(admission.has_weak());
        let admission = Admission::default();
        assert_eq!([4, 5, 63].map(|level| admission.kept(1000, level)), [0, 125, 125]);
        assert_eq!([1, 2, 8, 15, 16].map(|total| admission.kept(total, 63)), [0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_level_that_is_not_offered_any_more_is_forgotten_after_two_windows() {
        let mut admission = Admission::default();
        let start = Moment::now();
        admission.see(0);
        admission.see(4);
        for windows in 0..3 {
            admission.turn_to(start + windows * LEVELS_WINDOW);
            admission.see(4);
            assert_eq!(admission.tells_apart(), windows < 1);
        }
        assert_eq!(admission.kept(1000, 4), 0);
    }

    #[test]
    fn those_that_wait_are_called_by_strength_and_then_in_turn() {
        let mut admission = Admission::default();
        let places = [20, 5, 20, 63, 5].map(|level| admission.place(level));
        for place in places {
            admission.wait(place, Waker::noop());
        }
        assert!(
            admission.is_before(QueuePosition::of_newcomer(5))
                && !admission.is_before(QueuePosition::of_newcomer(4))
        );
        assert!(!admission.is_before(places[1]) && admission.is_before(places[4]));
        let mut called = Vec::new();
        while let Some(first) = admission.first() {
            called.push(first);
            admission.call_first();
        }
        assert_eq!(called, [1, 4, 0, 2, 3].map(|index: usize| places[index]));
    }

    #[test]
    fn who_is_passed_by_the_strong_is_told_apart_from_who_waits_for_a_stuck_receiver() {
        let mut admission = Admission::default();
        let early = admission.place(20);
        admission.wait(early, Waker::noop());
        assert!(!admission.is_passed(early));
        admission.took(20);
        assert!(!admission.is_passed(early), "one of the same level is no stronger");
        admission.took(5);
        assert!(admission.is_passed(early));
        let late = admission.place(20);
        assert!(!admission.is_passed(late), "that was before it came");
    }
}
