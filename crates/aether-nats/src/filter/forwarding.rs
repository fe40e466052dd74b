//! Copies the bytes of a connection through the filter: from the client unchanged, from the server without
//! the messages that the client cannot parse.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;

use super::inspector::{Inspector, Step};
use crate::malformed::Malformed;

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// Counts what is left out.
#[derive(Debug, Clone)]
pub(super) struct Losses {
    pub(super) malformed: Arc<Malformed>,
    /// Of the latest connection.
    pub(super) left_out: Arc<AtomicU64>,
}

/// Copies until either side ends. `from_client` and `from_server` have arrived already.
pub(super) async fn forward<S: AsyncRead + AsyncWrite>(
    client: TcpStream,
    server: S,
    from_client: BytesMut,
    from_server: BytesMut,
    losses: &Losses,
) -> io::Result<()> {
    let (client_reader, mut client_writer) = client.into_split();
    let (server_reader, server_writer) = split(server);
    tokio::select! {
        ended = copy(client_reader, server_writer, from_client) => ended,
        ended = copy_readable(server_reader, &mut client_writer, from_server, losses) => {
            // The client sees the end of the stream behind everything that came.
            let _ = client_writer.shutdown().await;
            ended
        }
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut bytes: BytesMut,
) -> io::Result<()> {
    loop {
        to.write_all(&bytes).await?;
        to.flush().await?;
        bytes.clear();
        bytes.reserve(CHUNK);
        if from.read_buf(&mut bytes).await? == 0 {
            return to.shutdown().await;
        }
    }
}

async fn copy_readable(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: BytesMut,
    losses: &Losses,
) -> io::Result<()> {
    let mut inspector = Inspector::default();
    loop {
        let (mut passing, mut wanted) = (0, 1);
        while passing < bytes.len() {
            let step = inspector.next(&bytes[passing..], |message| {
                losses.left_out.fetch_add(1, Ordering::Relaxed);
                losses.malformed.note(&message.subject, message.error);
            });
            match step.map_err(io::Error::other)? {
                Step::Pass(more) => passing += more,
                Step::LeaveOut(more) => {
                    to.write_all(&bytes[..passing]).await?;
                    bytes.advance(passing + more);
                    passing = 0;
                }
                Step::Wait(in_all) => {
                    wanted = in_all - (bytes.len() - passing);
                    break;
                }
            }
        }
        to.write_all(&bytes[..passing]).await?;
        bytes.advance(passing);
        bytes.reserve(wanted.max(CHUNK));
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}
