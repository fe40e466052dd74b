//! Processes in network namespaces with cables between them: two, found by multicast, with nothing but a secret; the cable
//! pulled, and a cable that loses packets; three on networks of their own, behind one router.

use std::time::{Duration, Instant};

use aether_conformance::{Cable, End};

use crate::lan::machine::Process;

/// How long the cable is out at least, in seconds. Until the other one has gone if it is not set.
const OUTAGE_ENV: &str = "AETHER_LAN_OUTAGE";
/// One packet in this number is lost, at both ends.
const LOSS: u32 = 10;
/// A peer has gone within 5 s, and one that starts is answered within 3 s; here with time to spare for a machine that
/// stops for a while. When a peer has gone shows exactly in paused time (`medium::lan::tests`).
const LEAVE_WITHIN: Duration = Duration::from_secs(60);
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
const WAVES: u64 = 2000;

#[test]
fn two_machines_with_nothing_but_a_secret_find_each_other_and_survive_a_pulled_cable() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let seconds = std::env::var(OUTAGE_ENV).ok().map(|seconds| seconds.parse().unwrap());
    let outage = seconds.map_or(Duration::ZERO, Duration::from_secs);
    let listener = Process::start(&cable, End::Right, "listener");
    listener.says("ready");
    let started = Instant::now();
    let ticker = Process::start(&cable, End::Left, "ticker");
    ticker.says("answered");
    println!("found and answered {:?} after the start of the process", started.elapsed());
    assert!(started.elapsed() < ANSWERED_WITHIN, "{:?}", started.elapsed());

    cable.unplug(End::Right).unwrap();
    let pulled = Instant::now();
    ticker.says("gone");
    println!("gone {:?} after the cable was pulled", pulled.elapsed());
    assert!(pulled.elapsed() < LEAVE_WITHIN, "{:?}", pulled.elapsed());
    // The outage itself: nothing is waited for.
    std::thread::sleep(outage.saturating_sub(pulled.elapsed()));
    cable.plug(End::Right).unwrap();
    let plugged = Instant::now();
    ticker.says("back");
    println!("back {:?} after the cable was plugged in", plugged.elapsed());
    let lost = assert_accounted(&ticker, &listener);
    assert!(lost > 0, "some were emitted while the cable was out");
}

#[test]
fn two_processes_of_one_machine_with_nothing_but_a_secret_find_each_other() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let listener = Process::start(&cable, End::Left, "listener");
    listener.says("ready");
    let newcomer = Process::start(&cable, End::Left, "newcomer");
    newcomer.says("answered");
}

/// Each wave was heard once and in order, or is known to be lost. Returns the number of those that are lost.
fn assert_accounted(sender: &Process, listener: &Process) -> u64 {
    let [emitted, shed] = sender.counts("emitted")[..] else { panic!("no account of the sender") };
    let account = listener.counts("account");
    let [heard, repeated, disordered, lost] = account[..] else { panic!("{account:?}") };
    println!("emitted {emitted}, shed by the outbox {shed}, heard {heard}, lost and counted {lost}");
    assert_eq!(repeated, 0, "{account:?}");
    assert_eq!(disordered, 0, "{account:?}");
    assert_eq!(heard + lost + shed, emitted, "each wave was heard or is known to be lost: {account:?}");
    lost
}

#[test]
fn two_machines_with_a_cable_that_loses_a_tenth_of_all_packets_account_for_each_wave() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let listener = Process::start(&cable, End::Right, "listener");
    listener.says("ready");
    let mut sender = Process::start_with(&cable, End::Left, "sender", "lan:", WAVES);
    sender.says("answered");
    for end in [End::Left, End::Right] {
        cable.lose_one_in(end, LOSS).unwrap();
    }
    sender.says("sent");
    for end in [End::Left, End::Right] {
        let dropped = cable.lost(end).unwrap();
        println!("lost packets at the {end:?} end: {dropped}");
        assert!(dropped > 0);
        cable.lose_one_in(end, 0).unwrap();
    }
    sender.tell();
    assert_accounted(&sender, &listener);
}

#[test]
fn three_machines_that_name_one_router_meet_behind_it() {
    meet_behind_a_router("lan:?multicast=off", "lan:?router=10.77.0.2:7447");
}

#[test]
fn a_machine_that_found_the_router_by_multicast_meets_those_that_name_it() {
    meet_behind_a_router("lan:?interface=cable", "lan:");
}

/// Three machines on networks of their own: no two have a way to each other but the router.
fn meet_behind_a_router(router: &str, listener: &str) {
    let Some(first) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let further = [1, 2].map(|network| first.lay_further(network).unwrap_or_else(|error| panic!("{error}")));
    let by_router = |network| format!("lan:?router=10.77.{network}.2:7447");
    let router = Process::start_with(&first, End::Right, "router", router, 0);
    router.says("ready");
    let listener = Process::start_with(&first, End::Left, "listener", listener, 0);
    listener.says("ready");
    let [second, third] = &further;
    let direct = second.command(End::Left, "ip").args(["route", "get", "10.77.0.1"]).output().unwrap();
    assert!(!direct.status.success(), "there is a route past the router");

    let started = Instant::now();
    let newcomer = Process::start_with(second, End::Left, "newcomer", &by_router(1), 0);
    newcomer.says("answered");
    println!("the second was answered {:?} after its start", started.elapsed());
    let started = Instant::now();
    let ticker = Process::start_with(third, End::Left, "ticker", &by_router(2), 0);
    ticker.says("answered");
    println!("the third was answered {:?} after its start", started.elapsed());
    assert!(started.elapsed() < ANSWERED_WITHIN, "{:?}", started.elapsed());

    listener.says("hears");
    third.unplug(End::Left).unwrap();
    let pulled = Instant::now();
    ticker.says("gone");
    println!("gone {:?} after the cable was pulled", pulled.elapsed());
    assert!(pulled.elapsed() < LEAVE_WITHIN, "{:?}", pulled.elapsed());
    third.plug(End::Left).unwrap();
    ticker.says("back");
    assert!(assert_accounted(&ticker, &listener) > 0, "some were emitted while the cable was out");
}

#[test]
fn two_sites_with_a_router_each_meet_and_one_of_the_routers_is_killed() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let router_at = |end, url| {
        let router = Process::start_with(&cable, end, "router", url, 0);
        router.says("ready");
        router
    };
    let _there = router_at(End::Right, "lan:?multicast=off");
    let url = "lan:?multicast=off&router=10.77.0.2:7447";
    let here = router_at(End::Left, url);
    let by_router = "lan:?router=127.0.0.1:7447";
    let listener = Process::start_with(&cable, End::Right, "listener", by_router, 0);
    listener.says("ready");
    let ticker = Process::start_with(&cable, End::Left, "ticker", by_router, 0);
    ticker.says("answered");
    // A receiver that has never heard a young stream cannot tell that its beginning is missing.
    listener.says("hears");

    let killed = Instant::now();
    drop(here);
    ticker.says("gone");
    println!("gone {:?} after the router was killed", killed.elapsed());
    assert!(killed.elapsed() < LEAVE_WITHIN, "{:?}", killed.elapsed());
    let started = Instant::now();
    let _again = router_at(End::Left, url);
    ticker.says("back");
    println!("back {:?} after the router was started again", started.elapsed());
    assert!(assert_accounted(&ticker, &listener) > 0, "some were emitted without a router");
}
