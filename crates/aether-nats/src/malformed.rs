//! Malformed messages: those that the client (async-nats 0.51) cannot parse, and the count of all.
//!
//! The client takes a message that it cannot parse for a broken connection. The filter of a connection checks each
//! message here, and a durable consumer stored ones. The check follows the client's own parser,
//! `Connection::try_read_op`, step by step, and uses the client's types where it does. Each malformed message is
//! counted, and the first of a minute is named in the log.

use std::fmt;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderName, StatusCode};
use parking_lot::Mutex;

use aether_core::clock::{self, Instant};

/// Anybody who may publish can send any number of them, so not each is a line.
const NAMED_EVERY: Duration = Duration::from_secs(60);

/// The malformed messages of a connection.
#[derive(Debug, Default)]
pub(super) struct Malformed {
    count: AtomicU64,
    named: Mutex<Option<Instant>>,
}

impl Malformed {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts a message on a subject, and logs what is wrong with it.
    pub(super) fn note(&self, subject: &str, error: impl fmt::Display) {
        let malformed = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_named() {
            // A subject may have any character.
            tracing::warn!(
                ?subject,
                %error,
                malformed,
                "ignored a malformed message; further ones within a minute are only counted"
            );
        } else {
            tracing::debug!(?subject, %error, "ignored a malformed message");
        }
    }

    fn is_named(&self) -> bool {
        let (now, mut named) = (clock::now(), self.named.lock());
        let is_due = named.is_none_or(|named| now.saturating_duration_since(named) >= NAMED_EVERY);
        *named = if is_due { Some(now) } else { *named };
        is_due
    }
}

/// Whether the client of NATS can parse the headers of a message: everything from the line with the version on.
///
/// # Errors
/// What is wrong with them, for the log.
pub fn check_nats_headers(headers: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(headers).map_err(|_| "its headers are not UTF-8")?;
    let mut lines = text.lines().peekable();
    let version = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).map(str::trim);
    let version = version.ok_or("its headers do not begin with NATS/1.0")?;
    let status = version.split_once(' ').map_or(version, |(status, _)| status.trim());
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return Err("its status is not a number of three digits");
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, _) = line.split_once(':').ok_or("a line of its headers has no colon")?;
        HeaderName::from_str(name)
            .map_err(|_| "a name of its headers has a character that names cannot have")?;
        // A line that begins with a space goes on with the value before it.
        while lines.next_if(|line| line.starts_with(char::is_whitespace)).is_some() {}
    }
    Ok(())
}

/// Whether the client can parse the text behind `MSG ` on a line.
pub(super) fn check_message(arguments: &[u8]) -> Result<(), &'static str> {
    let text = text(arguments)?;
    check_arguments(text.split(' ').filter(|argument| !argument.is_empty()), 1)
}

/// Whether the client can parse the text behind `HMSG ` on a line. It splits at every space of Unicode, which a
/// subject may have.
pub(super) fn check_message_with_headers(arguments: &[u8]) -> Result<(), &'static str> {
    check_arguments(text(arguments)?.split_whitespace(), 2)
}

fn text(arguments: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(arguments).map_err(|_| "its subject is not UTF-8")
}

/// A subject, the number of the subscription, a subject for the answer or none, and this many lengths.
fn check_arguments<'a>(
    mut arguments: impl Iterator<Item = &'a str>,
    lengths: usize,
) -> Result<(), &'static str> {
    let (_, number) = (arguments.next(), arguments.next());
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    let rest = arguments.by_ref().take(lengths + 1).fold((0, [""; 3]), |(count, mut rest), argument| {
        rest[count] = argument;
        (count + 1, rest)
    });
    let (count, rest) = rest;
    let sizes = match count.checked_sub(lengths) {
        Some(0) => &rest[..lengths],
        Some(1) => &rest[1..=lengths],
        _ => &[],
    };
    let is_read = !sizes.is_empty()
        && arguments.next().is_none()
        && number.is_some_and(is_number)
        && sizes.iter().all(|size| is_number(size));
    is_read.then_some(()).ok_or("its subject has a character that the client takes for the end of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_the_client_cannot_parse_are_told_from_those_that_it_can() {
        for headers in [
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nTrace-Id: 1\r\n\r\n",
            "NATS/1.0 503\r\n\r\n",
            "NATS/1.0 100 Idle Heartbeat\r\n\r\n",
            "NATS/1.0\r\na: b\r\n c\r\nd:\r\n\r\n",
            "NATS/1.0\r\na: é\r\n\r\n",
        ] {
            assert_eq!(check_nats_headers(headers.as_bytes()), Ok(()), "{headers:?}");
        }
        for headers in [
            &b"NATS/1.0\r\nTrace Id: 1\r\n\r\n"[..],
            b"NATS/1.0\r\ncaf\xc3\xa9: 1\r\n\r\n",
            b"NATS/1.0\r\nk: caf\xe9\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\n begins: with a space\r\n\r\n",
            b"NATS/2.0\r\n\r\n",
            b"NATS/1.0 abc\r\n\r\n",
            b"NATS/1.0 99999\r\n\r\n",
            b"\r\n\r\n",
            b"",
        ] {
            assert!(check_nats_headers(headers).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn lines_that_the_client_cannot_parse_are_told_from_those_that_it_can() {
        for line in ["a 1 5", "a 1 b 5", "a\u{a0}b 1 5", "a\u{b}b 1  5"] {
            assert_eq!(check_message(line.as_bytes()), Ok(()), "{line:?}");
        }
        for line in ["a 1 5 5", "a 1 b 5 5", "é 1 5 5"] {
            assert_eq!(check_message_with_headers(line.as_bytes()), Ok(()), "{line:?}");
        }
        for line in [&b"a\xff 1 5"[..], b"a x 5", b"a 1", b"a 1 b c 5", b"a 1 b x", b""] {
            assert!(check_message(line).is_err(), "{line:?}");
        }
        for line in [&b"a\xc2\xa0b 1 5 5"[..], b"a\x0bb 1 r 5 5", b"a 1 b c 5 5", b"a 1 5", b"\xff 1 5 5"] {
            assert!(check_message_with_headers(line).is_err(), "{line:?}");
        }
    }
}
