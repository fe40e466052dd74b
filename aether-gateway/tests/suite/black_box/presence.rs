//! C1 18: presence, across two gateways.

use aether_conformance::NatsServer;
use serde_json::json;

use crate::black_box::client::{Client, greeted};
use crate::black_box::own::Own;
use crate::black_box::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_18_presence_reaches_clients_of_other_gateways_and_is_neither_echoed_nor_stored() {
    let nats = NatsServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let first = Server::gateway().medium(&nats.url()).store(&store).start().await;
    let second = Server::gateway().medium(&nats.url()).start().await;
    let (mut ada, mut bob) =
        (Own::connect(&first.url(), "ada").await, Own::connect(&second.url(), "bob").await);
    for own in [&mut ada, &mut bob] {
        own.subscribe(&["*"]).await;
    }
    let mut old = greeted(&second.url()).await;
    // Any JSON; clients of protocol 0.4 see those that have a place.
    for value in [json!({ "name": "Ada", "at": [1, 2, { "deep": null }] }), json!("text"), json!(0)] {
        ada.client.send(json!({ "type": "presence", "value": value })).await;
        assert_eq!(bob.next("presence").await["value"], value);
    }
    ada.client.send(json!({ "type": "presence", "value": { "x": 3, "y": 4, "more": true } })).await;
    let seen = bob.next("presence").await;
    let cursor = old.expect("presence", &["id", "color", "x", "y"]).await;
    assert_eq!((&cursor["id"], &cursor["x"], &cursor["y"]), (&seen["id"], &json!(3), &json!(4)));
    // Not echoed: what comes back first is the write behind it.
    ada.set("fence", json!(1), false).await;
    let next = ada.client.next().await.unwrap();
    assert!(["ack", "changes"].contains(&next["type"].as_str().unwrap()), "{next}");
    // A tab that is killed closes no connection properly; the kernel does it.
    drop(ada);
    assert_eq!(bob.next("presence-leave").await["id"], seen["id"]);
    // Not stored.
    first.kill().await;
    let first = Server::gateway().medium(&nats.url()).store(&store).start().await;
    let mut again = Own::connect(&first.url(), "again").await;
    let keys: Vec<_> =
        again.subscribe(&["*"]).await.into_iter().map(|mut entry| entry["key"].take()).collect();
    assert!(keys.iter().all(|key| key == "fence"), "{keys:?}");
}

/// The life of a presence is ten seconds, and processes have no other time than the real one.
mod long {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn c1_18_presence_expires_when_its_gateway_is_killed() {
        let nats = NatsServer::start().await.unwrap();
        let first = Server::gateway().medium(&nats.url()).start().await;
        let second = Server::gateway().medium(&nats.url()).start().await;
        let mut bob = Own::connect(&second.url(), "bob").await;
        bob.subscribe(&["*"]).await;
        let mut ada = Client::connect(&first.url()).await;
        let (id, _) = ada.greeted().await;
        let announced = Instant::now();
        ada.send(json!({ "type": "presence", "x": 1, "y": 2 })).await;
        assert_eq!(bob.next("presence").await["id"], id);
        first.kill().await;
        // The patience is longer: how much later than this it may be is for the test in paused time, `field::federation`.
        assert_eq!(bob.next("presence-leave").await["id"], id);
        assert!(announced.elapsed() >= Duration::from_secs(10), "{:?}", announced.elapsed());
    }
}
