//! A client of the gateway's own protocol, `aether.field.v1`, written from `docs/protocol/field-websocket.md`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::black_box::client::{Client, PATIENCE};

pub(crate) const PROTOCOL: &str = "aether.field.v1";

#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) client: Client,
    op: u64,
    /// By how many milliseconds the clock of the gateway is ahead.
    ahead: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0
}

impl Own {
    /// Connects and sends its hello, as the client of this id.
    pub(crate) async fn connect(url: &str, id: &str) -> Self {
        let mut client = Client::with_protocol(url, Some(PROTOCOL)).await;
        client.send(json!({ "type": "hello", "client": id })).await;
        let hello = client.next().await.unwrap();
        assert_eq!((&hello["type"], &hello["protocol"]), (&json!("hello"), &json!(1)), "{hello}");
        let ahead = hello["time"].as_f64().unwrap() - now();
        Self { client, op: 0, ahead }
    }

    /// Subscribes to these patterns, and takes the whole snapshot. Returns its entries.
    pub(crate) async fn subscribe(&mut self, patterns: &[&str]) -> Vec<Value> {
        self.client.send(json!({ "type": "subscribe", "patterns": patterns, "presence": true })).await;
        let mut entries = Vec::new();
        loop {
            let mut message = self.client.next().await.unwrap();
            if message["type"] == "snapshot" {
                entries.append(message["entries"].as_array_mut().unwrap());
                if message["done"] == true {
                    return entries;
                }
            }
        }
    }

    /// Sends a write, and returns its number.
    pub(crate) async fn set(&mut self, key: &str, value: Value, durable: bool) -> u64 {
        self.op += 1;
        let (op, at) = (self.op, now() + self.ahead);
        self.client
            .send(
                json!({ "type": "set", "op": op, "at": at, "key": key, "value": value, "durable": durable }),
            )
            .await;
        op
    }

    /// The number of the last write.
    pub(crate) fn op(&self) -> u64 {
        self.op
    }

    /// The next message of this type.
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        // Bounded as a whole: cursors may come for ever.
        let next = async {
            loop {
                let message =
                    self.client.next().await.unwrap_or_else(|end| panic!("{end:?} instead of {kind}"));
                if message["type"] == kind {
                    return message;
                }
            }
        };
        timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no {kind} comes"))
    }

    /// The next change of a key.
    pub(crate) async fn change(&mut self, key: &str) -> Value {
        loop {
            let message = self.next("changes").await;
            if let Some(entry) =
                message["entries"].as_array().unwrap().iter().find(|entry| entry["key"] == key)
            {
                return entry.clone();
            }
        }
    }
}
