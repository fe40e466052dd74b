//! Clients whose clocks are behind or step back: nothing that was acknowledged is lost without a word.

use std::time::Duration;

use aether_core::Aether;
use aether_field::core::{Change, Entry, Key, Stamp, WriterId};
use aether_gateway::FieldOptions;
use serde_json::{Value, json};

use crate::field::client::{Client, now};
use crate::field::server::Server;

/// A register that a replica wrote whose clock is 20 s ahead.
fn fast(server: &Server, key: &str) {
    let ahead = Duration::from_secs(20).as_micros() as f64;
    let stamp = Stamp { micros: (now() * 1000.0 + ahead) as u64, logical: 7, writer: WriterId(9) };
    let entry = Entry { stamp, replaces: None, value: Some("\"fast\"".into()) };
    let _ = server.field.submit(Change { key: Key::Register(key.into()), entry }).unwrap();
}

#[tokio::test]
async fn of_two_writes_that_replace_one_fast_version_the_second_stands() {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    for round in 0..20 {
        let key = format!("k{round}");
        fast(&server, &key);
        let mut a = Client::following(server.address, "home", &format!("a{round}")).await;
        let writes: Vec<_> = (1..=20).map(|op| a.set(op, now(), &key, &json!(op))).collect();
        for write in &writes {
            a.tab.send(write).await;
        }
        a.until(|client| client.acks.len() == 20).await;
        assert_eq!(server.field.get::<u64>(&key).unwrap(), Some(20), "{key}");
        // Also one of them that is sent again changes nothing.
        a.write(&writes[3]).await;
        assert_eq!(server.field.get::<u64>(&key).unwrap(), Some(20), "{key}");
        a.write(&a.delete(21, now() - 50.0, &key)).await;
        assert_eq!(server.field.get_json(&key), None, "{key}");
        a.settle().await;
        assert_eq!(a.superseded, [] as [Value; 0]);
        let versions: std::collections::BTreeSet<_> =
            a.acks.values().map(|ack| ack["version"].to_string()).collect();
        assert_eq!(versions.len(), 21, "each write has a version of its own");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_greater_sum_counts_although_the_clock_has_stepped_back() {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    let mut a = Client::connect(server.address, "home", "a").await;
    let at = now();
    let count =
        |op: u64, at: f64, up: u64| json!({ "type": "count", "op": op, "at": at, "key": "n", "up": up });
    a.write(&count(1, at, 5)).await;
    a.write(&count(2, at - 50.0, 10)).await;
    a.write(&count(1, at, 5)).await;
    assert_eq!(server.field.count("n"), 10);
    server.stop().await;
}

#[tokio::test]
async fn a_member_that_was_seen_is_removed_although_the_clock_is_behind_and_another_one_is_told() {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    let mut a = Client::connect(server.address, "home", "a").await;
    let mut b = Client::connect(server.address, "home", "b").await;
    let at = now();
    let write = |kind: &str, op: u64, at: f64, member: &str| json!({ "type": kind, "op": op, "at": at, "key": "tags", "member": member });
    // Its own.
    a.write(&write("insert", 1, at, "own")).await;
    a.write(&write("discard", 2, at - 50.0, "own")).await;
    assert!(server.field.members("tags").is_empty());
    // A write of another client, whose version it has seen.
    b.write(&write("insert", 1, at, "seen")).await;
    a.subscribe(json!(["tags"])).await;
    let mut raw = Client::connect(server.address, "home", "raw").await;
    raw.tab.send(&json!({ "type": "subscribe", "patterns": ["tags"] })).await;
    let snapshot = raw.tab.next("snapshot").await;
    let version = snapshot["entries"][0]["version"].clone();
    assert_eq!(version, b.acks[&1]["version"], "{snapshot}");
    let mut discard = write("discard", 3, at - 50.0, "seen");
    discard["replaces"] = version;
    a.write(&discard).await;
    assert!(server.field.members("tags").is_empty());
    assert_eq!(a.superseded, [] as [Value; 0]);
    // One that it has not seen stays, and it hears of that.
    b.write(&write("insert", 2, at, "unseen")).await;
    a.write(&write("discard", 4, at - 50.0, "unseen")).await;
    a.until(|client| client.superseded.len() == 1).await;
    let told = &a.superseded[0];
    assert_eq!(
        (&told["set"], &told["member"], &told["by"]),
        (&json!("tags"), &json!("unseen"), &b.acks[&2]["version"])
    );
    assert_eq!(server.field.members("tags").len(), 1);
    server.stop().await;
}
