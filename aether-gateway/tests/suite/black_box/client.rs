//! A WebSocket client that knows nothing of either server.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The longest time that a server may take for anything here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

pub(crate) fn closed(code: u16, reason: &str) -> Result<Value, Closed> {
    Err(Closed { code, reason: reason.to_owned() })
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Self {
        Self::with_protocol(url, None).await
    }

    pub(crate) async fn with_protocol(url: &str, protocol: Option<&str>) -> Self {
        Self::try_connect(url, protocol).await.unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub(crate) async fn try_connect(
        url: &str,
        protocol: Option<&str>,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut request = url.into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let (socket, _) =
            timeout(PATIENCE, connect_async(request)).await.expect("the handshake takes too long")?;
        Ok(Self { socket })
    }

    pub(crate) async fn text(&mut self, text: impl Into<String>) {
        // A server that has closed the connection may not take it any more.
        let _ = self.socket.send(Message::text(text.into())).await;
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.text(message.to_string()).await;
    }

    /// The next message, or the end.
    pub(crate) async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("the server sends nothing");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Ok(
                        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:.200}"))
                    );
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Closed { code: frame.code.into(), reason: frame.reason.to_string() });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("an unexpected frame: {other:?}"),
                // The close frame may be lost when a server resets a connection with input that it did not read.
                Some(Err(_)) | None => return Err(Closed { code: 1006, reason: String::new() }),
            }
        }
    }

    /// The next message, which has this type and exactly these keys beside it.
    pub(crate) async fn expect(&mut self, kind: &str, keys: &[&str]) -> Value {
        let message = self.next().await.unwrap_or_else(|closed| panic!("{closed:?} instead of {kind}"));
        assert_eq!(message["type"], kind, "{message}");
        let expected: BTreeSet<&str> = keys.iter().copied().chain(["type"]).collect();
        let found: BTreeSet<&str> = message.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, expected, "{message}");
        message
    }

    /// Takes `hello` and `snapshot`. Returns the id of the client and the snapshot.
    pub(crate) async fn greeted(&mut self) -> (String, Value) {
        let hello = self.expect("hello", &["id", "color"]).await;
        let mut snapshot = self.expect("snapshot", &["data"]).await;
        (hello["id"].as_str().unwrap().to_owned(), snapshot["data"].take())
    }

    pub(crate) async fn set(&mut self, key: &str, value: Value) {
        self.send(json!({ "type": "set", "key": key, "value": value })).await;
    }

    /// The next message is the change of a key to this value.
    pub(crate) async fn sees(&mut self, key: &str, value: &Value) {
        let message = self.expect("set", &["key", "value"]).await;
        assert_eq!((&message["key"], &message["value"]), (&json!(key), value));
    }

    /// Nothing has come for this client that was caused before: the next message belongs to its own write.
    pub(crate) async fn sees_nothing_but_its_own(&mut self, key: &str) {
        let value = json!("fence");
        self.set(key, value.clone()).await;
        self.sees(key, &value).await;
    }
}

pub(crate) async fn greeted(url: &str) -> Client {
    let mut client = Client::connect(url).await;
    client.greeted().await;
    client
}
