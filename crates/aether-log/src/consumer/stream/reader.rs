//! Reads the messages that the server sends to a consumer.

use std::sync::Arc;

use async_nats::StatusCode;
use async_nats::header::NATS_PIN_ID;
use async_nats::jetstream::Message;
use tokio::time::Instant;

use super::claim::id;
use super::complaints::{Complaint, Complaints};
use super::pin::Numbers;
use super::shared::StreamShared;
use super::window::Held;
use crate::consumer::ready::Order;
use crate::sealing::Unopened;
use crate::stored_wave::read_frame;

/// The meaning of a message of the server.
pub(super) enum Meaning {
    Wave(Box<Held>),
    Unreadable,
    /// Its key is not here.
    Locked,
    Heartbeat,
    /// The request has ended.
    Ended,
    /// Nobody serves the consumer now.
    Refused,
    Deleted,
    /// Another process is the pinned client.
    NotPinned,
}

/// Reads deliveries.
pub(super) struct Reader<'a> {
    shared: &'a StreamShared,
    /// Reused, because the context in it is large.
    message: Option<Message>,
    complaints: Complaints,
    arrived: Option<Arrived>,
}

/// By key: the pin of a delivery, and its numbers.
pub(super) struct Arrived {
    pub(super) pin: String,
    pub(super) numbers: Numbers,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a StreamShared) -> Self {
        Self { shared, message: None, complaints: Complaints::default(), arrived: None }
    }

    /// By key: the delivery that was read last, if it was one.
    pub(super) fn arrived(&mut self) -> Option<Arrived> {
        self.arrived.take()
    }

    pub(super) fn read(&mut self, message: async_nats::Message) -> Meaning {
        match message.status {
            None | Some(StatusCode::OK) => self.read_wave(message),
            Some(StatusCode::IDLE_HEARTBEAT) => Meaning::Heartbeat,
            Some(StatusCode::NO_RESPONDERS) => Meaning::Refused,
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => Meaning::Ended,
            Some(StatusCode::PIN_ID_MISMATCH) => Meaning::NotPinned,
            Some(_) => match message.description.as_deref() {
                Some(text) if text.eq_ignore_ascii_case("consumer deleted") => Meaning::Deleted,
                Some(text) if text.to_ascii_lowercase().contains("maxbytes") => Meaning::Ended,
                // The leader has changed, the server shuts down, or too many requests wait.
                _ => Meaning::Refused,
            },
        }
    }

    fn read_wave(&mut self, message: async_nats::Message) -> Meaning {
        let bytes = message.payload.len();
        let delivery = match &mut self.message {
            Some(delivery) => {
                delivery.message = message;
                delivery
            }
            none => none.insert(Message { message, context: self.shared.connection.context.clone() }),
        };
        let Ok(info) = delivery.info() else { return Meaning::Unreadable };
        let position = info.stream_sequence;
        let (delivered, delivery_number) =
            (u64::try_from(info.delivered).unwrap_or(1), info.consumer_sequence);
        if self.shared.options.by_key {
            let numbers = Numbers { position, delivery: delivery_number, times: delivered };
            // A publisher may have written such a header; the server appends its own.
            let pin = delivery.headers.as_ref().and_then(|headers| headers.get_last(NATS_PIN_ID));
            self.arrived = pin.map(|pin| Arrived { pin: pin.as_str().to_owned(), numbers });
        }
        let micros = u64::try_from(info.published.unix_timestamp_nanos() / 1000).unwrap_or(0);
        let (consumer, now) = (&self.shared.name, Instant::now());
        let mut due = |complaint| self.complaints.due(complaint, now);
        let opened = match self.shared.connection.sealing.open(&delivery.subject, &delivery.payload) {
            Ok(opened) => opened,
            Err(error @ Unopened::Locked) => {
                if let Some(left_out) = due(Complaint::Locked) {
                    tracing::warn!(position, consumer, %error, left_out, "a wave waits for its key and is delivered again");
                }
                return Meaning::Locked;
            }
            Err(error) => {
                if let Some(left_out) = due(Complaint::Refused) {
                    tracing::warn!(position, consumer, %error, left_out, "a message of the stream is refused and passed over");
                }
                return Meaning::Unreadable;
            }
        };
        let name = self.shared.subjects.name(&delivery.subject).map(str::as_bytes);
        let mut stored = match read_frame(position, micros, Some(name.unwrap_or_default()), &opened.frame) {
            Ok(stored) => stored,
            Err(error) => {
                if let Some(left_out) = due(Complaint::NoWave) {
                    tracing::warn!(position, consumer, %error, left_out, "a message of the stream cannot be read as a wave and is passed over");
                }
                return Meaning::Unreadable;
            }
        };
        if opened.proof.is_some_and(|proof| !stored.wave.prove(&proof)) {
            if let Some(left_out) = due(Complaint::Name) {
                let name = stored.wave.source().name();
                tracing::warn!(
                    position,
                    consumer,
                    name,
                    left_out,
                    "its signer may not use the name: a wave is passed over"
                );
            }
            return Meaning::Unreadable;
        }
        // A copy, so that the schema of one wave delays no other consumer.
        let border = self.shared.connection.border.lock().clone();
        if let Some(border) = border
            && let Err(refusal) = border.admit_stored(&mut stored.wave)
        {
            if let Some(left_out) = due(Complaint::Rules) {
                tracing::warn!(position, consumer, %refusal, left_out, "the rules refuse a wave of the stream: it is passed over");
            }
            return Meaning::Unreadable;
        }
        let Some(reply) = delivery.reply.clone() else { return Meaning::Unreadable };
        let (level, id) = (stored.wave.signal().level(), id(&stored));
        let key = stored.wave.key().filter(|_| self.shared.options.by_key).map(Arc::from);
        let tenant = self.shared.options.fair_by.and_then(|tenant| tenant.of(&stored.wave));
        let order = Order { position, level, micros, key, tenant };
        Meaning::Wave(Box::new(Held {
            stored,
            order,
            id,
            reply,
            delivered,
            delivery: delivery_number,
            bytes,
            touched: now,
            known: None,
        }))
    }
}
