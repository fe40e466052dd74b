//! A WebSocket client without opinions.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::stream::SplitSink;
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Milliseconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0
}

impl Socket {
    /// A client of protocol 0.4, which has its snapshot.
    pub(crate) async fn old(url: &str) -> Self {
        let (socket, _) = connect_async_with_config(url, None, true).await.unwrap();
        let mut socket = Self(socket);
        while !socket.next().await.unwrap().contains("\"snapshot\"") {}
        socket
    }

    /// A client of the own protocol, which has said hello.
    pub(crate) async fn own(url: &str, id: &str) -> Self {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "aether.field.v1".parse().unwrap());
        let (socket, _) = connect_async_with_config(request, None, true).await.unwrap();
        let mut socket = Self(socket);
        socket.send(format!(r#"{{"type":"hello","client":"{id}"}}"#)).await;
        while !socket.next().await.unwrap().contains("\"hello\"") {}
        socket
    }

    /// A client of the own protocol, which has its snapshot of these names.
    pub(crate) async fn subscribed(url: &str, id: &str, pattern: &str) -> Self {
        let mut socket = Self::own(url, id).await;
        socket.send(format!(r#"{{"type":"subscribe","patterns":["{pattern}"]}}"#)).await;
        while !socket.next().await.unwrap().contains("\"done\":true") {}
        socket
    }

    pub(crate) async fn send(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The sending half; what comes is read and dropped.
    pub(crate) fn drained(self) -> SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, Message> {
        let (sink, mut stream) = self.0.split();
        tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
        sink
    }

    /// The next text; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Utf8Bytes> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Some(text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }
}
