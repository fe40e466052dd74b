//! The HTTP routes and their handlers.
//!
//! The server of `aether-metrics` uses them. Health checks and the files of the pages are answered at once. All other answers
//! read the whole status and write a long text. They are written outside of the async tasks, one at a time, so a storm of
//! such requests occupies one processor and delays no health check. Routes for waves and letters are in modules of their own.

use std::sync::Arc;

use aether_chassis::description;
use aether_core::Aether;
use aether_core::physics::ResonanceMap;
use aether_metrics::{Exposition, Metrics};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::assets;
use crate::status::{PhysicsPart, StatusSource};
use crate::views::{View, Views};

/// What the API offers, as OpenAPI 3.1.
const OPENAPI: &str = include_str!("../openapi.json");

/// How many long answers are written at the same time. Health checks do not wait for them.
const WRITERS: usize = 1;

#[derive(Debug)]
struct Pages {
    source: Arc<StatusSource>,
    views: Arc<Views>,
    metrics: Metrics,
    writers: Arc<Semaphore>,
}

pub(crate) fn routes(aether: &Aether, source: Arc<StatusSource>, views: Arc<Views>) -> Router {
    let metrics = crate::metrics::metrics(aether, Arc::clone(&source));
    let writers = Arc::new(Semaphore::new(WRITERS));
    Router::new()
        .route("/", get(index))
        .route("/page/{*path}", get(asset))
        .route("/status", get(status_page))
        .route("/api/status", get(status_json))
        .route("/api/accounts", get(accounts_json))
        .route("/api/overview", get(async |state: PagesState| view(state, View::Overview).await))
        .route("/api/services", get(async |state: PagesState| view(state, View::Services).await))
        .route("/api/ledger", get(async |state: PagesState| view(state, View::Ledger).await))
        .route("/api/map", get(async |state: PagesState| view(state, View::Map).await))
        .route("/api/history", get(history))
        .route("/api/incidents", get(incidents))
        .route("/api/findings", get(findings))
        .route("/openapi.json", get(async || typed("application/json", OPENAPI.to_owned())))
        .route("/metrics", get(metrics_text))
        .route("/map.dot", get(map_dot))
        .route("/map.mmd", get(map_mermaid))
        .route("/asyncapi.json", get(descriptions))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(only_get)
        .with_state(Arc::new(Pages { source, views, metrics, writers }))
}

type PagesState = State<Arc<Pages>>;

async fn index(headers: HeaderMap) -> Response {
    assets::index(&headers)
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    match assets::file(&path, &headers) {
        Some(response) => response,
        None => not_found().await,
    }
}

async fn view(State(pages): PagesState, view: View) -> Response {
    written(pages, move |pages| match pages.views.json(view) {
        Ok(json) => typed("application/json", json),
        Err(error) => failed(&error),
    })
    .await
}

/// The last hour: `last` buckets of it, with `channels=true` of each channel, too.
async fn history(State(pages): PagesState, RawQuery(query): RawQuery) -> Response {
    let (mut last, mut of_channels) = (usize::MAX, false);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let known = match &*name {
            "last" => value.parse().map(|buckets| last = buckets).is_ok(),
            "channels" => value.parse().map(|wanted| of_channels = wanted).is_ok(),
            _ => false,
        };
        if !known {
            let text = "use last, a number of buckets, and channels, true or false\n".to_owned();
            return (StatusCode::BAD_REQUEST, typed("text/plain; charset=utf-8", text)).into_response();
        }
    }
    written(pages, move |pages| typed("application/json", pages.views.history_json(last, of_channels))).await
}

async fn incidents(State(pages): PagesState) -> Response {
    physics(pages, |part| {
        serde_json::json!({ "incidents": part.incident_lines(), "incidents_by_cause": part.incidents_by_cause })
    })
    .await
}

async fn findings(State(pages): PagesState) -> Response {
    physics(pages, |part| {
        let (findings, standing) = (part.finding_lines(), part.standing_json());
        serde_json::json!({ "findings": findings, "findings_by_sort": part.counts, "standing": standing })
    })
    .await
}

async fn physics(pages: Arc<Pages>, write: fn(&PhysicsPart) -> serde_json::Value) -> Response {
    written(pages, move |pages| match pages.source.insight() {
        Some(insight) => typed("application/json", write(&PhysicsPart::of(&insight)).to_string()),
        None => {
            let text = "physics is switched off in this gateway\n".to_owned();
            (StatusCode::NOT_FOUND, typed("text/plain; charset=utf-8", text)).into_response()
        }
    })
    .await
}

/// Writes a long answer when it is its turn.
async fn written(pages: Arc<Pages>, write: impl FnOnce(&Pages) -> Response + Send + 'static) -> Response {
    // The semaphore is never closed. The permit is held until the answer is written, even if the client disconnects.
    let turn = Arc::clone(&pages.writers).acquire_owned().await;
    let writing = tokio::task::spawn_blocking(move || {
        let response = write(&pages);
        drop(turn);
        response
    });
    writing.await.unwrap_or_else(|error| failed(&error))
}

async fn status_page(State(pages): State<Arc<Pages>>) -> Response {
    written(pages, page).await
}

fn page(pages: &Pages) -> Response {
    match crate::page::render(&pages.source.read()) {
        Ok(html) => {
            let mut response = typed("text/html; charset=utf-8", html);
            // The page has no script and loads nothing. The policy enforces that, whatever a channel name contains.
            let policy = HeaderValue::from_static(
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            );
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        }
        Err(error) => failed(&error),
    }
}

async fn status_json(State(pages): State<Arc<Pages>>) -> Response {
    written(pages, json).await
}

fn json(pages: &Pages) -> Response {
    match serde_json::to_string(&pages.source.read()) {
        Ok(json) => typed("application/json", json),
        Err(error) => failed(&error),
    }
}

async fn accounts_json(State(pages): State<Arc<Pages>>) -> Response {
    written(pages, |pages| match serde_json::to_string(&pages.source.whole_processes()) {
        Ok(json) => typed("application/json", json),
        Err(error) => failed(&error),
    })
    .await
}

async fn metrics_text(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let exposition = Exposition::negotiate(accepted);
    written(pages, move |pages| metrics(pages, exposition)).await
}

fn metrics(pages: &Pages, exposition: Exposition) -> Response {
    match pages.metrics.write() {
        Ok(text) => {
            let mut response = typed(exposition.content_type(), exposition.write(text));
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
            response
        }
        Err(error) => failed(&error),
    }
}

async fn map_dot(State(pages): State<Arc<Pages>>) -> Response {
    written(pages, |pages| map(&pages.source, "text/vnd.graphviz; charset=utf-8", ResonanceMap::to_dot)).await
}

async fn map_mermaid(State(pages): State<Arc<Pages>>) -> Response {
    written(pages, |pages| map(&pages.source, "text/vnd.mermaid; charset=utf-8", ResonanceMap::to_mermaid))
        .await
}

fn map(source: &StatusSource, content_type: &'static str, write: fn(&ResonanceMap) -> String) -> Response {
    let report = source.insight().map(|insight| insight.report());
    let reason = match report {
        Some(Some(report)) => return typed(content_type, write(&report.map)),
        Some(None) => "no map yet: the first one is drawn two seconds after the start\n",
        None => "no map: physics is switched off in this gateway\n",
    };
    (StatusCode::NOT_FOUND, typed("text/plain; charset=utf-8", reason.to_owned())).into_response()
}

/// What the services on the medium receive, answer and emit.
async fn descriptions(State(pages): State<Arc<Pages>>) -> Response {
    let listing = pages.source.directory().read().await;
    written(pages, move |_| {
        let summary = "What the services on this medium receive, answer and emit";
        let document =
            description::asyncapi("aether", env!("CARGO_PKG_VERSION"), summary, &listing.descriptions());
        typed("application/json", document.to_string())
    })
    .await
}

async fn live() -> Response {
    typed("text/plain; charset=utf-8", "alive\n".to_owned())
}

async fn ready(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let health = pages.source.health();
    let code = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let body = match accepted.any(|value| value.contains("application/json")) {
        true => typed("application/json", health.to_json()),
        false => typed("text/plain; charset=utf-8", format!("{health}\n")),
    };
    (code, body).into_response()
}

async fn not_found() -> Response {
    let text = "not found; the pages begin at /, and /openapi.json describes every path\n";
    (StatusCode::NOT_FOUND, typed("text/plain; charset=utf-8", text.to_owned())).into_response()
}

async fn only_get() -> Response {
    let text = "this method is not allowed here; /openapi.json says which are\n";
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
