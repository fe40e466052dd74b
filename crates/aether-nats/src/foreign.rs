//! The identity of messages from foreign publishers, which every receiver derives in the same way.
//!
//! If the publisher gives a message an id (`ce-id` or `Nats-Msg-Id`), the identity is derived from it, and two messages
//! with the same id are the same message. Otherwise the identity is derived from everything that receivers see of the
//! message, and from the number of equal messages before it: two equal messages in a row are two messages. The rule is
//! specified in `docs/protocol/README.md`.

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use sha2::{Digest, Sha256};

use aether_core::clock::Instant;
use aether_core::medium::UNPROVEN;
use aether_core::{Source, WaveId};
use aether_link::Remembered;

pub(super) const ID: &str = "ce-id";
pub(super) const SOURCE: &str = "ce-source";
/// The header by which NATS streams detect duplicate messages.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The source name of messages whose publisher does not give one.
const NAMELESS: &str = "foreign";

/// The maximum number of different messages without an id that are counted, at less than 100 bytes each.
const MAX_COUNTED: usize = 1024;
/// How long their counts are kept.
const KEPT: Duration = Duration::from_secs(3600);

/// Counts equal messages without an id that arrived on one subscription.
pub(super) struct Foreign {
    equal: Remembered<u64, u64>,
}

impl Foreign {
    pub(super) fn new() -> Self {
        Self { equal: Remembered::new(MAX_COUNTED, KEPT) }
    }

    /// The identity of a message that Aether did not send.
    pub(super) fn identify(&mut self, message: &Message, now: Instant) -> WaveId {
        let text = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str());
        let name = text(SOURCE).unwrap_or(NAMELESS);
        let instance = number_of([b"source", name.as_bytes()]);
        let source = Source::with_instance(name, instance)
            .or_else(|_| Source::with_instance(NAMELESS, instance))
            .unwrap_or_else(|_| Source::none());
        let sequence = match (text(ID), text(MESSAGE_ID)) {
            (Some(id), _) => number_of([ID.as_bytes(), id.as_bytes()]),
            (None, Some(id)) => number_of([MESSAGE_ID.as_bytes(), id.as_bytes(), message.subject.as_bytes()]),
            (None, None) => {
                let content = content_of(message);
                let before = match self.equal.hear(UNPROVEN, &content, now) {
                    Some(count) => {
                        *count += 1;
                        *count
                    }
                    None => {
                        self.equal.add(UNPROVEN, content, 0, now);
                        0
                    }
                };
                number_of([b"equal".as_slice(), &content.to_be_bytes(), &before.to_be_bytes()])
            }
        };
        WaveId { source, sequence }
    }
}

/// A hash of everything that receivers see of a message.
fn content_of(message: &Message) -> u64 {
    let none = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&none);
    let mut lines: Vec<(&str, &str)> = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
        .collect();
    // The client keeps headers in a hash map, but preserves the order of the values of one name.
    lines.sort_by_key(|(name, _)| *name);
    let reply = message.reply.as_deref().unwrap_or_default();
    let first = [b"content".as_slice(), message.subject.as_bytes(), reply.as_bytes()];
    let headers = lines.into_iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    number_of(first.into_iter().chain(headers).chain([&*message.payload]))
}

/// The first eight bytes of the SHA-256 hash of the parts, each preceded by its length. Never 0, which means none.
fn number_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(headers: &[(&str, &str)], payload: &'static str) -> Message {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let payload = Bytes::from(payload);
        let (length, headers) = (payload.len(), (!headers.is_empty()).then_some(map));
        let subject = "aether.a".into();
        Message { subject, reply: None, payload, headers, status: None, description: None, length }
    }

    #[test]
    fn two_receivers_give_a_message_one_identity_and_equal_messages_two() {
        let (mut here, mut there, now) = (Foreign::new(), Foreign::new(), aether_core::clock::now());
        let messages = [
            message(&[], "on"),
            message(&[], "off"),
            message(&[], "on"),
            message(&[("a", "1"), ("b", "2")], "on"),
            message(&[("a", "2"), ("b", "1")], "on"),
            message(&[(SOURCE, "shop")], "on"),
        ];
        let ids: Vec<_> = messages.iter().map(|message| here.identify(message, now)).collect();
        for (message, id) in messages.iter().zip(&ids) {
            assert_eq!(there.identify(message, now), *id);
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{message:?}");
        }
        assert_eq!((ids[0].source.name(), ids[5].source.name()), (NAMELESS, "shop"));
    }

    #[test]
    fn an_id_of_the_publisher_is_the_identity() {
        let (mut foreign, now) = (Foreign::new(), aether_core::clock::now());
        let mut id = |headers: &[(&str, &str)], payload| foreign.identify(&message(headers, payload), now);
        for name in [ID, MESSAGE_ID] {
            assert_eq!(id(&[(name, "7")], "a"), id(&[(name, "7")], "b"), "{name}");
            assert_ne!(id(&[(name, "7")], "a"), id(&[(name, "8")], "a"), "{name}");
        }
        assert_ne!(id(&[(ID, "7"), (SOURCE, "a")], ""), id(&[(ID, "7"), (SOURCE, "b")], ""));
        assert_eq!(id(&[(ID, "7"), (SOURCE, "\u{1}")], "").source.name(), NAMELESS);
    }

    #[test]
    fn messages_without_end_do_not_grow_it() {
        let (mut foreign, now) = (Foreign::new(), aether_core::clock::now());
        for number in 0..3000_u64 {
            let mut message = message(&[], "");
            message.payload = Bytes::copy_from_slice(&number.to_be_bytes());
            foreign.identify(&message, now);
        }
        assert_eq!(foreign.equal.len(), MAX_COUNTED);
    }
}
