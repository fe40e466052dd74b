//! Several gateways on one field.

use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator};
use aether_field::{Field, Presence};
use aether_gateway::FieldOptions;
use serde_json::json;

use crate::field::client::{Client, PATIENCE, Tab, now};
use crate::field::server::Server;
use crate::support::StoppedTime;

async fn two_gateways() -> (NatsServer, Server, Server) {
    let nats = NatsServer::start().await.expect("a NATS server");
    let connect = async || aether::connect(&nats.url()).await.expect("connected");
    let one = Server::start(&connect().await, FieldOptions::default()).await;
    let other = Server::start(&connect().await, FieldOptions::default()).await;
    one.field.set("ready", &true).expect("written");
    tokio::time::timeout(PATIENCE, one.field.agreed(1)).await.expect("in time").expect("agreed");
    (nats, one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_two_gateways_show_the_same_winner_in_1000_rounds() {
    const BATCHES: u64 = 20;
    const ROUNDS: u64 = 50;
    let (_nats, one, other) = two_gateways().await;
    let mut a = Client::following(one.address, "home", "a").await;
    let mut b = Client::following(other.address, "home", "b").await;
    let keys = |batch: u64| (0..ROUNDS).map(move |round| format!("k{batch}-{round}"));
    for batch in 0..BATCHES {
        let writes = |name: &str| -> Vec<_> {
            let write = |(op, key): (u64, String)| {
                let value = format!("{name} in {key}");
                json!({ "type": "set", "op": op, "at": now(), "key": key, "value": value, "replaces": null })
            };
            (batch * ROUNDS + 1..).zip(keys(batch)).map(write).collect()
        };
        // One message each: at the same time, and neither has seen what the other writes.
        let (of_a, of_b) = (json!(writes("a")), json!(writes("b")));
        tokio::join!(a.tab.send(&of_a), b.tab.send(&of_b));
        let all = usize::try_from((batch + 1) * ROUNDS).unwrap();
        tokio::join!(a.until(|client| client.acks.len() == all), b.until(|client| client.acks.len() == all));
        let agreed = async { tokio::try_join!(one.field.agreed(1), other.field.agreed(1)) };
        tokio::time::timeout(PATIENCE, agreed).await.expect("in time").unwrap();
        // Earlier changes are sent to the clients before.
        one.field.set("end", &batch).unwrap();
        let end = json!(batch);
        tokio::join!(
            a.until(|client| client.value("end") == Some(&end)),
            b.until(|client| client.value("end") == Some(&end))
        );
        for key in keys(batch) {
            let stored = one.field.get::<serde_json::Value>(&key).unwrap();
            assert_eq!(stored, other.field.get(&key).unwrap(), "{key}");
            assert_eq!((a.value(&key), b.value(&key)), (stored.as_ref(), stored.as_ref()), "{key}");
        }
    }
    a.settle().await;
    b.settle().await;
    // Each race has one loser, which heard of it from its own gateway.
    let lost = |client: &Client, name: &str| {
        let own = |loss: &&serde_json::Value| loss["lost"].as_str().unwrap().starts_with(name);
        client.superseded.iter().filter(own).count()
    };
    assert_eq!(a.superseded.len() + b.superseded.len(), usize::try_from(BATCHES * ROUNDS).unwrap());
    assert_eq!((lost(&a, "a "), lost(&b, "b ")), (a.superseded.len(), b.superseded.len()));
    one.stop().await;
    other.stop().await;
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
        // The writes that were not acknowledged are sent again, and ten more. Half of the acknowledgements are not
        // read.
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
    tokio::time::timeout(PATIENCE, other.field.agreed(1)).await.expect("in time").unwrap();
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

/// A process that is killed sends nothing more: here, a runtime that ends. With real processes it is
/// `black_box::presence::long`.
#[tokio::test]
async fn c1_18_presence_of_a_process_that_is_gone_expires_at_the_gateway_in_time() {
    let time = StoppedTime::new();
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    let (mut tab, _) = Tab::opened(server.address, "home").await;
    let thread_aether = aether.clone();
    let gone = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hall = Field::builder("home").replica("hall").join(&thread_aether).await.unwrap();
            let mut witness = Vibrator::create("witness", &thread_aether).await.unwrap();
            witness.resonate_on("field.home.presence").await.unwrap();
            hall.presence().announce("ada", &json!({ "x": 1, "y": 2 })).unwrap();
            witness.receive().await.unwrap();
            // It leaves without a word.
            std::mem::forget(hall);
        });
        runtime.shutdown_background();
    });
    gone.join().unwrap();
    assert_eq!(tab.next("presence").await["id"], "ada");
    let seconds = Presence::LIFETIME.as_secs();
    for _ in 0..seconds - 1 {
        time.second_passes().await;
    }
    tab.send(&json!({ "type": "set", "key": "k", "value": 1 })).await;
    assert_eq!(tab.json().await["type"], "set", "it is still there");
    for _ in 0..2 {
        time.second_passes().await;
    }
    assert_eq!(tab.json().await, json!({ "type": "presence-leave", "id": "ada" }));
    drop(time);
    server.stop().await;
}
