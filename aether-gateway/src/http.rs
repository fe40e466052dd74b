//! The HTTP server: what answers which path, and what bounds a client.
//!
//! Run by the gateway. One request a connection, which costs a scrape nothing that matters and makes every bound
//! simple: a client has a time for its request and one for the whole, and there are so many connections at once.
//! There is no request body anywhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aether_core::physics::ResonanceMap;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::page;
use crate::status::{Readiness, Scene};

/// The most connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 256;
/// The longest that a client may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a connection may last: a client that reads too slowly is cut off.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(15);
/// The longest that answers may still take when the gateway ends.
const CLOSING_PATIENCE: Duration = Duration::from_millis(250);
/// After the system refused a connection, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;

#[derive(Debug)]
struct Site {
    scene: Arc<Scene>,
    metrics: Metrics,
}

/// Answers until `shutdown` is cancelled.
pub(crate) async fn serve(listener: TcpListener, scene: Arc<Scene>, shutdown: CancellationToken) {
    let app = routes(scene);
    let mut connections = JoinSet::new();
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    if trouble.ended() {
                        tracing::info!("connections are accepted again");
                    }
                    connections.spawn(answer(stream, app.clone()));
                }
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    if trouble.begins() {
                        tracing::warn!(%error, "cannot accept connections; trying again, without saying so");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
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

async fn answer(stream: TcpStream, app: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    match tokio::time::timeout(CONNECTION_PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
        Err(_) => tracing::debug!("a connection was too slow"),
    }
}

fn routes(scene: Arc<Scene>) -> Router {
    let metrics = Metrics::new(Arc::clone(&scene));
    Router::new()
        .route("/", get(status_page))
        .route("/api/status", get(status_json))
        .route("/metrics", get(metrics_text))
        .route("/map.dot", get(map_dot))
        .route("/map.mmd", get(map_mermaid))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(only_get)
        .with_state(Arc::new(Site { scene, metrics }))
}

async fn status_page(State(site): State<Arc<Site>>) -> Response {
    match page::render(&site.scene.read()) {
        Ok(html) => {
            let mut response = typed("text/html; charset=utf-8", html);
            // The page has no script and loads nothing: a browser shall not do so either, whatever a name contains.
            let policy = HeaderValue::from_static(
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            );
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        }
        Err(error) => failed(&error),
    }
}

async fn status_json(State(site): State<Arc<Site>>) -> Response {
    match serde_json::to_string(&site.scene.read()) {
        Ok(json) => typed("application/json", json),
        Err(error) => failed(&error),
    }
}

async fn metrics_text(State(site): State<Arc<Site>>) -> Response {
    match site.metrics.write() {
        Ok(text) => typed(metrics::CONTENT_TYPE, text),
        Err(error) => failed(&error),
    }
}

async fn map_dot(State(site): State<Arc<Site>>) -> Response {
    map(&site.scene, "text/vnd.graphviz; charset=utf-8", ResonanceMap::to_dot)
}

async fn map_mermaid(State(site): State<Arc<Site>>) -> Response {
    map(&site.scene, "text/vnd.mermaid; charset=utf-8", ResonanceMap::to_mermaid)
}

fn map(scene: &Scene, content_type: &'static str, write: fn(&ResonanceMap) -> String) -> Response {
    let report = scene.insight().map(|insight| insight.report());
    let reason = match report {
        Some(Some(report)) => return typed(content_type, write(&report.map)),
        Some(None) => "not yet: the map is made two seconds after the start for the first time\n",
        None => "there is no map: this gateway was told not to look for one\n",
    };
    (StatusCode::NOT_FOUND, typed("text/plain; charset=utf-8", reason.to_owned())).into_response()
}

async fn live() -> Response {
    typed("text/plain; charset=utf-8", "alive\n".to_owned())
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    let readiness = site.scene.readiness();
    let code = match readiness {
        Readiness::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, typed("text/plain; charset=utf-8", format!("{}\n", readiness.as_text()))).into_response()
}

async fn not_found() -> Response {
    let text =
        "not found: there are /, /api/status, /metrics, /map.dot, /map.mmd, /livez, /readyz and /healthz\n";
    (StatusCode::NOT_FOUND, typed("text/plain; charset=utf-8", text.to_owned())).into_response()
}

async fn only_get() -> Response {
    let text = "only GET and HEAD are allowed here\n";
    (StatusCode::METHOD_NOT_ALLOWED, typed("text/plain; charset=utf-8", text.to_owned())).into_response()
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "an answer could not be written");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

fn typed(content_type: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
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
