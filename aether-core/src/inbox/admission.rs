//! Admission to an inbox: the room reserved for strong waves, and the queue of waiting emitters.
//!
//! Pure data: no lock and no clock of its own. If emitters wait for an inbox, its last quarter is reserved for stronger
//! waves. The weakest of the levels offered recently may use three quarters and the strongest all; the levels in
//! between get proportional shares. If all waves have one level, they use all of it, except that waves weaker than
//! normal always leave the last eighth free.

use std::collections::{BTreeMap, HashMap};
use std::task::Waker;
use std::time::Duration;

use crate::clock::Moment;
use crate::source::Source;

/// What "recently" means for the levels that reserve room: one to two of these windows.
pub(super) const LEVELS_WINDOW: Duration = Duration::from_secs(10);

/// A position in the queue of waiting emitters: ordered by strength, then by the turns of sources, then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePosition {
    pub(super) level: u8,
    /// Emitters of one source have different rounds: a source with many of them goes before others once in a round only.
    round: u64,
    ticket: u64,
}

impl QueuePosition {
    /// The position of a new emitter, behind all others of its level.
    pub(super) const fn of_newcomer(level: u8) -> Self {
        Self { level, round: u64::MAX, ticket: u64::MAX }
    }
}

/// The levels offered recently, and the waiting emitters.
#[derive(Default)]
pub(super) struct Admission {
    /// A bit for each level offered in the current window; level 0 is the lowest bit.
    seen: u64,
    /// The same for the previous window.
    seen_before: u64,
    window_start: Option<Moment>,
    waiting: BTreeMap<QueuePosition, Waiting>,
    /// The sources of the waiting emitters.
    sources: HashMap<(u8, Source), SourceTurns>,
    last_ticket: u64,
    /// The level of the last wave taken while emitters waited, and the last ticket issued by then.
    taken: Option<(u8, u64)>,
}

/// A waiting emitter.
struct Waiting {
    waker: Waker,
    source: Source,
    /// That of its wave.
    weight: usize,
}

/// The waiting emitters of one source and level.
#[derive(Default)]
struct SourceTurns {
    waiting: usize,
    /// The round of the next one.
    next: u64,
}

impl Admission {
    /// Whether this level was offered in the current window.
    #[inline]
    pub(super) fn has_seen(&self, level: u8) -> bool {
        self.seen & (1 << level) != 0
    }

    /// Records that a level was offered.
    pub(super) fn record_level(&mut self, level: u8) {
        self.seen |= 1 << level;
    }

    /// Forgets levels that were last offered too long ago. Levels seen before the first call count as recent.
    pub(super) fn advance_to(&mut self, now: Moment) {
        let since = self.window_start.map_or(LEVELS_WINDOW, |start| now.saturating_duration_since(start));
        if since >= LEVELS_WINDOW {
            self.seen_before = std::mem::take(&mut self.seen);
            self.window_start = Some(now);
        }
    }

    /// Whether recent waves have different levels.
    pub(super) fn has_several_levels(&self) -> bool {
        (self.seen | self.seen_before).count_ones() > 1
    }

    /// Whether waves that are weaker than normal were offered.
    pub(super) fn has_weak(&self) -> bool {
        (self.seen | self.seen_before) >> NORMAL_LEVEL > 1
    }

    /// How much of `total` waves of this level leave to stronger ones.
    pub(super) fn reserved(&self, total: usize, level: u8) -> usize {
        self.kept_by_rank(total, level).max(kept_from_weak(total, level))
    }

    /// What is kept for the levels that were offered recently.
    fn kept_by_rank(&self, total: usize, level: u8) -> usize {
        let seen = self.seen | self.seen_before | 1 << level;
        let stronger = (seen & ((1 << level) - 1)).count_ones();
        match seen.count_ones() - 1 {
            0 => 0,
            others => (reserve_of(total) as u128 * u128::from(stronger) / u128::from(others)) as usize,
        }
    }

    pub(super) fn none_wait(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a waiting emitter is ahead of a position.
    pub(super) fn is_before(&self, place: QueuePosition) -> bool {
        self.first().is_some_and(|first| first < place)
    }

    /// The position of the next emitter.
    pub(super) fn first(&self) -> Option<QueuePosition> {
        self.first_with_weight().map(|(place, _)| place)
    }

    /// The position of the next emitter, and the weight of its wave.
    pub(super) fn first_with_weight(&self) -> Option<(QueuePosition, usize)> {
        self.waiting.first_key_value().map(|(place, waiting)| (*place, waiting.weight))
    }

    /// Allocates a position behind all others of this source and level. The sources of a level take turns: start-time fair
    /// queueing (P. Goyal, H. Vin and H. Cheng, SIGCOMM 1996) with equal weights.
    pub(super) fn place(&mut self, level: u8, source: &Source) -> QueuePosition {
        self.last_ticket += 1;
        let first = QueuePosition { level, round: 0, ticket: 0 };
        let next = self.waiting.range(first..).next().filter(|(place, _)| place.level == level);
        let current = next.map_or(0, |(place, _)| place.round);
        let of_source = self.sources.get(&(level, source.clone())).map_or(0, |turns| turns.next);
        QueuePosition { level, round: current.max(of_source), ticket: self.last_ticket }
    }

    pub(super) fn wait(&mut self, place: QueuePosition, source: &Source, weight: usize, waker: &Waker) {
        let waiting = Waiting { waker: waker.clone(), source: source.clone(), weight };
        let is_new = self.waiting.insert(place, waiting).is_none();
        let turns = self.sources.entry((place.level, source.clone())).or_default();
        turns.waiting += usize::from(is_new);
        turns.next = turns.next.max(place.round + 1);
    }

    /// Whether the emitter at this position is still waiting. Replaces its waker.
    pub(super) fn is_still_waiting(&mut self, place: QueuePosition, waker: &Waker) -> bool {
        let waiting = self.waiting.get_mut(&place);
        waiting.map(|waiting| waiting.waker.clone_from(waker)).is_some()
    }

    /// Removes an emitter. `None` if it was called already.
    pub(super) fn leave(&mut self, place: QueuePosition) -> Option<Waker> {
        let waiting = self.waiting.remove(&place)?;
        Some(self.left(place, waiting))
    }

    /// Forgets the source of an emitter that was removed if no other emitter of it waits.
    fn left(&mut self, place: QueuePosition, Waiting { waker, source, .. }: Waiting) -> Waker {
        let key = (place.level, source);
        if let Some(turns) = self.sources.get_mut(&key) {
            turns.waiting -= 1;
            if turns.waiting == 0 {
                self.sources.remove(&key);
            }
        }
        waker
    }

    /// Removes the next emitter and returns its waker.
    pub(super) fn take_first(&mut self) -> Option<Waker> {
        let (place, waiting) = self.waiting.pop_first()?;
        Some(self.left(place, waiting))
    }

    /// Removes all emitters and returns their wakers.
    pub(super) fn call_all(&mut self) -> Vec<Waker> {
        self.sources.clear();
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.waker).collect()
    }

    /// Records that a wave was taken while emitters waited.
    pub(super) fn record_taken(&mut self, level: u8) {
        if !self.waiting.is_empty() {
            self.taken = Some((level, self.last_ticket));
        }
    }

    /// Whether an emitter waits because stronger waves overtake it, and not because the receiver is stuck.
    pub(super) fn is_overtaken_by_stronger(&self, place: QueuePosition) -> bool {
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
pub(super) const fn reserve_of(total: usize) -> usize {
    total / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amplitude::{Amplitude, HalfLife, Signal};

    #[test]
    fn the_weakest_level_leaves_a_quarter_the_strongest_nothing_and_the_others_a_share() {
        let mut admission = Admission::default();
        assert_eq!([0, 2, 4].map(|level| admission.reserved(1000, level)), [0; 3]);
        admission.record_level(2);
        assert_eq!([0, 2, 4].map(|level| admission.reserved(1000, level)), [0, 0, 250]);
        admission.record_level(0);
        admission.record_level(4);
        assert_eq!([0, 2, 4].map(|level| admission.reserved(1000, level)), [0, 125, 250]);
        assert_eq!(admission.reserved(3, 4), 0, "there is nothing to divide");
        assert_eq!(admission.reserved(usize::MAX, 4), usize::MAX / 4);
    }

    #[test]
    fn waves_weaker_than_normal_leave_an_eighth_and_at_least_one_whether_others_came_or_not() {
        assert_eq!(NORMAL_LEVEL, Signal::new(Amplitude::NORMAL, HalfLife::NEVER).level());
        let mut admission = Admission::default();
        assert!(!admission.has_weak());
        admission.record_level(4);
        assert!(!admission.has_weak());
        admission.record_level(5);
        assert!(admission.has_weak());
        let admission = Admission::default();
        assert_eq!([4, 5, 63].map(|level| admission.reserved(1000, level)), [0, 125, 125]);
        assert_eq!([1, 2, 8, 15, 16].map(|total| admission.reserved(total, 63)), [0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_level_no_longer_offered_is_forgotten_after_two_windows() {
        let mut admission = Admission::default();
        let start = Moment::now();
        admission.record_level(0);
        admission.record_level(4);
        for windows in 0..3 {
            admission.advance_to(start + windows * LEVELS_WINDOW);
            admission.record_level(4);
            assert_eq!(admission.has_several_levels(), windows < 1);
        }
        assert_eq!(admission.reserved(1000, 4), 0);
    }

    #[test]
    fn waiting_emitters_are_called_by_strength_and_then_in_turn() {
        let mut admission = Admission::default();
        let source = Source::none();
        let places = [20, 5, 20, 63, 5].map(|level| {
            let place = admission.place(level, &source);
            admission.wait(place, &source, 1, Waker::noop());
            place
        });
        assert!(
            admission.is_before(QueuePosition::of_newcomer(5))
                && !admission.is_before(QueuePosition::of_newcomer(4))
        );
        assert!(!admission.is_before(places[1]) && admission.is_before(places[4]));
        let mut called = Vec::new();
        while let Some(first) = admission.first() {
            called.push(first);
            admission.take_first();
        }
        assert_eq!(called, [1, 4, 0, 2, 3].map(|index: usize| places[index]));
    }

    #[test]
    fn a_source_with_many_waiting_emitters_takes_turns_with_the_others() {
        let mut admission = Admission::default();
        let [flood, shop, stock] = [1, 2, 3].map(|instance| Source::with_instance("one", instance).unwrap());
        let wait = |admission: &mut Admission, source: &Source| {
            let place = admission.place(20, source);
            admission.wait(place, source, 1, Waker::noop());
            place
        };
        let flooding: Vec<_> = (0..100).map(|_| wait(&mut admission, &flood)).collect();
        let first = wait(&mut admission, &shop);
        assert_eq!(admission.first(), Some(flooding[0]));
        admission.take_first();
        assert_eq!(admission.first(), Some(first), "its turn is before the second of the flood");
        admission.take_first();
        let others = [&shop, &stock, &shop].map(|source| wait(&mut admission, source));
        let called: Vec<_> = std::iter::from_fn(|| {
            let first = admission.first()?;
            admission.take_first();
            Some(first)
        })
        .collect();
        assert_eq!(called[..6], [flooding[1], others[0], others[1], flooding[2], others[2], flooding[3]]);
        assert_eq!(called.len(), 102);
        assert!(admission.sources.is_empty());
    }

    #[test]
    fn an_emitter_overtaken_by_strong_waves_is_distinguished_from_one_with_a_stuck_receiver() {
        let mut admission = Admission::default();
        let source = Source::none();
        let early = admission.place(20, &source);
        admission.wait(early, &source, 1, Waker::noop());
        assert!(!admission.is_overtaken_by_stronger(early));
        admission.record_taken(20);
        assert!(!admission.is_overtaken_by_stronger(early), "an equal level is not stronger");
        admission.record_taken(5);
        assert!(admission.is_overtaken_by_stronger(early));
        let late = admission.place(20, &source);
        assert!(!admission.is_overtaken_by_stronger(late), "that wave was taken earlier");
    }
}
