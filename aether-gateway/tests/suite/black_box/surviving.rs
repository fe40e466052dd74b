//! C1 12: a gateway process that is killed at any moment, and what it had acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;

use crate::black_box::client::Client;
use crate::black_box::own::Own;
use crate::black_box::server::Server;

/// The number of times that the gateway is killed; `AETHER_FIELD_KILLS` sets more.
const KILLS: usize = 5;
const CLIENTS: usize = 8;
/// The writes that each client has on the way.
const WINDOW: u64 = 32;

/// Writes until the connection ends, and reports what is durable.
async fn write(
    url: String,
    prefix: String,
    connected: Arc<Barrier>,
    acknowledged: mpsc::UnboundedSender<(String, u64)>,
) {
    let mut own = Own::connect(&url, &prefix).await;
    connected.wait().await;
    for n in 1..=WINDOW {
        assert_eq!(own.set(&format!("{prefix}/{n}"), json!(n), true).await, n);
    }
    let mut next = WINDOW;
    while let Ok(message) = own.client.next().await {
        if message["type"] == "durable" {
            let n = message["op"].as_u64().unwrap();
            let _ = acknowledged.send((format!("{prefix}/{n}"), n));
            next += 1;
            own.set(&format!("{prefix}/{next}"), json!(next), true).await;
        } else {
            assert_eq!(message["type"], "ack", "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_12_acknowledged_writes_survive_kill_9_of_the_gateway() {
    let kills = std::env::var("AETHER_FIELD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let mut acknowledged = BTreeMap::new();
    for kill in 0..kills {
        let server = Server::gateway().store(&store).start().await;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        // No client connects to a gateway that is killed already.
        let connected = Arc::new(Barrier::new(CLIENTS));
        for client in 0..CLIENTS {
            let prefix = format!("{kill}-{client}");
            clients.spawn(write(server.url(), prefix, Arc::clone(&connected), sender.clone()));
        }
        drop(sender);
        // At a random moment: writes of all clients are on their way then.
        for _ in 0..50 + fastrand::usize(..500) {
            let (key, n) = receiver.recv().await.expect("the gateway takes writes");
            acknowledged.insert(key, n);
        }
        server.kill().await;
        clients.join_all().await;
        // Also what was acknowledged while it was killed.
        while let Some((key, n)) = receiver.recv().await {
            acknowledged.insert(key, n);
        }
        let started = Instant::now();
        let server = Server::gateway().store(&store).start().await;
        println!("{} acknowledged; started again in {:?}", acknowledged.len(), started.elapsed());
        let mut own = Own::connect(&server.url(), "reader").await;
        let there: BTreeMap<_, _> = own
            .subscribe(&["*"])
            .await
            .into_iter()
            .map(|mut entry| (entry["key"].as_str().unwrap().to_owned(), entry["value"].take()))
            .collect();
        for (key, n) in &acknowledged {
            assert_eq!(there.get(key), Some(&json!(n)), "{key} after {kill} kills");
        }
        server.kill().await;
    }
    assert!(acknowledged.len() >= 50 * kills);
}

/// The disk of the gateway is full: writers that asked for durability hear it, and nothing else is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_to_the_writer_and_what_was_durable_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let server = Server::gateway().store(&store).disk(4096).start().await;
    let mut own = Own::connect(&server.url(), "own").await;
    let mut durable = Vec::new();
    let refusal = loop {
        let op = own.set(&format!("k{}", durable.len()), json!("v".repeat(30_000)), true).await;
        match own.client.next().await.unwrap() {
            ack if ack["type"] == "ack" => {}
            other => panic!("{other}"),
        }
        let answer = own.client.next().await.unwrap();
        assert_eq!(answer["op"], op);
        if answer["type"] != "durable" {
            break answer;
        }
        durable.push(format!("k{}", durable.len()));
        assert!(durable.len() < 1000, "the disk is never full");
    };
    assert_eq!(refusal["type"], "not-durable");
    let message = refusal["message"].as_str().unwrap();
    assert!(message.starts_with("the store of the field failed: I/O error"), "{message}");
    assert!(!message.contains("home.field"), "{message}");
    assert!(durable.len() > 10, "{durable:?}");
    // The gateway goes on in memory.
    let mut other = Own::connect(&server.url(), "other").await;
    other.subscribe(&["last"]).await;
    own.set("last", json!("in memory"), true).await;
    assert_eq!(other.change("last").await["value"], "in memory");
    assert_eq!(own.next("not-durable").await["op"], own.op());
    server.kill().await;

    let server = Server::gateway().store(&store).start().await;
    let mut reader = Own::connect(&server.url(), "reader").await;
    let there = reader.subscribe(&["*"]).await;
    let has = |key: &String| there.iter().any(|entry| entry["key"] == **key);
    assert!(durable.iter().all(has), "{} of {}", there.len(), durable.len());
    let op = reader.set("after", json!("the disk has room"), true).await;
    assert_eq!(reader.next("durable").await["op"], op);
    server.kill().await;
}

#[tokio::test]
async fn c1_9_a_rejected_write_is_reported_to_its_writer_and_seen_by_nobody() {
    let server = Server::gateway().start().await;
    let (mut own, mut other) =
        (Own::connect(&server.url(), "own").await, Own::connect(&server.url(), "other").await);
    assert_eq!(own.subscribe(&["*"]).await, Vec::<Value>::new());
    other.subscribe(&["*"]).await;
    let good = own.set("k", json!("good"), false).await;
    assert_eq!(own.next("ack").await["op"], good);
    let standing = own.change("k").await;
    for (key, value, code) in [
        ("k", json!("v".repeat(32_767)), "value-size"),
        ("k", json!(null), "null"),
        (&*"k".repeat(257), json!(1), "key-size"),
        ("", json!(1), "key-size"),
    ] {
        let op = own.set(key, value, false).await;
        let refused = own.next("refused").await;
        assert_eq!((&refused["op"], &refused["code"]), (&json!(op), &json!(code)), "{refused}");
        assert!(refused["message"].as_str().is_some_and(|message| !message.is_empty()), "{refused}");
    }
    // The writer rolls back to the present value, which nothing of this has touched.
    let (mut third, mut old) =
        (Own::connect(&server.url(), "third").await, Client::connect(&server.url()).await);
    assert_eq!(third.subscribe(&["*"]).await, [standing]);
    assert_eq!(old.greeted().await.1, json!({ "k": "good" }));
    own.set("k", json!("next"), false).await;
    assert_eq!(other.change("k").await["value"], "good");
    assert_eq!(other.change("k").await["value"], "next");
}
