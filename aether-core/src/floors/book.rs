//! What is known of the receivers: which channels each hears, and the floor that it advertised. Pure data, the time is
//! handed in.
//!
//! The rule, which [`Book::floor_of`] computes: **a wave may be stopped at its source if somebody is known to hear its
//! channel, and everybody who is known to hear it has advertised a floor above the wave.** For a group that means each
//! of its members, because any of them may be next. A receiver that advertised nothing hears everything.

use std::collections::HashMap;
use std::time::Duration;

use crate::amplitude::{Floor, STEPS_PER_OCTAVE};
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;

/// An advertised floor holds so long, twice the time after which it is repeated.
pub(super) const HOLD: Duration = Duration::from_secs(2);
/// After that it decays by an octave, which is half, each second.
const DECAY_STEPS_PER_SECOND: u32 = STEPS_PER_OCTAVE;
/// More receivers than this are not looked through for each channel: nothing is stopped then.
const MAX_RECEIVERS: usize = 4096;
/// What was worked out for a channel is used again so long; floors decay by less than half a level meanwhile.
const REUSED_FOR: Duration = Duration::from_millis(100);
/// So many channels are remembered.
const MAX_CHANNELS: usize = 1024;
/// After so many roll calls without an answer a receiver of another process is taken for gone.
const MAX_SILENCE: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Book {
    receivers: HashMap<u64, Receiver>,
    /// By channel, and when they were worked out.
    floors: HashMap<Channel, (Floor, Instant)>,
    /// There were more receivers than can be kept.
    is_overfull: bool,
}

#[derive(Debug)]
struct Receiver {
    patterns: Vec<Pattern>,
    floor: Floor,
    since: Instant,
    /// Roll calls since it was last heard; `None` for those of this process.
    silence: Option<u32>,
}

impl Receiver {
    fn floor_at(&self, now: Instant) -> Floor {
        decayed(self.floor, now.saturating_duration_since(self.since))
    }
}

/// What is left of an advertised floor after so long.
fn decayed(floor: Floor, age: Duration) -> Floor {
    let over = age.saturating_sub(HOLD).as_millis();
    let steps = over.saturating_mul(u128::from(DECAY_STEPS_PER_SECOND)) / 1000;
    if floor.is_open() { floor } else { floor.lowered(u32::try_from(steps).unwrap_or(u32::MAX)) }
}

impl Book {
    /// Enters what a receiver says of itself. Without any pattern it is gone.
    pub(super) fn enter(
        &mut self,
        instance: u64,
        patterns: Vec<Pattern>,
        floor: Floor,
        is_ours: bool,
        now: Instant,
    ) {
        self.floors.clear();
        if patterns.is_empty() {
            self.receivers.remove(&instance);
            return;
        }
        if self.receivers.len() >= MAX_RECEIVERS && !self.receivers.contains_key(&instance) {
            self.is_overfull = true;
            return;
        }
        let silence = (!is_ours).then_some(0);
        self.receivers.insert(instance, Receiver { patterns, floor, since: now, silence });
    }

    /// Notes that everybody elsewhere was called, and forgets those who did not answer the calls before.
    pub(super) fn call(&mut self) {
        self.receivers.retain(|_, receiver| {
            receiver.silence.as_mut().is_none_or(|silence| {
                *silence += 1;
                *silence <= MAX_SILENCE
            })
        });
        self.is_overfull &= self.receivers.len() >= MAX_RECEIVERS;
        self.floors.clear();
    }

    /// The floor below which nobody hears a channel; open if anybody hears everything, or nobody is known.
    pub(super) fn floor_of(&mut self, channel: &Channel, now: Instant) -> Floor {
        if let Some((floor, at)) = self.floors.get(channel)
            && now.saturating_duration_since(*at) < REUSED_FOR
        {
            return *floor;
        }
        let hear = self.receivers.values().filter(|r| r.patterns.iter().any(|p| p.matches(channel)));
        let lowest = hear.map(|receiver| receiver.floor_at(now)).min();
        let floor = lowest.filter(|_| !self.is_overfull).unwrap_or(Floor::OPEN);
        if self.floors.len() >= MAX_CHANNELS {
            self.floors.clear();
        }
        self.floors.insert(channel.clone(), (floor, now));
        floor
    }

    /// Whether any receiver has a floor.
    pub(super) fn is_raised(&self, now: Instant) -> bool {
        self.receivers.values().any(|receiver| !receiver.floor_at(now).is_open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amplitude::{Amplitude, HalfLife, Signal};
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    fn floor(amplitude: f32) -> Floor {
        Floor::new(amplitude).unwrap()
    }

    fn channel(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    #[test]
    fn the_lowest_floor_of_those_who_hear_the_channel_counts() {
        let (mut book, now) = (Book::default(), Instant::now());
        let created = channel("orders.created");
        assert!(book.floor_of(&created, now).is_open(), "nobody is known");
        book.enter(1, patterns(&["orders.*"]), floor(0.5), true, now);
        assert_eq!(book.floor_of(&created, now), floor(0.5));
        assert!(book.floor_of(&channel("stock.low"), now).is_open(), "not what it hears");
        book.enter(2, patterns(&["a", ">"]), floor(0.25), false, now);
        assert_eq!(book.floor_of(&created, now), floor(0.25));
        book.enter(3, patterns(&["orders.created"]), Floor::OPEN, false, now);
        assert!(book.floor_of(&created, now).is_open(), "one hears everything");
        assert_eq!(book.floor_of(&channel("orders.paid"), now), floor(0.25));
        book.enter(3, Vec::new(), Floor::OPEN, false, now);
        book.enter(2, Vec::new(), Floor::OPEN, false, now);
        assert_eq!(book.floor_of(&created, now), floor(0.5), "they are gone");
    }

    #[test]
    fn a_floor_holds_and_decays_when_adverts_stop() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.enter(1, patterns(&["a"]), floor(0.5), false, now);
        let at = |book: &mut Book, millis: u64| {
            book.floor_of(&channel("a"), now + Duration::from_millis(millis)).as_f32()
        };
        assert_eq!(at(&mut book, 2000), 0.5);
        assert_eq!(at(&mut book, 3000), 0.25);
        assert_eq!(at(&mut book, 4000), 0.125);
        assert!(book.is_raised(now + Duration::from_secs(30)));
        assert_eq!(at(&mut book, 40_000), 0.0);
        assert!(!book.is_raised(now + Duration::from_secs(40)));
    }

    #[test]
    fn who_does_not_answer_the_roll_is_forgotten_and_our_own_are_not() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.enter(1, patterns(&["a"]), floor(0.5), true, now);
        book.enter(2, patterns(&["a"]), Floor::OPEN, false, now);
        for _ in 0..MAX_SILENCE {
            book.call();
            assert!(book.floor_of(&channel("a"), now).is_open());
        }
        book.enter(2, patterns(&["a"]), Floor::OPEN, false, now);
        for _ in 0..MAX_SILENCE {
            book.call();
            assert!(book.floor_of(&channel("a"), now).is_open(), "it answered in between");
        }
        book.call();
        assert_eq!(book.floor_of(&channel("a"), now), floor(0.5));
    }

    #[test]
    fn more_receivers_than_can_be_kept_open_every_floor() {
        let (mut book, now) = (Book::default(), Instant::now());
        for instance in 0..MAX_RECEIVERS as u64 {
            book.enter(instance, patterns(&["a"]), floor(0.5), false, now);
        }
        assert_eq!(book.floor_of(&channel("a"), now), floor(0.5));
        book.enter(u64::MAX, patterns(&["b"]), floor(0.5), false, now);
        assert!(book.floor_of(&channel("a"), now).is_open());
        assert_eq!(book.receivers.len(), MAX_RECEIVERS);
        for name in 0..5000 {
            book.floor_of(&channel(&format!("c{name}")), now);
        }
        assert!(book.floors.len() <= MAX_CHANNELS);
    }

    proptest! {
        /// Whatever was advertised: what is stopped, no receiver would have heard.
        #[test]
        fn what_anybody_would_hear_is_not_stopped(
            adverts in prop::collection::vec(
                (0..6_u64, prop::sample::subsequence(vec!["a.*", "a.b", "b.>", ">", "a.c"], 0..4), 0..20_u16, 0..6000_u64),
                0..30,
            ),
            loss in any::<u16>(),
            name in prop::sample::select(vec!["a.b", "a.c", "b.x.y", "c"]),
        ) {
            let (mut book, start) = (Book::default(), Instant::now());
            let (mut now, mut latest) = (start, HashMap::new());
            for (instance, heard, level, later) in adverts {
                now += Duration::from_millis(later);
                let advertised =
                    if level == 0 { Floor::OPEN } else { Floor::at(Amplitude::from_loss(level * 512)) };
                book.enter(instance, patterns(&heard), advertised, instance % 2 == 0, now);
                latest.insert(instance, (patterns(&heard), advertised));
            }
            let signal = Signal::new(Amplitude::from_loss(loss), HalfLife::NEVER);
            let is_stopped = !signal.reaches(book.floor_of(&channel(name), now));
            let hear: Vec<_> =
                latest.values().filter(|(heard, _)| heard.iter().any(|p| p.matches(&channel(name)))).collect();
            if is_stopped {
                prop_assert!(!hear.is_empty());
                prop_assert!(hear.iter().all(|(_, floor)| !signal.reaches(*floor)));
            }
        }
    }
}
