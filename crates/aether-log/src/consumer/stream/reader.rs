//! Reads the messages that the server sends to a consumer.

use std::sync::Arc;

use async_nats::StatusCode;
use async_nats::header::NATS_PIN_ID;
use async_nats::jetstream::Message;
use tokio::time::Instant;

use super::opening::PassedOver;
use super::pin::Numbers;
use super::shared::StreamShared;
use super::window::{Cut, Held};
use crate::consumer::ready::Order;
use crate::jetstream::InParts;
use crate::stored_wave::{Decoder, identity};

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
    decoder: Decoder,
    arrived: Option<Arrived>,
}

/// Pinned: the pin of a delivery, and its numbers.
pub(super) struct Arrived {
    pub(super) pin: String,
    pub(super) numbers: Numbers,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a StreamShared) -> Self {
        Self { shared, message: None, decoder: Decoder::default(), arrived: None }
    }

    /// Pinned: the delivery that was read last, if it was one.
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
        if self.shared.options.is_pinned() {
            let numbers = Numbers { position, delivery: delivery_number, times: delivered };
            // A publisher may have written such a header; the server appends its own.
            let pin = delivery.headers.as_ref().and_then(|headers| headers.get_last(NATS_PIN_ID));
            self.arrived = pin.map(|pin| Arrived { pin: pin.as_str().to_owned(), numbers });
        }
        let micros = u64::try_from(info.published.unix_timestamp_nanos() / 1000).unwrap_or(0);
        let opened = match self.shared.open(position, &delivery.subject, &delivery.payload) {
            Ok(opened) => opened,
            Err(PassedOver::Locked) => return Meaning::Locked,
            Err(PassedOver::Unreadable) => return Meaning::Unreadable,
        };
        let by_key = self.shared.options.by_key;
        let subject = &delivery.subject;
        let (read, cut) = match InParts::read(&opened.frame) {
            Some(parts) => {
                let head = self.shared.framed(&mut self.decoder, position, micros, subject, &parts.head);
                (head, Some(Arc::new(Cut { parts, subject: subject.clone() })))
            }
            None => (self.shared.read(&mut self.decoder, position, micros, subject, opened), None),
        };
        let (Ok(stored), Some(reply)) = (read, delivery.reply.clone()) else { return Meaning::Unreadable };
        let wave = &stored.wave;
        let (level, id) = (wave.signal().level(), identity(wave));
        let key = wave.key().filter(|_| by_key).map(Arc::from);
        let tenant = self.shared.options.fair_by.and_then(|tenant| tenant.of(wave));
        let order = Order { position, level, micros, key, tenant };
        Meaning::Wave(Box::new(Held {
            stored,
            cut,
            order,
            id,
            reply,
            delivered,
            delivery: delivery_number,
            bytes,
            touched: Instant::now(),
            known: None,
        }))
    }
}
