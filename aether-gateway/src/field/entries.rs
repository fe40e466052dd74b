//! The entries of a field over plain HTTP, for scripts and pages without a library: `GET /field/{name}/entries`, and `GET`,
//! `PUT` and `DELETE` of `/field/{name}/entries/{key}`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use aether_field::core::Operation;
use aether_field::{FieldError, PageStart};
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::counts::{Counts, Refused};
use super::denied::Denied;
use super::effect::{Outcome, Write};
use super::hub::Hub;
use super::json;
use super::refusal::{Refusal, check_key, value_of};
use super::selection::Part;
use super::v1;
use super::visit::Visit;
use super::writer::page_of;
use crate::admission::Permit;
use crate::answer;

/// The size of what is read at once, in bytes.
const PAGE: usize = 64 << 10;

/// All entries, one JSON object in a line. Equal fields have equal tags, at all gateways.
pub(super) async fn list(visit: Visit) -> Result<Response, Denied> {
    let selection = visit.selection()?;
    // Before the entries are read, which may be newer, so that nobody keeps an old one.
    let tag = format!("\"{}\"", selection.hash(&visit.hub.field.digest().to_bytes()));
    if is_known(&visit.headers, &tag) {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), &tag));
    }
    let permit = visit.enter()?;
    let reading = Listing { hub: visit.hub, parts: selection.parts(), from: None, _permit: permit };
    let body = Body::from_stream(stream::unfold(reading, |mut reading| async {
        let page = reading.next()?;
        // A page locks the field, and a large field has thousands of them.
        tokio::task::yield_now().await;
        Some((Ok::<_, Infallible>(page), reading))
    }));
    let mut response = Response::new(body);
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(tagged(response, &tag))
}

/// A listing that is being sent. Nothing of it is in memory but the page that the client reads.
struct Listing {
    hub: Arc<Hub>,
    parts: VecDeque<Part>,
    from: Option<PageStart>,
    _permit: Permit,
}

impl Listing {
    fn next(&mut self) -> Option<Bytes> {
        if self.parts.is_empty() {
            return None;
        }
        let mut lines = String::new();
        for entry in page_of(&self.hub.field, &mut self.parts, &mut self.from, PAGE) {
            match v1::page_entry(&entry) {
                Some(line) => {
                    lines.push_str(&line);
                    lines.push('\n');
                }
                None => Counts::one(&self.hub.counts.unreadable),
            }
        }
        Some(lines.into())
    }
}

/// The value of a register.
pub(super) async fn read(visit: Visit, Path((_, key)): Path<(String, String)>) -> Result<Response, Denied> {
    if !visit.rights.may_read(&key) {
        return Err(visit.no_right("the token does not allow to read this key"));
    }
    let entry = visit.hub.field.register(&key);
    let found = entry.as_ref().and_then(|entry| Some((json::checked(entry.value.as_ref()?)?, entry.stamp)));
    let Some((value, stamp)) = found else { return Err(absent()) };
    let tag = format!("\"{stamp}\"");
    Ok(match is_known(&visit.headers, &tag) {
        true => tagged(StatusCode::NOT_MODIFIED.into_response(), &tag),
        false => tagged(answer::json_text(StatusCode::OK, value.to_owned()), &tag),
    })
}

/// Sets a register to the JSON of the body, and waits for the disk of the gateway.
pub(super) async fn write(
    visit: Visit,
    Path((_, key)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Denied> {
    let hub = &visit.hub;
    let value = serde_json::from_slice(&body).map_err(|_| Refusal::json("the body is JSON in UTF-8"));
    let value =
        value.and_then(|value| value_of(value, &hub.limits)).map_err(|refusal| refused(hub, refusal))?;
    change(&visit, &key, Operation::Set { key: key.clone(), value }).await
}

/// Removes a register, and waits for the disk of the gateway.
pub(super) async fn remove(visit: Visit, Path((_, key)): Path<(String, String)>) -> Result<Response, Denied> {
    change(&visit, &key, Operation::Delete { key: key.clone() }).await
}

async fn change(visit: &Visit, key: &str, operation: Operation) -> Result<Response, Denied> {
    let hub = &visit.hub;
    if !visit.rights.may_write(key) {
        return Err(visit.no_right("the token does not allow to write this key"));
    }
    check_key(key, &hub.limits).map_err(|refusal| refused(hub, refusal))?;
    match hub.write(&Write { operation, about: None }, visit.holder) {
        // A write that is made now, by the gateway, does not lose.
        Outcome::Applied { .. } | Outcome::Lost { .. } => {}
        Outcome::Unchanged => return Err(absent()),
        Outcome::Refused { code, message } => {
            if code == "field" {
                hub.counts.refuse(Refused::Field);
            }
            return Err(Denied::new(StatusCode::INSUFFICIENT_STORAGE, code, &message));
        }
    }
    let version = hub.field.register(key).map(|entry| entry.stamp.to_string());
    let (is_durable, message) = match hub.field.durable().await {
        Ok(()) => (true, None),
        Err(FieldError::NoStore) => (false, Some("the gateway keeps this field in memory only".to_owned())),
        Err(error) => (false, Some(super::connection::not_durable(&error))),
    };
    let mut report = json!({ "version": version, "durable": is_durable });
    if let Some(message) = message {
        report["message"] = message.into();
    }
    let mut response = answer::json(StatusCode::OK, &report);
    if let Some(version) = version {
        response = tagged(response, &format!("\"{version}\""));
    }
    Ok(response)
}

/// The answer to a write that is refused, which is counted.
fn refused(hub: &Hub, Refusal { refused, code, message, .. }: Refusal) -> Denied {
    hub.counts.refuse(refused);
    let status = match refused {
        Refused::Value => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Denied::new(status, code, &message)
}

fn absent() -> Denied {
    Denied::new(StatusCode::NOT_FOUND, "absent", "this key has no value")
}

fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    tags.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// An answer that a cache may keep as long as it asks whether it still holds.
fn tagged(mut response: Response, tag: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("authorization"));
    response
}
