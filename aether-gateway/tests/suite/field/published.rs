//! Protocol 0.4, as the published clients of the sync engine speak it.

use std::time::Duration;

use aether_core::Aether;
use aether_gateway::{FieldOptions, Gateway, GatewayOptions, SecurityLimits};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::field::client::{Client, Heard, TOO_BIG, Tab};
use crate::field::server::Server;
use crate::support::StoppedTime;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

async fn server() -> (Aether, Server) {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    (aether, server)
}

#[tokio::test]
async fn case_22_the_messages_have_exactly_the_keys_of_the_published_server() {
    let (_aether, server) = server().await;
    server.field.set("before", &json!({ "b": 1, "a": [2.5] })).unwrap();
    let mut a = Tab::connect(server.address, "/field/home/ws").await;
    let hello = a.json().await;
    assert_eq!(keys(&hello), ["color", "id", "type"]);
    let hue = hello["color"].as_str().unwrap();
    assert!(hue.starts_with("hsl(") && hue.ends_with(", 78%, 62%)"), "{hue}");
    let snapshot = a.json().await;
    assert_eq!(snapshot, json!({ "type": "snapshot", "data": { "before": { "b": 1, "a": [2.5] } } }));

    let (mut b, _) = Tab::opened(server.address, "home").await;
    a.send(&json!({ "type": "set", "key": "k", "value": { "z": 1, "y": null } })).await;
    let expected = json!({ "type": "set", "key": "k", "value": { "z": 1, "y": null } });
    assert_eq!(
        (a.json().await, b.json().await),
        (expected.clone(), expected),
        "the writer gets the echo, too"
    );
    a.send(&json!({ "type": "delete", "key": "k" })).await;
    let expected = json!({ "type": "delete", "key": "k" });
    assert_eq!((a.json().await, b.json().await), (expected.clone(), expected));
    a.send(&json!({ "type": "delete", "key": "never was" })).await;
    assert_eq!(a.json().await, json!({ "type": "delete", "key": "never was" }), "an echo acknowledges");

    a.send(&json!({ "type": "presence", "x": 3, "y": 4 })).await;
    let presence = b.next("presence").await;
    assert_eq!(keys(&presence), ["color", "id", "type", "x", "y"]);
    assert_eq!((&presence["id"], &presence["color"]), (&hello["id"], &hello["color"]));
    drop(a);
    let leave = b.next("presence-leave").await;
    assert_eq!(leave, json!({ "type": "presence-leave", "id": hello["id"] }));
    server.stop().await;
}

#[tokio::test]
async fn case_22_bad_input_is_dropped_and_the_connection_kept() {
    let (_aether, server) = server().await;
    let (mut a, _) = Tab::opened(server.address, "home").await;
    let long = "x".repeat(70_000);
    for text in [
        "no json".to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        r#"{"key":"k","value":1}"#.to_owned(),
        r#"{"type":"of-a-later-version","key":"k"}"#.to_owned(),
        r#"{"type":"set"}"#.to_owned(),
        r#"{"type":"set","key":"","value":1}"#.to_owned(),
        r#"{"type":"set","key":["k"],"value":1}"#.to_owned(),
        r#"{"type":"auth","token":"late"}"#.to_owned(),
        json!({ "type": "set", "key": "k".repeat(257), "value": 1 }).to_string(),
        json!({ "type": "set", "key": "k", "value": "v".repeat(32_767) }).to_string(),
        json!({ "type": "set", "key": "k", "value": long }).to_string(),
    ] {
        a.send_text(&text).await;
    }
    a.send(&json!({ "type": "set", "key": "good", "value": 1 })).await;
    assert_eq!(a.json().await, json!({ "type": "set", "key": "good", "value": 1 }));
    let refused = server.line().await["refused"].clone();
    assert_eq!((&refused["json"], &refused["key"]), (&json!(4), &json!(4)), "{refused}");
    assert_eq!((&refused["value_size"], &refused["message_size"]), (&json!(1), &json!(1)), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn what_was_refused_is_on_the_page_and_in_the_metrics_by_reason() {
    let (_aether, server) = server().await;
    let (mut a, _) = Tab::opened(server.address, "home").await;
    a.send_text("no json").await;
    a.send(&json!({ "type": "set", "key": "k", "value": 1 })).await;
    a.next("set").await;
    let metrics = server.get("/metrics").await;
    for line in [
        r#"aether_field_clients{field="home"} 1"#,
        r#"aether_field_writes_total{field="home"} 1"#,
        r#"aether_field_refused_changes_total{field="home",reason="clock"} 0"#,
        r#"aether_field_refused_total{field="home",reason="json"} 1"#,
        r#"aether_field_refused_total{field="home",reason="token"} 0"#,
        r#"aether_field_dropped_clients_total{field="home",reason="stalled"} 0"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    let page = server.get("/status").await;
    assert!(page.contains("Fields over WebSocket") && page.contains("1 json"), "{page}");
    server.stop().await;
}

#[tokio::test]
async fn case_8_values_that_break_readers_reach_nobody_and_restarts_work() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let aether = Aether::local();
    let join = || aether_field::Field::builder("home").store(&store).join(&aether);
    let field = join().await.unwrap();
    let server = Server::serving(&aether, FieldOptions::default(), Default::default(), field).await;
    server.field.set("k", &1).unwrap();
    let (mut a, _) = Tab::opened(server.address, "home").await;
    let deep = format!("{}{}", "[".repeat(16_000), "]".repeat(16_000));
    for value in ["NaN", r#""\ud800""#, r#"{"\udfff":1}"#, "1e999", deep.as_str()] {
        a.send_text(&format!(r#"{{"type":"set","key":"k","value":{value}}}"#)).await;
    }
    a.send_text(&format!(r#"{{"type":"set","key":"k","value":{}"#, "[".repeat(100_000))).await;
    a.send_text(r#"{"type":"set","key":"__proto__","value":{"__proto__":1}}"#).await;
    assert_eq!(a.json().await["value"], json!({ "__proto__": 1 }), "everything before was dropped");
    a.send(&json!({ "type": "set", "key": "k".repeat(256), "value": "v".repeat(32_766) })).await;
    assert_eq!(a.json().await["type"], "set");
    a.send_text(r#"{"type":"set","key":"k","value":null}"#).await;
    assert_eq!(a.json().await, json!({ "type": "delete", "key": "k" }), "a field holds no null");
    server.stop().await;

    let server =
        Server::serving(&aether, FieldOptions::default(), Default::default(), join().await.unwrap()).await;
    let (_tab, data) = Tab::opened(server.address, "home").await;
    assert_eq!(keys(&data), ["__proto__", &"k".repeat(256)]);
    server.stop().await;
}

#[tokio::test]
async fn a_value_of_another_replica_that_is_no_json_reaches_no_client() {
    let (_aether, server) = server().await;
    server.field.set_json("bad", "NaN".into()).unwrap();
    server.field.set("good", &1).unwrap();
    let (mut a, data) = Tab::opened(server.address, "home").await;
    assert_eq!(data, json!({ "good": 1 }));
    server.field.set_json("worse", "{".into()).unwrap();
    server.field.set("good", &2).unwrap();
    assert_eq!(a.json().await, json!({ "type": "set", "key": "good", "value": 2 }));
    let client = Client::following(server.address, "home", "own").await;
    assert_eq!(client.value("bad"), None);
    assert!(server.line().await["unreadable_values"].as_u64().unwrap() >= 2);
    server.stop().await;
}

/// The published server closes the connection of such a client, which then loses what it has not sent.
#[tokio::test]
async fn case_4_5000_offline_writes_of_a_published_client_arrive_on_default_limits() {
    let time = StoppedTime::new();
    let (_aether, server) = server().await;
    let (mut tab, _) = Tab::opened(server.address, "home").await;
    for number in 0..5000 {
        tab.send(&json!({ "type": "set", "key": format!("k{number}"), "value": number })).await;
    }
    // A burst of 200, and 100 a second.
    let (mut echoes, mut taken) = (0, 200);
    while taken < 5000 {
        while echoes < taken {
            assert_eq!(tab.json().await["type"], "set");
            echoes += 1;
        }
        time.tenth_passes().await;
        taken += 10;
    }
    while echoes < 5000 {
        assert_eq!(tab.json().await["type"], "set");
        echoes += 1;
    }
    assert_eq!(server.field.list("k*").len(), 5000);
    let status = server.line().await;
    assert!(status["refused"].as_object().unwrap().values().all(|count| count == 0), "{status}");
    server.stop().await;
}

#[tokio::test]
async fn a_frame_over_the_bound_is_closed_with_1009() {
    let (_aether, server) = server().await;
    let (mut a, _) = Tab::opened(server.address, "home").await;
    a.send_text(&"x".repeat(262_145)).await;
    assert_eq!(a.closed().await.map(|(code, _)| code), Some(TOO_BIG));
    server.stop().await;
}

#[tokio::test]
async fn case_7_an_idle_viewer_stays_and_a_dead_one_is_found() {
    let time = StoppedTime::new();
    let mut limits = SecurityLimits::default();
    // The viewer is idle for five times the silence that is given to a dead one. The defaults are 20 s and 60 s.
    limits.handshake_timeout = Duration::from_millis(200);
    limits.ping_interval = Duration::from_millis(100);
    limits.max_silence = Duration::from_millis(600);
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    let (mut viewer, _) = Tab::opened(server.address, "home").await;
    // It does not read, so it answers no ping.
    let (_dead, _) = Tab::opened(server.address, "home").await;
    // Five times the silence. An idle viewer hears nothing but the pings, which it answers, and stays.
    for _ in 0..30 {
        time.tenth_passes().await;
        let heard = viewer.socket.next().await;
        assert!(matches!(heard, Some(Ok(Message::Ping(_)))), "{heard:?}");
    }
    server.field.set("k", &1).unwrap();
    assert_eq!(viewer.json().await["key"], "k");
    let line = server.line().await;
    assert_eq!((&line["clients"], &line["dropped_clients"]["silent"]), (&json!(1), &json!(1)), "{line}");
    drop(time);
    server.stop().await;
}

/// C3 17, the half about ports.
#[tokio::test]
async fn a_gateway_that_stops_frees_its_port_in_the_same_process() {
    let aether = Aether::local();
    // The system gives this port to nobody else meanwhile.
    let address = ([127, 0, 0, 1], aether_conformance::free_port().unwrap()).into();
    let field = aether_field::Field::builder("home").replica("gateway").join(&aether).await.unwrap();
    let (options, gateway) = (FieldOptions::default(), GatewayOptions::default());
    let server = Server::serving_at(&aether, options, gateway, field, address).await;
    let (mut tab, _) = Tab::opened(address, "home").await;
    server.stop().await;
    assert!(matches!(tab.hear().await, Heard::Closed(_)));
    let options = GatewayOptions::default().listen(address).physics(false);
    let again = Gateway::start(&aether, options).await.expect("the port is free");
    assert_eq!(again.address(), address);
}
