//! Sources and wave ids: the emitter of a wave, and its sequence number.
//!
//! Each vibrator has one [`Sequencer`], which numbers what it emits. A source is a name plus a random instance number,
//! so that two processes of one name, or one process after a restart, never give two waves the same id.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::Ordering;

use smol_str::SmolStr;

use crate::sync::AtomicU64;

/// The maximum length of a source's name, in bytes.
pub const MAX_SOURCE_BYTES: usize = 128;

/// The name of the framework's own sources.
const FRAMEWORK: &str = "_aether";

/// The emitter of a wave: the vibrator's name and an instance number drawn at random when it was made. Formatted as
/// `name@instance`. Cloning copies a name of up to 23 bytes and bumps a reference count for a longer one.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    instance: u64,
    /// Short names are stored inline: a shared count would bounce between processors with every wave.
    name: SmolStr,
}

impl Clone for Source {
    #[inline]
    fn clone(&self) -> Self {
        Self { instance: self.instance, name: self.name.clone() }
    }

    /// Copies each field separately, as [`Channel`](crate::Channel) does and for the same reason.
    #[inline]
    fn clone_from(&mut self, other: &Self) {
        self.name = other.name.clone();
        self.instance = other.instance;
    }
}

/// The identity of a wave: its source and its sequence number, counting from 1. Formatted as `name@instance/sequence`;
/// `-@0/0` is a wave that was never emitted.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WaveId {
    /// The emitter of the wave.
    pub source: Source,
    /// The number of the wave among the waves of its source, from 1.
    pub sequence: u64,
}

/// An invalid source name, or a text that is not a wave id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Empty, too long, or with a control character.
    #[error("{name:?} cannot name a vibrator: use 1 to {MAX_SOURCE_BYTES} bytes without control characters")]
    Name {
        /// The name as given.
        name: String,
    },
    /// Not of the form `name@instance/sequence`.
    #[error("{text:?} is not a wave id: ids look like alpha@1f9a3c5b7d2e4f60/17")]
    Id {
        /// The text as given.
        text: String,
    },
}

impl Source {
    /// Makes a source with a random instance number.
    ///
    /// # Errors
    /// [`SourceError::Name`] for an empty name, one longer than [`MAX_SOURCE_BYTES`], or one with control characters.
    pub fn new(name: &str) -> Result<Self, SourceError> {
        // Instance 0 means "none"; drawing it has a chance of 2^-64.
        Self::with_instance(name, fastrand::u64(1..))
    }

    /// A source read from the network. Waves that were never emitted have the name `-` and instance 0.
    ///
    /// # Errors
    /// [`SourceError::Name`], as for [`Source::new`].
    pub fn with_instance(name: &str, instance: u64) -> Result<Self, SourceError> {
        if !is_name(name) {
            return Err(SourceError::Name { name: name.to_owned() });
        }
        Ok(Self { instance, name: name.into() })
    }

    /// The source of waves that have not been emitted, or whose source is unknown: `-@0`.
    #[must_use]
    pub const fn none() -> Self {
        Self { instance: 0, name: SmolStr::new_inline("-") }
    }

    /// Parses the format written by [`fmt::Display`]. A name may contain `@`: the last one is the separator.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, instance) = text.rsplit_once('@')?;
        Self::with_instance(name, u64::from_str_radix(instance, 16).ok()?).ok()
    }

    /// The source of the framework's own messages.
    #[must_use]
    pub fn framework() -> Self {
        Self { instance: fastrand::u64(1..), name: SmolStr::new_inline(FRAMEWORK) }
    }

    /// Whether it names itself as the framework does.
    pub(crate) fn is_framework(&self) -> bool {
        self.name == FRAMEWORK
    }

    /// The vibrator's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The random instance number; 0 for a wave that was never emitted.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Whether the name is too long to be stored inline.
    pub(crate) const fn is_shared(&self) -> bool {
        self.name.is_heap_allocated()
    }

    /// Approximate memory used by the name, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.name.len()
    }
}

/// Whether a text can name a vibrator.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_SOURCE_BYTES && !has_control(name)
}

/// Whether a text has a control character. Names are mostly of printable ASCII, which takes one pass over the bytes.
fn has_control(name: &str) -> bool {
    !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && name.chars().any(char::is_control)
}

impl WaveId {
    /// Whether it is the identity of this wave of this source.
    pub fn is(&self, source: &Source, sequence: u64) -> bool {
        self.sequence == sequence && self.source == *source
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:x}", self.name(), self.instance())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

impl fmt::Display for WaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.sequence)
    }
}

impl fmt::Debug for WaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaveId({self})")
    }
}

impl FromStr for WaveId {
    type Err = SourceError;

    /// Parses the format written by [`fmt::Display`]. A name may contain `@` and `/`: the last ones are the separators.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parse = || {
            let (source, sequence) = text.rsplit_once('/')?;
            Some(Self { source: Source::parse(source)?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| SourceError::Id { text: text.to_owned() })
    }
}

/// Numbers the waves of one source.
#[derive(Debug)]
pub struct Sequencer {
    source: Source,
    last: AtomicU64,
}

impl Sequencer {
    /// Counts from 1.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source, last: AtomicU64::new(0) }
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The next number, counting from 1.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes back the number of a wave that was refused, unless a later number was given out. Receivers that count
    /// numbers would otherwise report a gap.
    pub(crate) fn take_back(&self, number: u64) {
        if let Some(before) = number.checked_sub(1) {
            let _ = self.last.compare_exchange(number, before, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The last number given out; 0 if none was.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether any number was given out.
    pub(crate) fn has_begun(&self) -> bool {
        self.last.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::DefaultHasher;

    #[test]
    fn ids_are_read_back_from_what_they_print() {
        for name in ["alpha", "https://shop.example/orders@eu", "Bestellungen ü"] {
            let id = WaveId { source: Source::new(name).unwrap(), sequence: 17 };
            assert_eq!(id.to_string().parse::<WaveId>().unwrap(), id);
        }
        for bad in ["", "alpha", "alpha/1", "alpha@xyz/1", "alpha@1/x", "@1/1"] {
            assert!(bad.parse::<WaveId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn none_reads_back_as_none_and_equal_sources_have_equal_hashes() {
        let none: WaveId = "-@0/0".parse().unwrap();
        assert_eq!(none, WaveId { source: Source::none(), sequence: 0 });
        let hash = |name: &str| {
            let source = Source::with_instance(name, 7).unwrap();
            std::hash::BuildHasher::hash_one(&std::hash::BuildHasherDefault::<DefaultHasher>::new(), source)
        };
        assert_eq!(hash("alpha"), hash("alpha"));
        assert_ne!(hash("alpha"), hash("beta"));
    }

    #[test]
    fn a_number_is_given_again_unless_a_later_one_was_given() {
        let sequencer = Sequencer::new(Source::new("alpha").unwrap());
        assert_eq!([sequencer.next(), sequencer.next(), sequencer.next()], [1, 2, 3]);
        sequencer.take_back(2);
        assert_eq!(sequencer.last(), 3, "2 stays a gap because 3 is in flight");
        sequencer.take_back(3);
        assert_eq!([sequencer.next(), sequencer.next()], [3, 4]);
        sequencer.take_back(0);
    }

    #[cfg(aether_loom)]
    mod loom {
        use super::*;
        use crate::sync::in_each_order;
        use std::sync::Arc;

        #[test]
        fn a_number_is_given_twice_only_if_it_was_taken_back() {
            in_each_order(3, || {
                let sequencer = Arc::new(Sequencer::new(Source::new("alpha").unwrap()));
                let refused = Arc::clone(&sequencer);
                let refused = ::loom::thread::spawn(move || refused.take_back(refused.next()));
                let kept = [sequencer.next(), sequencer.next()];
                refused.join().unwrap();
                assert!(kept[0] < kept[1] && kept[1] < sequencer.next(), "{kept:?}");
            });
        }
    }

    #[test]
    fn two_sources_of_one_name_differ() {
        assert_ne!(Source::new("alpha").unwrap(), Source::new("alpha").unwrap());
        assert!(
            Source::new("").is_err()
                && Source::new("a\nb").is_err()
                && Source::new(&"a".repeat(129)).is_err()
        );
    }
}
