//! Tests of the stream table, by itself and against a model that remembers everything.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The table of a subscription that has been in force since the given time.
fn subscribed(at: Instant) -> Gaps {
    Gaps::new(Arc::new(OnceLock::from(at)))
}

fn channel(name: impl std::fmt::Display) -> Channel {
    Channel::new(format!("c{name}")).unwrap()
}

fn heard(first: u64, waves: usize, now: Instant) -> HeardFrame {
    // The stream began before any possible subscription.
    let position = Position { stream: 0, first, age_micros: u64::MAX };
    HeardFrame { node: 1.into(), position, waves, delay: Duration::ZERO, now }
}

fn missing(gaps: &mut Gaps, heard: HeardFrame) -> Option<Gap> {
    gaps.note(&channel("a"), heard).gap
}

/// The number of missing waves that a frame reveals; `None` if its position is impossible.
fn lost(gaps: &mut Gaps, heard: HeardFrame) -> Option<u64> {
    let noted = gaps.note(&channel("a"), heard);
    (!noted.is_implausible).then(|| noted.gap.map_or(0, |gap| gap.waves))
}

#[test]
fn the_first_frame_of_an_old_stream_is_the_base_and_a_jump_is_a_loss() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    assert_eq!(missing(&mut gaps, heard(17, 3, now)), None);
    assert_eq!(missing(&mut gaps, heard(20, 1, now + SECOND)), None);
    let gap = missing(&mut gaps, heard(26, 1, now + 3 * SECOND));
    assert_eq!(gap, Some(Gap { waves: 5, since: now + SECOND }));
    assert_eq!(missing(&mut gaps, heard(27, 1, now)), None);
}

#[test]
fn what_comes_twice_or_late_is_no_loss() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    for (first, waves, lost) in [(0, 5, 0), (0, 5, 0), (3, 1, 0), (5, 1, 0), (8, 2, 2), (6, 2, 0), (10, 1, 0)]
    {
        let gap = missing(&mut gaps, heard(first, waves, now));
        assert_eq!(gap.map_or(0, |gap| gap.waves), lost, "at {first}");
    }
}

#[test]
fn a_number_that_cannot_be_spoils_neither_the_account_nor_the_stream() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    missing(&mut gaps, heard(0, 5, now));
    let most = LATE.as_secs() * MOST_A_SECOND;
    for made_up in [u64::MAX, 1 << 40, most + 16] {
        assert_eq!(lost(&mut gaps, heard(made_up, 1, now)), None);
        assert_eq!(lost(&mut gaps, heard(made_up, 0, now)), None);
    }
    assert_eq!(lost(&mut gaps, heard(7, 1, now)), Some(2), "the stream continues");
    assert_eq!(lost(&mut gaps, heard(8 + most, 1, now)), Some(most));
    // A new stream that should have been heard from its beginning.
    let position = Position { stream: 1, first: u64::MAX, age_micros: 0 };
    let new =
        HeardFrame { node: 2.into(), position, waves: 1, delay: Duration::ZERO, now: now + 60 * SECOND };
    assert_eq!(lost(&mut gaps, new), None);
}

#[test]
fn no_stream_of_another_number_hides_what_is_missing_in_the_real_one() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    for number in 0..10 {
        missing(&mut gaps, heard(number, 1, now));
    }
    let stream = |stream, first| {
        let heard = heard(first, 0, now);
        HeardFrame { position: Position { stream, ..heard.position }, ..heard }
    };
    for made_up in [u64::MAX, 1 << 62] {
        assert_eq!(lost(&mut gaps, stream(made_up, 0)), None, "no sender begins this many streams");
    }
    // These cannot be recognised as forged.
    for made_up in [1, 2, 3, 1000, 7] {
        assert_eq!(lost(&mut gaps, stream(made_up, 0)), Some(0));
    }
    assert_eq!(lost(&mut gaps, heard(110, 1, now)), Some(100));
    // A stream forged before the real one was heard hides nothing either.
    let mut gaps = subscribed(now);
    for made_up in [u64::MAX, 0] {
        let first = stream(made_up, 1 << 60);
        assert_eq!(lost(&mut gaps, first), Some(0));
    }
    assert_eq!(
        [(0, 5), (5, 5), (110, 1)].map(|(first, waves)| lost(&mut gaps, heard(first, waves, now))),
        [Some(0), Some(0), Some(100)]
    );
}

#[test]
fn made_up_losses_are_bounded_by_time_whoever_they_are_said_to_be_of() {
    let (mut gaps, start) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    let mut total = 0;
    for frame in 0..20_000_u64 {
        let now = start + Duration::from_millis(frame);
        let of = |first| HeardFrame { node: (frame / 2).into(), ..heard(first, 1, now) };
        let noted = gaps.note(&channel("a"), of(if frame % 2 == 0 { 0 } else { 500_000_000 }));
        total += noted.gap.map_or(0, |gap| gap.waves);
    }
    let most = (AT_ONCE.as_secs() + 20) * MOST_A_SECOND;
    assert!(total <= most && total > most / 2, "{total} of {most}");
}

#[test]
fn whatever_healthy_senders_do_is_believed() {
    let (mut gaps, mut now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    let mut next = 0;
    let mut after = |lost: u64, came: usize, silence: Duration| {
        now += silence;
        next += lost;
        let heard = heard(next, came, now);
        next += came as u64;
        (heard, Some(lost))
    };
    let healthy = [
        // Bursts of millions of waves with losses, in zero time by the clock of a receiver that was suspended.
        (after(0, 512, SECOND), "the beginning"),
        (after(0, 5_000_000, Duration::ZERO), "a burst"),
        (after(60_000_000, 512, Duration::ZERO), "suspended for 20 s at three million a second"),
        (after(20_000_000, 512, Duration::ZERO), "and again at once"),
        // Outages of minutes and hours at a rate of a million waves a second.
        (after(300_000_000, 512, 300 * SECOND), "an outage of five minutes"),
        (after(1_800_000_000, 512, 1800 * SECOND), "of half an hour"),
        (after(3_000_000_000, 512, 3000 * SECOND), "of nearly an hour"),
    ];
    for ((heard, expected), what) in healthy {
        assert_eq!(lost(&mut gaps, heard), expected, "{what}");
    }
    // A restarted sender is another node. A sender that evicts channels begins new streams, a thousand a second.
    now += SECOND;
    assert_eq!(lost(&mut gaps, HeardFrame { node: 2.into(), ..heard(0, 1, now) }), Some(0));
    for stream in (1..1_000_000_u64).step_by(100_000) {
        now += SECOND;
        let of =
            |first| HeardFrame { position: Position { stream, first, age_micros: 0 }, ..heard(0, 1, now) };
        assert_eq!([of(2), of(3)].map(|heard| lost(&mut gaps, heard)), [Some(2), Some(0)], "{stream}");
    }
}

#[test]
fn an_announcement_shows_a_loss_at_the_end_once() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    missing(&mut gaps, heard(0, 5, now));
    assert_eq!(missing(&mut gaps, heard(5, 0, now)), None);
    assert_eq!(missing(&mut gaps, heard(9, 0, now)).map(|gap| gap.waves), Some(4));
    assert_eq!(missing(&mut gaps, heard(9, 0, now)), None);
    assert_eq!(missing(&mut gaps, heard(9, 1, now)), None);
}

#[test]
fn the_beginning_of_a_stream_is_missed_by_those_who_were_subscribed_when_it_began() {
    let start = aether_core::clock::test_now();
    let now = start + 100 * SECOND;
    let (delay, age_micros) = (2 * SECOND, 5_000_000);
    let position = Position { stream: 3, first: 7, age_micros };
    let frame = HeardFrame { node: 1.into(), position, waves: 1, delay, now };
    let began = now - 7 * SECOND - DOUBT;
    assert_eq!(missing(&mut subscribed(began), frame), Some(Gap { waves: 7, since: began }));
    assert_eq!(missing(&mut subscribed(began + SECOND), frame), None);
    assert_eq!(missing(&mut Gaps::new(Arc::default()), frame), None, "before the server has answered");
}

#[test]
fn a_young_stream_is_missed_from_its_beginning_if_its_sender_had_answered_before() {
    let start = aether_core::clock::test_now();
    let now = start + SECOND / 10;
    let beginnings = Arc::<Beginnings>::default();
    let subscribed = |at| Gaps::with_beginnings(Arc::new(OnceLock::from(at)), Arc::clone(&beginnings));
    let frame = |stream| {
        let position = Position { stream, first: 7, age_micros: 20_000 };
        HeardFrame { node: 1.into(), position, waves: 0, delay: Duration::ZERO, now }
    };
    assert_eq!(missing(&mut subscribed(start), frame(3)), None, "nothing is known");
    let asked = start + SECOND / 20;
    beginnings.note(1.into(), 3, asked, now);
    assert_eq!(missing(&mut subscribed(start), frame(2)), None, "it had begun");
    let gap = Some(Gap { waves: 7, since: asked });
    assert_eq!(missing(&mut subscribed(start), frame(3)), gap);
    assert_eq!(missing(&mut subscribed(asked), frame(4)), gap);
    assert_eq!(
        missing(&mut subscribed(asked + SECOND / 100), frame(4)),
        None,
        "the answer was to an earlier join"
    );
    assert_eq!(missing(&mut Gaps::with_beginnings(Arc::default(), Arc::clone(&beginnings)), frame(4)), None);
    // Those who joined between two streams of a channel miss the second one.
    let mut gaps = subscribed(start);
    missing(&mut gaps, HeardFrame { now: start, ..frame(2) });
    assert_eq!(missing(&mut gaps, frame(3)), gap);
}

#[test]
fn a_stream_that_replaces_another_is_missed_from_its_beginning_by_those_who_heard_the_other() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    missing(&mut gaps, heard(0, 5, now));
    let mut next = heard(2, 1, now + SECOND);
    next.position.stream = 1;
    assert_eq!(missing(&mut gaps, next), Some(Gap { waves: 2, since: now }));
    assert_eq!(missing(&mut gaps, heard(5, 1, now)), None, "an overtaken frame of the old stream");
    next.position.first = 3;
    assert_eq!(missing(&mut gaps, next), None);
}

#[test]
fn streams_without_end_do_not_grow_the_table_and_a_forgotten_one_is_no_loss() {
    let start = aether_core::clock::test_now();
    let mut gaps = subscribed(start);
    let noted = |waves, forgets, since| {
        let gap = (waves > 0).then_some(Gap { waves, since });
        GapReport { gap, forgets, is_implausible: false }
    };
    let frame = |first, at: Instant| {
        let age_micros = (at - start).as_micros() as u64;
        HeardFrame { position: Position { stream: 0, first, age_micros }, ..heard(first, 1, at) }
    };
    let at = |seconds| start + DOUBT + seconds * SECOND;
    assert_eq!(gaps.note(&channel(0), frame(0, at(10))), noted(0, false, start));
    for name in 1..MAX_STREAMS {
        assert_eq!(gaps.note(&channel(name), frame(0, at(20))), noted(0, false, start));
    }
    assert_eq!(gaps.note(&channel("more"), frame(0, at(30))), noted(0, true, start));
    assert_eq!(gaps.senders.len(), MAX_STREAMS);
    // Channel 0 was evicted, so it is unknown whether waves 1 to 4 arrived.
    assert_eq!(gaps.note(&channel(0), frame(5, at(40))), noted(0, true, start));
    assert_eq!(gaps.note(&channel(0), frame(7, at(40))).gap.map(|gap| gap.waves), Some(1));
    // A stream that began after the evicted ones were heard is not one of them.
    let mut young = frame(3, at(50));
    young.position.age_micros = 1_000_000;
    assert_eq!(gaps.note(&channel("young"), young).gap.map(|gap| gap.waves), Some(3));
    // Memory of unused entries is released.
    gaps.note(&channel("young"), frame(4, at(50) + 2 * KEPT));
    assert_eq!(gaps.senders.len(), 1);
}

/// The effects of a network on the messages of a sender.
#[derive(Debug, Clone)]
enum Step {
    /// A number of waves on a channel, which either arrive or are lost.
    Send {
        channel: u8,
        waves: usize,
        arrives: bool,
    },
    /// An earlier message arrives again.
    Repeat(prop::sample::Index),
    Announce {
        channel: u8,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8, 1..5_usize, prop::bool::weighted(0.7))
            .prop_map(|(channel, waves, arrives)| Step::Send { channel, waves, arrives }),
        2 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        1 => (0..3_u8).prop_map(|channel| Step::Announce { channel }),
    ]
}

proptest! {
    /// The model knows each wave sent on a channel since the first one that arrived, and each wave that arrived.
    #[test]
    fn what_came_and_what_is_missing_is_all_that_was_sent(steps in prop::collection::vec(any_step(), 0..80)) {
        let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
        let mut sent: HashMap<u8, u64> = HashMap::new();
        let mut base: HashMap<u8, u64> = HashMap::new();
        let mut came: HashSet<(u8, u64)> = HashSet::new();
        let mut arrived: Vec<(u8, u64, usize)> = Vec::new();
        let mut lost = 0;
        for step in steps {
            let (on, first, waves) = match step {
                Step::Send { channel, waves, arrives } => {
                    let first = *sent.entry(channel).and_modify(|next| *next += waves as u64).or_insert(waves as u64)
                        - waves as u64;
                    if !arrives {
                        continue;
                    }
                    (channel, first, waves)
                }
                Step::Repeat(index) if !arrived.is_empty() => *index.get(&arrived),
                Step::Repeat(_) => continue,
                Step::Announce { channel } => (channel, sent.get(&channel).copied().unwrap_or(0), 0),
            };
            arrived.push((on, first, waves));
            base.entry(on).or_insert(first);
            came.extend((first..first + waves as u64).map(|number| (on, number)));
            let noted = gaps.note(&channel(on), heard(first, waves, now));
            prop_assert!(!noted.forgets && !noted.is_implausible);
            lost += noted.gap.map_or(0, |gap| gap.waves);
        }
        // At the end, the sender announces its position on each channel.
        for (on, next) in &sent {
            base.entry(*on).or_insert(*next);
            lost += gaps.note(&channel(on), heard(*next, 0, now)).gap.map_or(0, |gap| gap.waves);
        }
        let due: u64 = sent.iter().map(|(on, next)| next - base[on]).sum();
        let came = came.iter().filter(|(on, number)| *number >= base[on]).count() as u64;
        prop_assert_eq!(due, came + lost);
    }
}

#[test]
fn a_principal_with_senders_without_end_hides_no_loss_of_another() {
    let (mut gaps, now) = (subscribed(aether_core::clock::test_now()), aether_core::clock::test_now());
    let (shop, evil) = (1, 2);
    let of =
        |principal, number, first| HeardFrame { node: NodeId { principal, number }, ..heard(first, 1, now) };
    for first in 0..20 {
        missing(&mut gaps, of(shop, 1, first));
    }
    let mut forgotten = 0;
    for number in 0..5000 {
        forgotten += usize::from(gaps.note(&channel("a"), of(evil, number, 0)).forgets);
        // It also makes up as many losses as it can.
        missing(&mut gaps, of(evil, number, LATE.as_secs() * MOST_A_SECOND));
    }
    assert_eq!(lost(&mut gaps, of(shop, 1, 1020)), Some(1000));
    assert_eq!(forgotten, 5001 - MAX_STREAMS, "all of them its own");
}

#[test]
fn a_stream_began_after_the_last_join_that_was_answered_with_its_number_or_a_lower_one() {
    let (table, start) = (Beginnings::default(), aether_core::clock::test_now());
    let at = |second| start + second * SECOND;
    assert_eq!(table.since(7.into(), 5, at(9)), None);
    // The last two are late, and tell nothing new.
    for (stream, second) in [(3, 1), (3, 2), (5, 4), (4, 3), (4, 2), (5, 4)] {
        table.note(7.into(), stream, at(second), at(9));
    }
    let since = [2, 3, 4, 5, 6].map(|stream| table.since(7.into(), stream, at(9)));
    assert_eq!(since, [None, Some(at(2)), Some(at(3)), Some(at(4)), Some(at(4))]);
    assert_eq!(table.since(8.into(), 5, at(9)), None, "of another sender");
}

#[test]
fn it_is_bounded_and_forgets_the_earliest_joins_and_the_most_silent_senders() {
    let (table, start) = (Beginnings::default(), aether_core::clock::test_now());
    let at = |second: u64| start + u32::try_from(second).unwrap() * SECOND;
    for stream in 0..=MAX_JOINS as u64 {
        table.note(7.into(), stream, at(stream), at(99));
    }
    let since = [0, 1, 2].map(|stream| table.since(7.into(), stream, at(99)));
    assert_eq!(since, [None, Some(at(1)), Some(at(2))]);
    for node in 8..8 + MAX_SENDERS as u64 {
        table.note(node.into(), 0, start, at(99));
    }
    assert_eq!((table.since(7.into(), 1, at(99)), table.since(8.into(), 1, at(99))), (None, Some(start)));
}
