//! The HTTP server: accepts connections and bounds the resources of each client.
//!
//! The [endpoint](crate::Endpoint) and the gateway run it, each with pages of its own. There is one request per
//! connection. That costs a scrape little and makes every bound simple: a client has a time limit for its request and
//! one for the answer, and the number of [slots](crate::slots) is fixed. A new connection is always accepted: when slots
//! run out, a connection that was idle or slow for longer is closed. A request that has arrived is read before its
//! connection can be closed. The body of a request has the time of the answer; how large it may be is for the application
//! to say. An answer that goes on is marked as [`Streaming`], and is then bounded by the application, too.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{ClientAddress, ClientCertificate};
use crate::proxies::TrustedProxies;
use crate::slots::{Slot, Slots};
use crate::streaming::Streaming;
use crate::tls::Tls;
use crate::written::{Counted, Written};

/// The maximum number of connections, including those that have lost their slot and are still closing.
const MAX_CONNECTIONS: usize = 384;
/// The time limit for a client to send its request. Browsers open connections ahead, and use them later; a busy one takes
/// seconds. The slots bound how many wait.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// The time limit from the request to the end of its answer. A client that reads too slowly is disconnected.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// The time limit for open answers when the gateway ends.
const CLOSING_PATIENCE: Duration = Duration::from_millis(250);
/// The pause after the system refused a connection, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Answers until `shutdown` is cancelled. Then open answers have a quarter of a second.
///
/// It expects hostile clients. A request has 30 s to arrive, its body and its answer 15 s, and there is one request for
/// each connection. Every connection is accepted; where [slots](Slots) run out, the client with the most connections loses
/// its oldest one.
/// An application that reads the bodies of requests has to bound their size.
///
/// # Cancel safety
/// Cancelled before completion, all connections are closed.
pub async fn serve<S, B>(listener: TcpListener, slots: Arc<Slots>, app: S, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    serve_with(listener, None, TrustedProxies::default(), slots, app, shutdown).await;
}

/// As [`serve`], over TLS if there is any, and behind proxies that tell the addresses of their clients. Each request has the
/// [`ClientAddress`] among its extensions, and the
/// [`ClientCertificate`] if clients need one. A request may
/// upgrade its connection: the connection then leaves its slot and the bounds of this server, and belongs to the task
/// that took it over. An answer with [`Streaming`] among its extensions leaves them, too, until it ends.
///
/// # Cancel safety
/// Cancelled before completion, all connections are closed but those that were upgraded.
pub async fn serve_with<S, B>(
    listener: TcpListener,
    tls: Option<Tls>,
    proxies: TrustedProxies,
    slots: Arc<Slots>,
    app: S,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, client)) => {
                    if trouble.ended(Instant::now()) {
                        tracing::info!("connections are accepted again");
                    }
                    // Small messages of upgraded connections must not wait for acknowledgements. It fails only if the
                    // client is gone.
                    let _ = stream.set_nodelay(true);
                    let slot = slots.enter(client.ip());
                    let peer = Peer { address: client, proxies: proxies.clone() };
                    connections.spawn(answer(stream, tls.clone(), peer, slot, app.clone()));
                }
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    if trouble.begins(Instant::now()) {
                        tracing::warn!(%error, "cannot accept connections; retrying, without further messages");
                    }
                    // Closing a connection frees a file descriptor.
                    slots.evict_one();
                    let one_ended = async {
                        if connections.join_next().await.is_none() {
                            std::future::pending::<()>().await;
                        }
                    };
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, one_ended).await;
                }
            },
        }
    }
    drop(listener);
    let all_answered = async { while connections.join_next().await.is_some() {} };
    // Dropping the set closes the remaining connections.
    let _ = tokio::time::timeout(CLOSING_PATIENCE, all_answered).await;
}

/// How long accepting has to work until trouble counts as over. Connections that come and go use the last file descriptor in
/// turns, so that some are accepted between failures.
const CALM: Duration = Duration::from_secs(10);

/// Whether accepting currently fails, for example because all file descriptors are in use. It is logged once, not four
/// times a second.
#[derive(Debug, Default)]
struct Trouble {
    last_failure: Option<Instant>,
}

impl Trouble {
    /// Accepting failed. Returns whether this is the first failure.
    fn begins(&mut self, now: Instant) -> bool {
        self.last_failure.replace(now).is_none()
    }

    /// Accepting succeeded. Returns whether it failed before, and has not failed for a while.
    fn ended(&mut self, now: Instant) -> bool {
        self.last_failure.take_if(|failure| now.saturating_duration_since(*failure) >= CALM).is_some()
    }
}

/// Whether a client disconnected while being accepted. The next one is not affected.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The other side of a connection: a client, or a proxy.
struct Peer {
    address: SocketAddr,
    proxies: TrustedProxies,
}

async fn answer<S, B>(stream: TcpStream, tls: Option<Tls>, peer: Peer, slot: Slot, app: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Clone,
    S: Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let Some(tls) = tls else { return answer_over(stream, (peer, None), slot, app).await };
    let handshake = tls.acceptor().accept(stream);
    let stream = tokio::select! {
        biased;
        stream = handshake => match stream {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a TLS handshake failed"),
        },
        () = slot.lost() => return tracing::debug!("a connection was closed to make room for a newer one"),
        () = tokio::time::sleep(REQUEST_PATIENCE) => {
            slot.timed_out();
            return tracing::debug!("a TLS handshake was too slow");
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|certificate| ClientCertificate::new(certificate));
    answer_over(stream, (peer, certificate), slot, app).await;
}

async fn answer_over<IO, S, B>(
    stream: IO,
    (peer, certificate): (Peer, Option<ClientCertificate>),
    slot: Slot,
    app: S,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let streaming = OnceLock::<Streaming>::new();
    let asked = Notify::new();
    let written = Written::default();
    let stream = Counted::new(stream, written.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        let client = peer.proxies.client(peer.address, request.headers());
        slot.answer(client.ip());
        asked.notify_one();
        request.extensions_mut().insert(ClientAddress(client));
        request.extensions_mut().insert(written.clone());
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let response = app.call(request);
        async {
            let mut response = response.await?;
            if let Some(marked) = response.extensions_mut().remove::<Streaming>() {
                slot.leave();
                // There is one request for each connection, so nothing was set before.
                let _ = streaming.set(marked);
            }
            // One request for each connection, unless it becomes something else than HTTP.
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, S::Error>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        // Read the request first, or a flood could close a connection whose request has arrived.
        biased;
        served = connection => match served {
            Ok(()) => {}
            Err(error) => {
                if error.is_timeout() {
                    slot.timed_out();
                }
                tracing::debug!(%error, "a connection failed");
            }
        },
        () = slot.lost() => tracing::debug!("a connection was closed to make room for a newer one"),
        () = bounded(&asked, &streaming) => {
            if streaming.get().is_none() {
                slot.timed_out();
                tracing::debug!("a connection was too slow");
            }
        }
    }
}

/// Waits until the time of an answer is over, or the answer has ended if it goes on.
async fn bounded(asked: &Notify, streaming: &OnceLock<Streaming>) {
    asked.notified().await;
    tokio::time::sleep(ANSWER_PATIENCE).await;
    if let Some(streaming) = streaming.get() {
        streaming.ended().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_logged_when_it_begins_and_when_it_ends() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert!(!trouble.ended(start));
        assert_eq!([(); 3].map(|()| trouble.begins(start)), [true, false, false]);
        // Each second a connection is accepted and another one refused.
        for second in 1..100 {
            let now = start + Duration::from_secs(second);
            assert!(!trouble.ended(now) && !trouble.begins(now), "{second}");
        }
        let calm = start + Duration::from_secs(99) + CALM;
        assert_eq!([(); 2].map(|()| trouble.ended(calm)), [true, false]);
        assert!(trouble.begins(calm));
    }
}
