//! The hub: forwards each client's messages to all clients, in one order.

use std::io;
use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::{JoinHandle, JoinSet};

use crate::message;

/// A hub that serves a socket until it is dropped.
#[derive(Debug)]
pub struct Hub(JoinHandle<()>);

impl Hub {
    /// How many messages a slow client may fall behind before it misses some.
    pub const BEHIND: usize = 1 << 14;

    /// Serves a socket. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_with(path, Self::BEHIND)
    }

    /// Like [`bind`](Self::bind), with a custom limit on how many messages a client may fall behind.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub fn bind_with(path: impl AsRef<Path>, behind: usize) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let all = broadcast::Sender::new(behind);
        Ok(Self(tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(serve(client, all.clone()));
                while clients.try_join_next().is_some() {}
            }
        })))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Forwards messages until the client is gone.
async fn serve(client: UnixStream, all: broadcast::Sender<Bytes>) {
    let mut messages = all.subscribe();
    let (input, mut output) = client.into_split();
    let mut input = BufReader::new(input);
    let from_client = async {
        while let Ok(bytes) = message::read(&mut input).await {
            // There is at least one subscriber: this client.
            let _ = all.send(bytes);
            tokio::task::coop::consume_budget().await;
        }
    };
    let to_client = async {
        loop {
            match messages.recv().await {
                Ok(bytes) if message::write(&mut output, &bytes).await.is_ok() => {}
                // The client detects what it has missed.
                Err(RecvError::Lagged(_)) => {}
                _ => return,
            }
        }
    };
    tokio::select! {
        () = from_client => {}
        () = to_client => {}
    }
    let _ = output.shutdown().await;
}
