//! Tests with clocks that are wrong or jump, in time that the test controls.

mod known_answers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, Channel, Vibrator, clock};

use super::*;
use crate::clock::Clocks;

const KEY: &[u8] = b"0123456789abcdef";
const CHANNEL: &str = "orders";
const SLOT: Duration = Duration::from_millis(100);
const GUARD: Duration = Duration::from_millis(40);

/// Sends 50 waves over five slots. Returns how many arrive at a receiver whose clock is wrong by this much.
async fn heard_with_clock_wrong_by(nanos: i64) -> u64 {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let hop = Hop::keyed(KEY).slot(SLOT).guard(GUARD);
    let (right, wrong) = (hop.clone().build().unwrap(), hop.wrong_by(nanos).build().unwrap());
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &wrong).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..50 {
        shop.emit_hopping_wave(CHANNEL, &right, &number).await.unwrap();
        tokio::time::sleep(SLOT / 10).await;
    }
    stock.ledger().offered
}

#[tokio::test(start_paused = true)]
async fn all_waves_arrive_for_every_clock_error_up_to_the_guard() {
    aether_core::clock::follow_tokio();
    let guard = GUARD.as_nanos() as i64;
    for tenths in -10..=10 {
        // Minus one millisecond, because a timer may fire that late.
        let error = tenths * (guard - 1_000_000) / 10;
        assert_eq!(heard_with_clock_wrong_by(error).await, 50, "{error} ns");
    }
    // A clock that is wrong by two slots loses nearly all of them.
    for error in [-2, 2].map(|slots| slots * SLOT.as_nanos() as i64) {
        assert!(heard_with_clock_wrong_by(error).await < 5, "{error} ns");
    }
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_changes_nothing_in_process() {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let wall = Arc::new(AtomicU64::new(1_700_000_000_000_000_000));
    let read = Arc::clone(&wall);
    Clocks::of(&aether).set_wall(move || read.load(Ordering::Relaxed));
    let hop = Hop::keyed(KEY).slot(SLOT).guard(GUARD).build().unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..60_u64 {
        // Back and forth by an hour.
        wall.store(1_700_000_000_000_000_000 + number % 2 * 3_600_000_000_000, Ordering::Relaxed);
        shop.emit_hopping_wave(CHANNEL, &hop, &number).await.unwrap();
        tokio::time::sleep(SLOT / 10).await;
    }
    assert_eq!(stock.ledger().offered, 60);
}

/// Over a network each end uses the clock of its own machine. Both clocks are set back, and the ends meet again.
#[tokio::test]
async fn machines_meet_again_after_their_clocks_were_set() {
    let server = NatsServer::start().await.unwrap();
    let (sending, receiving) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let set_by = Arc::new(AtomicU64::new(0));
    // In the middle of an epoch, because the keys of a past epoch are deleted and the clock could not go back.
    let middle = 16_000_000 * sequence::SLOTS_PER_EPOCH + sequence::SLOTS_PER_EPOCH / 2;
    let (began, began_at) = (clock::now(), middle * SLOT.as_nanos() as u64);
    for aether in [&sending, &receiving] {
        let set_by = Arc::clone(&set_by);
        let time = move || began_at + clock::since(began).as_nanos() as u64;
        Clocks::of(aether).set_wall(move || time() - set_by.load(Ordering::Relaxed));
    }
    let hop =
        || Hop::keyed(KEY).slot(SLOT).guard(GUARD).trust_clock(Duration::from_millis(1)).build().unwrap();
    let (ours, theirs) = (hop(), hop());
    let mut stock = Vibrator::create("stock", &receiving).await.unwrap();
    stock.resonate_hopping(CHANNEL, &theirs).await.unwrap();
    let shop = Vibrator::create("shop", &sending).await.unwrap();
    // A wave that a busy machine delays for longer than the guard is not received.
    let emitting = async {
        loop {
            shop.emit_hopping_wave(CHANNEL, &ours, &"before").await.unwrap();
            tokio::time::sleep(SLOT / 4).await;
        }
    };
    tokio::select! {
        heard = stock.receive() => assert_eq!(heard.unwrap().json::<String>().unwrap(), "before"),
        () = emitting => {}
    }
    // Back by two hours, into slots of epochs long before the present one.
    set_by.store(7_200_000_000_000, Ordering::Relaxed);
    let channel = Channel::new(CHANNEL).unwrap();
    let again = async {
        while stock.hop_account(&channel, &theirs).unwrap().clock_steps == 0 {
            shop.emit_hopping_wave(CHANNEL, &ours, &"between").await.unwrap();
            tokio::time::sleep(SLOT / 4).await;
        }
        let sent = shop.account().numbered;
        // The sender may notice later than the receiver. Until then its waves are not received.
        let sending = async {
            loop {
                shop.emit_hopping_wave(CHANNEL, &ours, &"after").await.unwrap();
                tokio::time::sleep(SLOT / 4).await;
            }
        };
        let hearing = async { while stock.receive().await.unwrap().sequence() <= sent {} };
        tokio::select! {
            () = hearing => {}
            () = sending => {}
        }
    };
    // The clocks are compared once a second.
    tokio::time::timeout(Duration::from_secs(120), again).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_are_deleted_as_epochs_pass_but_not_after_a_leap() {
    aether_core::clock::follow_tokio();
    let sequence = sequence::Sequence::new(KEY);
    let channel = Channel::new(CHANNEL).unwrap();
    let is_known = |epoch: u64| {
        sequence.place(sequence::Traffic::Waves, &channel, epoch * sequence::SLOTS_PER_EPOCH).is_some()
    };
    let reach = |epoch: u64| sequence.reach(epoch * sequence::SLOTS_PER_EPOCH + 5);
    reach(1000);
    reach(900_000);
    assert!(is_known(1000), "a leap deletes no keys");
    reach(1000);
    reach(1001);
    assert!(
        is_known(1000) && is_known(1001) && !is_known(999),
        "a change of epoch deletes the keys before the previous epoch"
    );
}

#[test]
fn a_hop_by_time_uses_the_documented_secret_and_is_one_for_equal_arguments() {
    let timed = Hop::timed(8, SLOT).unwrap();
    let keyed = Hop::keyed("aether-hop-timed").lanes(8).slot(SLOT).build().unwrap();
    let (channel, time) = (Channel::new(CHANNEL).unwrap(), clock::wall_time());
    assert_eq!(timed.subject_at(&channel, time), keyed.subject_at(&channel, time));
    assert!(include_str!("../../../docs/protocol/README.md").contains("`\"aether-hop-timed\"`"));
    assert_eq!(timed.id(), Hop::timed(8, SLOT).unwrap().id());
    assert_ne!(timed.id(), Hop::timed(9, SLOT).unwrap().id());
    assert_ne!(timed.id(), Hop::timed(8, 2 * SLOT).unwrap().id());
}

#[test]
fn debug_output_contains_nothing_of_the_key() {
    let builder = Hop::keyed(b"SECRETSECRETSECRET");
    let printed =
        format!("{builder:?} {:?} {:?}", builder.clone().build().unwrap(), sequence::Sequence::new(KEY));
    assert!(!printed.contains("SECRET") && !printed.contains("83, 69"), "{printed}");
}

#[test]
fn invalid_options_are_refused_with_the_allowed_range() {
    let key = b"0123456789abcdef";
    let refused = |builder: HopBuilder| builder.build().unwrap_err().to_string();
    assert!(refused(Hop::keyed("")).contains("0 bytes: use 16 to 1024"));
    assert!(refused(Hop::keyed(&key[..15])).contains("15 bytes"));
    assert!(refused(Hop::keyed([7; 1025])).contains("1025 bytes"));
    assert!(refused(Hop::keyed(key).lanes(3)).contains("use 4 to 64"));
    assert!(refused(Hop::keyed(key).lanes(65)).contains("use 4 to 64"));
    assert!(refused(Hop::keyed(key).slot(Duration::from_millis(9))).contains("use 10ms to 3600s"));
    assert!(refused(Hop::keyed(key).slot(Duration::from_secs(3601))).contains("use 10ms"));
    assert!(refused(Hop::keyed(key).guard(Duration::from_millis(500))).contains("less than half a slot"));
    assert!(refused(Hop::keyed(key).guard(Duration::ZERO)).contains("more than zero"));
    assert!(refused(Hop::keyed(key).guard(Duration::MAX)).contains("less than half a slot"));
    assert!(refused(Hop::keyed(key).trust_clock(Duration::from_millis(126))).contains("twice the error"));
    assert!(refused(Hop::keyed(key).trust_clock(Duration::MAX)).contains("twice the error"));
    Hop::keyed(key)
        .lanes(4)
        .slot(Duration::from_millis(10))
        .guard(Duration::from_micros(4999))
        .build()
        .unwrap();
}

/// A subscriber receives the queries for one key's clock but never answers, so measuring that clock takes long.
#[tokio::test]
async fn waiting_for_the_clock_of_one_key_does_not_delay_other_keys() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let unanswered = Hop::keyed(KEY).slot(SLOT).build().unwrap();
    let silent = Arc::new(aether_core::inbox::Inbox::new(aether_core::InboxOptions::default()).unwrap());
    let listener = aether_core::medium::Listener {
        sequencer: Arc::new(aether_core::medium::Sequencer::new(aether_core::Source::framework())),
        hears_own: false,
        observes: false,
        relabel: None,
    };
    let asked = aether_core::Pattern::from(&clock_offset::clock_channel(&unanswered).unwrap());
    let bus = aether.bus();
    let _silent = bus.join(asked, silent, listener).await.unwrap();

    let trusted = Hop::keyed(KEY).slot(SLOT).trust_clock(Duration::from_millis(1)).build().unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let waits =
        async { tokio::join!(shop.hopping("a", &unanswered), shop.resonate_hopping("a", &unanswered)) };
    let does_not = async { tokio::join!(shop.hopping("b", &trusted), shop.resonate_hopping("b", &trusted)) };
    tokio::select! {
        biased;
        (sends, hears) = waits => panic!("the other key was delayed: {:?} {:?}", sends.map(drop), hears),
        (sends, hears) = does_not => {
            sends.unwrap();
            hears.unwrap();
        }
    }
}
