//! Finds the messages in what a NATS server sends, and decides which of them the client can parse.
//!
//! It is given what has arrived, and looks at it in place: it copies nothing. Of a message it needs the line and the
//! headers at once, of a payload only the length.

use std::fmt;

use crate::malformed::{check_message, check_message_with_headers, check_nats_headers};

/// The longest line. One with the addresses of a large cluster has some KiB.
const MAX_LINE: usize = 1 << 20;

/// The longest headers that are waited for; a server permits no larger message. Longer ones are left out.
const MAX_HEADERS: usize = 64 << 20;

/// A subject in the log is cut here.
const SUBJECT_IN_LOG: usize = 256;

/// The action for the first bytes that are left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The client can have as many.
    Pass(usize),
    /// As many are left out: they are of a message that the client cannot parse.
    LeaveOut(usize),
    /// More must arrive first, in all as many.
    Wait(usize),
}

/// A message that is left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) subject: String,
    pub(super) error: &'static str,
}

/// The bytes are not the protocol of NATS.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotNats(&'static str);

impl fmt::Display for NotNats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotNats {}

/// Inspects one connection.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    /// The rest of a message that has not arrived yet, and whether the client can have it.
    rest: usize,
    passes: bool,
}

impl Inspector {
    /// The next step for the bytes that have arrived and were not passed or left out yet. `note` is called for each
    /// message that is left out.
    pub(super) fn next(&mut self, arrived: &[u8], note: impl FnOnce(LeftOut)) -> Result<Step, NotNats> {
        if self.rest > 0 {
            let part = self.rest.min(arrived.len());
            self.rest -= part;
            return Ok(match (part, self.passes) {
                (0, _) => Step::Wait(1),
                (_, true) => Step::Pass(part),
                (_, false) => Step::LeaveOut(part),
            });
        }
        let Some(end) = arrived.windows(2).position(|bytes| bytes == b"\r\n") else {
            return match arrived.len() {
                ..MAX_LINE => Ok(Step::Wait(arrived.len() + 1)),
                _ => Err(NotNats("the server sent a line that is too long")),
            };
        };
        let (line, behind) = (&arrived[..end], end + 2);
        if let Some(arguments) = line.strip_prefix(b"MSG ") {
            let payload = length(arguments, 0)?;
            return Ok(self.message(arrived, behind, payload, arguments, check_message(arguments), note));
        }
        if let Some(arguments) = line.strip_prefix(b"HMSG ") {
            let (total, headers) = (length(arguments, 0)?, length(arguments, 1)?);
            if headers > total {
                return Err(NotNats("the server sent a message that is shorter than its headers"));
            }
            let checked = match check_message_with_headers(arguments) {
                Ok(()) if headers > MAX_HEADERS => Err("its headers are too long"),
                Ok(()) => match arrived.get(behind..behind + headers) {
                    Some(headers) => check_nats_headers(headers),
                    None => return Ok(Step::Wait(behind + headers)),
                },
                unread => unread,
            };
            return Ok(self.message(arrived, behind, total, arguments, checked, note));
        }
        if line.starts_with(b"-ERR") && (line.len() < 5 || std::str::from_utf8(line).is_err()) {
            note(LeftOut { subject: String::new(), error: "an error of the server is not text" });
            return Ok(Step::LeaveOut(behind));
        }
        Ok(Step::Pass(behind))
    }

    fn message(
        &mut self,
        arrived: &[u8],
        behind: usize,
        content: usize,
        arguments: &[u8],
        checked: Result<(), &'static str>,
        note: impl FnOnce(LeftOut),
    ) -> Step {
        let whole = behind.saturating_add(content).saturating_add(2);
        let part = whole.min(arrived.len());
        (self.rest, self.passes) = (whole - part, checked.is_ok());
        match checked {
            Ok(()) => Step::Pass(part),
            Err(error) => {
                note(LeftOut { subject: subject(arguments), error });
                Step::LeaveOut(part)
            }
        }
    }
}

/// The length this many places from the end of a line.
fn length(arguments: &[u8], from_end: usize) -> Result<usize, NotNats> {
    let mut arguments = arguments.rsplit(|byte| *byte == b' ').filter(|argument| !argument.is_empty());
    let length = arguments.nth(from_end).and_then(|length| std::str::from_utf8(length).ok());
    length.and_then(|length| length.parse().ok()).ok_or(NotNats("the server sent a message without a length"))
}

fn subject(arguments: &[u8]) -> String {
    let subject =
        arguments.split(|byte| *byte == b' ').find(|argument| !argument.is_empty()).unwrap_or_default();
    String::from_utf8_lossy(&subject[..subject.len().min(SUBJECT_IN_LOG)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that pass of a stream that arrives in parts of this size, and the subjects of what is left out.
    fn filtered(stream: &[u8], part: usize) -> Result<(Vec<u8>, Vec<String>), NotNats> {
        let (mut inspector, mut passed, mut left_out) = (Inspector::default(), Vec::new(), Vec::new());
        let mut arrived: Vec<u8> = Vec::new();
        for part in stream.chunks(part) {
            arrived.extend_from_slice(part);
            while !arrived.is_empty() {
                let step = inspector.next(&arrived, |message| left_out.push(message.subject))?;
                match step {
                    Step::Pass(bytes) => passed.extend(arrived.drain(..bytes)),
                    Step::LeaveOut(bytes) => drop(arrived.drain(..bytes)),
                    Step::Wait(bytes) => {
                        assert!(bytes > arrived.len());
                        break;
                    }
                }
            }
        }
        passed.append(&mut arrived);
        Ok((passed, left_out))
    }

    #[test]
    fn what_the_client_can_parse_passes_unchanged_however_it_arrives() {
        let readable: &[&[u8]] = &[
            b"INFO {\"server_id\":\"a\"}\r\n",
            b"PING\r\nPONG\r\n+OK\r\n-ERR 'Permissions Violation for Publish to \"a\"'\r\n",
            b"MSG a.b 1 5\r\nMSG \r\r\n",
            b"MSG a.b 1 _INBOX.1 0\r\n\r\n",
            b"HMSG _INBOX.1 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
            b"HMSG a 1 reply 25 27\r\nNATS/1.0\r\nTrace-Id: 1\r\n\r\n\r\n\r\n",
        ];
        let unreadable: &[(&[u8], &str)] = &[
            (b"HMSG a.odd 1 25 27\r\nNATS/1.0\r\nTrace Id: 1\r\n\r\n\r\n\r\n", "a.odd"),
            (b"MSG caf\xe9 1 4\r\n\r\n\r\n\r\n", "caf\u{fffd}"),
            (b"HMSG b\xc2\xa0c 1 12 12\r\nNATS/1.0\r\n\r\n\r\n", "b\u{a0}c"),
            (b"HMSG b 1 0 2\r\nHM\r\n", "b"),
            (b"-ERR\r\n", ""),
        ];
        let (mut stream, mut passes, mut subjects) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..6 {
            for (number, bytes) in readable.iter().enumerate() {
                stream.extend_from_slice(bytes);
                passes.extend_from_slice(bytes);
                if let Some((bytes, subject)) = unreadable.get((number + round) % 6) {
                    stream.extend_from_slice(bytes);
                    subjects.push((*subject).to_owned());
                }
            }
        }
        for part in [1, 2, 3, 7, 64, stream.len()] {
            assert_eq!(filtered(&stream, part), Ok((passes.clone(), subjects.clone())), "{part}");
        }
    }

    #[test]
    fn a_stream_that_cannot_be_divided_into_messages_is_an_error() {
        for stream in [&b"MSG a 1 x\r\n"[..], b"HMSG a 1 9 5\r\n", b"HMSG a\r\n"] {
            assert!(filtered(stream, 1).is_err(), "{stream:?}");
        }
        let mut line = vec![b'x'; MAX_LINE - 1];
        let mut inspector = Inspector::default();
        assert_eq!(inspector.next(&line, |_| {}), Ok(Step::Wait(MAX_LINE)));
        line.push(b'x');
        assert!(inspector.next(&line, |_| {}).is_err());
    }
}
