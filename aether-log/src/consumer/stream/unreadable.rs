//! Passes over stored messages that the client of NATS cannot parse: it takes them for a broken connection, so they never
//! arrive, and the server would deliver them again without end.
//!
//! Anybody who may publish on the stream can store one. They are looked for after each connection that broke: among the messages that the server has delivered and that nobody has acknowledged. The server's
//! interface hands them out as JSON, which breaks nothing.

use std::str::FromStr as _;
use std::sync::atomic::Ordering;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{Client, HeaderName, StatusCode, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::claim::answer;
use super::shared::StreamShared;

/// The messages that are looked at for one connection that broke, each with a request of its own.
const AT_ONCE: u64 = 256;

/// Looks for them.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// The connections that have stood.
    connects: u64,
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

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

impl Unreadable {
    pub(super) fn new(client: &Client) -> Self {
        Self { connects: connects(client), next: 0 }
    }

    /// Whether there is a new connection since this was last asked.
    pub(super) fn may_have_broken(&mut self, client: &Client) -> bool {
        let connects = connects(client);
        std::mem::replace(&mut self.connects, connects) != connects
    }

    /// Tells the server not to deliver again what the client cannot parse.
    pub(super) async fn pass_over(&mut self, shared: &StreamShared, consumer: &PullConsumer) {
        // Without an answer the next break looks again.
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
            if let Err(error) = check(&headers) {
                let consumer = &shared.name;
                tracing::warn!(
                    position,
                    consumer,
                    ?subject,
                    error,
                    "a stored message has headers that cannot be read: it is passed over"
                );
                // The server knows the delivery by its position alone. The other numbers tell the receiver of a wave something.
                let delivery =
                    Subject::from(format!("$JS.ACK.{stream}.{consumer}.1.{position}.{position}.0.0"));
                answer(shared, delivery, Bytes::from_static(b"+TERM")).await;
                shared.window.expire();
            }
        }
    }
}

/// Whether the client can read headers (async-nats 0.51), none included.
fn check(headers: &[u8]) -> Result<(), &'static str> {
    if headers.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(headers).map_err(|_| "they are not UTF-8")?;
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).map(str::trim);
    let version = version.ok_or("they do not begin with NATS/1.0")?;
    let status = version.split_once(' ').map_or(version, |(status, _)| status.trim());
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return Err("their status is no number of three digits");
    }
    let mut has_one = false;
    for line in lines.filter(|line| !line.is_empty()) {
        // What begins with a space goes on with the value before it.
        if has_one && line.starts_with(char::is_whitespace) {
            continue;
        }
        let (name, _) = line.split_once(':').ok_or("a line has no colon")?;
        HeaderName::from_str(name).map_err(|_| "a name has a character that names cannot have")?;
        has_one = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_cannot_read_is_told_from_what_it_can() {
        for headers in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nTrace-Id: 1\r\n\r\n",
            "NATS/1.0 503\r\n\r\n",
            "NATS/1.0 100 Idle Heartbeat\r\n\r\n",
            "NATS/1.0\r\na: b\r\n c\r\nd:\r\n\r\n",
            "NATS/1.0\r\na: é\r\n\r\n",
        ] {
            assert_eq!(check(headers.as_bytes()), Ok(()), "{headers:?}");
        }
        for headers in [
            &b"NATS/1.0\r\nTrace Id: 1\r\n\r\n"[..],
            b"NATS/1.0\r\ncaf\xc3\xa9: 1\r\n\r\n",
            b"NATS/1.0\r\nk: caf\xe9\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/2.0\r\n\r\n",
            b"NATS/1.0 abc\r\n\r\n",
            b"NATS/1.0 99999\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert!(check(headers).is_err(), "{headers:?}");
        }
    }
}
