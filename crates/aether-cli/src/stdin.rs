//! Stdin as a stream of JSON documents, one per line.
//!
//! A separate thread reads it, because tokio's stdin would keep the process from ending while a terminal is idle. A
//! line is read up to the maximum payload, so that a file without line breaks is an error and does not fill the memory.

use std::io::{self, BufRead, Read};

use aether_files::byte_order_mark;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// The maximum number of documents that wait for the network.
const AHEAD: usize = 64;

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdinError {
    #[error("line {line}, column {column} of stdin is not JSON: {reason}")]
    Json { line: u64, column: usize, reason: String },
    #[error("line {line} of stdin is longer than {most} bytes, the maximum payload of a wave on this medium")]
    Long { line: u64, most: usize },
    #[error("line {line} of stdin cannot be read")]
    Read { line: u64, source: io::Error },
}

/// A document and its line number.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) line: u64,
    pub(crate) json: Box<RawValue>,
}

/// A stream of documents.
#[derive(Debug)]
pub(crate) struct Documents {
    receiver: mpsc::Receiver<Result<Document, StdinError>>,
}

impl Documents {
    /// The documents of stdin, each of at most `most_bytes` bytes.
    pub(crate) fn of_stdin(most_bytes: usize) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            for document in read(io::stdin().lock(), most_bytes) {
                let is_last = document.is_err();
                if sender.blocking_send(document).is_err() || is_last {
                    break;
                }
            }
        });
        Self { receiver }
    }

    /// The next document, or `None` at the end.
    ///
    /// Cancel safety: cancelled before completion, no document was taken.
    pub(crate) async fn next(&mut self) -> Result<Option<Document>, StdinError> {
        self.receiver.recv().await.transpose()
    }
}

/// The documents of all non-blank lines. It must not be polled after an error, because a line that is too long has been
/// read in part.
fn read(mut from: impl BufRead, most: usize) -> impl Iterator<Item = Result<Document, StdinError>> {
    // The limit excludes the line break of one or two bytes.
    let most_read = most.saturating_add(2) as u64;
    let mut line = 0;
    let mut bytes = Vec::new();
    std::iter::from_fn(move || {
        loop {
            line += 1;
            bytes.clear();
            match from.by_ref().take(most_read).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) if without_break(&bytes).len() > most => {
                    return Some(Err(StdinError::Long { line, most }));
                }
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let text = if line == 1 { byte_order_mark::without(&bytes) } else { &bytes };
                    return Some(parse(text, line));
                }
                Err(source) => return Some(Err(StdinError::Read { line, source })),
            }
        }
    })
}

fn without_break(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn parse(bytes: &[u8], line: u64) -> Result<Document, StdinError> {
    let parsed = serde_json::from_slice(bytes.trim_ascii_end());
    parsed.map(|json| Document { line, json }).map_err(|error: serde_json::Error| {
        // The error names line 1 of the document, which would be mistaken for line 1 of the input.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        StdinError::Json { line, column: error.column(), reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_document_and_blank_lines_are_none() {
        let documents: Vec<_> =
            read("{\"a\": 1}\n\n  \t\n\"x\"\r\nnull".as_bytes(), 100).map(|d| d.unwrap()).collect();
        assert_eq!(
            documents.iter().map(|d| (d.line, d.json.get())).collect::<Vec<_>>(),
            [(1, "{\"a\": 1}"), (4, "\"x\""), (5, "null")]
        );
        let marked: Vec<_> =
            read("\u{feff}1\r\n2".as_bytes(), 100).map(|d| d.unwrap().json.get().to_owned()).collect();
        assert_eq!(marked, ["1", "2"]);
    }

    #[test]
    fn an_error_has_the_line_and_column_of_the_input() {
        let place = |text: &[u8]| match read(text, 100).find_map(Result::err).unwrap() {
            StdinError::Json { line, column, reason } => {
                assert!(!reason.contains("line 1"), "{reason}");
                (line, column)
            }
            other => panic!("{other}"),
        };
        assert_eq!(place(b"1\n\n{\"a\":1,}\n"), (3, 8));
        assert_eq!(place(b"{\"a\":"), (1, 5));
        assert_eq!(place(b"1 2\n"), (1, 3));
        assert_eq!(place(b"\"\xff\"\n").0, 1);
    }

    #[test]
    fn a_line_may_be_as_long_as_a_wave_and_no_byte_longer() {
        for allowed in [&b"12345\n12345\r\n12345"[..], b"    1\n   \n1    \r\n"] {
            assert!(read(allowed, 5).all(|document| document.is_ok()));
        }
        for long in [&b"1\n123456\n1"[..], b"1\n123456\r\n", b"1\n123456", b"1\n      \n", b"1\n1234567890"] {
            let error = read(long, 5).find_map(Result::err).unwrap();
            assert!(matches!(error, StdinError::Long { line: 2, most: 5 }), "{error}");
        }
    }

    /// Without the bound this test would use up the memory.
    #[test]
    fn a_line_without_an_end_is_not_read_to_its_end() {
        let endless = io::BufReader::new(io::repeat(b'1'));
        let error = read(endless, 1 << 20).next().unwrap().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 1 of stdin") && text.contains("1048576 bytes"), "{text}");
    }
}
