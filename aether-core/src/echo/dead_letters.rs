//! Dead letters: failed waves whose source could not be notified. Ordinary term: a dead-letter queue, in memory.
//!
//! Filled by the reflector; read and emptied by the service's operator through
//! [`Aether::dead_letters`](crate::Aether::dead_letters). Bounded, and lost with the process.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::EchoReason;
use crate::medium::EmitError;
use crate::wave::{FailedAttempt, Wave};

/// The maximum number of letters.
const MAX_LETTERS: usize = 1024;
/// The maximum total weight of their waves, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// The identity of a dead letter: the store that keeps it and its number there. It never changes, and no two letters
/// have the same. Formatted as `store-number`, the store in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// The random number of the store: [`DeadLetters::store`].
    pub store: u64,
    /// The letter's number in the store, from 1.
    pub number: u64,
}

/// A text that is not the id of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not the id of a dead letter: ids look like 1f9a3c5b7d2e4f60-17")]
pub struct LetterIdError {
    given: String,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.store, self.number)
    }
}

impl FromStr for LetterId {
    type Err = LetterIdError;
    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        let parse = || {
            let (store, number) = text.split_once('-')?;
            Some(Self { store: u64::from_str_radix(store, 16).ok()?, number: number.parse().ok()? })
        };
        parse().ok_or_else(|| LetterIdError { given: text.to_owned() })
    }
}

/// A failed wave that was kept, as it was: with the amplitude of its first attempt.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The letter's identity, also in other processes.
    pub id: LetterId,
    /// The letter's number in this store, from 1.
    pub number: u64,
    /// The wave as it was before its first attempt, with its payload.
    pub wave: Wave,
    /// Why it failed.
    pub reason: EchoReason,
    /// Details for people.
    pub hint: String,
    /// The name of the vibrator that failed to handle it; `-` if there was none.
    pub by: String,
    /// The number of attempts so far, by anybody: handlers and sources that tried again by themselves, and all attempts
    /// before a replay, are counted.
    pub attempts: u32,
    /// The attempts at handling it that failed, the last one included, with their times and errors. At most 33: the
    /// first ones, the last but one and the last.
    pub failed: Vec<FailedAttempt>,
    /// When it was kept, by the clock of this machine.
    pub at: SystemTime,
}

impl DeadLetter {
    /// Approximate memory used, in bytes.
    fn weight(&self) -> usize {
        self.wave.weight() + self.failed.iter().map(FailedAttempt::weight).sum::<usize>()
    }
}

/// The counts of the dead letters: `buried = kept + taken + overflowed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeadLetterCounts {
    /// Failures that became dead letters, whether or not their source was told.
    pub buried: u64,
    /// Letters in the store now.
    pub kept: u64,
    /// Letters that were taken or replayed.
    pub taken: u64,
    /// Failures that were not kept, or were evicted later: there was no room, or their waves had been merged.
    pub overflowed: u64,
}

/// Why a dead letter was not replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The letter does not exist any more, or another caller is replaying it.
    #[error("there is no dead letter {number}: it was taken, replayed or evicted, or is being replayed")]
    Unknown {
        /// The requested number.
        number: u64,
    },
    /// The medium refused the wave. The letter stays in the store.
    #[error("dead letter {number} could not be sent again")]
    Emit {
        /// The letter's number.
        number: u64,
        /// The medium's error.
        source: EmitError,
    },
}

/// The dead letters of one [`Aether`](crate::Aether): at most 1024, of 16 MiB in total. A full store evicts the newest
/// of the weakest letters, so it keeps the strongest and, of those, the first to fail. Cloning it bumps a reference
/// count.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    id: u64,
    store: Arc<Mutex<Store>>,
    keeps_echoed: Arc<AtomicBool>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { id: fastrand::u64(1..), store: Arc::default(), keeps_echoed: Arc::default() }
    }
}

#[derive(Debug, Default)]
struct Store {
    /// By level and number: the last entry is the newest of the weakest.
    letters: BTreeMap<(u8, u64), DeadLetter>,
    /// The numbers of the letters being replayed.
    replaying: HashSet<u64>,
    last: u64,
    bytes: usize,
    counts: DeadLetterCounts,
}

impl Store {
    /// The number of letters to evict for one of this level and weight. `None` if evicting the weaker ones does not
    /// suffice. Letters of equal strength are never evicted for each other, so in a storm of failures this is one
    /// comparison each.
    fn making_room(&self, level: u8, weight: usize) -> Option<usize> {
        let (mut letters, mut bytes) = (self.letters.len(), self.bytes.saturating_add(weight));
        let mut weakest_first = self.letters.iter().rev();
        while letters >= MAX_LETTERS || bytes > MAX_BYTES {
            let (_, letter) = weakest_first.next().filter(|((weakest, _), _)| *weakest > level)?;
            (letters, bytes) = (letters - 1, bytes - letter.weight());
        }
        Some(self.letters.len() - letters)
    }
}

impl DeadLetters {
    /// Stores a failed wave if there is room. Returns whether it was stored.
    pub(super) fn bury(&self, wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> bool {
        let kept = wave.as_first_sent();
        let level = kept.signal().level();
        let mut failed = wave.failed_attempts().to_vec();
        let (hint, by) = (super::report::shortened(hint).into_owned(), by.to_owned());
        failed.push(FailedAttempt::now(wave.attempt(), hint.clone()));
        let (id, at) = (LetterId { store: self.id, number: 0 }, crate::clock::wall_time());
        let attempts = wave.all_attempts();
        let mut letter = DeadLetter { id, number: 0, wave: kept, reason, hint, by, attempts, failed, at };
        let weight = letter.weight();
        let mut store = self.store.lock();
        store.counts.buried += 1;
        let Some(making_room) = store.making_room(level, weight) else {
            store.counts.overflowed += 1;
            return false;
        };
        for _ in 0..making_room {
            if let Some((_, letter)) = store.letters.pop_last() {
                store.bytes -= letter.weight();
                store.counts.overflowed += 1;
            }
        }
        store.last += 1;
        (letter.number, letter.id.number) = (store.last, store.last);
        store.bytes += weight;
        store.letters.insert((level, letter.number), letter);
        true
    }

    /// Counts failures whose waves are no longer available.
    pub(super) fn count_merged(&self, failures: u64) {
        let mut store = self.store.lock();
        store.counts.buried += failures;
        store.counts.overflowed += failures;
    }

    /// The random number of this store, which is a part of the ids of its letters.
    #[must_use]
    pub fn store(&self) -> u64 {
        self.id
    }

    /// Sets whether a wave is also kept if its source received an echo. Questions are never kept. A source can ask
    /// for it wave by wave: [`EchoRequest::letter`](crate::wave::EchoRequest::letter). Default: no.
    pub fn keep_echoed(&self, keep: bool) {
        self.keeps_echoed.store(keep, Ordering::Relaxed);
    }

    /// Whether a wave is also kept if its source receives an echo.
    pub(super) fn keeps_echoed(&self, wave: &Wave) -> bool {
        let is_wanted = || wave.echo_request().is_some_and(|request| request.wants_letter());
        !wave.is_question() && (self.keeps_echoed.load(Ordering::Relaxed) || is_wanted())
    }

    /// One letter.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<DeadLetter> {
        self.store.lock().letters.values().find(|letter| letter.number == number).cloned()
    }

    /// All letters, the oldest first. Payloads are shared, not copied.
    #[must_use]
    pub fn list(&self) -> Vec<DeadLetter> {
        let mut letters: Vec<_> = self.store.lock().letters.values().cloned().collect();
        letters.sort_unstable_by_key(|letter| letter.number);
        letters
    }

    /// Takes one letter.
    #[must_use]
    pub fn take(&self, number: u64) -> Option<DeadLetter> {
        let mut store = self.store.lock();
        let place = *store.letters.keys().find(|(_, other)| *other == number)?;
        let letter = store.letters.remove(&place)?;
        store.bytes -= letter.weight();
        store.counts.taken += 1;
        Some(letter)
    }

    /// Takes all letters, the oldest first.
    #[must_use]
    pub fn take_all(&self) -> Vec<DeadLetter> {
        let mut store = self.store.lock();
        let mut letters: Vec<_> = std::mem::take(&mut store.letters).into_values().collect();
        store.bytes = 0;
        store.counts.taken += letters.len() as u64;
        drop(store);
        letters.sort_unstable_by_key(|letter| letter.number);
        letters
    }

    /// Reserves a letter for a replay, unless another caller has done so.
    pub(crate) fn begin_replay(&self, number: u64) -> Option<(DeadLetter, Replaying<'_>)> {
        let mut store = self.store.lock();
        let letter = store.letters.values().find(|letter| letter.number == number).cloned()?;
        // Made only on success, because dropping it takes the lock.
        store.replaying.insert(number).then(|| (letter, Replaying { letters: self, number }))
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> DeadLetterCounts {
        let store = self.store.lock();
        DeadLetterCounts { kept: store.letters.len() as u64, ..store.counts }
    }
}

/// The exclusive right to replay a letter.
pub(crate) struct Replaying<'a> {
    letters: &'a DeadLetters,
    number: u64,
}

impl Drop for Replaying<'_> {
    fn drop(&mut self) {
        self.letters.store.lock().replaying.remove(&self.number);
    }
}

impl DeadLetterCounts {
    /// Whether every failure is accounted for. Always true; for assertions in tests.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.buried == self.kept + self.taken + self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::Kind;
    use proptest::prelude::*;

    fn wave(amplitude: f32, bytes: usize) -> Wave {
        Wave::builder("a").kind(Kind::Command).amplitude(amplitude).bytes(vec![0; bytes]).build().unwrap()
    }

    fn bury(letters: &DeadLetters, wave: &Wave) -> bool {
        letters.bury(wave, EchoReason::Shed, "full", "stock")
    }

    #[test]
    fn a_full_store_keeps_the_strongest_letters_and_the_first_among_equals() {
        let letters = DeadLetters::default();
        for count in 0..MAX_LETTERS {
            assert!(bury(&letters, &wave(if count == 7 { 0.1 } else { 0.5 }, 0)));
        }
        assert!(!bury(&letters, &wave(0.05, 0)), "no stronger than the weakest");
        assert!(bury(&letters, &wave(0.5, 0)), "the weak one is evicted");
        assert!(!bury(&letters, &wave(0.5, 0)));
        assert!(bury(&letters, &wave(1.0, 0)));
        let kept = letters.list();
        assert_eq!(kept.len(), MAX_LETTERS);
        assert!(kept.iter().all(|letter| letter.number != 8), "the weak one was evicted");
        assert!(kept.iter().all(|letter| letter.number != 1025), "then the newest of the others");
        assert_eq!(letters.counts(), DeadLetterCounts { buried: 1028, kept: 1024, taken: 0, overflowed: 4 });
    }

    #[test]
    fn bytes_are_bounded_as_well() {
        let letters = DeadLetters::default();
        assert!(!bury(&letters, &wave(1.0, MAX_BYTES)), "larger than the store");
        assert!(bury(&letters, &wave(0.1, MAX_BYTES / 2)));
        assert!(bury(&letters, &wave(0.5, MAX_BYTES - 4096)), "makes room for itself");
        assert_eq!(letters.list().len(), 1);
        assert!(letters.counts().adds_up());
    }

    #[test]
    fn a_letter_is_replayed_by_one_caller_at_a_time() {
        let letters = DeadLetters::default();
        assert!(bury(&letters, &wave(0.5, 1)));
        let first = letters.begin_replay(1).unwrap();
        assert!(letters.begin_replay(1).is_none() && letters.begin_replay(2).is_none());
        drop(first);
        assert_eq!(letters.begin_replay(1).unwrap().0.number, 1);
    }

    #[test]
    fn nothing_is_evicted_for_a_letter_that_still_would_not_fit() {
        let letters = DeadLetters::default();
        assert!(bury(&letters, &wave(1.0, MAX_BYTES / 2)));
        assert!(bury(&letters, &wave(0.1, MAX_BYTES / 4)));
        assert!(!bury(&letters, &wave(0.5, MAX_BYTES * 3 / 4)), "the strong one stays");
        assert_eq!(letters.list().len(), 2, "and so does the weak one");
        assert!(letters.counts().adds_up());
    }

    proptest! {
        // Each case fills the store several times over.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_account_adds_up_and_no_weaker_letter_outlives_a_stronger_one(
            steps in prop::collection::vec((1..100_u16, 0..6_u8), 0..2500),
        ) {
            let letters = DeadLetters::default();
            let mut refused_or_lost = 0;
            for (amplitude, what) in steps {
                match what {
                    0 => { let _ = letters.take(u64::from(amplitude)); }
                    1 => letters.count_merged(u64::from(amplitude)),
                    _ => refused_or_lost += u64::from(!bury(&letters, &wave(f32::from(amplitude) / 100.0, 0))),
                }
                let counts = letters.counts();
                prop_assert!(counts.adds_up() && counts.kept <= MAX_LETTERS as u64, "{:?}", counts);
                prop_assert!(counts.overflowed >= refused_or_lost);
            }
            let taken = letters.take_all();
            prop_assert!(taken.is_sorted_by_key(|letter| letter.number));
            prop_assert_eq!(letters.counts().kept, 0);
            prop_assert!(letters.counts().adds_up());
        }
    }
}
