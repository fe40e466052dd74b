//! A service that emits waves for later into JetStream, and is killed with `kill -9` while the server delivers them.
//!
//! It prints a line after each receipt. Every printed wave comes, and none comes twice.

use std::collections::BTreeSet;

use aether_conformance::{NatsServer, ServerOptions};

use crate::durable::killing::open;
use crate::durable::stage::{order, quick, receive, text};
use crate::killed::{emit_for_later, run_and_kill};

const ROUNDS: u64 = 4;
const EMITS: &str = "durable::killing_later::emits_for_later_until_it_is_killed";
const SERVER: &str = "AETHER_LOG_SERVER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_for_later_until_it_is_killed() {
    let log = open(&std::env::var(SERVER).unwrap()).await;
    emit_for_later(&log.connect(aether::builder().url("local:")).await.unwrap(), 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wave_for_later_is_lost_or_comes_twice_after_kill_9() {
    let streams = tempfile::tempdir().unwrap();
    let server = ServerOptions::default().jetstream(streams.path());
    let server = NatsServer::start_with(server).await.unwrap();
    let mut missing = BTreeSet::new();
    for round in 0..ROUNDS {
        missing.extend(run_and_kill(EMITS, (SERVER, server.url().as_ref()), round, 200));
    }
    assert!(missing.len() as u64 >= ROUNDS);
    let log = open(&server.url()).await;
    let shop = log.connect(aether::builder().url("local:")).await.unwrap().emitter("shop").unwrap();
    let audit = log.consumer("audit", "orders.>", quick()).unwrap();
    let mut come = BTreeSet::new();
    while come.last().is_none_or(|last| last != "end") {
        let delivery = receive(&audit).await;
        let name = text(&delivery);
        delivery.ack().await.unwrap();
        missing.remove(&name);
        assert!(come.insert(name.clone()), "{name} came twice");
        if missing.is_empty() && !come.contains("end") {
            shop.emit(order("end", 0.5)).await.unwrap();
            missing.insert("end".to_owned());
        }
    }
}
