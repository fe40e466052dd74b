//! `POST /waves/{channel}`: CloudEvents in both modes, and waves for which there is no room.

use std::time::{Duration, Instant};

use aether_core::{Aether, InboxOptions, Kind, Vibrator, WhenFull};
use aether_gateway::GatewayOptions;
use serde_json::{Value, json};

use crate::api::{PATIENCE, request};
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_the_same_wave_in_binary_and_in_structured_mode() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("orders.*").await.unwrap();

    let binary = "POST /waves/orders.paid HTTP/1.1\r\ncontent-type: application/json\r\nce-specversion: 1.0\r\n\
                  ce-id: 5\r\nce-source: /till/%C3%B6\r\nce-type: paid\r\nce-partitionkey: customer-7\r\n\
                  ce-causationid: shop@1f/3\r\nce-aetheramplitude: 0.9\r\nce-aetherkind: command\r\nce-shop: north";
    let structured = json!({
        "specversion": "1.0", "id": "5", "source": "/till/\u{f6}", "type": "paid", "partitionkey": "customer-7",
        "causationid": "shop@1f/3", "aetheramplitude": 0.9, "aetherkind": "command", "shop": "north",
        "datacontenttype": "application/json", "data": { "sum": 3 },
    })
    .to_string();
    let as_structured =
        "POST /waves/orders.paid HTTP/1.1\r\ncontent-type: application/cloudevents+json; charset=utf-8";
    for (head, body) in [(binary, r#"{"sum":3}"#), (as_structured, structured.as_str())] {
        let (code, answer) = request(&running, head, body).await;
        assert_eq!(code, 202, "{answer}");
        let wave = ear.receive().await.unwrap();
        assert_eq!(&wave.payload()[..], br#"{"sum":3}"#, "{head}");
        assert_eq!((wave.kind(), wave.key()), (Kind::Command, Some("customer-7")), "{head}");
        assert_eq!(wave.content_type().as_str(), "application/json", "{head}");
        assert_eq!(wave.cause().unwrap().sequence, 3, "{head}");
        assert!((wave.amplitude().as_f32() - 0.9).abs() < 0.01, "{head}");
        let metadata = |name: &str| wave.metadata().value(name);
        assert_eq!((metadata("ce-id"), metadata("ce-type")), (Some("5"), Some("paid")), "{head}");
        assert_eq!(
            (metadata("ce-source"), metadata("ce-shop")),
            (Some("/till/\u{f6}"), Some("north")),
            "{head}"
        );
    }
    // Bytes travel as they are in binary mode, and as base64 in structured mode.
    let head = "POST /waves/orders.x HTTP/1.1\r\ncontent-type: application/cloudevents+json";
    let event = r#"{"specversion":"1.0","id":"6","source":"/","type":"x","data_base64":"AP8="}"#;
    assert_eq!(request(&running, head, event).await.0, 202);
    assert_eq!(ear.receive().await.unwrap().payload()[..], [0, 255]);

    for (head, body, says) in [
        ("content-type: application/cloudevents+json", "{", "not JSON"),
        ("content-type: application/cloudevents+json", r#"{"specversion":"1.0"}"#, "id"),
        ("content-type: application/cloudevents-batch+json", "[]", "batches"),
        ("ce-specversion: 0.3\r\nce-id: 1\r\nce-source: /\r\nce-type: a", "", "0.3"),
        ("ce-specversion: 1.0\r\nce-id: 1\r\nce-type: a", "", "source"),
    ] {
        let (code, answer) = request(&running, &format!("POST /waves/a HTTP/1.1\r\n{head}"), body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, &answer["reason"]), (400, &"wave".into()), "{head}: {answer}");
        assert!(answer["text"].as_str().unwrap().contains(says), "{head}: {answer}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_for_which_there_is_no_room_is_answered_with_the_reason() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let full = InboxOptions::interactive().max_waves(1).when_full(WhenFull::Wait { patience: PATIENCE });
    let till = Vibrator::builder("till").inbox(full).create(&aether).await.unwrap();
    till.resonate_on("orders.created").await.unwrap();
    let head = "POST /waves/orders.created?patience_ms=200 HTTP/1.1";
    assert_eq!(request(&running, head, "1").await.0, 202);
    let begin = Instant::now();
    let (code, answer) = request(&running, head, "2").await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &answer["reason"]), (503, &"full".into()), "{answer}");
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    // Its outcome is counted, as in the answer.
    let ledger = till.ledger();
    assert!(ledger.offered == 2 && ledger.lost() == 1 && ledger.adds_up(), "{ledger:?}");
    running.stop().await;
}
