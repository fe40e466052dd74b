//! The endpoint: serves the metrics over HTTP, in the background.
//!
//! `GET /metrics` is answered in the format that the client prefers. `GET /livez` and `/readyz` are health checks,
//! which wait for no scrape; `/readyz` has its reasons as JSON for a client that accepts JSON. There is no
//! authentication, so programs listen on the loopback address unless the network is trusted. There a request must not
//! name a host by a name.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aether_service::health::Health;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::exposition::Exposition;
use crate::host::is_address;
use crate::metrics::Metrics;
use crate::server;
use crate::slots::Slots;

/// How many scrapes are written at the same time. They occupy one processor, however many clients ask.
const WRITERS: usize = 1;
const TEXT: &str = "text/plain; charset=utf-8";

/// The address of an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be served on {address}")]
pub struct ServeError {
    /// The address.
    pub address: SocketAddr,
    source: io::Error,
}

/// Serves metrics over HTTP until it is dropped or closed.
#[derive(Debug)]
#[must_use = "dropping it ends the endpoint"]
pub struct Endpoint {
    address: SocketAddr,
    serving: JoinHandle<()>,
    until: DropGuard,
}

/// The state that all requests share.
#[derive(Debug)]
struct Pages {
    metrics: Metrics,
    /// Whether only programs of this machine are meant to read them.
    is_local: bool,
    writers: Arc<Semaphore>,
}

impl Metrics {
    /// Serves the metrics under `/metrics`, in a background task. Port 0 takes a free port.
    ///
    /// # Errors
    /// [`ServeError`] if the address cannot be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is served.
    pub async fn serve(self, address: SocketAddr) -> Result<Endpoint, ServeError> {
        let failed = |source| ServeError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let is_local = address.ip().is_loopback();
        let pages = Arc::new(Pages { metrics: self, is_local, writers: Arc::new(Semaphore::new(WRITERS)) });
        let app = service_fn(move |request: Request<Incoming>| {
            let pages = Arc::clone(&pages);
            async move { Ok::<_, Infallible>(answer(pages, &request).await) }
        });
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server::serve(listener, Slots::new(), app, shutdown.clone()));
        tracing::debug!(%address, "the metrics are served");
        Ok(Endpoint { address, serving, until: shutdown.drop_guard() })
    }
}

impl Endpoint {
    /// The bound address, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, and gives open answers a quarter of a second.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the endpoint ends nevertheless.
    pub async fn close(self) {
        drop(self.until);
        // The task neither panics nor is it aborted.
        let _ = self.serving.await;
    }
}

async fn answer(pages: Arc<Pages>, request: &Request<Incoming>) -> Response<String> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/livez" | "/readyz") {
        return plain(StatusCode::NOT_FOUND, "not found; the paths are /metrics, /livez and /readyz\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
    }
    // A browser always sends the host. Somebody else's page has led its name here.
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    if pages.is_local && host.is_some_and(|host| !is_address(host)) {
        return plain(
            StatusCode::FORBIDDEN,
            "use the address of this machine, as in http://127.0.0.1, and no name\n",
        );
    }
    match path {
        "/livez" => return plain(StatusCode::OK, "alive\n"),
        "/readyz" => return readiness(&pages.metrics.health(), request),
        _ => {}
    }
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let exposition = Exposition::negotiate(accepted);
    // The semaphore is never closed. The turn lasts until the text is written, also if the client disconnects.
    let turn = Arc::clone(&pages.writers).acquire_owned().await;
    let writing = tokio::task::spawn_blocking(move || {
        let text = pages.metrics.write();
        drop(turn);
        text
    });
    match writing.await {
        Ok(Ok(text)) => {
            let mut response = Response::new(exposition.write(text));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(exposition.content_type()));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(VARY, HeaderValue::from_static("accept"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        failed => {
            tracing::error!(?failed, "the metrics could not be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n")
        }
    }
}

fn readiness(health: &Health, request: &Request<Incoming>) -> Response<String> {
    let code = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if !accepted.any(|value| value.contains("application/json")) {
        return plain(code, &format!("{health}\n"));
    }
    let mut response = plain(code, &health.to_json());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(code: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
