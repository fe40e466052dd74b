//! Hopping channels on both media: receivers with the key follow, and others do not.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use std::time::Duration;

use aether_conformance::{Jammer, NatsServer, ServerOptions};
use aether_core::{
    Aether, Channel, EmitError, InboxOptions, Kind, LocalOptions, Vibrator, Wave, WhenFull, clock,
};
use aether_hopping::{
    ClockError, ClockKeeper, Hop, HopBuilder, HopEmitError, HopError, HopJoinError, Hopping, HoppingEmitter,
};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const CHANNEL: &str = "orders.created";
/// Only a failing test waits this long.
const LONG: Duration = Duration::from_secs(180);

fn hop(slot: Duration) -> HopBuilder {
    Hop::keyed(KEY).slot(slot)
}

/// Emits numbered waves over the given slots, some in each, and flushes.
async fn emit_for(sender: &Vibrator, aether: &Aether, hop: &Hop, slots: u32) -> u64 {
    let mut pace = tokio::time::interval(hop.slot() / 20);
    let ends = tokio::time::Instant::now() + hop.slot() * slots;
    let mut sent = 0;
    while pace.tick().await < ends {
        // All share one thread: after a stall the late tasks run before more is sent. One yield polls the timers, the
        // next runs the tasks they wake.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        sender.emit_hopping_wave(CHANNEL, hop, &sent).await.unwrap();
        sent += 1;
    }
    aether.flush().await.unwrap();
    sent
}

/// Receives this many waves; fails after a time-out.
async fn receive(receiver: &mut Vibrator, waves: u64) -> Vec<Wave> {
    let mut received = Vec::new();
    let all = async {
        while (received.len() as u64) < waves {
            received.push(receiver.receive().await.expect("the medium is open"));
        }
    };
    tokio::time::timeout(LONG, all).await.expect("all waves come");
    received
}

/// A sender and a receiver, possibly on different connections, over several slots.
async fn a_receiver_follows(sending: &Aether, receiving: &Aether, hop: &HopBuilder, slots: u32) {
    // Each service builds its own from the same key.
    let (ours, theirs) = (hop.clone().build().unwrap(), hop.clone().build().unwrap());
    let wrong = Hop::keyed(b"0123456789abcdef0123456789abcdeF").slot(ours.slot()).trust_clock(Duration::ZERO);
    let wrong = wrong.build().unwrap();
    let mut stock = Vibrator::create("stock", receiving).await.unwrap();
    stock.resonate_hopping(CHANNEL, &theirs).await.unwrap();
    let thief = Vibrator::create("thief", receiving).await.unwrap();
    thief.resonate_hopping(CHANNEL, &wrong).await.unwrap();
    thief.resonate_on(CHANNEL).await.unwrap();
    let mut broker = Vibrator::builder("broker").observe().create(receiving).await.unwrap();
    broker.resonate_on(">").await.unwrap();
    let shop = Vibrator::create("shop", sending).await.unwrap();

    let sent = emit_for(&shop, sending, &ours, slots).await;
    let received = receive(&mut stock, sent).await;
    for (number, wave) in (0..).zip(&received) {
        assert_eq!(wave.channel().as_str(), CHANNEL);
        assert_eq!(wave.json::<u64>().unwrap(), number);
        assert_eq!(wave.source(), shop.source());
    }
    assert_eq!((stock.ledger().delivered, stock.ledger().lost()), (sent, 0));
    assert!(stock.ledger().adds_up());
    assert_eq!(thief.ledger().offered, 0);
    // A subscriber to everything sees the waves under names that reveal nothing about the channel and change with the
    // slots.
    let seen = receive(&mut broker, sent).await;
    let mut names: Vec<_> = seen.iter().map(|wave| wave.channel().clone()).collect();
    names.sort();
    names.dedup();
    assert!((slots..=slots + 2).contains(&(names.len() as u32)), "{names:?}");
    assert!(names.iter().all(|name| name.as_str().starts_with("hop.") && !name.as_str().contains("orders")));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_follows_in_process_and_others_do_not() {
    clock::follow_tokio();
    let aether = Aether::local();
    a_receiver_follows(&aether, &aether, &hop(Duration::from_millis(100)), 5).await;
}

#[tokio::test]
async fn a_receiver_follows_over_nats_and_others_do_not() {
    let server = NatsServer::start().await.unwrap();
    let sending = aether::connect(&server.url()).await.unwrap();
    let receiving = aether::connect(&server.url()).await.unwrap();
    // A wave that a busy machine delays for longer than the guard is lost.
    let hop = hop(Duration::from_secs(3)).guard(Duration::from_millis(1450));
    let _keeper = ClockKeeper::start(&sending, &hop.clone().build().unwrap()).await.unwrap();
    a_receiver_follows(&sending, &receiving, &hop, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_vibrator_tuned_to_everything_and_the_channel_receives_each_wave_once() {
    clock::follow_tokio();
    let aether = Aether::local();
    let hop = hop(Duration::from_millis(100)).build().unwrap();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on(">").await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop).await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let sent = emit_for(&shop, &aether, &hop, 4).await;
    assert!(receive(&mut stock, sent).await.iter().all(|wave| wave.channel().as_str() == CHANNEL));
    assert_eq!(stock.ledger().offered, sent);
}

#[tokio::test]
async fn a_detuned_channel_is_no_longer_received() {
    let aether = Aether::local();
    let hop = hop(Duration::from_secs(60)).build().unwrap();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    shop.emit_hopping_wave(CHANNEL, &hop, &1).await.unwrap();
    receive(&mut stock, 1).await;
    stock.detune_hopping(&Channel::new(CHANNEL).unwrap());
    assert_eq!(shop.emit_hopping_wave(CHANNEL, &hop, &2).await.unwrap().receivers, Some(0));
    assert_eq!(stock.hop_account(&Channel::new(CHANNEL).unwrap(), &hop), None);
}

#[tokio::test]
async fn a_hop_by_time_needs_no_key_and_no_setup() {
    let server = NatsServer::start().await.unwrap();
    let sending = aether::connect(&server.url()).await.unwrap();
    let receiving = aether::connect(&server.url()).await.unwrap();
    let mut stock = Vibrator::create("stock", &receiving).await.unwrap();
    let timed = |millis| Hop::timed(4, Duration::from_millis(millis)).unwrap();
    // The guard is a quarter of the interval, and no wave may be delayed for longer.
    stock.resonate_hopping(CHANNEL, &timed(500_000)).await.unwrap();
    let shop = Vibrator::create("shop", &sending).await.unwrap();
    shop.emit_hopping_wave(CHANNEL, &timed(400_000), "another interval").await.unwrap();
    shop.emit_hopping_wave(CHANNEL, &timed(500_000), "a lamp").await.unwrap();
    sending.flush().await.unwrap();
    assert_eq!(receive(&mut stock, 1).await[0].text().unwrap(), "\"a lamp\"");
    assert_eq!(stock.ledger().offered, 1);
}

#[tokio::test]
async fn hopping_over_a_network_requires_a_common_time() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let ours = hop(Duration::from_secs(1)).build().unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    let refused = stock.resonate_hopping(CHANNEL, &ours).await;
    assert!(matches!(refused, Err(HopJoinError::Clock(ClockError::Unkept(_)))), "{refused:?}");
    let refused = stock.emit_hopping_wave(CHANNEL, &ours, &1).await;
    let Err(HopEmitError::Start(refused)) = refused else { panic!("{refused:?}") };
    assert!(matches!(*refused, HopJoinError::Clock(_)), "{refused:?}");
    // Nor by the clock of peers with another key.
    let other = Hop::keyed(b"0123456789abcdef").slot(Duration::from_secs(60)).build().unwrap();
    let _keeper = ClockKeeper::start(&aether, &other).await.unwrap();
    assert!(stock.resonate_hopping(CHANNEL, &ours).await.is_err());
    stock.resonate_hopping(CHANNEL, &other).await.unwrap();
    // A guard as short as a round trip is too short.
    let hasty = hop(Duration::from_secs(1)).guard(Duration::from_nanos(100)).build().unwrap();
    let _keeper = ClockKeeper::start(&aether, &hasty).await.unwrap();
    let refused = stock.resonate_hopping(CHANNEL, &hasty).await;
    assert!(matches!(refused, Err(HopJoinError::Clock(ClockError::TooFarOff { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_refused_wave_is_handed_back_on_its_own_channel() {
    let aether = Aether::local();
    let hop = hop(Duration::from_secs(1)).build().unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let orders = shop.hopping(CHANNEL, &hop).await.unwrap();
    let other = Wave::builder("orders.paid").text("1").build().unwrap();
    let refused = orders.emit(other).await.unwrap_err();
    assert!(
        matches!(&refused, HopEmitError::OtherChannel { wave, .. } if wave.channel().as_str() == "orders.paid")
    );
    aether.close().await.unwrap();
    let wave = Wave::builder(CHANNEL).kind(Kind::Command).text("1").build().unwrap();
    let Err(HopEmitError::Emit(refused)) = orders.emit(wave).await else { panic!("the medium is closed") };
    assert_eq!(refused.into_wave().unwrap().channel().as_str(), CHANNEL);
}

#[tokio::test]
async fn a_flood_of_the_current_lane_sheds_its_own_waves_first() {
    let aether = Aether::local();
    let hop = hop(Duration::from_secs(60)).adaptive().build().unwrap();
    let options = InboxOptions::default().max_waves(64).when_full(WhenFull::Shed);
    let mut stock = Vibrator::builder("stock").inbox(options).create(&aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let orders = shop.hopping(CHANNEL, &hop).await.unwrap();
    // The broker's operator sees the name and floods it.
    let mut broker = Vibrator::create("broker", &aether).await.unwrap();
    broker.resonate_on("hop.>").await.unwrap();
    let order = |amplitude| Wave::builder(CHANNEL).amplitude(amplitude).text("order").build().unwrap();
    orders.emit(order(0.9)).await.unwrap();
    let name = receive(&mut broker, 1).await[0].channel().clone();
    for _ in 0..10_000 {
        broker.emit_bytes(&name, "flood").await.unwrap();
    }
    orders.emit(order(0.9)).await.unwrap();
    let ledger = stock.ledger();
    assert_eq!((ledger.offered, ledger.queued), (10_002, 64));
    assert!(ledger.adds_up());
    // Strong waves come first, whatever the flood.
    let received = receive(&mut stock, 2).await;
    assert!(received.iter().all(|wave| wave.text().unwrap() == "order"));
}

/// The losses of an adaptive channel while half of the lanes are jammed: in slots of ten waves, the share missing at
/// the receiver, first and after adapting.
#[tokio::test(start_paused = true)]
async fn jammed_lanes_are_left_out_and_the_map_is_no_secret_to_the_receivers() {
    clock::follow_tokio();
    let (aether, jammer) = Jammer::aether(1);
    let adaptive = || hop(Duration::from_millis(20)).adaptive().build().unwrap();
    let (ours, theirs) = (adaptive(), adaptive());
    let channel = Channel::new(CHANNEL).unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &theirs).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let orders = shop.hopping(CHANNEL, &ours).await.unwrap();
    let jammed: Vec<u8> = (0..16).filter(|lane| lane % 2 == 1).collect();
    jammer.jam(&jammed, 1.0);
    let adapt = async {
        while orders.view().lanes_in_use.iter().any(|lane| jammed.contains(lane)) {
            emit_for(&shop, &aether, &ours, 4).await;
        }
    };
    tokio::time::timeout(LONG, adapt).await.expect("the jammed lanes are left out");
    let view = orders.view();
    assert!(view.map > 0 && view.receivers == 1 && view.refused == 0, "{view:?}");
    assert!(view.loss[1] > 0.3 && view.lanes_in_use.len() >= 4);
    let before = stock.ledger().offered;
    let sent = emit_for(&shop, &aether, &ours, 50).await;
    let lost = sent - (stock.ledger().offered - before);
    // Half of them were lost before.
    assert!(lost * 8 < sent, "{lost} of {sent} are lost with the jammed lanes left out");
    // The receiver has counted the waves that were announced to it and did not arrive.
    let account = stock.hop_account(&channel, &theirs).unwrap();
    assert!(account.missed > 0 && account.slots > 50, "{account:?}");
    assert!(account.refused * 100 < account.heard, "{account:?}");
    // The lanes are used again when they are free.
    jammer.jam(&[], 0.0);
    let come_back = async {
        while orders.view().lanes_in_use.len() < 16 {
            emit_for(&shop, &aether, &ours, 4).await;
        }
    };
    tokio::time::timeout(LONG, come_back).await.expect("the lanes come back");
}

/// A peer without the key claims, on the right lane at the right time, that a lane should be left out.
#[tokio::test(start_paused = true)]
async fn reports_without_the_key_are_refused_and_counted() {
    clock::follow_tokio();
    let aether = Aether::local();
    let adaptive = hop(Duration::from_millis(40)).adaptive().build().unwrap();
    let channel = Channel::new(CHANNEL).unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &adaptive).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let orders = shop.hopping(CHANNEL, &adaptive).await.unwrap();
    let mut broker = Vibrator::create("broker", &aether).await.unwrap();
    broker.resonate_on("hop.>").await.unwrap();
    let forged = async {
        while orders.view().refused == 0 || stock.hop_account(&channel, &adaptive).unwrap().refused == 0 {
            let heard = broker.receive().await.expect("the medium is open");
            if heard.source().name() == "_aether" {
                let mut forged = heard.payload().to_vec();
                let last = forged.len() - 3;
                forged[last] ^= 1;
                broker.emit_bytes(heard.channel(), forged).await.unwrap();
                broker.emit_bytes(heard.channel(), "not even that").await.unwrap();
            }
        }
    };
    tokio::time::timeout(LONG, forged).await.expect("the forgeries are received and counted");
    assert_eq!((orders.view().map, orders.view().lanes_in_use.len()), (0, 16));
}

/// A real server that rejects some lanes for this user.
#[tokio::test]
async fn lanes_that_a_server_refuses_are_left_out() {
    let denied = "{ users: [{ user: a, password: a, permissions: { publish: { deny: \
                  [\"aether.hop.0.>\", \"aether.hop.1.>\"] } } }] }";
    let options = ServerOptions::default().setting("authorization", denied).setting("no_auth_user", "a");
    let server = NatsServer::start_with(options).await.unwrap();
    let sending = aether::connect(&server.url()).await.unwrap();
    let receiving = aether::connect(&server.url()).await.unwrap();
    // One machine, one clock. Waves that a busy machine delays for longer than the guard are lost on all lanes.
    let [slot, guard, error] = [200, 95, 1].map(Duration::from_millis);
    let adaptive = || hop(slot).guard(guard).trust_clock(error).lanes(8).adaptive().build().unwrap();
    let (ours, theirs) = (adaptive(), adaptive());
    let stock = Vibrator::create("stock", &receiving).await.unwrap();
    stock.resonate_hopping(CHANNEL, &theirs).await.unwrap();
    let shop = Vibrator::create("shop", &sending).await.unwrap();
    let orders = shop.hopping(CHANNEL, &ours).await.unwrap();
    let adapt = async {
        while orders.view().lanes_in_use != [2, 3, 4, 5, 6, 7] {
            emit_for(&shop, &sending, &ours, 4).await;
        }
    };
    tokio::time::timeout(LONG, adapt).await.expect("the refused lanes are left out");
}

#[tokio::test(start_paused = true)]
async fn a_hop_by_time_needs_a_count_and_an_interval_alone() {
    clock::follow_tokio();
    let aether = Aether::local();
    let hop = || Hop::timed(4, Duration::from_millis(200)).unwrap();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop()).await.unwrap();
    // Equal arguments are one hop.
    stock.resonate_hopping(CHANNEL, &hop()).await.unwrap();
    let mut broker = Vibrator::builder("broker").observe().create(&aether).await.unwrap();
    broker.resonate_on("hop.>").await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let sent = emit_for(&shop, &aether, &hop(), 3).await;
    let received = receive(&mut stock, sent).await;
    assert!(received.iter().all(|wave| wave.channel().as_str() == CHANNEL));
    assert_eq!(stock.ledger().offered, sent);
    let seen = receive(&mut broker, sent).await;
    let lane = |wave: &Wave| wave.channel().tokens().nth(1).unwrap().parse::<u8>().unwrap();
    assert!(seen.iter().all(|wave| lane(wave) < 4));
    assert!(matches!(Hop::timed(3, Duration::from_secs(1)), Err(HopError::Lanes { given: 3 })));
    let slow = Duration::from_secs(3601);
    assert!(matches!(Hop::timed(4, slow), Err(HopError::Slot { given }) if given == slow));
}

#[tokio::test]
async fn a_dropped_receiver_leaves_its_lanes() {
    let aether = Aether::local();
    let hop = hop(Duration::from_secs(60)).build().unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_hopping(CHANNEL, &hop).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    assert_eq!(shop.emit_hopping_wave(CHANNEL, &hop, &1).await.unwrap().receivers, Some(1));
    let tuner = stock.tuner();
    drop(stock);
    tuner.closed().await;
    let left = async {
        while shop.emit_hopping_wave(CHANNEL, &hop, &2).await.unwrap().receivers != Some(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, left).await.expect("the lanes are left");
}

#[tokio::test(start_paused = true)]
async fn beacons_end_with_the_emitter() {
    clock::follow_tokio();
    let aether = Aether::local();
    let adaptive = hop(Duration::from_millis(20)).adaptive().build().unwrap();
    let mut broker = Vibrator::create("broker", &aether).await.unwrap();
    broker.resonate_on("hop.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    drop(HoppingEmitter::open(&shop, CHANNEL, &adaptive).await.unwrap());
    assert_eq!(receive(&mut broker, 1).await[0].source().name(), "_aether");
    drop(shop);
    let silent = async {
        // Ten slots.
        while tokio::time::timeout(adaptive.slot() * 10, broker.receive()).await.is_ok() {}
    };
    tokio::time::timeout(LONG, silent).await.expect("the beacons end");
}

#[tokio::test]
async fn refused_waves_take_no_number() {
    let aether = aether::builder().options(LocalOptions::default().max_payload(100)).connect().await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let orders = shop.hopping("a", &hop(Duration::from_secs(1)).build().unwrap()).await.unwrap();
    let too_large = Wave::builder("a").text("x".repeat(101)).build().unwrap();
    let refused = orders.emit(too_large).await.unwrap_err();
    assert!(matches!(refused, HopEmitError::Emit(EmitError::TooLarge { .. })), "{refused}");
    assert_eq!(shop.account().numbered, 0);
}
