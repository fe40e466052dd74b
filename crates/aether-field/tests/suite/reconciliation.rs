//! The cost of a reconciliation of large states, in round trips and bytes. Times are in `cargo xtask bench field`.

use aether_field::core::{Change, Initiator, Limits, Message, Responder, State, WriterId};

/// The goal is for a million; a build without optimisation takes a minute for it.
const KEYS: u64 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
/// With a million, 60 kB of ranges are at their best. Fewer registers may take one round trip more.
const ROUND_TRIPS: u32 = if cfg!(debug_assertions) { 5 } else { 4 };
const DIFFERENT: u64 = 100;

/// The registers of one replica, and a copy of them.
fn pair() -> (State, State) {
    let mut one = State::new(WriterId(1), Limits::default());
    for n in 0..KEYS {
        one.set(&format!("key/{n}"), "value".into(), 1_000_000 + n).unwrap();
    }
    let changes = one.entries().map(|(key, entry)| Change { key: key.clone(), entry: entry.clone() });
    let other =
        State::restore(WriterId(2), Limits::default(), changes, one.collected(), one.last_stamp()).unwrap();
    (one, other)
}

/// The round trips and the bytes in both directions until both are equal.
fn reconcile(one: &mut State, other: &mut State) -> (u32, usize) {
    let wall = 20_000_000_000;
    let size = |message: &Message| postcard::to_allocvec(message).unwrap().len();
    let (mut initiator, first) = Initiator::start(other).unwrap();
    let (mut responder, mut round_trips, mut bytes) = (Responder::default(), 0, 0);
    let mut to_send = vec![first];
    while !to_send.is_empty() {
        round_trips += 1;
        for message in std::mem::take(&mut to_send) {
            bytes += size(&message);
            for answer in responder.handle(one, message, wall).unwrap().send {
                bytes += size(&answer);
                to_send.extend(initiator.handle(other, answer, wall).unwrap().send);
            }
        }
    }
    assert!(initiator.is_done());
    assert_eq!(one.digest(), other.digest());
    (round_trips, bytes)
}

#[test]
fn a_hundred_differences_cost_few_round_trips_and_200_kib_wherever_they_are() {
    for is_scattered in [false, true] {
        let (mut one, mut other) = pair();
        for n in 0..DIFFERENT {
            // Between the others, as after a partition; or newer than all.
            let wall = 1_000_000 + if is_scattered { n * (KEYS / DIFFERENT) } else { 2 * KEYS + n };
            let mut writer = State::new(WriterId(3), Limits::default());
            let change = writer.set(&format!("new/{n}"), "value".into(), wall).unwrap();
            let _ = one.apply(change, 10_000_000_000).unwrap();
        }
        let (round_trips, bytes) = reconcile(&mut one, &mut other);
        println!("{KEYS} registers, scattered {is_scattered}: {round_trips} round trips, {bytes} bytes");
        assert!(round_trips <= ROUND_TRIPS, "{round_trips}");
        assert!(bytes <= 200 * 1024, "{bytes}");
    }
}

#[test]
fn a_replica_that_has_nothing_pays_64_bytes_an_entry_for_finding_out() {
    let (mut one, _) = pair();
    let size: usize = one
        .entries()
        .map(|(key, entry)| {
            postcard::to_allocvec(&Change { key: key.clone(), entry: entry.clone() }).unwrap().len()
        })
        .sum();
    let mut empty = State::new(WriterId(2), Limits::default());
    let (round_trips, bytes) = reconcile(&mut one, &mut empty);
    println!("{KEYS} registers of {size} bytes: {round_trips} round trips, {bytes} bytes");
    // Each identity is named twice: as a difference, and when it is asked for.
    assert!(bytes < size + 64 * usize::try_from(KEYS).unwrap(), "{bytes} of {size}");
}
