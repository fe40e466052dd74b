//! `GET /field/{name}/watch`: a subscription as server-sent events. The data of each event is a message of the own
//! protocol, its id a cursor, so a browser that connects again goes on where it was.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::counts::Dropped;
use super::denied::Denied;
use super::effect::{Since, Subscription};
use super::hubs::Hubs;
use super::outbox::Outbox;
use super::selection::Selection;
use super::visit::Visit;
use super::writer::{Dialect, Piece, Writer};
use crate::admission::Permit;
use crate::event_stream;

pub(super) async fn watch(State(hubs): State<Hubs>, visit: Visit) -> Result<Response, Denied> {
    let selection = visit.selection()?;
    let since = last_event(&visit.headers);
    let permit = visit.enter()?;
    let (chunks, streaming, mut response) = event_stream::open();
    let events = Events { visit, selection, since, chunks, stop: hubs.stop.clone(), _permit: permit };
    hubs.connections.spawn(async move {
        events.send().await;
        // Also where the client does not read, so that nothing would end the answer.
        streaming.end();
    });
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The cursor of the last event that the client got.
fn last_event(headers: &HeaderMap) -> Since {
    let id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let cursor = id.and_then(|id| id.rsplit_once('.'));
    let cursor = cursor.and_then(|(epoch, revision)| Some((epoch, revision.parse().ok()?)));
    cursor.map_or(Since::Start, |(epoch, revision)| Since::Cursor(epoch.to_owned(), revision))
}

/// The events for one client.
struct Events {
    visit: Visit,
    selection: Selection,
    since: Since,
    chunks: mpsc::Sender<Bytes>,
    stop: CancellationToken,
    _permit: Permit,
}

impl Events {
    /// Sends until the client or the gateway ends, or the rights of the client change: it asks again then.
    async fn send(self) {
        let Self { visit, selection, since, chunks, stop, _permit } = self;
        let hub = &visit.hub;
        let outbox = Arc::new(Outbox::new(&hub.limits, false));
        let _registered = hub.register(&outbox, None, visit.rights.clone());
        hub.subscribe(&outbox, Subscription { selection, since, presence: None }, true);
        let mut writer = Writer::new(hub, &outbox, Dialect::V1);
        let mut beat = Instant::now() + hub.limits.ping_interval;
        loop {
            let mut chunk = Vec::new();
            writer.next().await.iter().for_each(|piece| event(piece, &mut chunk));
            if chunk.is_empty() {
                if outbox.take_close().is_some() {
                    return;
                }
                tokio::select! {
                    () = outbox.wake.notified() => continue,
                    () = chunks.closed() => return,
                    () = stop.cancelled() => return,
                    () = sleep_until(beat) => {}
                }
                if !visit.still_may() {
                    return;
                }
                beat = Instant::now() + hub.limits.ping_interval;
                match writer.cursor() {
                    Some(piece) => event(&piece, &mut chunk),
                    None => chunk.extend_from_slice(b": still here\n\n"),
                }
            }
            let sent = tokio::select! {
                sent = timeout(hub.limits.max_stall, chunks.send(chunk.into())) => sent,
                () = stop.cancelled() => return,
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return hub.counts.give_up(Dropped::Stalled),
            }
        }
    }
}

fn event(piece: &Piece, chunk: &mut Vec<u8>) {
    if let Some((epoch, revision)) = &piece.cursor {
        chunk.extend_from_slice(format!("id: {epoch}.{revision}\n").as_bytes());
    }
    // JSON has no line breaks.
    chunk.extend_from_slice(b"data: ");
    chunk.extend_from_slice(piece.text.as_bytes());
    chunk.extend_from_slice(b"\n\n");
}
