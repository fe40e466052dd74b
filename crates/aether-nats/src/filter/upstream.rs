//! The filter's connection to the real server: up to the server's greeting in the clear, and over TLS where that is
//! asked for.

use std::io;

use async_nats::ServerAddr;
use async_nats::rustls::pki_types::ServerName;
use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::NatsTls;

/// The bound of a line of the handshake. A login with a token of many permissions has some tens of KiB.
const MAX_HANDSHAKE: usize = 1 << 20;

/// A connection to a server that has sent its greeting and waits for a login.
#[derive(Debug)]
pub(super) struct Upstream {
    stream: TcpStream,
    /// The bytes behind the greeting.
    pub(super) early: BytesMut,
    greeting: Map<String, Value>,
    host: String,
    is_over_tls: bool,
}

/// A connection over which a login can be sent.
pub(super) enum Secured {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Upstream {
    /// Connects to a server, by the first of its addresses that answers.
    ///
    /// # Errors
    /// An error of the network, or a greeting that is not a NATS server's.
    pub(super) async fn open(server: &ServerAddr, requires_tls: bool) -> io::Result<Self> {
        let addresses: Vec<_> = server.socket_addrs().await?.collect();
        let mut stream = TcpStream::connect(&*addresses).await?;
        stream.set_nodelay(true)?;
        let mut early = BytesMut::new();
        let greeting = fields(&line(&mut stream, &mut early).await?, b"INFO ")?;
        let asks = greeting.get("tls_required").and_then(Value::as_bool).unwrap_or(false);
        let is_over_tls = requires_tls || asks || server.tls_required();
        Ok(Self { stream, early, greeting, host: server.host().to_owned(), is_over_tls })
    }

    /// The greeting for the client, which speaks with the filter in the clear.
    pub(super) fn greeting(&self) -> Bytes {
        let mut greeting = self.greeting.clone();
        greeting.insert("tls_required".to_owned(), Value::Bool(false));
        written("INFO ", greeting)
    }

    /// Makes the handshake of TLS where that is asked for. The certificates are read now.
    ///
    /// # Errors
    /// An error of the handshake or of the files.
    pub(super) async fn secured(self, tls: &NatsTls) -> io::Result<(Secured, BytesMut)> {
        if !self.is_over_tls {
            return Ok((Secured::Plain(self.stream), self.early));
        }
        if !self.early.is_empty() {
            return Err(io::Error::other("the server sent something in the clear where TLS was to begin"));
        }
        let tls = tls.clone();
        let config = spawn_blocking(move || tls.client_config()).await.map_err(io::Error::other)??;
        let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
        let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(name, self.stream).await?;
        Ok((Secured::Tls(Box::new(stream)), self.early))
    }
}

/// Reads a line of a handshake, without its end. The bytes behind it stay in the buffer.
pub(super) async fn line(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<BytesMut> {
    loop {
        if let Some(end) = buffer.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = buffer.split_to(end);
            buffer.advance(2);
            return Ok(line);
        }
        if buffer.len() > MAX_HANDSHAKE {
            return Err(io::Error::other("a line of the handshake is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The fields of a line of a handshake.
pub(super) fn fields(line: &[u8], begins: &[u8]) -> io::Result<Map<String, Value>> {
    let fields = line.strip_prefix(begins).ok_or_else(|| io::Error::other("the line is not NATS"))?;
    Ok(serde_json::from_slice(fields)?)
}

/// A line of a handshake.
pub(super) fn written(begins: &str, fields: Map<String, Value>) -> Bytes {
    format!("{begins}{}\r\n", Value::Object(fields)).into()
}
