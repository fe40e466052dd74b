//! A service that emits waves for later into JetStream, and is killed with `kill -9` while the server delivers them.
//!
//! It prints a line after each receipt. Every printed wave comes, and none comes twice.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::Wave;

use crate::durable::killing::{open, say};
use crate::durable::stage::{order, quick, receive, text};

const ROUNDS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_for_later_until_it_is_killed() {
    let url = std::env::var("AETHER_LOG_SERVER").unwrap();
    let round = std::env::var("AETHER_LOG_ROUND").unwrap();
    let aether = open(&url).await.connect(aether::builder().url("local:")).await.unwrap();
    let tasks = (0..4).map(|task| {
        let (shop, round) = (aether.emitter("shop").unwrap(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}.{task}.{number}");
                let after = Duration::from_millis(fastrand::u64(1..500));
                shop.emit(Wave::builder("orders.created").text(&*name).after(after)).await.unwrap();
                say(format_args!("stored {name} ."));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Runs the service, kills it after a number of receipts, and returns the names of the waves.
fn run_and_kill(url: &str, round: u64) -> Vec<String> {
    let name = "durable::killing_later::emits_for_later_until_it_is_killed";
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("AETHER_LOG_SERVER", url)
        .env("AETHER_LOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let (mut stored, most) = (Vec::new(), 1 + fastrand::usize(..200));
    for line in lines {
        // The end of a line that was cut off is missing.
        if let Some(name) = line.unwrap().strip_prefix("stored ").and_then(|name| name.strip_suffix(" .")) {
            stored.push(name.to_owned());
        }
        if stored.len() == most {
            std::thread::sleep(Duration::from_micros(fastrand::u64(..5000)));
            service.kill().unwrap();
        }
    }
    service.wait().unwrap();
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wave_for_later_is_lost_or_comes_twice_after_kill_9() {
    let streams = tempfile::tempdir().unwrap();
    let server = ServerOptions::default().jetstream(streams.path());
    let server = NatsServer::start_with(server).await.unwrap();
    let mut missing = BTreeSet::new();
    for round in 0..ROUNDS {
        missing.extend(run_and_kill(&server.url(), round));
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
