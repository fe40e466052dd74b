//! Subscriptions that change, rights that change, and the time, within a session.

use std::time::Duration;

use aether_core::Aether;
use aether_gateway::{Access, FieldOptions, SecurityLimits};
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::field::client::{Client, Heard, PATIENCE, Tab, now};
use crate::field::rights::private;
use crate::field::server::Server;

async fn server() -> (Aether, Server) {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    (aether, server)
}

/// Waits for a change that is made now, so everything before has come.
async fn marked(client: &mut Client, server: &Server, key: &str) {
    server.field.set(key, &now()).unwrap();
    let at = server.field.get::<Value>(key).unwrap();
    client.until(|client| client.value(key) == at.as_ref()).await;
}

#[tokio::test]
async fn what_is_added_comes_as_a_snapshot_of_its_own_and_the_rest_goes_on() {
    let (_aether, server) = server().await;
    for number in 0..500 {
        server.field.set(&format!("a/{number}"), &number).unwrap();
        server.field.set(&format!("b/{number}"), &number).unwrap();
    }
    let mut client = Client::connect(server.address, "home", "tab").await;
    client.tab.send(&json!({ "type": "subscribe", "patterns": ["a/*", "mark"] })).await;
    client.until(|client| client.snapshots == 1).await;
    assert_eq!(client.state.len(), 500);

    client.tab.send(&json!({ "type": "subscribe", "add": ["b/*"] })).await;
    // Meanwhile others write in both.
    server.field.set("a/0", &"changed").unwrap();
    server.field.set("b/0", &"changed").unwrap();
    server.field.remove("b/1").unwrap();
    let added = loop {
        let message = client.tab.json().await;
        if message["type"] != "snapshot" {
            client.take(message);
            continue;
        }
        let is_done = message["done"] == true;
        assert_eq!((&message["patterns"], &message["owners"]), (&json!(["b/*"]), &json!([])));
        let keys = message["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap());
        assert!(keys.into_iter().all(|key| key.starts_with("b/")), "nothing is sent twice");
        client.take(message);
        if is_done {
            break client.cursor.clone();
        }
    };
    marked(&mut client, &server, "mark").await;
    assert_eq!(
        (client.value("a/0"), client.value("b/0")),
        (Some(&json!("changed")), Some(&json!("changed")))
    );
    assert_eq!((client.value("b/1"), client.state.len()), (None, 500 + 499 + 1));
    assert_ne!(added.as_ref().map(|(epoch, _)| epoch.clone()), None);

    // The cursor belongs to both, whoever asks for them in whatever order.
    let cursor = client.cursor.clone().unwrap();
    drop(client);
    server.field.set("b/2", &"while away").unwrap();
    let mut back = Client::connect(server.address, "home", "tab").await;
    let (epoch, revision) = cursor;
    let patterns = ["b/*", "mark", "a/*"];
    back.tab
        .send(&json!({ "type": "subscribe", "patterns": patterns, "epoch": epoch, "revision": revision }))
        .await;
    assert_eq!(back.tab.next("subscribed").await["resumed"], true);
    let changes = back.tab.next("changes").await;
    assert_eq!(changes["entries"][0]["key"], "b/2");
    server.stop().await;
}

#[tokio::test]
async fn what_is_removed_comes_no_more_and_nothing_else_starts_again() {
    let (_aether, server) = server().await;
    server.field.set("a/1", &1).unwrap();
    server.field.set("b/1", &1).unwrap();
    let mut client = Client::connect(server.address, "home", "tab").await;
    client.tab.send(&json!({ "type": "subscribe", "patterns": ["*"], "presence": true })).await;
    client.until(|client| client.snapshots == 1).await;
    client.tab.send(&json!({ "type": "subscribe", "add": ["a/*", "mark"], "remove": ["*"] })).await;
    let answer = client.tab.next("subscribed").await;
    assert_eq!(answer["resumed"], true, "it had everything of these names: {answer}");
    server.field.set("b/1", &2).unwrap();
    server.field.set("a/1", &2).unwrap();
    marked(&mut client, &server, "mark").await;
    assert_eq!((client.value("a/1"), client.value("b/1")), (Some(&json!(2)), Some(&json!(1))));
    assert_eq!(client.snapshots, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_ping_is_answered_with_the_clock_of_the_gateway() {
    let (_aether, server) = server().await;
    let mut client = Client::connect(server.address, "home", "tab").await;
    let before = now();
    client.tab.send(&json!({ "type": "ping", "id": 41 })).await;
    let pong = client.tab.next("pong").await;
    let time = pong["time"].as_f64().unwrap();
    assert!(pong["id"] == 41 && (before - 1.0..=now() + 1.0).contains(&time), "{pong}");
    server.stop().await;
}

const ONE: &str =
    r#"[{"token":"one","read":["a/*"],"write":["a/*"]},{"token":"two","read":["*"],"write":["b/*"]}]"#;

async fn guarded(limits: SecurityLimits) -> (Aether, Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    private(&path, ONE);
    let access = Access::load(&path).unwrap();
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().access(access).limits(limits)).await;
    server.field.set("a/1", &1).unwrap();
    server.field.set("b/1", &1).unwrap();
    (aether, server, folder)
}

#[tokio::test]
async fn another_token_gives_other_rights_without_a_new_connection() {
    let (_aether, server, _folder) = guarded(SecurityLimits::default()).await;
    let mut client = Client::with_token(server.address, "home", "tab", Some("one")).await;
    client.tab.send(&json!({ "type": "subscribe", "patterns": ["*"] })).await;
    client.until(|client| client.snapshots == 1).await;
    assert_eq!((client.value("a/1"), client.value("b/1")), (Some(&json!(1)), None));
    client.tab.send(&client.set(1, now(), "b/2", &json!(1))).await;
    client.until(|client| client.refused.contains_key(&1)).await;

    client.tab.send(&json!({ "type": "token", "token": "two" })).await;
    let answer = client.tab.next("token").await;
    assert_eq!((&answer["read"], &answer["write"]), (&json!(["*"]), &json!(["b/*"])));
    client.until(|client| client.value("b/1").is_some()).await;
    client.write(&client.set(2, now(), "b/2", &json!(1))).await;
    client.tab.send(&client.set(3, now(), "a/2", &json!(1))).await;
    client.until(|client| client.refused.contains_key(&3)).await;

    client.tab.send(&json!({ "type": "token", "token": "guess" })).await;
    assert_eq!(client.tab.closed().await.map(|(code, _)| code), Some(4401));
    let mut late = Tab::own(server.address, "home").await;
    late.send(&json!({ "type": "hello", "client": "x", "token": "guess" })).await;
    assert_eq!(late.closed().await.map(|(code, _)| code), Some(4401));
    server.stop().await;
}

/// Sends a message again and again, as a client that lives, until the connection is closed. Returns the code.
async fn ended(tab: &mut Tab, alive: &Value) -> Option<u16> {
    loop {
        match timeout(Duration::from_millis(50), tab.hear()).await {
            Ok(Heard::Closed(why)) => return why.map(|(code, _)| code),
            Ok(Heard::Json(_)) => {}
            // The connection may be closed meanwhile.
            Err(_) => drop(tab.socket.send(Message::text(alive.to_string())).await),
        }
    }
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_the_sessions_of_both_protocols() {
    let mut limits = SecurityLimits::default();
    limits.ping_interval = Duration::from_millis(100);
    let (_aether, server, folder) = guarded(limits).await;
    let mut own = Client::with_token(server.address, "home", "tab", Some("one")).await;
    let mut old = Tab::connect(server.address, "/field/home/ws?auth_token=one").await;
    assert_eq!(old.next("snapshot").await["data"], json!({ "a/1": 1 }));
    private(&folder.path().join("tokens.json"), r#"[{"token":"two","read":["*"]}]"#);
    let ping = json!({ "type": "ping", "id": 1 });
    assert_eq!(timeout(PATIENCE, ended(&mut own.tab, &ping)).await, Ok(Some(4401)));
    let other = json!({ "type": "of a later version" });
    assert_eq!(timeout(PATIENCE, ended(&mut old, &other)).await, Ok(Some(1008)));
    server.stop().await;
}

#[tokio::test]
async fn a_token_for_waves_has_no_right_in_a_field() {
    let aether = Aether::local();
    let access = Access::default().waves_token("waves").unwrap();
    let server = Server::start(&aether, FieldOptions::default().access(access)).await;
    let mut client = Tab::own(server.address, "home").await;
    client.send(&json!({ "type": "hello", "client": "x", "token": "waves" })).await;
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(4403));
    server.stop().await;
}
