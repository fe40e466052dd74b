//! The HTTP server: takes connections, and bounds what a client can keep.
//!
//! Run by the gateway, with the [routes](crate::http) as what answers. One request a connection, which costs a scrape
//! nothing that matters and makes every bound simple: a client has a time for its request and one for the whole, and
//! there are so many [slots](crate::slots). A connection is always taken: where slots are short, another one that has
//! been idle or slow for longer is ended. A request that has come is read before its connection can be ended.
//! There is no request body anywhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::slots::{Slot, Slots};

/// The most connections at once, those included that have lost their slot a moment ago and are not gone yet.
const MAX_CONNECTIONS: usize = 384;
/// The longest that a client may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// The longest that a connection may last: a client that reads too slowly is cut off.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(15);
/// The longest that answers may still take when the gateway ends.
const CLOSING_PATIENCE: Duration = Duration::from_millis(250);
/// After the system refused a connection, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Answers until `shutdown` is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    slots: Arc<Slots>,
    app: Router,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, client)) => {
                    if trouble.ended() {
                        tracing::info!("connections are accepted again");
                    }
                    let slot = slots.enter(client.ip());
                    connections.spawn(answer(stream, slot, app.clone()));
                }
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    if trouble.begins() {
                        tracing::warn!(%error, "cannot accept connections; trying again, without saying so");
                    }
                    // A connection that ends gives back what the system is short of.
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
    // Who is not answered by now is cut off when the set is dropped.
    let _ = tokio::time::timeout(CLOSING_PATIENCE, all_answered).await;
}

/// Whether accepting fails at the moment, as it does when all file descriptors are in use: said once and not four times a
/// second for as long as it lasts.
#[derive(Debug, Default)]
struct Trouble(bool);

impl Trouble {
    /// Accepting failed; whether that is news.
    fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    /// Accepting succeeded; whether that is news.
    fn ended(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }
}

/// Whether one client went away while it was being accepted, which says nothing about the next.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn answer(stream: TcpStream, slot: Slot, app: Router) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request| {
        slot.answer();
        app.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // First what the client has sent, or a flood could end a connection whose request is there.
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
        () = slot.lost() => tracing::debug!("a connection gave way to a newer one"),
        () = tokio::time::sleep(CONNECTION_PATIENCE) => {
            slot.timed_out();
            tracing::debug!("a connection was too slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_when_it_begins_and_when_it_ends() {
        let mut trouble = Trouble::default();
        assert!(!trouble.ended());
        assert_eq!([trouble.begins(), trouble.begins(), trouble.begins()], [true, false, false]);
        assert_eq!([trouble.ended(), trouble.ended()], [true, false]);
        assert!(trouble.begins());
    }
}
