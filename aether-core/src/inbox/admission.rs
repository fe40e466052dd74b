//! Admission to an inbox: the room that weak waves leave free, and the queue of waiting emitters.
//!
//! Pure data: no lock and no clock.

use std::collections::{BTreeMap, HashMap};
use std::task::Waker;

use crate::source::Source;

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

/// The waiting emitters.
#[derive(Default)]
pub(super) struct Admission {
    waiting: BTreeMap<QueuePosition, QueuedEmitter>,
    /// The sources of the waiting emitters.
    sources: HashMap<(u8, Source), SourceTurns>,
    last_ticket: u64,
    /// The level of the last wave taken while emitters waited, and the last ticket issued by then.
    taken: Option<(u8, u64)>,
}

/// A waiting emitter.
struct QueuedEmitter {
    waker: Waker,
    source: Source,
    /// The weight of its wave.
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
        let waiting = QueuedEmitter { waker: waker.clone(), source: source.clone(), weight };
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
    fn left(&mut self, place: QueuePosition, QueuedEmitter { waker, source, .. }: QueuedEmitter) -> Waker {
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

/// Whether waves of this level leave a part of an inbox free.
#[inline]
pub(super) const fn is_weak(level: u8) -> bool {
    level > NORMAL_LEVEL
}

/// How much of `total` waves of this level leave free: weak ones an eighth, at least one, but not everything.
pub(super) fn kept(total: usize, level: u8) -> usize {
    if is_weak(level) { (total / 8).max(1).min(total - 1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amplitude::{Amplitude, HalfLife, Signal};

    #[test]
    fn waves_weaker_than_normal_leave_an_eighth_and_at_least_one() {
        assert_eq!(NORMAL_LEVEL, Signal::new(Amplitude::NORMAL, HalfLife::NEVER).level());
        assert_eq!([0, 4, 5, 63].map(|level| kept(1000, level)), [0, 0, 125, 125]);
        assert_eq!([1, 2, 8, 15, 16].map(|total| kept(total, 63)), [0, 1, 1, 1, 2]);
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
