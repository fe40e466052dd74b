//! The headers that let pages of allowed origins read fields over plain HTTP (CORS).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::origin::Origins;

/// How long a browser may remember what is allowed, in seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

pub(super) async fn headers(State(origins): State<Arc<Origins>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).filter(|_| origins.allow(request.headers())).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response = match is_preflight && origin.is_some() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
        if is_preflight {
            let methods = HeaderValue::from_static("GET, PUT, DELETE");
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            let allowed =
                HeaderValue::from_static("authorization, content-type, if-none-match, last-event-id");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        }
    }
    response
}

/// The answer to a browser that asks for a page of another origin.
pub(super) async fn refuse() -> StatusCode {
    StatusCode::FORBIDDEN
}
