//! Members that leave a group over NATS while it is working.

use std::collections::BTreeSet;
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Kind, Vibrator, Wave};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::settling::{flushed, patient};

const PATIENCE: Duration = Duration::from_secs(120);
const COMMANDS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waves_in_flight_to_a_leaving_member_go_to_another_in_the_process() {
    let server = NatsServer::start().await.unwrap();
    let here = aether::builder().url(server.url()).options(patient()).connect().await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let (heard, mut all_heard) = mpsc::unbounded_channel();
    let mut stays = Vibrator::create("stays", &there).await.unwrap();
    stays.resonate_in_group("jobs.*", "workers").await.unwrap();
    tokio::spawn({
        let heard = heard.clone();
        async move {
            while let Some(wave) = stays.receive().await {
                heard.send(wave.json::<u64>().unwrap()).unwrap();
            }
        }
    });
    let emitter = Vibrator::create("shop", &here).await.unwrap().emitter();
    let emitting = tokio::spawn(async move {
        for number in 0..COMMANDS {
            let wave = Wave::builder("jobs.a").kind(Kind::Command).json(number).build().unwrap();
            emitter.emit(wave).await.unwrap();
        }
    });
    let mut leaves = Vibrator::create("leaves", &there).await.unwrap();
    let mut leavings = 0;
    while !emitting.is_finished() {
        leaves.resonate_in_group("jobs.*", "workers").await.unwrap();
        // Handles one wave, or ends if there are none left.
        if let Ok(Some(wave)) = timeout(Duration::from_millis(100), leaves.receive()).await {
            heard.send(wave.json::<u64>().unwrap()).unwrap();
        }
        leaves.detune("jobs.*").unwrap();
        leavings += 1;
        while leaves.ledger().queued > 0 {
            let wave = leaves.receive().await.unwrap();
            heard.send(wave.json::<u64>().unwrap()).unwrap();
        }
    }
    emitting.await.unwrap();
    flushed(&here).await;
    // Returns once the server has processed the leaves.
    flushed(&there).await;
    while leaves.ledger().queued > 0 {
        let wave = leaves.receive().await.unwrap();
        heard.send(wave.json::<u64>().unwrap()).unwrap();
    }
    let mut missing: BTreeSet<u64> = (0..COMMANDS).collect();
    while !missing.is_empty() {
        let Ok(number) = timeout(PATIENCE, all_heard.recv()).await else {
            panic!("{leavings} leaves, {} missing; {:?}", missing.len(), there.status());
        };
        assert!(missing.remove(&number.unwrap()), "received twice");
    }
    assert_eq!(there.ledger().shed_closed, 0);
    assert_eq!(here.echo_ledger().reflected + there.echo_ledger().reflected, 0);
}
