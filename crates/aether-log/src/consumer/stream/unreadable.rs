//! Passes over stored messages that the client of NATS cannot parse: it takes the first for a broken connection, and a
//! filter leaves out the others. So they never arrive, and the server would deliver them again without end.
//!
//! Anybody who may publish on the stream can store one. They are looked for after a connection that broke, and after
//! messages that were left out: among those that the server has delivered and that nobody has acknowledged. The
//! server's interface hands them out as JSON, which breaks nothing.

use std::sync::atomic::Ordering;

use aether_nats::{NatsClient, check_nats_headers};
use async_nats::Subject;
use async_nats::jetstream::consumer::PullConsumer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::claim::answer;
use super::shared::StreamShared;

/// The messages that are looked at at once, each with a request of its own.
const AT_ONCE: u64 = 256;

/// Looks for them.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// The connections that have stood, and the messages that were left out.
    seen: (u64, u64),
    /// Where to look next, if there were more than could be looked at.
    next: u64,
}

#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}

#[derive(Deserialize)]
struct StoredMessage {
    subject: String,
    #[serde(default)]
    hdrs: String,
}

fn seen(client: &NatsClient) -> (u64, u64) {
    (client.statistics().connects.load(Ordering::Relaxed), client.malformed())
}

impl Unreadable {
    pub(super) fn new(client: &NatsClient) -> Self {
        Self { seen: seen(client), next: 0 }
    }

    /// Whether a message may have been lost since this was last asked, because the client cannot parse it.
    pub(super) fn may_be_there(&mut self, client: &NatsClient) -> bool {
        let seen = seen(client);
        std::mem::replace(&mut self.seen, seen) != seen
    }

    /// Tells the server not to deliver again what the client cannot parse.
    pub(super) async fn pass_over(&mut self, shared: &StreamShared, consumer: &PullConsumer) {
        // Without an answer the next one looks again.
        let Ok(info) = consumer.get_info().await else { return };
        let (first, last) = (info.ack_floor.stream_sequence + 1, info.delivered.stream_sequence);
        let first = if (first..=last).contains(&self.next) { self.next } else { first };
        let end = first.saturating_add(AT_ONCE).min(last + 1);
        self.next = end;
        let stream = shared.subjects.stream();
        for position in first..end {
            let subject = format!("STREAM.MSG.GET.{stream}");
            let stored = shared.connection.api::<Stored>(stream, subject, &json!({ "seq": position })).await;
            // It may be deleted, or this process may not read it so.
            let Ok(Stored { message: StoredMessage { subject, hdrs } }) = stored else { continue };
            let Ok(headers) = STANDARD.decode(hdrs) else { continue };
            if headers.is_empty() {
                continue;
            }
            if let Err(error) = check_nats_headers(&headers) {
                let consumer = &shared.name;
                tracing::warn!(
                    position,
                    consumer,
                    ?subject,
                    error,
                    "a stored message has headers that cannot be read: it is passed over"
                );
                // The server knows the delivery by its position alone. The other numbers tell the receiver of a wave
                // something.
                let delivery =
                    Subject::from(format!("$JS.ACK.{stream}.{consumer}.1.{position}.{position}.0.0"));
                answer(shared, delivery, Bytes::from_static(b"+TERM")).await;
                shared.window.expire();
            }
        }
    }
}
