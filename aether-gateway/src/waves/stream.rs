//! `GET /waves`: the waves that match a filter, as server-sent events.
//!
//! `event: wave` has a wave as JSON, `event: missed` the number of waves that the client was not sent. A client that
//! does not read for the time of `max_stall_s` is disconnected.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aether_metrics::{ClientAddress, Streaming};
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::shared::Shared;
use crate::admission::Permit;
use crate::answer;
use crate::event_stream;
use crate::gate::{Caller, GateError};
use crate::taps::{FilterDraft, OpenTap, Taken};

/// How often something is written at least, so that a client that has gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(client): Extension<ClientAddress>,
    RawQuery(query): RawQuery,
    caller: Caller,
) -> Response {
    let rights = match shared.gate.rights_of(&caller) {
        Ok(rights) if rights.hear.is_empty() => Err(GateError::Hear),
        rights => rights,
    };
    let rights = match rights {
        Ok(rights) => rights,
        Err(error) => {
            shared.taps.refuse(&error);
            return error.into_response();
        }
    };
    let draft = FilterDraft::of_query(query.as_deref().unwrap_or_default());
    let filter = draft.and_then(|draft| Ok((draft.filter()?, draft.per_second)));
    let (filter, per_second) = match filter {
        Ok(filter) => filter,
        Err(error) => {
            shared.taps.refuse_for("filter");
            return answer::problem(StatusCode::BAD_REQUEST, "filter", &error.to_string());
        }
    };
    let permit = match shared.streams.enter(client.source()) {
        Ok(permit) => permit,
        Err(busy) => {
            shared.taps.refuse_for(busy.as_str());
            let text = "too many clients read /waves; close one, or use /ws";
            return answer::problem(StatusCode::SERVICE_UNAVAILABLE, busy.as_str(), text);
        }
    };
    let wake = Arc::new(Notify::new());
    let max_bytes = shared.limits.max_queue_bytes;
    let tap = OpenTap::open(&shared.taps, filter, rights, per_second, max_bytes, Arc::clone(&wake));
    let (chunks, streaming, response) = event_stream::open();
    shared.connections.spawn(write(Arc::clone(&shared), tap, wake, chunks, streaming, permit));
    response
}

async fn write(
    shared: Arc<Shared>,
    mut tap: OpenTap,
    wake: Arc<Notify>,
    chunks: mpsc::Sender<Bytes>,
    streaming: Streaming,
    _permit: Permit,
) {
    shared.taps.streams.fetch_add(1, Ordering::Relaxed);
    let mut chunk = Bytes::from_static(b": waves follow\n\n");
    loop {
        let sent = tokio::select! {
            () = shared.stop.cancelled() => break,
            sent = timeout(shared.limits.max_stall, chunks.send(chunk)) => sent,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break,
            Err(_) => {
                shared.taps.stalled();
                break;
            }
        }
        chunk = loop {
            let Taken { batches, missed, again } = tap.take(Instant::now());
            match (&*batches, missed) {
                ([], 0) => {}
                // All clients send the same bytes.
                ([only], 0) => break only.events(),
                _ => {
                    let mut text = Vec::new();
                    if missed > 0 {
                        text.extend(format!("event: missed\ndata: {{\"waves\":{missed}}}\n\n").into_bytes());
                    }
                    batches.iter().for_each(|batch| text.extend_from_slice(&batch.events()));
                    break text.into();
                }
            }
            tokio::select! {
                () = wake.notified() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
                () = chunks.closed() => break Bytes::new(),
                () = shared.stop.cancelled() => break Bytes::new(),
                () = tokio::time::sleep(KEEP_ALIVE) => break Bytes::from_static(b": still here\n\n"),
            }
        };
    }
    shared.taps.streams.fetch_sub(1, Ordering::Relaxed);
    // Also where the client does not read, so that nothing would end the answer.
    streaming.end();
}
