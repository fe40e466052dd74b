//! Several gateways on one field.

use std::time::Duration;

use aether_core::Aether;
use aether_core::conformance::NatsServer;
use aether_gateway::FieldOptions;
use serde_json::json;

use crate::client::{Client, Tab, now};
use crate::server::Server;

async fn two_gateways() -> (NatsServer, Server, Server) {
    let nats = NatsServer::start().await.expect("a NATS server");
    let connect = async || Aether::connect(&nats.url()).await.expect("connected");
    let one = Server::start(&connect().await, FieldOptions::default()).await;
    let other = Server::start(&connect().await, FieldOptions::default()).await;
    one.field.set("ready", &true).unwrap();
    tokio::time::timeout(Duration::from_secs(30), one.field.agreed(1)).await.expect("in time").unwrap();
    (nats, one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_two_gateways_show_the_same_winner_in_1000_rounds() {
    let (_nats, one, other) = two_gateways().await;
    let (mut a, _) = Tab::opened(one.address, "home").await;
    let (mut b, _) = Tab::opened(other.address, "home").await;
    let mut races_with_two_winners = 0;
    for batch in 0..20 {
        // Messages of 0.4 are limited to 100 a second and 200 at once; the races are in between.
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        for round in 0..50 {
            let key = format!("k{batch}-{round}");
            one.field.set(&key, &format!("a{round}")).unwrap();
            other.field.set(&key, &format!("b{round}")).unwrap();
            of_a.push(key.clone());
            of_b.push(key);
        }
        tokio::join!(one.field.agreed(1), other.field.agreed(1)).0.unwrap();
        one.field.set("end", &batch).unwrap();
        let seen_a = until_end(&mut a, batch).await;
        let seen_b = until_end(&mut b, batch).await;
        for key in of_a {
            let (in_one, in_other) = (one.field.get_json(&key), other.field.get_json(&key));
            assert_eq!(in_one, in_other, "{key}");
            let value: serde_json::Value = serde_json::from_slice(&in_one.unwrap()).unwrap();
            assert_eq!((seen_a.get(&key), seen_b.get(&key)), (Some(&value), Some(&value)), "{key}");
            races_with_two_winners += 1;
        }
        drop(of_b);
    }
    assert_eq!(races_with_two_winners, 1000);
    one.stop().await;
    other.stop().await;
}

/// The last value of each key that the tab was shown until the end of a batch.
async fn until_end(tab: &mut Tab, batch: u64) -> std::collections::BTreeMap<String, serde_json::Value> {
    let mut seen = std::collections::BTreeMap::new();
    loop {
        let message = tab.next("set").await;
        let key = message["key"].as_str().unwrap().to_owned();
        if key == "end" && message["value"] == batch {
            return seen;
        }
        seen.insert(key, message["value"].clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_16_a_client_moves_between_gateways_without_losing_or_repeating_a_write() {
    let (_nats, one, other) = two_gateways().await;
    let at = now() - 1000.0;
    let write = |op: u64| match op % 3 {
        0 => json!({ "type": "set", "op": op, "at": at, "key": format!("k{op}"), "value": op }),
        1 => json!({ "type": "count", "op": op, "at": at, "key": "visits", "up": op }),
        _ => json!({ "type": "insert", "op": op, "at": at, "key": "tags", "member": format!("m{op}") }),
    };
    let mut acked = 0;
    let mut next = 1;
    for round in 0..10 {
        let server = if round % 2 == 0 { &one } else { &other };
        let mut client = Client::following(server.address, "home", "a").await;
        // What was not acknowledged is sent again, and ten more. Half of the acknowledgements are not read.
        let until = next + 10;
        for op in acked + 1..until {
            client.tab.send(&write(op)).await;
        }
        client.until(|client| client.acks.contains_key(&(until - 5))).await;
        (acked, next) = (until - 5, until);
    }
    let mut client = Client::following(one.address, "home", "a").await;
    for op in acked + 1..next {
        client.write(&write(op)).await;
    }
    tokio::time::timeout(Duration::from_secs(30), other.field.agreed(1)).await.expect("in time").unwrap();
    for server in [&one, &other] {
        let (sets, members) =
            ((1..next).filter(|op| op % 3 == 0).count(), (1..next).filter(|op| op % 3 == 2).count());
        assert_eq!(server.field.list("k*").len(), sets);
        assert_eq!(server.field.members("tags").len(), members);
        let greatest = (1..next).rfind(|op| op % 3 == 1).unwrap();
        assert_eq!(server.field.count("visits"), i128::from(greatest));
    }
    assert_eq!(one.field.digest(), other.field.digest());
    assert_eq!(client.superseded.len(), 0);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_reaches_the_clients_of_other_gateways() {
    let (_nats, one, other) = two_gateways().await;
    let (mut a, _) = Tab::opened(one.address, "home").await;
    let (mut b, _) = Tab::opened(other.address, "home").await;
    a.send(&json!({ "type": "presence", "x": 1, "y": 2 })).await;
    let presence = b.next("presence").await;
    assert_eq!((&presence["x"], &presence["y"]), (&json!(1), &json!(2)));
    drop(a);
    assert_eq!(b.next("presence-leave").await["id"], presence["id"]);
    one.stop().await;
    other.stop().await;
}
