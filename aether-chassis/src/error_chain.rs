//! Errors as text: an error and its causes in one line, for logs and exit messages.

use std::error::Error;
use std::fmt::Write as _;

/// An error and its causes in one line: `cannot connect: connection refused`.
///
/// Line breaks become spaces. A cause that the error's own text already ends with is not repeated.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = one_line(&error.to_string());
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    line
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Option<Box<Link>> {
        let (text, rest) = texts.split_first()?;
        Some(Box::new(Link { text, source: chain(rest) }))
    }

    #[test]
    fn causes_are_in_one_line_and_none_is_repeated() {
        let line = |texts: &[&'static str]| error_chain(&*chain(texts).unwrap());
        assert_eq!(line(&["no order"]), "no order");
        assert_eq!(line(&["no order", "no answer", "timed out"]), "no order: no answer: timed out");
        assert_eq!(line(&["no order: timed out", "timed out"]), "no order: timed out");
        assert_eq!(line(&["two\n  lines", "end\n"]), "two lines: end");
    }
}
