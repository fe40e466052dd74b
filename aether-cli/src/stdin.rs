//! Stdin as a stream of JSON documents, one a line.
//!
//! Read by a thread of its own: a terminal that nobody types on must not keep the process from ending, and tokio's
//! stdin would.

use std::io::{self, BufRead};

use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Documents that wait for the network before no more is read.
const AHEAD: usize = 64;

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdinError {
    #[error("line {line}, column {column} of stdin is not JSON: {reason}")]
    Json { line: u64, column: usize, reason: String },
    #[error("line {line} of stdin cannot be read")]
    Read { line: u64, source: io::Error },
}

type Document = Result<Box<RawValue>, StdinError>;

/// The documents that come.
#[derive(Debug)]
pub(crate) struct Documents {
    receiver: mpsc::Receiver<Document>,
}

impl Documents {
    pub(crate) fn of_stdin() -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            for document in read(io::stdin().lock()) {
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
    pub(crate) async fn next(&mut self) -> Result<Option<Box<RawValue>>, StdinError> {
        self.receiver.recv().await.transpose()
    }
}

/// The documents of all lines that are not blank.
fn read(mut from: impl BufRead) -> impl Iterator<Item = Document> {
    let mut line = 0;
    let mut bytes = Vec::new();
    std::iter::from_fn(move || {
        loop {
            line += 1;
            bytes.clear();
            match from.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => return Some(parse(&bytes, line)),
                Err(source) => return Some(Err(StdinError::Read { line, source })),
            }
        }
    })
}

fn parse(bytes: &[u8], line: u64) -> Document {
    serde_json::from_slice(bytes.trim_ascii_end()).map_err(|error| {
        // The error speaks of line 1 of the document, which would be taken for line 1 of the input.
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
            read("{\"a\": 1}\n\n  \t\n\"x\"\r\nnull".as_bytes()).map(|d| d.unwrap()).collect();
        assert_eq!(documents.iter().map(|d| d.get()).collect::<Vec<_>>(), ["{\"a\": 1}", "\"x\"", "null"]);
    }

    #[test]
    fn a_mistake_has_the_line_and_column_of_the_input() {
        let place = |text: &[u8]| match read(text).find_map(Result::err).unwrap() {
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
}
