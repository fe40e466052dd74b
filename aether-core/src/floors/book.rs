//! What is known of the receivers: which channels each hears, and the floor that it advertised. Pure data, the time is
//! handed in.
//!
//! The rule, which [`Book::floor_of`] computes: **a wave may be stopped at its source if somebody is known to hear its
//! channel, and everybody who is known to hear it has advertised a floor above the wave.** For a group that means each
//! of its members, because any of them may be next. A receiver that advertised nothing hears everything.

use std::collections::HashMap;
use std::time::Duration;

use crate::amplitude::{Floor, STEPS_PER_OCTAVE};
use crate::channel::Channel;
use crate::clock::Instant;

use super::Announcement;

/// An advertised floor holds so long, twice the time after which it is repeated.
pub(super) const HOLD: Duration = Duration::from_secs(2);
/// After that it decays by an octave, which is half, each second.
const DECAY_STEPS_PER_SECOND: u32 = STEPS_PER_OCTAVE;
/// More receivers than this are not looked through for each channel, but for those of this process: nothing is stopped
/// then.
const MAX_RECEIVERS: usize = 4096;
/// What was worked out for a channel is used again so long; floors decay by less than half a level meanwhile.
const REUSED_FOR: Duration = Duration::from_millis(100);
/// So many channels are remembered.
const MAX_CHANNELS: usize = 1024;
/// After so many roll calls without an answer a receiver of another process is taken for gone.
const MAX_SILENCE: u32 = 3;
/// Who was not heard for so long is on no roster: it has missed three heartbeats.
pub(super) const ABSENT_AFTER: Duration = Duration::from_secs(40);

#[derive(Debug, Default)]
pub(super) struct Book {
    receivers: HashMap<u64, Receiver>,
    /// By channel, and when they were worked out.
    floors: HashMap<Channel, (Floor, Instant)>,
    /// There were more receivers than can be kept.
    is_overfull: bool,
    /// The same since the last call.
    overflows: bool,
    left_out: u64,
}

#[derive(Debug)]
struct Receiver {
    announced: Announcement,
    since: Instant,
    /// Roll calls since it was last heard; `None` for those of this process.
    silence: Option<u32>,
}

impl Receiver {
    /// Whether it has missed its heartbeats. Those that rosters do not show have none.
    fn is_absent(&self, now: Instant) -> bool {
        self.silence.is_some()
            && self.announced.is_listed
            && now.saturating_duration_since(self.since) >= ABSENT_AFTER
    }

    fn floor_at(&self, now: Instant) -> Floor {
        decayed(self.announced.floor, now.saturating_duration_since(self.since))
    }
}

/// What is left of an advertised floor after so long.
fn decayed(floor: Floor, age: Duration) -> Floor {
    let over = age.saturating_sub(HOLD).as_millis();
    let steps = over.saturating_mul(u128::from(DECAY_STEPS_PER_SECOND)) / 1000;
    if floor.is_open() { floor } else { floor.lowered(u32::try_from(steps).unwrap_or(u32::MAX)) }
}

impl Book {
    /// Enters what a receiver says of itself. Without any pattern it is gone. Says whether it hears anything else than
    /// was known.
    pub(super) fn enter(&mut self, announced: Announcement, is_ours: bool, now: Instant) -> bool {
        self.floors.clear();
        let instance = announced.vibrator.instance();
        if announced.heard.is_empty() {
            return self.receivers.remove(&instance).is_some();
        }
        // Those of this process are always known: nobody would call them later.
        let is_new = !is_ours && !self.receivers.contains_key(&instance);
        if is_new && self.receivers.len() >= MAX_RECEIVERS {
            self.receivers.retain(|_, receiver| !receiver.is_absent(now));
        }
        if is_new && self.receivers.len() >= MAX_RECEIVERS {
            (self.is_overfull, self.overflows) = (true, true);
            self.left_out += 1;
            return false;
        }
        let known = self.receivers.get(&instance).filter(|known| !known.is_absent(now));
        let is_other = known.is_none_or(|known| known.announced.heard != announced.heard);
        let silence = (!is_ours).then_some(0);
        self.receivers.insert(instance, Receiver { announced, since: now, silence });
        is_other
    }

    /// Those of other processes that rosters show and that were heard lately.
    pub(super) fn elsewhere(&self, now: Instant) -> impl Iterator<Item = &Announcement> {
        let is_here = move |receiver: &&Receiver| {
            receiver.silence.is_some() && receiver.announced.is_listed && !receiver.is_absent(now)
        };
        self.receivers.values().filter(is_here).map(|receiver| &receiver.announced)
    }

    /// Announcements that did not fit.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Notes that everybody elsewhere was called, and forgets those who did not answer the calls before.
    pub(super) fn call(&mut self) {
        self.receivers.retain(|_, receiver| {
            receiver.silence.as_mut().is_none_or(|silence| {
                *silence += 1;
                *silence <= MAX_SILENCE
            })
        });
        // Those who did not fit are known again once they have answered a call and all of them did.
        self.is_overfull = std::mem::take(&mut self.overflows);
        self.floors.clear();
    }

    /// The floor below which nobody hears a channel; open if anybody hears everything, or nobody is known.
    pub(super) fn floor_of(&mut self, channel: &Channel, now: Instant) -> Floor {
        if let Some((floor, at)) = self.floors.get(channel)
            && now.saturating_duration_since(*at) < REUSED_FOR
        {
            return *floor;
        }
        let hear = self.receivers.values().filter(|receiver| receiver.announced.hears(channel));
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
    use crate::channel::Pattern;
    use crate::router::Heard;
    use crate::source::Source;
    use proptest::prelude::*;

    fn enter(
        book: &mut Book,
        instance: u64,
        patterns: &[&str],
        floor: Floor,
        is_ours: bool,
        now: Instant,
    ) -> bool {
        book.enter(announced(instance, patterns, floor), is_ours, now)
    }

    fn announced(instance: u64, patterns: &[&str], floor: Floor) -> Announcement {
        let heard = |text: &&str| Heard { pattern: Pattern::new(text).unwrap(), group: None };
        Announcement {
            vibrator: Source::with_instance("a", instance).unwrap(),
            heard: patterns.iter().map(heard).collect(),
            floor,
            effective_floor: floor,
            is_listed: true,
        }
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
        enter(&mut book, 1, &["orders.*"], floor(0.5), true, now);
        assert_eq!(book.floor_of(&created, now), floor(0.5));
        assert!(book.floor_of(&channel("stock.low"), now).is_open(), "not what it hears");
        enter(&mut book, 2, &["a", ">"], floor(0.25), false, now);
        assert_eq!(book.floor_of(&created, now), floor(0.25));
        enter(&mut book, 3, &["orders.created"], Floor::OPEN, false, now);
        assert!(book.floor_of(&created, now).is_open(), "one hears everything");
        assert_eq!(book.floor_of(&channel("orders.paid"), now), floor(0.25));
        enter(&mut book, 3, &[], Floor::OPEN, false, now);
        enter(&mut book, 2, &[], Floor::OPEN, false, now);
        assert_eq!(book.floor_of(&created, now), floor(0.5), "they are gone");
    }

    #[test]
    fn a_floor_holds_and_decays_when_adverts_stop() {
        let (mut book, now) = (Book::default(), Instant::now());
        enter(&mut book, 1, &["a"], floor(0.5), false, now);
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
        enter(&mut book, 1, &["a"], floor(0.5), true, now);
        enter(&mut book, 2, &["a"], Floor::OPEN, false, now);
        for _ in 0..MAX_SILENCE {
            book.call();
            assert!(book.floor_of(&channel("a"), now).is_open());
        }
        enter(&mut book, 2, &["a"], Floor::OPEN, false, now);
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
        for instance in 1..=MAX_RECEIVERS as u64 {
            enter(&mut book, instance, &["a"], floor(0.5), false, now);
        }
        assert_eq!(book.floor_of(&channel("a"), now), floor(0.5));
        enter(&mut book, u64::MAX, &["b"], floor(0.5), false, now);
        assert!(book.floor_of(&channel("a"), now).is_open());
        assert_eq!((book.receivers.len(), book.left_out()), (MAX_RECEIVERS, 1));
        for name in 0..5000 {
            book.floor_of(&channel(&format!("c{name}")), now);
        }
        assert!(book.floors.len() <= MAX_CHANNELS);
    }

    #[test]
    fn who_did_not_fit_is_not_taken_for_nobody() {
        let (mut book, now) = (Book::default(), Instant::now());
        for instance in 1..=MAX_RECEIVERS as u64 {
            enter(&mut book, instance, &["a"], floor(0.5), false, now);
        }
        let (ours, elsewhere) = (u64::MAX, u64::MAX - 1);
        enter(&mut book, ours, &["a.ours"], Floor::OPEN, true, now);
        enter(&mut book, elsewhere, &["a.elsewhere"], Floor::OPEN, false, now);
        for instance in 1..=100 {
            enter(&mut book, instance, &[], Floor::OPEN, false, now);
        }
        enter(&mut book, 101, &[">"], floor(0.5), false, now);
        book.call();
        assert!(book.floor_of(&channel("a.ours"), now).is_open(), "one hears everything");
        assert!(book.floor_of(&channel("a.elsewhere"), now).is_open(), "and one that has not answered yet");
        enter(&mut book, elsewhere, &["a.elsewhere"], Floor::OPEN, false, now);
        book.call();
        assert!(book.floor_of(&channel("a.elsewhere"), now).is_open(), "it is known now");
        assert_eq!(book.floor_of(&channel("other"), now), floor(0.5), "and so are all others");
    }

    #[test]
    fn who_is_not_heard_for_three_heartbeats_is_on_no_roster() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert!(enter(&mut book, 1, &["a"], Floor::OPEN, false, now));
        assert!(!enter(&mut book, 1, &["a"], Floor::OPEN, false, now), "nothing new");
        enter(&mut book, 2, &["a"], Floor::OPEN, true, now);
        let unlisted = Announcement { is_listed: false, ..announced(3, &["a"], Floor::OPEN) };
        book.enter(unlisted, false, now);
        let shown =
            |book: &Book, at| -> Vec<u64> { book.elsewhere(at).map(|a| a.vibrator.instance()).collect() };
        assert_eq!(shown(&book, now + ABSENT_AFTER - Duration::from_millis(1)), [1]);
        assert!(shown(&book, now + ABSENT_AFTER).is_empty());
        assert!(enter(&mut book, 1, &["a"], Floor::OPEN, false, now + ABSENT_AFTER), "it is back");
        assert_eq!(shown(&book, now + ABSENT_AFTER), [1]);
        assert!(enter(&mut book, 1, &[], Floor::OPEN, false, now + ABSENT_AFTER));
        assert!(shown(&book, now + ABSENT_AFTER).is_empty(), "it said goodbye");
    }

    proptest! {
        /// Whatever was advertised: what is stopped, no receiver would have heard.
        #[test]
        fn what_anybody_would_hear_is_not_stopped(
            adverts in prop::collection::vec(
                (1..7_u64, prop::sample::subsequence(vec!["a.*", "a.b", "b.>", ">", "a.c"], 0..4), 0..20_u16, 0..6000_u64),
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
                enter(&mut book, instance, &heard, advertised, instance % 2 == 0, now);
                latest.insert(instance, announced(instance, &heard, advertised));
            }
            let signal = Signal::new(Amplitude::from_loss(loss), HalfLife::NEVER);
            let is_stopped = !signal.reaches(book.floor_of(&channel(name), now));
            let hear: Vec<_> =
                latest.values().filter(|announced| announced.hears(&channel(name))).collect();
            if is_stopped {
                prop_assert!(!hear.is_empty());
                prop_assert!(hear.iter().all(|announced| !signal.reaches(announced.floor)));
            }
        }
    }
}
