//! Replicas over a NATS server: what one change costs, and how soon five replicas are equal when changes are shed.
//!
//! `cargo xtask bench field --part network`. It is here and not in `aether-bench`, because it joins replicas as the tests of
//! this crate do.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

#[path = "../tests/suite/replica/mod.rs"]
mod replica;

use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use aether_field::Field;
use aether_testing::{Fault, Faults};
use replica::counted::Counted;
use replica::{all_equal, join, shows, within};

/// Repetitions; medians are printed.
const ROUNDS: usize = 9;
/// The registers of which one changes.
const KEYS: u32 = 2000;
/// The replicas that write at once, how much each of them writes, and the share of its waves that is shed.
const REPLICAS: usize = 5;
const WRITES: u32 = 1000;
const SHED: f64 = 0.3;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("| what | median of {ROUNDS} |\n|---|---|");
    let [of_writer, of_peer] = runtime.block_on(one_change());
    println!(
        "| one of {KEYS} registers of 100 bytes changes, three replicas | {of_peer} bytes to each peer, {of_writer} at the writer, \
         both directions |"
    );
    for shed in [0.0, SHED] {
        let mut times: Vec<_> = (1..=ROUNDS as u64).map(|seed| runtime.block_on(ring(shed, seed))).collect();
        times.sort();
        println!(
            "| {REPLICAS} replicas, {WRITES} writes each, {:.0} % of the changes are shed: equal after the last write | {:.0} ms \
             (slowest {:.0}) |",
            shed * 100.0,
            times[ROUNDS / 2].as_secs_f64() * 1e3,
            times[ROUNDS - 1].as_secs_f64() * 1e3
        );
    }
}

/// The bytes of the writer's connection and of a peer's, until the writer knows that both peers have the change.
async fn one_change() -> [u64; 2] {
    let server = NatsServer::start().await.unwrap();
    let mut all = Vec::new();
    for at in 0..3 {
        all.push(Counted::join(server.port(), &format!("replica-{at}")).await);
    }
    let writer = &all[0].field;
    for n in 0..KEYS {
        writer.set(&format!("key/{n}"), &format!("{n:0>90}")).unwrap();
    }
    within("agreement", writer.agreed(2)).await.unwrap();
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let before: Vec<_> = all.iter().map(Counted::bytes).collect();
        writer.set("key/1000", &format!("{round:0>90}")).unwrap();
        within("agreement", writer.agreed(2)).await.unwrap();
        for peer in &all[1..] {
            shows(&peer.field, "key/1000", Some(&format!("{round:0>90}"))).await;
        }
        let after: Vec<_> =
            all.iter().map(Counted::bytes).zip(before).map(|(after, before)| after - before).collect();
        costs[0].push(after[0]);
        costs[1].extend(&after[1..]);
    }
    costs.map(|mut costs| {
        costs.sort_unstable();
        costs[costs.len() / 2]
    })
}

/// The time from the last write until all replicas have one digest. Each has a connection of its own, and the faults last.
async fn ring(shed: f64, seed: u64) -> Duration {
    let server = NatsServer::start().await.unwrap();
    let mut all = Vec::new();
    for at in 0..REPLICAS {
        let faults = Faults::with_seed(seed * 100 + at as u64);
        if shed > 0.0 {
            faults.add(Fault::lose(shed).on("field.home.changes"));
        }
        let builder = faults.around_scheme(aether::builder().url(server.url()), "nats");
        let aether = builder.connect().await.unwrap();
        all.push((join(&aether, &format!("replica-{at}")).await, faults));
    }
    let fields: Vec<Field> = all.iter().map(|(field, _)| field.clone()).collect();
    for field in &fields {
        within("agreement", field.agreed(REPLICAS - 1)).await.unwrap();
    }
    let mut writing = tokio::task::JoinSet::new();
    for (at, field) in fields.iter().cloned().enumerate() {
        writing.spawn(async move {
            for n in 0..WRITES {
                field.set(&format!("{at}/{n}"), &n).unwrap();
                if n % 10 == 9 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
    }
    writing.join_all().await;
    let written = Instant::now();
    all_equal(&fields).await;
    let took = written.elapsed();
    assert!(fields.iter().all(|field| field.list("*").len() == REPLICAS * WRITES as usize));
    if shed > 0.0 {
        let lost: u64 = all.iter().map(|(_, faults)| faults.counts().lost).sum();
        assert!(lost > 0);
    }
    took
}
