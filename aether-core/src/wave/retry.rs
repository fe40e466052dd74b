//! Waves that are emitted again: resent, or replayed from a dead letter.
//!
//! Resending, which physics calls re-amplification, is only the arithmetic of how strong a repetition may be. The
//! caller decides when to retry and how often: a service that runs a handler again, or a client that asks again.
//!
//! **The energy bound.** Each repetition is half as strong as the attempt before it. All attempts together therefore
//! carry less than twice the first, however many there are. In every inbox a repetition queues behind first attempts of
//! the same importance, so retries cannot crowd out fresh work.

use std::sync::Arc;

use super::body::{FailedAttempt, FailedAttempts};
use super::{Body, Extras, MAX_HINT_BYTES, Metadata, Request, Wave};
use crate::amplitude::{Amplitude, STEPS_PER_OCTAVE};

impl Wave {
    /// The number of this attempt: 0 for the first, one more for each [`Wave::resent`]. Local to this process; it does
    /// not travel.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.body.extras.as_ref().map_or(0, |extras| extras.attempt)
    }

    /// The same wave, which remembers that this attempt at handling it failed: call it before [`Wave::resent`]. If the
    /// wave becomes a [dead letter](crate::Aether::dead_letters), the letter lists the attempts. Like their number, they
    /// do not travel. The first 32 attempts are kept, later ones replace the latest of them.
    #[must_use]
    pub fn failed_with(&self, error: &str) -> Self {
        let (attempt, first) = (self.attempt(), self.first_amplitude());
        let mut wave = self.clone();
        let extras = wave.body.make_mut().extras.get_or_insert_default();
        let failed = extras.failed.get_or_insert_with(|| Arc::new(FailedAttempts::new(first)));
        let error = error[..error.floor_char_boundary(MAX_HINT_BYTES)].replace(char::is_control, " ");
        Arc::make_mut(failed).push(FailedAttempt::now(attempt, error));
        wave
    }

    /// The attempts at handling this wave that failed, with their times and errors.
    #[must_use]
    pub fn failed_attempts(&self) -> &[FailedAttempt] {
        self.history().map_or(&[], FailedAttempts::attempts)
    }

    /// The amplitude of the first attempt.
    pub(crate) fn first_amplitude(&self) -> Amplitude {
        self.history().map_or(self.amplitude(), FailedAttempts::first)
    }

    fn history(&self) -> Option<&FailedAttempts> {
        self.body.extras.as_ref()?.failed.as_deref()
    }

    /// The wave as it was before its first attempt. It cannot be answered.
    pub(crate) fn as_first_sent(&self) -> Self {
        let mut wave = self.clone().unanswerable();
        if self.attempt() > 0 || !self.failed_attempts().is_empty() {
            let first = self.first_amplitude();
            let body = wave.body.make_mut();
            body.signal.amplitude = first;
            body.extras =
                body.extras.take().and_then(|extras| Extras { attempt: 0, failed: None, ..*extras }.boxed());
        }
        wave
    }

    /// The next attempt: the same wave, half as strong. The amplitude of attempt n is exactly the first
    /// amplitude times 2^-n.
    ///
    /// `None` if that would be fainter than [`Amplitude::FAINTEST`], which happens after 31 attempts at the latest.
    #[must_use]
    pub fn resent(&self) -> Option<Self> {
        // The loss is -log2 of the amplitude in fixed point, so halving is the addition of one octave, without error.
        let octave = u16::try_from(STEPS_PER_OCTAVE).ok()?;
        let weaker = Amplitude::from_loss(self.body.signal.amplitude.loss().checked_add(octave)?);
        let mut again = self.resent_undiminished();
        again.body.make_mut().signal.amplitude = weaker;
        Some(again)
    }

    /// The next attempt at undiminished strength. Breaks the energy bound: a benchmark uses it to show how retries
    /// overload a system without it.
    #[must_use]
    pub fn resent_undiminished(&self) -> Self {
        let mut again = self.clone();
        let extras = again.body.make_mut().extras.get_or_insert_default();
        extras.attempt = extras.attempt.saturating_add(1);
        again
    }
}

/// The metadata entry with the number of the attempt, by anybody: `2` for a wave that is sent again after one. Absent
/// on the first attempt, and not changed where a handler or a source tries again by itself.
pub const ATTEMPTS: &str = "aether-attempts";

impl Wave {
    /// The number of attempts when it was sent, including that one: 1 unless it is a dead letter that was sent again.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.metadata().value(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    }

    /// The number of attempts, including attempts of handlers and sources that tried again by themselves.
    pub fn all_attempts(&self) -> u32 {
        self.attempts().saturating_add(self.attempt().into())
    }

    /// A new wave of the same request with the same content and amplitude, and this one as its cause. An operator decides
    /// on each replay, so it is as strong as the first attempt. `attempts` is the number of attempts before. If the
    /// metadata are full, their number is not recorded.
    pub(crate) fn replayed(&self, attempts: u32) -> Self {
        let mut wave = self.attempted(attempts);
        let (cause, root) = (self.id(), self.root());
        let extras = wave.body.make_mut().extras.get_or_insert_default();
        extras.request = Request::of(Some(root).filter(|root| *root != cause), self.baggage().clone());
        extras.cause = Some(cause);
        wave
    }

    /// The same wave for one more attempt: its identity stays, so receivers that remember identities know what they
    /// have done already. It is as old as if it was emitted now. `attempts` is their number so far, as a letter has it:
    /// [`Wave::attempts`] is one more. `None` if the wave was never emitted, or its metadata have no room for the
    /// number.
    #[must_use]
    pub fn again(&self, attempts: u32) -> Option<Self> {
        let wave = self.attempted(attempts).identified(self.id(), None);
        (self.sequence() != 0 && wave.attempts() > self.attempts()).then_some(wave)
    }

    /// The same wave without hops or reply path, and with one attempt more in its metadata.
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
    use proptest::prelude::*;

    use super::*;
    use crate::wave::Kind;

    fn wave(loss: u16) -> Wave {
        Wave::builder("a").amplitude(Amplitude::from_loss(loss)).key("k").build().unwrap()
    }

    proptest! {
        #[test]
        fn all_attempts_together_carry_less_than_twice_the_first_and_none_outranks_one_before(loss: u16) {
            let first = wave(loss);
            let attempts: Vec<Wave> = std::iter::successors(Some(first.clone()), Wave::resent).collect();
            // Exact in fixed point and rounded only when converted to a float: compared in f64, in units of the first.
            let energy: f64 = attempts
                .iter()
                .map(|wave| (-f64::from(wave.amplitude().loss() - loss) / f64::from(STEPS_PER_OCTAVE)).exp2())
                .sum();
            prop_assert!(energy < 2.0, "{energy}");
            for (number, pair) in (1_u8..).zip(attempts.windows(2)) {
                let (before, after) = (&pair[0], &pair[1]);
                prop_assert_eq!(after.attempt(), number);
                prop_assert_eq!(after.amplitude().loss(), loss + u16::from(number) * 2048);
                // Four levels an octave; the last level holds everything weaker.
                prop_assert!(after.signal().level() > before.signal().level() || before.signal().level() == 63);
            }
            prop_assert!(attempts.len() <= 32);
            let last = &attempts[attempts.len() - 1];
            prop_assert!(u32::from(last.amplitude().loss()) + STEPS_PER_OCTAVE > u32::from(u16::MAX));
        }
    }

    #[test]
    fn failed_attempts_are_remembered_and_undone() {
        let first = wave(2048);
        let again = first.failed_with("the disk\nis full").resent().unwrap();
        let last = again.failed_with(&"x".repeat(1000)).resent().unwrap();
        let errors: Vec<_> =
            last.failed_attempts().iter().map(|failed| (failed.attempt, &*failed.error)).collect();
        assert_eq!(errors, [(0, "the disk is full"), (1, &*"x".repeat(256))]);
        assert_eq!((last.amplitude().loss(), last.first_amplitude().loss()), (3 * 2048, 2048));
        assert!(last.weight() > first.weight() + 256);
        let undone = last.as_first_sent();
        assert_eq!(
            (undone.amplitude(), undone.attempt(), undone.weight()),
            (first.amplitude(), 0, first.weight())
        );
        assert!(undone.failed_attempts().is_empty() && first.failed_attempts().is_empty());
        let many = (0..100).fold(first, |wave, _| wave.failed_with("again").resent_undiminished());
        let numbers: Vec<_> = many.failed_attempts().iter().map(|failed| failed.attempt).collect();
        assert_eq!((numbers.len(), numbers[0], numbers[31]), (32, 0, 99));
    }

    #[test]
    fn a_resend_is_the_same_wave_otherwise_and_leaves_the_first_alone() {
        let first = wave(0);
        let again = first.resent().unwrap();
        assert_eq!((again.amplitude(), first.amplitude()), (Amplitude::NORMAL, Amplitude::FULL));
        assert_eq!((again.attempt(), first.attempt()), (1, 0));
        assert_eq!((again.key(), again.id(), again.channel()), (Some("k"), first.id(), first.channel()));
        let undiminished = again.resent_undiminished();
        assert_eq!((undiminished.amplitude(), undiminished.attempt()), (Amplitude::NORMAL, 2));
    }

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
