//! `POST /waves/{channel}`: emits one wave, or asks one question.
//!
//! The body is the payload, or a CloudEvent. The parameters of the query go before the attributes of an event.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{AskError, EmitError, Kind, Wave};
use aether_service::error_chain;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::timeout;

use super::cloud_events;
use super::draft::{Draft, trace};
use super::shared::Shared;
use crate::answer;
use crate::gate::Caller;
use crate::taps::Taps;
use crate::taps::record;

/// The patience of a question that names none, and the longest, also of a wave that waits for room: an answer has 15 s in
/// all, after which it is closed without an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    Path(channel): Path<String>,
    RawQuery(query): RawQuery,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let rights = match shared.gate.rights_of(&caller) {
        Ok(rights) => rights,
        Err(error) => {
            shared.taps.refuse(&error);
            return error.into_response();
        }
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            shared.taps.refuse_for("body");
            let text = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    format!("the body is too large: at most {} bytes are allowed", shared.max_body)
                }
                _ => rejection.body_text(),
            };
            return answer::problem(rejection.status(), "body", &text);
        }
    };
    if let Some(coding) = headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        shared.taps.refuse_for("wave");
        let text = format!("bodies are not unpacked: send it without content-encoding, not with {coding:?}");
        return answer::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wave", &text);
    }
    if let Some(format) = cloud_events::unknown_format(&headers) {
        shared.taps.refuse_for("wave");
        let text = format!(
            "events of the format {format} are not read: use application/cloudevents+json, or the binary mode"
        );
        return answer::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wave", &text);
    }
    let (wave, patience) = match read(&channel, query.as_deref().unwrap_or_default(), &headers, body) {
        Ok(read) => read,
        Err(text) => {
            shared.taps.refuse_for("wave");
            return answer::problem(StatusCode::BAD_REQUEST, "wave", &text);
        }
    };
    if let Err(error) = shared.gate.may_emit(&rights, wave.channel()) {
        shared.taps.refuse(&error);
        return error.into_response();
    }
    if wave.kind() == Kind::Query {
        Taps::one(&shared.taps.asked);
        let patience = patience.unwrap_or(PATIENCE);
        return match shared.emitter.ask_within(wave, patience).await {
            Ok(answered) => answer::json_text(StatusCode::OK, record::whole(&answered)),
            Err(error) => answer::problem(code_of(&error), "ask", &error_chain(&error)),
        };
    }
    let patience = patience.unwrap_or(LONGEST_PATIENCE);
    let Ok(emitted) = timeout(patience, shared.emitter.emit(wave)).await else {
        // On a time-out the wave has still been offered.
        let text = format!(
            "there was no room within {patience:?}, so what is full has shed its weakest wave: this one, or another in its \
             place; it is counted there as lost"
        );
        return answer::problem(StatusCode::SERVICE_UNAVAILABLE, "full", &text);
    };
    match emitted {
        Ok(receipt) => {
            Taps::one(&shared.taps.emitted);
            let id = shared.emitter.id_of(&receipt).to_string();
            let reply = json!({ "wave": id, "receivers": receipt.receivers });
            answer::json(StatusCode::ACCEPTED, &reply)
        }
        Err(error) => {
            let code = match &error {
                EmitError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                EmitError::Reserved { .. } | EmitError::TooFar { .. } => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            answer::problem(code, "emit", &error_chain(&error))
        }
    }
}

/// The wave of a request, and its patience if it names one.
fn read(
    channel: &str,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(Wave, Option<Duration>), String> {
    let mut draft = match cloud_events::read(headers, &body).map_err(|error| error_chain(&error))? {
        Some(draft) => draft,
        None => {
            let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            Draft { body: Some(body), content_type: content_type.map(str::to_owned), ..Draft::default() }
        }
    };
    draft.channel = channel.to_owned();
    // An event knows its own trace better than the request that brings it.
    let of_header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let of_request = || of_header("traceparent").and_then(|parent| trace(parent, of_header("tracestate")));
    draft.trace = draft.trace.or_else(of_request);
    let mut patience = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || format!("{name} takes a number, not {value:?}");
        match &*name {
            "kind" => draft.kind = Some(value.into_owned()),
            "key" => draft.key = Some(value.into_owned()),
            "cause" => draft.cause = Some(value.into_owned()),
            "amplitude" => draft.amplitude = Some(value.parse().map_err(|_| number())?),
            "half_life_ms" => draft.half_life_ms = Some(value.parse().map_err(|_| number())?),
            "patience_ms" => {
                let millis = value.parse().map_err(|_| number())?;
                patience = Some(Duration::from_millis(millis).min(LONGEST_PATIENCE));
            }
            _ => {
                return Err(format!(
                    "there is no parameter {name:?}; use kind, key, cause, amplitude, half_life_ms and patience_ms"
                ));
            }
        }
    }
    Ok((draft.wave().map_err(|error| error_chain(&error))?, patience))
}

fn code_of(error: &AskError) -> StatusCode {
    match error {
        AskError::NoResonator { .. } => StatusCode::NOT_FOUND,
        AskError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        AskError::Failed { .. } | AskError::Unanswered { .. } | AskError::Malformed { .. } => {
            StatusCode::BAD_GATEWAY
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_of_a_request_goes_on_in_the_wave() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (given, is_traced) in [(parent, true), ("00-1", false)] {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static("traceparent"),
                given.parse().unwrap(),
            )]);
            let (wave, _) = read("orders.created", "", &headers, Bytes::from_static(b"1")).unwrap();
            let trace = wave.trace_context().map(|trace| trace.to_string());
            assert_eq!(trace.as_deref(), is_traced.then_some(parent), "{given}");
        }
    }
}
