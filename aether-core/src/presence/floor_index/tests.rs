use super::*;
use crate::amplitude::{Amplitude, HalfLife, Signal};
use proptest::prelude::*;

fn floor(amplitude: f32) -> Floor {
    Floor::new(amplitude).unwrap()
}

fn channel(name: &str) -> Channel {
    Channel::with_reserved(name).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

fn hearer(index: &mut Index, patterns: &[&str], floor: Floor, now: Instant) -> Slot {
    let slot = index.add(now);
    patterns.iter().for_each(|text| index.hear(slot, &pattern(text)));
    index.advertise(slot, floor, now);
    slot
}

fn remove(index: &mut Index, slot: Slot, patterns: &[&str], now: Instant) {
    patterns.iter().for_each(|text| index.forget(slot, &pattern(text)));
    index.remove(slot, now);
}

#[test]
fn the_lowest_floor_of_a_channels_receivers_counts() {
    let (mut index, now) = (Index::default(), crate::clock::now());
    let created = channel("orders.created");
    assert!(index.floor_of(&created, now).is_open(), "no receiver is known");
    hearer(&mut index, &["orders.*"], floor(0.5), now);
    assert_eq!(index.floor_of(&created, now), floor(0.5));
    assert!(index.floor_of(&channel("stock.low"), now).is_open(), "it does not match the pattern");
    let second = hearer(&mut index, &["a", ">"], floor(0.25), now);
    assert_eq!(index.floor_of(&created, now), floor(0.25));
    let third = hearer(&mut index, &["orders.created"], Floor::OPEN, now);
    assert!(index.floor_of(&created, now).is_open(), "one receiver hears everything");
    assert_eq!(index.floor_of(&channel("orders.paid"), now), floor(0.25));
    remove(&mut index, third, &["orders.created"], now);
    remove(&mut index, second, &["a", ">"], now);
    assert_eq!(index.floor_of(&created, now), floor(0.5), "the others were removed");
}

#[test]
fn a_pattern_added_twice_stays_until_it_is_removed_twice() {
    let (mut index, now) = (Index::default(), crate::clock::now());
    let slot = hearer(&mut index, &["a", "a"], floor(0.5), now);
    index.forget(slot, &pattern("a"));
    assert_eq!(index.floor_of(&channel("a"), now), floor(0.5));
    index.forget(slot, &pattern("a"));
    assert!(index.floor_of(&channel("a"), now).is_open());
}

#[test]
fn a_floor_holds_and_decays_when_adverts_stop() {
    let (mut index, now) = (Index::default(), crate::clock::now());
    let slot = hearer(&mut index, &["a"], floor(0.5), now);
    let at = |millis: u64| index.floor_of(&channel("a"), now + Duration::from_millis(millis)).as_f32();
    assert_eq!([at(2000), at(3000), at(4000), at(40_000)], [0.5, 0.25, 0.125, 0.0]);
    assert!(index.is_raised());
    index.advertise(slot, Floor::OPEN, now);
    assert!(!index.is_raised());
}

#[test]
fn branches_that_do_not_match_are_not_visited() {
    let (mut index, now) = (Index::default(), crate::clock::now());
    hearer(&mut index, &["orders.*"], floor(0.5), now);
    let steps = |index: &Index| {
        let mut lowest = Lowest { floor: None, steps: 0 };
        index.root.look(&["orders", "created"], &index.hearers, now, &mut lowest);
        lowest.steps
    };
    let alone = steps(&index);
    for other in 0..2000 {
        hearer(
            &mut index,
            &[&format!("x{other}.*"), &format!("orders.n{other}"), "orders.*.x"],
            floor(0.5),
            now,
        );
    }
    assert_eq!(steps(&index), alone);
}

#[test]
fn a_channel_with_too_many_receivers_is_open() {
    let (mut index, now) = (Index::default(), crate::clock::now());
    for _ in 0..=MAX_STEPS {
        hearer(&mut index, &["a"], floor(0.5), now);
    }
    assert!(index.floor_of(&channel("a"), now).is_open());
}

#[test]
fn an_index_under_change_stops_nothing_and_blocks_no_emitter() {
    let (hearers, now) = (FloorIndex::new(), crate::clock::now());
    hearers.change(|index| hearer(index, &["a"], floor(0.5), now));
    assert_eq!(hearers.floor_of(&channel("a"), now), floor(0.5));
    let floor_meanwhile = hearers.change(|_| hearers.floor_of(&channel("b.not.known.yet"), now));
    assert!(floor_meanwhile.is_open());
    hearers.set_incomplete(true);
    assert!(hearers.floor_of(&channel("a"), now).is_open());
}

#[test]
fn cached_floors_do_not_outlive_a_change() {
    let (hearers, other, now) = (FloorIndex::new(), FloorIndex::new(), crate::clock::now());
    let a = channel("a");
    hearers.change(|index| hearer(index, &["a"], floor(0.5), now));
    assert_eq!(hearers.floor_of(&a, now), floor(0.5));
    assert!(other.floor_of(&a, now).is_open(), "an index does not use another one's results");
    assert_eq!(hearers.floor_of(&a, now), floor(0.5));
    hearers.change(|index| hearer(index, &["a"], Floor::OPEN, now));
    assert!(hearers.floor_of(&a, now).is_open());
}

#[test]
fn the_memory_of_removed_receivers_is_freed() {
    let (mut index, now) = (Index::default(), crate::clock::now());
    let texts: Vec<String> = (0..5000).map(|n| format!("a{n}.b.c{n}.>")).collect();
    let slots: Vec<_> = texts.iter().map(|text| hearer(&mut index, &[text], floor(0.5), now)).collect();
    for (slot, text) in slots.into_iter().zip(&texts) {
        remove(&mut index, slot, &[text], now);
    }
    assert!(index.is_empty());
    assert!(index.root.children.capacity() < 64, "{}", index.root.children.capacity());
}

const PATTERNS: [&str; 8] = ["a.*", "a.b", "b.>", ">", "a.c", "*.b", "_aether.>", "*.x.*"];

proptest! {
    /// For any advertised floors: exactly the waves that no receiver would hear are stopped.
    #[test]
    fn a_wave_is_stopped_exactly_if_no_receiver_would_hear_it(
        hearers in prop::collection::vec(
            (prop::sample::subsequence(PATTERNS.to_vec(), 1..4), 0..20_u16, any::<bool>()), 0..20,
        ),
        loss in any::<u16>(),
        name in prop::sample::select(vec!["a.b", "a.c", "b.x.y", "c", "_aether.b"]),
    ) {
        let (mut index, now) = (Index::default(), crate::clock::now());
        let mut left = Vec::new();
        for (heard, level, stays) in &hearers {
            let advertised = if *level == 0 { Floor::OPEN } else { Floor::at(Amplitude::from_loss(level * 512)) };
            let slot = hearer(&mut index, heard, advertised, now);
            left.push((slot, heard, advertised, *stays));
        }
        left.retain(|(slot, heard, _, stays)| {
            if !stays {
                remove(&mut index, *slot, heard, now);
            }
            *stays
        });
        let signal = Signal::new(Amplitude::from_loss(loss), HalfLife::NEVER);
        let channel = channel(name);
        let is_stopped = !signal.reaches(index.floor_of(&channel, now));
        let hear = left.iter().filter(|(_, heard, ..)| heard.iter().any(|text| pattern(text).matches(&channel)));
        let floors: Vec<Floor> = hear.map(|(_, _, floor, _)| *floor).collect();
        prop_assert_eq!(is_stopped, !floors.is_empty() && floors.iter().all(|floor| !signal.reaches(*floor)));
        prop_assert_eq!(index.is_raised(), left.iter().any(|(_, _, floor, _)| !floor.is_open()));
    }
}
