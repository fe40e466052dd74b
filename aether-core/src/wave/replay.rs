//! Replaying dead letters: each attempt is as strong as the first and carries the number of attempts.

use super::{Body, Request, Wave};
use crate::wave::Metadata;

/// The metadata entry with the number of attempts: `2` for the first resend. Absent on the first attempt.
pub const ATTEMPTS: &str = "aether-attempts";

impl Wave {
    /// The number of attempts, this one included.
    pub(crate) fn attempts(&self) -> u32 {
        self.metadata().value(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    }

    /// A new wave of the same request with the same content and amplitude, and this one as its cause. An operator decides
    /// on a replay, one by one, so it is no weaker than the first attempt. If the metadata are full, the attempts are not
    /// recorded.
    pub(crate) fn replayed(&self) -> Self {
        let mut wave = self.clone().unanswerable();
        let attempts = (self.attempts().saturating_add(1)).to_string();
        let body: &mut Body = wave.body.make_mut();
        body.signal.hops = 0;
        let (cause, root) = (self.id(), self.root());
        let extras = body.extras.get_or_insert_default();
        extras.request = Request::of(Some(root).filter(|root| *root != cause), self.baggage().clone());
        extras.cause = Some(cause);
        let mut metadata = Metadata::default();
        // Existing entries fit; only the added one may be too much.
        for (name, value) in extras.metadata.iter().filter(|(name, _)| *name != ATTEMPTS) {
            let _ = metadata.push(name, value);
        }
        let _ = metadata.push(ATTEMPTS, &attempts);
        extras.metadata = metadata;
        wave
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::Kind;

    #[test]
    fn each_replay_is_as_strong_as_the_first_attempt_and_counts() {
        let mut wave = Wave::builder("a")
            .kind(Kind::Command)
            .amplitude(0.8)
            .metadata("k", "v")
            .text("x")
            .build()
            .unwrap();
        for attempt in 1..=80 {
            assert_eq!(wave.attempts(), attempt);
            assert_eq!((wave.metadata().value("k"), wave.text().unwrap()), (Some("v"), "x"));
            let next = wave.replayed();
            assert_eq!(next.amplitude(), wave.amplitude());
            assert_eq!((next.cause(), next.root()), (Some(&wave.id()), wave.root()));
            wave = next;
        }
    }

    #[test]
    fn attempts_that_make_no_sense_count_as_one() {
        for text in ["", "-1", "many", "0"] {
            let wave = Wave::builder("a").metadata(ATTEMPTS, text).build().unwrap();
            assert_eq!(wave.attempts(), 1, "{text:?}");
        }
    }
}
