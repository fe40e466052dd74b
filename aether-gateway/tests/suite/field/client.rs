//! A small client of both protocols, written from `docs/protocol/field-websocket.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// No answer takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection that speaks protocol 0.4, or sends anything.
pub(crate) struct Tab {
    pub(crate) socket: Socket,
}

/// The received message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Json(Value),
    Closed(Option<(u16, String)>),
}

impl Tab {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::try_connect(address, path, &[]).await.expect("the upgrade succeeds")
    }

    /// A connection that speaks the own protocol, before its hello.
    pub(crate) async fn own(address: SocketAddr, field: &str) -> Self {
        let own = [("sec-websocket-protocol", "aether.field.v1")];
        Self::try_connect(address, &format!("/field/{field}/ws"), &own).await.expect("the upgrade succeeds")
    }

    pub(crate) async fn try_connect(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket })
    }

    pub(crate) async fn send(&mut self, value: &Value) {
        self.send_text(&value.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the message is sent");
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("an answer in time") {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Json(serde_json::from_str(&text).expect("JSON that a browser can read"));
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                    return Heard::Closed(frame);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        match self.hear().await {
            Heard::Json(value) => value,
            Heard::Closed(why) => panic!("the connection was closed: {why:?}"),
        }
    }

    /// The next message of this type; others are passed over.
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        loop {
            let value = self.json().await;
            if value["type"] == kind {
                return value;
            }
        }
    }

    /// Reads until the connection is closed.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            if let Heard::Closed(why) = self.hear().await {
                return why;
            }
        }
    }

    /// The hello and the snapshot of protocol 0.4.
    pub(crate) async fn opened(address: SocketAddr, field: &str) -> (Self, Value) {
        let mut tab = Self::connect(address, &format!("/field/{field}/ws")).await;
        assert_eq!(tab.json().await["type"], "hello");
        let snapshot = tab.json().await;
        assert_eq!(snapshot["type"], "snapshot");
        (tab, snapshot["data"].clone())
    }
}

pub(crate) const POLICY: u16 = 1008;
pub(crate) const TOO_BIG: u16 = 1009;
pub(crate) const BUSY: u16 = 1013;

const _: CloseCode = CloseCode::Policy;

/// Milliseconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1000.0
}

/// A client of the own protocol: it keeps the state that it has seen, as an application would.
pub(crate) struct Client {
    pub(crate) tab: Tab,
    pub(crate) hello: Value,
    pub(crate) state: BTreeMap<String, Value>,
    pub(crate) versions: BTreeMap<String, Value>,
    pub(crate) cursor: Option<(Value, Value)>,
    pub(crate) superseded: Vec<Value>,
    pub(crate) acks: BTreeMap<u64, Value>,
    pub(crate) refused: BTreeMap<u64, Value>,
    pub(crate) durable: Vec<u64>,
    /// The messages that were not about state.
    pub(crate) others: Vec<Value>,
    pub(crate) snapshots: usize,
    /// The keys that the client knew before a snapshot, and did not get with it yet.
    unconfirmed: BTreeSet<String>,
}

impl Client {
    /// Connects and sends its hello.
    pub(crate) async fn connect(address: SocketAddr, field: &str, id: &str) -> Self {
        Self::with_token(address, field, id, None).await
    }

    pub(crate) async fn with_token(address: SocketAddr, field: &str, id: &str, token: Option<&str>) -> Self {
        let mut tab = Tab::own(address, field).await;
        tab.send(&json!({ "type": "hello", "client": id, "token": token })).await;
        let hello = tab.json().await;
        assert_eq!((&hello["type"], &hello["protocol"]), (&json!("hello"), &json!(1)));
        Self {
            tab,
            hello,
            state: BTreeMap::new(),
            versions: BTreeMap::new(),
            cursor: None,
            superseded: Vec::new(),
            acks: BTreeMap::new(),
            refused: BTreeMap::new(),
            durable: Vec::new(),
            others: Vec::new(),
            snapshots: 0,
            unconfirmed: BTreeSet::new(),
        }
    }

    /// Connects, subscribes to everything, and waits for the snapshot.
    pub(crate) async fn following(address: SocketAddr, field: &str, id: &str) -> Self {
        let mut client = Self::connect(address, field, id).await;
        client.subscribe(json!(["*"])).await;
        client
    }

    pub(crate) async fn subscribe(&mut self, patterns: Value) {
        let mut request = json!({ "type": "subscribe", "patterns": patterns });
        if let Some((epoch, revision)) = &self.cursor {
            request["epoch"] = epoch.clone();
            request["revision"] = revision.clone();
        }
        self.tab.send(&request).await;
        let subscribed = loop {
            let message = self.tab.json().await;
            if message["type"] == "subscribed" {
                break message;
            }
            self.take(message);
        };
        if subscribed["resumed"] == false {
            let before = self.snapshots;
            self.until(|client| client.snapshots > before).await;
        }
    }

    /// Takes messages in until something is the case.
    pub(crate) async fn until(&mut self, is_the_case: impl Fn(&Self) -> bool) {
        while !is_the_case(self) {
            let message = self.tab.json().await;
            self.take(message);
        }
    }

    pub(crate) fn take(&mut self, message: Value) {
        let op = message["op"].as_u64();
        match message["type"].as_str().expect("a type") {
            "snapshot" | "changes" => {
                if message["first"] == true {
                    // A snapshot of added names does not concern others.
                    let patterns = message["patterns"].as_array();
                    let has = |pattern: &Value, key: &str| match pattern
                        .as_str()
                        .expect("a text")
                        .split_once('*')
                    {
                        Some((start, _)) => key.starts_with(start),
                        None => pattern == key,
                    };
                    let is_meant = |key: &&String| {
                        patterns.is_none_or(|all| all.iter().any(|pattern| has(pattern, key)))
                    };
                    self.unconfirmed = self.state.keys().filter(is_meant).cloned().collect();
                }
                for entry in message["entries"].as_array().expect("entries") {
                    self.enter(entry);
                }
                if message["revision"].is_u64() {
                    self.cursor = Some((message["epoch"].clone(), message["revision"].clone()));
                }
                if message["done"] == true {
                    for gone in std::mem::take(&mut self.unconfirmed) {
                        self.state.remove(&gone);
                    }
                    self.snapshots += 1;
                }
            }
            "cursor" => self.cursor = Some((message["epoch"].clone(), message["revision"].clone())),
            "ack" => drop(self.acks.insert(op.expect("an op"), message)),
            "refused" if op.is_some() => drop(self.refused.insert(op.expect("an op"), message)),
            "subscribed" => {}
            "durable" => self.durable.push(op.expect("an op")),
            "superseded" => self.superseded.push(message),
            _ => self.others.push(message),
        }
    }

    fn enter(&mut self, entry: &Value) {
        if let Some(owner) = entry["owner"].as_str() {
            let name = format!("{owner} {}", entry["key"].as_str().expect("a name"));
            match entry.get("value") {
                Some(value) => drop(self.state.insert(name, value.clone())),
                None => drop(self.state.remove(&name)),
            }
        } else if let Some(key) = entry["key"].as_str() {
            self.versions.insert(key.to_owned(), entry["version"].clone());
            self.unconfirmed.remove(key);
            match entry.get("value") {
                Some(value) => drop(self.state.insert(key.to_owned(), value.clone())),
                None => drop(self.state.remove(key)),
            }
        } else if let Some(counter) = entry["counter"].as_str() {
            let name = format!("counter {counter}");
            self.unconfirmed.remove(&name);
            self.state.insert(name, entry["sum"].clone());
        } else {
            let name = format!("set {} {}", entry["set"], entry["member"]);
            self.unconfirmed.remove(&name);
            if entry["present"] == true {
                self.state.insert(name, json!(true));
            } else {
                self.state.remove(&name);
            }
        }
    }

    /// A write of a register, with the version that this client has seen.
    pub(crate) fn set(&self, op: u64, at: f64, key: &str, value: &Value) -> Value {
        json!({ "type": "set", "op": op, "at": at, "key": key, "value": value, "replaces": self.seen(key) })
    }

    pub(crate) fn delete(&self, op: u64, at: f64, key: &str) -> Value {
        json!({ "type": "delete", "op": op, "at": at, "key": key, "replaces": self.seen(key) })
    }

    fn seen(&self, key: &str) -> Value {
        self.versions.get(key).cloned().unwrap_or(Value::Null)
    }

    /// Sends a write and waits for its acknowledgement.
    pub(crate) async fn write(&mut self, request: &Value) {
        let op = request["op"].as_u64().expect("an op");
        self.acks.remove(&op);
        self.tab.send(request).await;
        self.until(|client| client.acks.contains_key(&op)).await;
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.state.get(key)
    }

    /// Takes in everything that was sent before an answer that is asked for now.
    pub(crate) async fn settle(&mut self) {
        let before = self.others.len();
        // A message that is refused is answered in order.
        self.tab.send(&json!({ "type": "hello" })).await;
        self.until(|client| client.others.len() > before).await;
        self.others.pop();
    }
}
