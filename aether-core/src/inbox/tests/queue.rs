//! The queue of an inbox against a plain list.

use std::hash::RandomState;

use proptest::prelude::*;

use super::super::queue::{KEPT, Levels, Popped};
use super::super::sources::{Bound, IN_ORDER, MOST, Queueable, SAVED};

/// Numbers are items of one source.
impl Queueable for u64 {
    fn is_of_source_of(&self, _: &Self) -> bool {
        true
    }

    fn source_hash(&self, _: &RandomState) -> u64 {
        0
    }

    fn weight(&self) -> usize {
        1
    }
}

/// A reference queue, a plain list of (level, arrival, item): slow and obviously right.
#[derive(Default)]
struct Naive {
    items: Vec<(u8, u64)>,
    arrivals: u64,
}

impl Naive {
    fn pop_by(&mut self, better: impl Fn(&(u8, u64), &(u8, u64)) -> bool) -> Option<(u8, u64)> {
        let best = (0..self.items.len())
            .reduce(|a, b| if better(&self.items[b], &self.items[a]) { b } else { a })?;
        Some(self.items.remove(best))
    }
}

fn pair<T>(popped: Popped<T>) -> (u8, T) {
    (popped.level, popped.item)
}

#[derive(Debug, Clone)]
enum LevelStep {
    Push(u8),
    Strongest,
    Weakest,
    Oldest,
    /// Pops the strongest even item among the last n pushed.
    Even(u64),
    /// Pops the oldest of those.
    OldestEven(u64),
    /// Pops at most the given number of even items among the last n pushed.
    Evens(u64, usize),
    /// Takes the n strongest out and puts them back.
    PutBack(usize),
    /// Pops at most n items of the strongest level.
    Heads(usize),
}

fn any_step() -> impl Strategy<Value = LevelStep> {
    prop_oneof![
        5 => (0..70u8).prop_map(LevelStep::Push),
        1 => Just(LevelStep::Strongest),
        1 => Just(LevelStep::Weakest),
        1 => Just(LevelStep::Oldest),
        1 => (0..20u64).prop_map(LevelStep::Even),
        1 => (0..20u64).prop_map(LevelStep::OldestEven),
        1 => (0..9usize).prop_map(LevelStep::PutBack),
        1 => (0..9usize).prop_map(LevelStep::Heads),
        1 => (0..40u64, 1..9usize).prop_map(|(back, most)| LevelStep::Evens(back, most)),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_sorted_list(steps in prop::collection::vec(any_step(), 0..300)) {
        let mut levels = Levels::new(false);
        let mut naive = Naive::default();
        for step in steps {
            match step {
                LevelStep::Push(level) => {
                    naive.arrivals += 1;
                    naive.items.push((level.min(63), naive.arrivals));
                    levels.push(level, naive.arrivals, naive.arrivals);
                }
                LevelStep::Strongest => {
                    let expected = naive.pop_by(|a, b| (a.0, a.1) < (b.0, b.1));
                    prop_assert_eq!(levels.pop_strongest().map(pair), expected);
                }
                LevelStep::Weakest => {
                    let expected = naive.pop_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1));
                    prop_assert_eq!(levels.pop_weakest(Bound::Waves).map(pair), expected);
                }
                LevelStep::Oldest => {
                    let expected = naive.pop_by(|a, b| a.1 < b.1);
                    prop_assert_eq!(levels.pop_oldest().map(pair), expected);
                }
                LevelStep::PutBack(count) => {
                    let prefetch: Vec<_> = (0..count).map_while(|_| levels.pop_strongest()).collect();
                    for popped in prefetch.into_iter().rev() {
                        levels.put_back(popped);
                    }
                }
                LevelStep::Heads(most) => {
                    let Some(level) = naive.items.iter().map(|item| item.0).min() else { continue };
                    let count = naive.items.iter().filter(|item| item.0 == level).count().min(most);
                    let expected: Vec<_> =
                        (0..count).map_while(|_| naive.pop_by(|a, b| (a.0, a.1) < (b.0, b.1))).collect();
                    let mut taken = Vec::new();
                    levels.pop_heads(level, most, |popped| taken.push(pair(popped)));
                    prop_assert_eq!(taken, expected);
                }
                LevelStep::Evens(back, most) => {
                    let after = naive.arrivals.saturating_sub(back);
                    let fits = |item: u64| item > after && item.is_multiple_of(2);
                    let mut expected: Vec<_> = naive.items.extract_if(.., |item| fits(item.1)).collect();
                    expected.sort_unstable();
                    let is_all = expected.len() < most;
                    naive.items.extend(expected.split_off(most.min(expected.len())));
                    naive.items.sort_by_key(|item| item.1);
                    let mut taken = Vec::new();
                    let even = |item: &u64| item.is_multiple_of(2);
                    let has_seen_all = levels.take_where(after, even, |popped| {
                        taken.push(pair(popped));
                        taken.len() >= most
                    });
                    prop_assert_eq!(taken, expected);
                    prop_assert_eq!(has_seen_all, is_all);
                }
                LevelStep::Even(back) | LevelStep::OldestEven(back) => {
                    let strength = matches!(step, LevelStep::Even(_));
                    let after = naive.arrivals.saturating_sub(back);
                    let fits = |item: u64| item > after && item.is_multiple_of(2);
                    let kept: Vec<_> = naive.items.extract_if(.., |item| !fits(item.1)).collect();
                    let expected = naive.pop_by(|a, b| match strength {
                        true => (a.0, a.1) < (b.0, b.1),
                        false => a.1 < b.1,
                    });
                    naive.items.extend(kept);
                    naive.items.sort_by_key(|item| item.1);
                    let even = |item: &u64| item.is_multiple_of(2);
                    let popped = match strength {
                        true => levels.pop_where(after, even),
                        false => levels.pop_oldest_where(after, even),
                    };
                    prop_assert_eq!(popped.map(pair), expected);
                }
            }
            prop_assert_eq!(levels.len(), naive.items.len());
            prop_assert_eq!(levels.last_arrival(), naive.arrivals);
        }
    }
}

#[test]
fn the_memory_of_a_burst_is_given_back_as_it_empties() {
    let mut levels = Levels::<u64>::new(false);
    for item in 0..1_000_000 {
        levels.push((item % 4) as u8, item + 1, item);
    }
    while levels.len() > 10_000 {
        levels.pop_strongest();
    }
    assert!(levels.capacity() <= 8 * 10_000 + 3 * KEPT, "{}", levels.capacity());
    while levels.pop_strongest().is_some() {}
    assert!(levels.capacity() <= 4 * KEPT, "{}", levels.capacity());
    levels.push(3, 2_000_000, 7);
    assert_eq!(levels.pop_weakest(Bound::Waves).map(pair), Some((3, 7)));
}

/// An item of one of several sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    source: u16,
    number: u64,
    weight: usize,
}

impl Queueable for Sent {
    fn is_of_source_of(&self, other: &Self) -> bool {
        self.source == other.source
    }

    fn source_hash(&self, _: &RandomState) -> u64 {
        self.source.into()
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

/// One level whose sources take turns: a list of items, and lists of the sources that have some.
#[derive(Default)]
struct NaiveTurns {
    items: Vec<Sent>,
    takes_turns: bool,
    /// Sources that have saved turns.
    first: Vec<u16>,
    turns: Vec<u16>,
    /// How many turns each of five sources has saved.
    saved: [i64; 5],
}

impl NaiveTurns {
    fn push(&mut self, sent: Sent) {
        let is_several = self.items.last().is_some_and(|newest| newest.source != sent.source);
        if !self.takes_turns && self.items.len() >= IN_ORDER && is_several {
            self.takes_turns = true;
            self.saved = [SAVED as i64; 5];
            let sources: Vec<_> = self.items.iter().map(|item| item.source).collect();
            sources.into_iter().for_each(|source| self.join(source));
        }
        if self.takes_turns {
            self.join(sent.source);
        }
        self.items.push(sent);
    }

    fn join(&mut self, source: u16) {
        if !self.first.contains(&source) && !self.turns.contains(&source) {
            let saved = &mut self.saved[usize::from(source)];
            *saved = (*saved).min(SAVED as i64);
            self.list(source);
        }
    }

    fn list(&mut self, source: u16) {
        let list = if self.saved[usize::from(source)] > 0 { &mut self.first } else { &mut self.turns };
        list.push(source);
    }

    fn has(&self, source: u16) -> bool {
        self.items.iter().any(|item| item.source == source)
    }

    /// Takes the first item that fits.
    fn take(&mut self, fits: impl Fn(&Sent) -> bool) -> Option<Sent> {
        let place = self.items.iter().position(fits)?;
        let sent = self.items.remove(place);
        if self.items.is_empty() {
            *self = Self::default();
        }
        Some(sent)
    }

    /// The next source that has items, and whether it has saved turns. Sources that have lost theirs also lose their place.
    fn next_source(&mut self) -> Option<(u16, bool)> {
        loop {
            let has_saved = !self.first.is_empty();
            let list = if has_saved { &mut self.first } else { &mut self.turns };
            let source = (!list.is_empty()).then(|| list.remove(0))?;
            if self.has(source) {
                return Some((source, has_saved));
            }
        }
    }

    fn pop(&mut self) -> Option<Sent> {
        if !self.takes_turns {
            return self.take(|_| true);
        }
        let (source, has_saved) = self.next_source()?;
        let own = usize::from(source);
        if !has_saved && self.saved[own] < 0 {
            let passed = -self.saved[own];
            self.saved = self.saved.map(|saved| saved + passed);
        }
        self.take_in_turn(source, |_| true)
    }

    /// Takes the first item of a source that fits, for one of its turns.
    fn take_in_turn(&mut self, source: u16, fits: impl Fn(&Sent) -> bool) -> Option<Sent> {
        self.saved[usize::from(source)] -= 1;
        let sent = self.take(|item| item.source == source && fits(item));
        if self.has(source) {
            self.list(source);
        }
        sent
    }

    fn pop_where(&mut self, fits: impl Fn(&Sent) -> bool) -> Option<Sent> {
        if !self.takes_turns {
            return self.take(fits);
        }
        let mut listed = self.first.iter().chain(&self.turns);
        let has_one = |source: &&u16| self.items.iter().any(|item| item.source == **source && fits(item));
        let source = *listed.find(has_one)?;
        self.first.retain(|turn| *turn != source);
        self.turns.retain(|turn| *turn != source);
        self.take_in_turn(source, fits)
    }

    fn put_back(&mut self, sent: Sent) {
        self.saved[usize::from(sent.source)] += 1;
        if !self.first.contains(&sent.source) && !self.turns.contains(&sent.source) {
            self.first.insert(0, sent.source);
        }
        let of_source = self.items.iter().position(|item| item.source == sent.source);
        self.items.insert(of_source.unwrap_or(self.items.len()), sent);
    }

    fn used(&self, source: u16, bound: Bound) -> usize {
        let items = self.items.iter().filter(|item| item.source == source);
        items.map(|item| if bound == Bound::Waves { 1 } else { item.weight }).sum()
    }

    /// Whether this may be shed: the oldest of a source that uses as much as any other, or of all where none takes turns.
    fn may_shed(&self, sent: &Sent, bound: Bound) -> bool {
        let most = (0..5).map(|source| self.used(source, bound)).max();
        let is_longest = !self.takes_turns || Some(self.used(sent.source, bound)) == most;
        let oldest = self.items.iter().find(|item| !self.takes_turns || item.source == sent.source);
        is_longest && oldest == Some(sent)
    }
}

#[derive(Debug, Clone)]
enum TurnStep {
    /// A source emits, items of this weight.
    Push(u16, usize, usize),
    Pop(usize),
    Evict(usize, bool),
    /// Pops the oldest even item among the last n pushed.
    Even(u64),
    /// Takes n out and puts them back.
    PutBack(usize),
}

fn any_turn_step() -> impl Strategy<Value = TurnStep> {
    prop_oneof![
        3 => (0..5u16, 1..50usize, 1..20usize).prop_map(|(source, weight, n)| TurnStep::Push(source, weight, n)),
        2 => (1..30usize).prop_map(TurnStep::Pop),
        1 => (1..10usize, any::<bool>()).prop_map(|(n, by_bytes)| TurnStep::Evict(n, by_bytes)),
        1 => (0..60u64).prop_map(TurnStep::Even),
        1 => (0..9usize).prop_map(TurnStep::PutBack),
    ]
}

proptest! {
    #[test]
    fn sources_take_turns_as_in_a_plain_list_of_them(steps in prop::collection::vec(any_turn_step(), 0..80)) {
        let (mut levels, mut naive, mut number) = (Levels::new(true), NaiveTurns::default(), 0);
        for step in steps {
            match step {
                TurnStep::Push(source, weight, count) => for _ in 0..count {
                    number += 1;
                    let sent = Sent { source, number, weight };
                    naive.push(sent.clone());
                    levels.push(7, number, sent);
                },
                TurnStep::Pop(count) => for _ in 0..count {
                    prop_assert_eq!(levels.pop_strongest().map(|popped| popped.item), naive.pop());
                },
                TurnStep::Evict(count, by_bytes) => for _ in 0..count {
                    let bound = if by_bytes { Bound::Bytes } else { Bound::Waves };
                    let shed = levels.pop_weakest(bound).map(|popped| popped.item);
                    match shed {
                        Some(shed) => {
                            prop_assert!(naive.may_shed(&shed, bound), "{:?}", shed);
                            naive.take(|sent| *sent == shed);
                        }
                        None => prop_assert!(naive.items.is_empty()),
                    }
                },
                TurnStep::Even(back) => {
                    let after = number.saturating_sub(back);
                    let even = |sent: &Sent| sent.number.is_multiple_of(2);
                    let popped = levels.pop_where(after, even).map(|popped| popped.item);
                    prop_assert_eq!(popped, naive.pop_where(|sent| sent.number > after && even(sent)));
                }
                TurnStep::PutBack(count) => {
                    let out = count.min(naive.items.len().saturating_sub(1));
                    let popped: Vec<_> = (0..out).map_while(|_| levels.pop_strongest()).collect();
                    let expected: Vec<_> = (0..out).map_while(|_| naive.pop()).collect();
                    prop_assert_eq!(popped.iter().map(|popped| &popped.item).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
                    for (popped, sent) in popped.into_iter().zip(expected).rev() {
                        levels.put_back(popped);
                        match naive.takes_turns {
                            true => naive.put_back(sent),
                            false => naive.items.insert(0, sent),
                        }
                    }
                }
            }
            prop_assert_eq!(levels.len(), naive.items.len());
            prop_assert_eq!(levels.takes_turns(7), naive.takes_turns);
            prop_assert_eq!(levels.occupied() != 0, !naive.items.is_empty());
        }
        // A search in the order of arrival finds all items.
        naive.items.sort_by_key(|sent| sent.number);
        let mut rest = std::iter::from_fn(|| levels.pop_oldest()).map(|popped| popped.item);
        prop_assert!(naive.items.iter().all(|sent| rest.next().as_ref() == Some(sent)));
        prop_assert!(rest.next().is_none());
    }
}

#[test]
fn a_flood_makes_its_own_source_wait_and_is_shed_first() {
    let mut levels = Levels::new(true);
    let sent = |source, number| Sent { source, number, weight: 100 };
    for number in 1..=10_000 {
        levels.push(0, number, sent(0, number));
    }
    for number in 10_001..=10_010 {
        levels.push(0, number, sent((number % 5) as u16 + 1, number));
    }
    for oldest in 1..=9_000 {
        let shed = levels.pop_weakest(Bound::Waves).unwrap();
        assert_eq!((shed.item.source, shed.item.number), (0, oldest));
    }
    let others: Vec<_> =
        (0..12).filter_map(|_| levels.pop_strongest()).filter(|p| p.item.source > 0).collect();
    assert_eq!(others.len(), 10, "ten waves of five sources in turn with two of the flood");
}

#[test]
fn a_source_that_emits_little_does_not_wait_for_one_that_floods() {
    let mut levels = Levels::new(true);
    let sent = |source, number| Sent { source, number, weight: 1 };
    for number in 1..=1000 {
        levels.push(0, number, sent(0, number));
    }
    // When the sources begin to take turns, none has used any.
    levels.push(0, 1001, sent(1, 1001));
    let sources: Vec<_> = (0..40).map(|_| levels.pop_strongest().unwrap().item.source).collect();
    assert_eq!(sources.iter().position(|source| *source == 1), Some(1));
    for number in 1002..1100 {
        // Source 1 uses two turns, and saves two while the other source uses two.
        levels.push(0, 2 * number, sent(1, 2 * number));
        levels.push(0, 2 * number + 1, sent(1, 2 * number + 1));
        let sources: Vec<_> = (0..4).map(|_| levels.pop_strongest().unwrap().item.source).collect();
        assert_eq!(sources, [1, 1, 0, 0], "{number}");
    }
    for number in 2200..3000 {
        levels.push(0, number, sent(1, number));
    }
    // A burst uses what was saved, and then takes turns.
    let sources: Vec<_> = (0..100).map(|_| levels.pop_strongest().unwrap().item.source).collect();
    let saved = sources.iter().take_while(|source| **source == 1).count();
    assert_eq!(saved as u64, SAVED);
    assert!(sources[saved..].chunks_exact(2).all(|pair| pair == [0, 1]), "{sources:?}");
}

#[test]
fn a_source_that_floods_waits_for_bursts_of_others_no_longer_than_they_have_saved() {
    let mut levels = Levels::new(true);
    let sent = |source, number| Sent { source, number, weight: 1 };
    let mut number = 0;
    let mut push = |levels: &mut Levels<Sent>, source| {
        number += 1;
        levels.push(0, number, sent(source, number));
    };
    (0..1000).for_each(|_| push(&mut levels, 0));
    (1..10).for_each(|source| push(&mut levels, source));
    (0..100).for_each(|_| _ = levels.pop_strongest().unwrap());
    // All others flood as well.
    (0..1000).for_each(|_| (1..10).for_each(|source| push(&mut levels, source)));
    let mut waited = 0;
    while levels.pop_strongest().unwrap().item.source != 0 {
        waited += 1;
    }
    assert_eq!(waited, 9 * SAVED);
    let of_first = (0..1000).filter(|_| levels.pop_strongest().unwrap().item.source == 0).count();
    assert_eq!(of_first, 100, "a tenth from then on");
}

#[test]
fn one_source_is_served_in_order_however_many_wait() {
    let mut levels = Levels::new(true);
    for number in 1..=1000 {
        levels.push(0, number, Sent { source: 3, number, weight: 1 });
    }
    assert!(!levels.takes_turns(0));
    assert!((1..=1000).all(|number| levels.pop_strongest().unwrap().item.number == number));
}

#[test]
fn the_sources_of_a_burst_give_back_their_memory_and_serve_the_next_burst() {
    let mut levels = Levels::new(true);
    for round in 0..2_u64 {
        for number in 0..100_000 {
            let number = round * 100_000 + number + 1;
            levels.push(0, number, Sent { source: (number % 2) as u16, number, weight: 1 });
        }
        assert!(levels.takes_turns(0));
        while levels.len() > 1000 {
            levels.pop_strongest();
        }
        assert!(levels.capacity() <= 16 * 1000, "{}", levels.capacity());
        while levels.pop_strongest().is_some() {}
        assert!(!levels.takes_turns(0) && levels.capacity() <= 2 * KEPT, "{}", levels.capacity());
    }
}

/// Takes items while new ones keep each source busy. Returns how many of each were taken.
fn shares(sources: u16, rounds: usize) -> Vec<usize> {
    let (mut levels, mut number, mut taken) = (Levels::new(true), 0, vec![0; usize::from(sources)]);
    let mut push = |levels: &mut Levels<Sent>, source: u16| {
        number += 1;
        levels.push(0, number, Sent { source, number, weight: 1 });
    };
    for source in 0..sources {
        // The first one floods.
        let waiting = if source == 0 { 20_000 } else { 64 };
        (0..waiting).for_each(|_| push(&mut levels, source));
    }
    for turn in 0..usize::from(sources) * (rounds + SAVED as usize) {
        let source = levels.pop_strongest().unwrap().item.source;
        // The saved turns are used up.
        if turn >= usize::from(sources) * SAVED as usize {
            taken[usize::from(source)] += 1;
        }
        push(&mut levels, source);
    }
    taken
}

#[test]
fn each_source_has_the_same_share_however_many_there_are() {
    for sources in [2, 10, 1000, MOST as u16] {
        assert!(shares(sources, 50).iter().all(|share| (49..=51).contains(share)), "{sources}");
    }
}

#[test]
fn sources_beyond_the_bound_share_turns_and_keep_their_order() {
    const SOURCES: u16 = 5000;
    let (mut levels, mut number) = (Levels::new(true), 0);
    let mut newest = vec![0; usize::from(SOURCES)];
    let mut check = |sent: Sent| {
        assert!(sent.number > newest[usize::from(sent.source)], "{sent:?} was overtaken");
        newest[usize::from(sent.source)] = sent.number;
    };
    for round in 0..60_u16 {
        for source in 0..SOURCES {
            // Some leave and come again while others have items.
            if (round / 5 + source).is_multiple_of(3) {
                number += 1;
                levels.push(0, number, Sent { source, number, weight: 1 });
            }
            if (source + round).is_multiple_of(4) {
                levels.pop_strongest().map(|popped| popped.item).into_iter().for_each(&mut check);
            }
        }
        while round.is_multiple_of(20) && levels.len() > 100 {
            levels.pop_strongest().map(|popped| popped.item).into_iter().for_each(&mut check);
        }
    }
    while let Some(popped) = levels.pop_strongest() {
        check(popped.item);
    }
}
