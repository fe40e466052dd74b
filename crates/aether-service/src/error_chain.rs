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

    /// The errors of Aether as a reader sees them: each link adds something.
    #[tokio::test]
    async fn no_error_says_twice_what_is_wrong() {
        use aether_core::{Aether, Kind, Vibrator, Wave};
        let aether = Aether::local();
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        let options = crate::AskerOptions::default().resend(crate::Resend::default().most(1));
        let asker = crate::Asker::new(shop.emitter(), options.deadline(std::time::Duration::ZERO));
        let question = |channel| Wave::builder(channel).kind(Kind::Query);
        let service = |pattern| crate::Service::builder("stock").on(pattern, async || {});
        let errors: [(Box<dyn Error>, &str); 8] = [
            (
                Box::new(shop.emit(Wave::builder("a b")).await.unwrap_err()),
                "character ' ' at byte 1 of \"a b\" is not allowed: use printable ASCII without spaces",
            ),
            (
                Box::new(shop.emit(Wave::builder("a").amplitude(2.0)).await.unwrap_err()),
                "amplitude 2 is not allowed: it must be a number from 2.4e-10 to 1.0 (0.5 is normal)",
            ),
            (Box::new(shop.ask(question("a")).await.unwrap_err()), "nobody listens on a"),
            (
                Box::new(shop.ask(question("a..b")).await.unwrap_err()),
                "the question was not sent: token at byte 2 of \"a..b\" is empty: put at least one character between two dots",
            ),
            (Box::new(asker.ask(question("a")).await.unwrap_err()), "no answer on a before the deadline"),
            (
                Box::new(shop.resonate_on("a..b").await.unwrap_err()),
                "token at byte 2 of \"a..b\" is empty: put at least one character between two dots",
            ),
            (
                Box::new(service("a").concurrency(0).build(&aether).await.unwrap_err()),
                "a concurrency of 0 is not allowed: use at least 1, and at most 1048576",
            ),
            (
                Box::new(Vibrator::create("", &aether).await.unwrap_err()),
                "\"\" cannot name a vibrator: use 1 to 128 bytes without control characters",
            ),
        ];
        for (error, line) in errors {
            assert_eq!(error_chain(&*error), line);
        }
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
