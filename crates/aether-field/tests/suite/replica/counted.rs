//! A replica whose connection to a NATS server is counted, in bytes of both directions. What is sent all the time does not
//! count: a slow machine has more of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_field::Field;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Counted {
    pub(crate) field: Field,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    /// Joins the field `home` over the server at a port of this machine.
    pub(crate) async fn join(port: u16, replica: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let bytes = Arc::new(AtomicU64::new(0));
        tokio::spawn({
            let bytes = Arc::clone(&bytes);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(copy(from_client, to_server, Arc::clone(&bytes)));
                    tokio::spawn(copy(from_server, to_client, Arc::clone(&bytes)));
                }
            }
        });
        let aether = aether::connect(&url).await.unwrap();
        Self { field: Field::builder("home").replica(replica).join(&aether).await.unwrap(), bytes }
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, bytes: Arc<AtomicU64>) {
    let (mut buffer, mut rest) = (vec![0; 65_536], Vec::new());
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        rest.extend_from_slice(&buffer[..read]);
        while let Some((size, is_counted)) = first(&rest) {
            bytes.fetch_add(if is_counted { size as u64 } else { 0 }, Ordering::Relaxed);
            rest.drain(..size);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// The size of the first message of a connection to NATS, and whether it counts. `None` while it is not whole.
fn first(bytes: &[u8]) -> Option<(usize, bool)> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let mut words = std::str::from_utf8(&bytes[..line]).unwrap().split_whitespace();
    if !matches!(words.next(), Some("PUB" | "HPUB" | "MSG" | "HMSG")) {
        return Some((line, true));
    }
    let subject = words.next().unwrap();
    let size = line + words.last().unwrap().parse::<usize>().unwrap() + 2;
    let is_regular = subject.ends_with(".field.home.beats") || subject.contains("._aether.");
    (bytes.len() >= size).then_some((size, !is_regular))
}
