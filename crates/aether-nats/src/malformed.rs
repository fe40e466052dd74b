//! Messages that cannot be what they seem to be: each is counted, and the first of a minute is named in the log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

    /// Counts a message on a subject, and says what is wrong with it.
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
