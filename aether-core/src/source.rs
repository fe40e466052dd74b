//! Who sent a wave, and the identity of a wave: source and sequence number.
//!
//! A [`Sequencer`] belongs to one vibrator and numbers what it emits. A source is a name plus a random instance
//! number, so that two processes of one name, or one process after a restart, never give two waves the same id.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use smol_str::SmolStr;

/// The most bytes the name of a source may have.
pub const MAX_SOURCE_BYTES: usize = 128;

/// Who emitted a wave: the vibrator's name and a number drawn when it was made. Shown as `name@instance`.
/// Cloning copies a name of up to 23 bytes and counts a reference to a longer one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Source {
    instance: u64,
    /// Kept in place where it is short: a shared count would pass between the processors with every wave.
    name: SmolStr,
}

/// The identity of a wave: its source and the number the source gave it, counting from 1. Shown as
/// `name@instance/sequence`; `-@0/0` is a wave that was never emitted.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WaveId {
    /// Who emitted the wave.
    pub source: Source,
    /// Counts the waves of this source from 1.
    pub sequence: u64,
}

/// A name that cannot be a source, or a text that is not a wave id.
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
    /// A source with a freshly drawn instance number.
    ///
    /// # Errors
    /// [`SourceError::Name`] for an empty name, one longer than [`MAX_SOURCE_BYTES`], or one with control characters.
    pub fn new(name: &str) -> Result<Self, SourceError> {
        // Instance 0 means "none"; drawing it has a chance of 2^-64.
        Self::with_instance(name, fastrand::u64(1..))
    }

    /// A source as it was read from the network. The name `-` with instance 0 is that of a wave that was never emitted.
    ///
    /// # Errors
    /// [`SourceError::Name`], as for [`Source::new`].
    pub fn with_instance(name: &str, instance: u64) -> Result<Self, SourceError> {
        if name.is_empty() || name.len() > MAX_SOURCE_BYTES || name.chars().any(char::is_control) {
            return Err(SourceError::Name { name: name.to_owned() });
        }
        Ok(Self { instance, name: name.into() })
    }

    /// The source of waves that have not been emitted, or whose source is not known: `-@0`.
    #[must_use]
    pub const fn none() -> Self {
        Self { instance: 0, name: SmolStr::new_inline("-") }
    }

    /// The source of what the framework itself says.
    pub(crate) fn framework() -> Self {
        Self { instance: fastrand::u64(1..), name: SmolStr::new_inline("_aether") }
    }

    /// The vibrator's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number drawn when the vibrator was made; 0 for a wave that was never emitted.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// About how much memory it takes its name.
    pub(crate) fn weight(&self) -> usize {
        self.name.len()
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

    /// Reads what [`fmt::Display`] writes. A name may contain `@` and `/`: the last ones count.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parse = || {
            let (source, sequence) = text.rsplit_once('/')?;
            let (name, instance) = source.rsplit_once('@')?;
            let source = Source::with_instance(name, u64::from_str_radix(instance, 16).ok()?).ok()?;
            Some(Self { source, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| SourceError::Id { text: text.to_owned() })
    }
}

/// Numbers the waves of one source.
#[derive(Debug)]
pub(crate) struct Sequencer {
    source: Source,
    last: AtomicU64,
}

impl Sequencer {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, last: AtomicU64::new(0) }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The next number, counting from 1.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes the number of a wave back that was not taken, if none was given since: whoever counts the numbers that come
    /// would miss it.
    pub(crate) fn take_back(&self, number: u64) {
        if let Some(before) = number.checked_sub(1) {
            let _ = self.last.compare_exchange(number, before, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The number given last; 0 if none was.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether a number was given.
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
        assert_eq!(sequencer.last(), 3, "it stays a gap: 3 is on its way");
        sequencer.take_back(3);
        assert_eq!([sequencer.next(), sequencer.next()], [3, 4]);
        sequencer.take_back(0);
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
