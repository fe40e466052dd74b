//! The HTTP routes and their handlers.
//!
//! The server of `aether-metrics` uses them. Health checks and the files of the pages are answered at once. All other
//! answers read the whole status and write a long text. They are written outside of the async tasks, one at a time, so
//! a storm of such requests occupies one processor and delays no health check. Routes for waves and letters are in
//! modules of their own.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aether::physics::ResonanceMap;
use aether_core::{Aether, WaveId};
use aether_metrics::{ClientAddress, Exposition, Metrics};
use aether_service::description;
use axum::Router;
use axum::body;
use axum::extract::{FromRequestParts, Path, RawQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;

use crate::answer;
use crate::assets;
use crate::gate::Gate;
use crate::headers::{self, Protection};
use crate::sending::{LONG, Sending};
use crate::status::{PhysicsPart, StatusSource};
use crate::taps::Taps;
use crate::views::{View, Views};

/// The API, described as OpenAPI 3.1.
const OPENAPI: &str = include_str!("../openapi.json");

/// How many long answers are written at the same time. Health checks do not wait for them.
const WRITERS: usize = 1;

#[derive(Debug)]
struct Pages {
    source: Arc<StatusSource>,
    views: Arc<Views>,
    metrics: Metrics,
    writers: Arc<Semaphore>,
    sending: Arc<Sending>,
}

/// All routes: the routes of this file, and `others`. `is_secure` is true if they are served over TLS.
pub(crate) fn routes(
    aether: &Aether,
    source: Arc<StatusSource>,
    views: Arc<Views>,
    guard: Guard,
    others: Router,
    is_secure: bool,
) -> Router {
    let metrics = crate::metrics::metrics(aether, Arc::clone(&source));
    let writers = Arc::new(Semaphore::new(WRITERS));
    let protection = Protection { is_secure, taps: Arc::clone(&guard.taps) };
    let state = Arc::new(Pages { source, views, metrics, writers, sending: Arc::default() });
    let guarded = Router::new()
        .route("/status", get(status_page))
        .route("/api/status", get(status_json))
        .route("/api/accounts", get(accounts_json))
        .route("/api/overview", get(overview))
        .route("/api/services", get(services))
        .route("/api/ledger", get(ledger))
        .route("/api/map", get(service_map))
        .route("/api/history", get(history))
        .route("/api/incidents", get(incidents))
        .route("/api/findings", get(findings))
        .route("/api/log", get(log))
        .route("/api/durable", get(durable))
        .route("/api/waves/{id}/chain", get(chain))
        .route("/metrics", get(metrics_text))
        .route("/map.dot", get(map_dot))
        .route("/map.mmd", get(map_mermaid))
        .route("/asyncapi.json", get(descriptions))
        .route_layer(middleware::from_fn_with_state(Arc::new(guard), reading));
    // The files of the pages are public, and probes have no token.
    Router::new()
        .route("/openapi.json", get(async || json(Ok::<_, Infallible>(OPENAPI.to_owned()))))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .merge(guarded)
        .with_state(state)
        .merge(others)
        .merge(assets::routes())
        .fallback(async || answer::not_found())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(with_host))
        .layer(middleware::from_fn_with_state(Arc::new(protection), headers::protect))
}

/// Refuses requests of HTTP/1.1 without a host, or with several (RFC 9112, section 3.2).
async fn with_host(request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
        return answer::problem(StatusCode::BAD_REQUEST, "host", "a request has one header host");
    }
    next.run(request).await
}

/// The gate for names and numbers, and the counter of refused readers.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) gate: Arc<Gate>,
    pub(crate) taps: Arc<Taps>,
}

async fn reading(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Err(error) = guard.gate.may_read_of(request.headers()) {
        guard.taps.refuse(&error);
        return error.into_response();
    }
    next.run(request).await
}

type PagesState = State<Arc<Pages>>;

async fn overview(pages: PagesState, reader: Reader) -> Response {
    view(pages, reader, View::Overview).await
}

async fn services(pages: PagesState, reader: Reader) -> Response {
    view(pages, reader, View::Services).await
}

async fn ledger(pages: PagesState, reader: Reader) -> Response {
    view(pages, reader, View::Ledger).await
}

/// With `all=1` also the channels on which programs talk about themselves.
async fn service_map(pages: PagesState, reader: Reader, RawQuery(query): RawQuery) -> Response {
    let map = match query.as_deref() {
        None | Some("" | "all=0") => View::Map,
        Some("all=1") => View::WholeMap,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "parameter", "use all, 0 or 1"),
    };
    // The map shows what was read last.
    pages.source.durable().now().await;
    view(pages, reader, map).await
}

async fn view(State(pages): PagesState, reader: Reader, view: View) -> Response {
    written(pages, reader, move |pages| json(pages.views.json(view))).await
}

/// The last hour: `last` buckets of it, with `channels=true` of each channel and `services=true` of each service, too.
async fn history(State(pages): PagesState, reader: Reader, RawQuery(query): RawQuery) -> Response {
    let (mut last, mut of_channels, mut of_services) = (usize::MAX, false, false);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let known = match &*name {
            "last" => value.parse().map(|buckets| last = buckets).is_ok(),
            "channels" => value.parse().map(|wanted| of_channels = wanted).is_ok(),
            "services" => value.parse().map(|wanted| of_services = wanted).is_ok(),
            _ => false,
        };
        if !known {
            let text = "use last, a number of buckets, channels and services, true or false";
            return answer::problem(StatusCode::BAD_REQUEST, "parameter", text);
        }
    }
    written(pages, reader, move |pages| json(pages.views.history(last, of_channels, of_services))).await
}

/// The newest entries of the log: `last` of them.
async fn log(State(pages): PagesState, RawQuery(query): RawQuery) -> Response {
    let mut last = usize::MAX;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "last" || value.parse().map(|entries| last = entries).is_err() {
            return answer::problem(StatusCode::BAD_REQUEST, "parameter", "use last, a number of entries");
        }
    }
    answer::json(StatusCode::OK, &pages.source.log().newest(last))
}

/// The durable logs, read again.
async fn durable(State(pages): PagesState, reader: Reader) -> Response {
    let all = pages.source.durable().now().await;
    written(pages, reader, move |pages| {
        let answering = all.answering(pages.source.roster());
        answer::json(StatusCode::OK, &answering)
    })
    .await
}

/// The waves of the request to which a wave belongs.
async fn chain(State(pages): PagesState, reader: Reader, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<WaveId>() else {
        let text = "ids of waves look like alpha@1f9a3c5b7d2e4f60/17; in a path, / is %2F";
        return answer::problem(StatusCode::BAD_REQUEST, "wave", text);
    };
    written(pages, reader, move |pages| match pages.source.heads().chain(&id) {
        Some(chain) => answer::json(StatusCode::OK, &chain),
        None => answer::problem(
            StatusCode::NOT_FOUND,
            "wave",
            "the gateway keeps this wave no more, or has not seen it",
        ),
    })
    .await
}

async fn incidents(State(pages): PagesState, reader: Reader) -> Response {
    physics(pages, reader, |part| {
        serde_json::json!({ "incidents": part.incident_lines(), "incidents_by_cause": part.incidents_by_cause })
    })
    .await
}

async fn findings(State(pages): PagesState, reader: Reader) -> Response {
    physics(pages, reader, |part| {
        let (findings, standing, fringes) = (part.finding_lines(), part.standing_json(), part.fringe_lines());
        serde_json::json!({
            "findings": findings, "findings_by_sort": part.counts, "standing": standing, "fringes": fringes
        })
    })
    .await
}

async fn physics(
    pages: Arc<Pages>,
    reader: Reader,
    write: fn(&PhysicsPart) -> serde_json::Value,
) -> Response {
    written(pages, reader, move |pages| match pages.source.insight() {
        Some(insight) => answer::json(StatusCode::OK, &write(&PhysicsPart::of(&insight))),
        None => answer::problem(StatusCode::NOT_FOUND, "physics", "physics is switched off in this gateway"),
    })
    .await
}

/// The reader of an answer that may be long.
#[derive(Debug, Clone, Copy)]
struct Reader {
    source: IpAddr,
    takes_gzip: bool,
}

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The server knows the address of every client.
        let source = parts.extensions.get::<ClientAddress>().map(|client| client.source());
        let source = source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Self { source, takes_gzip: answer::takes_gzip(&parts.headers) })
    }
}

/// Writes an answer when it is its turn. A long one is packed, and sent if there is room for it.
async fn written(
    pages: Arc<Pages>,
    Reader { source, takes_gzip }: Reader,
    write: impl FnOnce(&Pages) -> Response + Send + 'static,
) -> Response {
    // The semaphore is never closed. The permit is held until the answer is written, even if the client disconnects.
    let turn = Arc::clone(&pages.writers).acquire_owned().await;
    let sending = Arc::clone(&pages.sending);
    let writing = tokio::task::spawn_blocking(move || {
        let (mut parts, body) = write(&pages).into_parts();
        // The answer was written here as one text, so nothing is waited for.
        let Some(Ok(mut text)) = body::to_bytes(body, usize::MAX).now_or_never() else {
            return answer::failed(&io::Error::other("the answer is not text"));
        };
        let is_long = text.len() >= LONG;
        if is_long {
            parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(packed) = (is_long && takes_gzip).then(|| answer::packed(&text)).flatten() {
            text = packed;
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        drop(turn);
        match text.len() < LONG {
            true => Response::from_parts(parts, text.into()),
            false => match sending.body(source, text) {
                Some(body) => Response::from_parts(parts, body),
                None => crowded(),
            },
        }
    });
    writing.await.unwrap_or_else(|error| answer::failed(&error))
}

/// Clients that do not read hold too many long answers.
fn crowded() -> Response {
    let text = "too many long answers are still being read; read those that are open, ask again later, or accept gzip";
    let mut response = answer::problem(StatusCode::SERVICE_UNAVAILABLE, "crowded", text);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

async fn status_page(State(pages): PagesState, reader: Reader) -> Response {
    written(pages, reader, page).await
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
        Err(error) => answer::failed(&error),
    }
}

async fn status_json(State(pages): PagesState, reader: Reader) -> Response {
    written(pages, reader, |pages| answer::json(StatusCode::OK, &pages.source.read())).await
}

async fn accounts_json(State(pages): PagesState, reader: Reader) -> Response {
    written(pages, reader, |pages| answer::json(StatusCode::OK, &pages.source.whole_processes())).await
}

async fn metrics_text(State(pages): PagesState, reader: Reader, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let exposition = Exposition::negotiate(accepted);
    written(pages, reader, move |pages| metrics(pages, exposition)).await
}

fn metrics(pages: &Pages, exposition: Exposition) -> Response {
    match pages.metrics.write() {
        Ok(text) => {
            let mut response = typed(exposition.content_type(), exposition.write(text));
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
            response
        }
        Err(error) => answer::failed(&error),
    }
}

async fn map_dot(State(pages): PagesState, reader: Reader) -> Response {
    written(pages, reader, |pages| {
        map(&pages.source, "text/vnd.graphviz; charset=utf-8", ResonanceMap::to_dot)
    })
    .await
}

async fn map_mermaid(State(pages): PagesState, reader: Reader) -> Response {
    written(pages, reader, |pages| {
        map(&pages.source, "text/vnd.mermaid; charset=utf-8", ResonanceMap::to_mermaid)
    })
    .await
}

fn map(source: &StatusSource, content_type: &'static str, write: fn(&ResonanceMap) -> String) -> Response {
    let report = source.insight().map(|insight| insight.report());
    let reason = match report {
        Some(Some(report)) => return typed(content_type, write(&report.map)),
        Some(None) => "no map yet: the first one is drawn two seconds after the start",
        None => "no map: physics is switched off in this gateway",
    };
    answer::text(StatusCode::NOT_FOUND, reason)
}

/// The descriptions of the services on the medium: what they receive, answer and emit.
async fn descriptions(State(pages): PagesState, reader: Reader) -> Response {
    let listing = pages.source.directory().read().await;
    written(pages, reader, move |_| {
        let summary = "The messages that the services on this medium receive, answer and emit";
        let document =
            description::asyncapi("aether", env!("CARGO_PKG_VERSION"), summary, &listing.descriptions());
        answer::json(StatusCode::OK, &document)
    })
    .await
}

async fn live() -> Response {
    answer::text(StatusCode::OK, "alive")
}

async fn ready(State(pages): PagesState, headers: HeaderMap) -> Response {
    let health = pages.source.health();
    let code = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match accepted.any(|value| value.contains("application/json")) {
        true => answer::json_text(code, health.to_json()),
        false => answer::text(code, &health.to_string()),
    }
}

async fn method_not_allowed() -> Response {
    let text = "this method is not allowed here; /openapi.json lists the allowed ones";
    answer::text(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn json<E: std::error::Error>(written: Result<String, E>) -> Response {
    match written {
        Ok(json) => answer::json_text(StatusCode::OK, json),
        Err(error) => answer::failed(&error),
    }
}

fn typed(content_type: &'static str, body: String) -> Response {
    answer::typed(StatusCode::OK, content_type, body)
}
