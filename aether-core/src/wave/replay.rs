//! Replaying dead letters: each attempt is weaker and carries the number of attempts.

use super::{Body, Request, Wave};
use crate::amplitude::{Amplitude, STEPS_PER_OCTAVE};
use crate::wave::Metadata;

/// The metadata entry with the number of attempts: `2` for the first resend. Absent on the first attempt.
pub const ATTEMPTS: &str = "aether-attempts";

impl Wave {
    /// The number of attempts, this one included.
    pub(crate) fn attempts(&self) -> u32 {
        self.metadata().value(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    }

    /// A new wave of the same request with the same content and this one as its cause. It has half the amplitude, so that all attempts
    /// together carry less than twice the first. If the metadata are full, the attempts are not recorded.
    pub(crate) fn replayed(&self) -> Self {
        let mut wave = self.clone().unanswerable();
        let attempts = (self.attempts().saturating_add(1)).to_string();
        let body: &mut Body = triomphe::Arc::make_mut(&mut wave.body);
        let loss = body.signal.amplitude.loss().saturating_add(STEPS_PER_OCTAVE as u16);
        body.signal.amplitude = Amplitude::from_loss(loss);
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
    fn all_attempts_together_carry_less_than_twice_the_first() {
        let mut wave = Wave::builder("a")
            .kind(Kind::Command)
            .amplitude(0.8)
            .metadata("k", "v")
            .text("x")
            .build()
            .unwrap();
        let mut sum = 0.0;
        for attempt in 1..=80 {
            assert_eq!(wave.attempts(), attempt);
            assert_eq!((wave.metadata().value("k"), wave.text().unwrap()), (Some("v"), "x"));
            sum += wave.amplitude().as_f32();
            let next = wave.replayed();
            assert!(next.amplitude() < wave.amplitude() || next.amplitude() == Amplitude::FAINTEST);
            assert_eq!((next.cause(), next.root()), (Some(&wave.id()), wave.root()));
            wave = next;
        }
        assert!(sum < 2.0 * 0.8 * 1.001, "{sum}");
    }

    #[test]
    fn attempts_that_make_no_sense_count_as_one() {
        for text in ["", "-1", "many", "0"] {
            let wave = Wave::builder("a").metadata(ATTEMPTS, text).build().unwrap();
            assert_eq!(wave.attempts(), 1, "{text:?}");
        }
    }
}
