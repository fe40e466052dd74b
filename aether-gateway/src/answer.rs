//! Answers over HTTP with the headers that all of them have.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// An answer that no cache keeps and no browser takes for another type.
pub(crate) fn typed(code: StatusCode, content_type: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (code, headers, body).into_response()
}

pub(crate) fn text(code: StatusCode, text: &str) -> Response {
    typed(code, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// JSON that is written already.
pub(crate) fn json_text(code: StatusCode, body: String) -> Response {
    typed(code, "application/json", body)
}

pub(crate) fn json(code: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => json_text(code, body),
        Err(error) => failed(&error),
    }
}

/// Why a request to the API was not carried out: a word for programs, and a sentence for people.
pub(crate) fn problem(code: StatusCode, reason: &str, text: &str) -> Response {
    json_text(code, json!({ "reason": reason, "text": text }).to_string())
}

/// An answer could not be written. The log has the reason.
pub(crate) fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "an answer could not be written");
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the answer could not be written; the log of the gateway says why",
    )
}
