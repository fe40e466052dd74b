//! A WebSocket client that does little more than read: it costs the processors less than the gateway that it measures.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is read at once.
const BUFFER: usize = 64 << 10;

/// Microseconds since 1970.
pub(crate) fn micros_now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A client that is subscribed.
pub(crate) struct Client {
    stream: TcpStream,
    /// The bytes read that are not a whole frame yet.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to the gateway at this address, and subscribes to all waves of the benchmark.
    pub(crate) async fn subscribed(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut client = Self { stream, buffer: Vec::with_capacity(BUFFER) };
        let end = loop {
            client.more().await;
            if let Some(at) = client.buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&client.buffer[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        client.buffer.drain(..end);
        let subscribe = br#"{"op":"subscribe","id":1,"filter":{"pattern":"crowd.>"}}"#;
        // A text, masked with zeros.
        let mut frame = vec![0x81, 0x80 | u8::try_from(subscribe.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(subscribe);
        client.stream.write_all(&frame).await.unwrap();
        let mut is_done = false;
        while !is_done {
            client.more().await;
            client.frames(|payload| is_done |= payload.starts_with(br#"{"id":1,"op":"done""#));
        }
        client
    }

    /// Waits for bytes.
    pub(crate) async fn more(&mut self) {
        if self.buffer.capacity() - self.buffer.len() < BUFFER / 2 {
            self.buffer.reserve(BUFFER);
        }
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "the gateway has closed the connection");
    }

    /// Hands on the payload of each whole frame.
    pub(crate) fn frames(&mut self, mut each: impl FnMut(&[u8])) {
        let mut begin = 0;
        while let Some((head, length)) = header(&self.buffer[begin..]) {
            let end = begin + head + length;
            let Some(payload) = self.buffer.get(begin + head..end) else { break };
            each(payload);
            begin = end;
        }
        self.buffer.drain(..begin);
    }
}

/// The length of the header of a frame from a server, and the length of its payload.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        short => Some((2, usize::from(short))),
    }
}
