//! Replaying dead letters: each attempt is as strong as the first and carries the number of attempts.

use super::{Body, Request, Wave};
use crate::wave::Metadata;

/// The metadata entry with the number of the attempt, by anybody: `2` for a wave that is sent again after one. Absent on the first
/// attempt, and not changed where a handler or a source tries again by itself.
pub const ATTEMPTS: &str = "aether-attempts";

impl Wave {
    /// The number of attempts when it was sent, that one included: 1 unless it is a dead letter that was sent again.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.metadata().value(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    }

    /// The number of attempts, those of handlers and sources that tried again by themselves included.
    pub fn all_attempts(&self) -> u32 {
        self.attempts().saturating_add(self.attempt().into())
    }

    /// A new wave of the same request with the same content and amplitude, and this one as its cause. An operator decides
    /// on a replay, one by one, so it is no weaker than the first attempt. There were so many attempts before. If the
    /// metadata are full, they are not recorded.
    pub(crate) fn replayed(&self, attempts: u32) -> Self {
        let mut wave = self.attempted(attempts);
        let (cause, root) = (self.id(), self.root());
        let extras = wave.body.make_mut().extras.get_or_insert_default();
        extras.request = Request::of(Some(root).filter(|root| *root != cause), self.baggage().clone());
        extras.cause = Some(cause);
        wave
    }

    /// The same wave for one more attempt: its identity stays, so receivers that remember identities know what they have done
    /// already. It is as old as if it was emitted now. `attempts` is their number so far, as a letter has it: [`Wave::attempts`] is
    /// one more. `None` if the wave was never emitted, or its metadata have no room for the number.
    #[must_use]
    pub fn again(&self, attempts: u32) -> Option<Self> {
        let wave = self.attempted(attempts).identified(self.id(), None);
        (self.sequence() != 0 && wave.attempts() > self.attempts()).then_some(wave)
    }

    /// As strong as the first attempt, and one attempt more.
    fn attempted(&self, attempts: u32) -> Self {
        let mut wave = self.clone().unanswerable();
        let attempts = (self.attempts().max(attempts).saturating_add(1)).to_string();
        let body: &mut Body = wave.body.make_mut();
        body.signal.hops = 0;
        let extras = body.extras.get_or_insert_default();
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
            let next = wave.replayed(attempt);
            assert_eq!(next.amplitude(), wave.amplitude());
            assert_eq!((next.cause(), next.root()), (Some(&wave.id()), wave.root()));
            wave = next;
        }
    }

    #[test]
    fn a_wave_for_one_more_attempt_is_the_same_wave() {
        let source = crate::Source::with_instance("shop", 7).unwrap();
        let id = crate::WaveId { source, sequence: 3 };
        let wave = Wave::builder("a").metadata("k", "v").key("17").text("x").build().unwrap();
        assert!(wave.again(1).is_none(), "it was never emitted");
        let wave = wave.identified(id.clone(), None);
        let again = wave.again(1).unwrap();
        assert_eq!((again.id(), again.attempts(), again.cause()), (id.clone(), 2, None));
        assert_eq!((again.key(), again.metadata().value("k")), (Some("17"), Some("v")));
        assert_eq!(again.again(2).unwrap().attempts(), 3);
        assert_eq!(again.again(6).unwrap().attempts(), 7, "five attempts of its receiver");
        assert_eq!(again.again(0).unwrap().attempts(), 3, "it grows in any case");
    }

    #[test]
    fn attempts_that_make_no_sense_count_as_one() {
        for text in ["", "-1", "many", "0"] {
            let wave = Wave::builder("a").metadata(ATTEMPTS, text).build().unwrap();
            assert_eq!(wave.attempts(), 1, "{text:?}");
        }
    }

    #[test]
    fn attempts_of_those_who_try_again_by_themselves_count_as_well() {
        let replayed = Wave::builder("a").kind(Kind::Command).metadata(ATTEMPTS, "4").build().unwrap();
        let retried = replayed.resent().and_then(|wave| wave.resent()).unwrap();
        assert_eq!((replayed.all_attempts(), retried.attempts(), retried.all_attempts()), (4, 4, 6));
    }
}
