//! Answers over HTTP. The headers that all of them have are in [`headers`](crate::headers).

use std::io::Write as _;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::json;

/// An answer of a type.
pub(crate) fn typed(code: StatusCode, content_type: &'static str, body: String) -> Response {
    (code, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// Whether a client takes an answer that is packed with gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|accepted| accepted.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

/// The answer for a path that leads nowhere.
pub(crate) fn not_found() -> Response {
    let reason = "not found; the pages begin at /, and /openapi.json describes every path";
    text(StatusCode::NOT_FOUND, reason)
}

/// A text packed with gzip, quickly rather than small.
pub(crate) fn packed(text: &[u8]) -> Option<Bytes> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory cannot fail.
    gzip.write_all(text).ok()?;
    Some(gzip.finish().ok()?.into())
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
        "the answer could not be written; the log of the gateway has the reason",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_with_a_weight() {
        let takes = |accepted: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
            takes_gzip(&headers)
        };
        assert!(["gzip", "br, gzip", "deflate;q=0.5, GZip;q=0.1"].into_iter().all(takes));
        assert!(!["", "br", "gzip;q=0", "gzip;q=x", "xgzip"].into_iter().any(takes));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
