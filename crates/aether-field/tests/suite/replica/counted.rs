//! A replica whose connection to a NATS server is counted, in bytes of both directions.

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
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
