//! How a channel hops: the key, the lanes, the slots. Checked when it is built.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::lanes::LANES;
use super::schedule::Schedule;
use super::sequence::{Sequence, Stream};
use crate::channel::Channel;

/// The fewest bytes of a key: 128 bits. Source: NIST SP 800-107r1, 5.3.4.
pub const MIN_KEY_BYTES: usize = 16;
/// The most bytes of a key. More than a digest's worth says nothing more.
const MAX_KEY_BYTES: usize = 1024;
const SHORTEST_SLOT: Duration = Duration::from_millis(10);
const LONGEST_SLOT: Duration = Duration::from_secs(3600);

/// How a channel hops. Ordinary term: a schedule of rotating subject names. Cloning it is a reference count.
///
/// All who share a channel build theirs from the same key and the same values. It can be used for any number of
/// channels; each has a sequence of its own. The key is overwritten in memory when the last clone is dropped.
///
/// ```
/// use aether_core::Hop;
/// use std::time::Duration;
///
/// let hop = Hop::keyed(b"32 bytes that nobody else knows.")
///     .lanes(16)
///     .slot(Duration::from_secs(1))
///     .guard(Duration::from_millis(250))
///     .adaptive()
///     .build()?;
/// assert!(Hop::keyed("too short").build().is_err());
/// # let _ = hop;
/// # Ok::<(), aether_core::HopError>(())
/// ```
#[derive(Clone)]
pub struct Hop {
    shared: Arc<Shared>,
}

struct Shared {
    id: u64,
    sequence: Sequence,
    schedule: Schedule,
    lanes: u8,
    adaptive: bool,
    clock: Clock,
    /// For tests: by how many nanoseconds the clock is wrong.
    clock_error: i64,
}

/// Whose time the slots go by, where it is not one process that hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// That of whoever keeps the clock for this key; the offset to it is measured.
    Kept,
    /// That of this machine, which is known to be right up to this error.
    Own { error: Duration },
}

/// A [`Hop`] that is not yet checked.
#[derive(Clone)]
#[must_use = "nothing is checked before build()"]
pub struct HopBuilder {
    key: Zeroizing<Vec<u8>>,
    lanes: u8,
    slot: Duration,
    guard: Option<Duration>,
    adaptive: bool,
    clock: Clock,
    clock_error: i64,
}

/// Why a channel cannot hop like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HopError {
    /// A key that is too short to be secret, or longer than is of any use.
    #[error(
        "the key has {bytes} bytes: use {MIN_KEY_BYTES} to {MAX_KEY_BYTES} of them that nobody can guess, such as 32 random ones"
    )]
    Key {
        /// How many it has.
        bytes: usize,
    },
    /// Too few lanes to leave any out, or too many.
    #[error("{given} lanes are not allowed: use {} to {}", LANES.start(), LANES.end())]
    Lanes {
        /// How many.
        given: u8,
    },
    /// Slots that are shorter than the timers are good for, or too long to be of use.
    #[error("a slot of {given:?} is not allowed: use {SHORTEST_SLOT:?} to {LONGEST_SLOT:?}")]
    Slot {
        /// The length.
        given: Duration,
    },
    /// A guard that would have three slots heard at a time, or none.
    #[error(
        "a guard of {given:?} is not allowed with slots of {slot:?}: use more than zero and less than half a slot"
    )]
    Guard {
        /// The guard.
        given: Duration,
        /// The length of the slots.
        slot: Duration,
    },
    /// A clock that is not good enough for this guard.
    #[error(
        "a clock error of {error:?} is too much for a guard of {guard:?}: the guard must be twice the error at least"
    )]
    ClockError {
        /// The error.
        error: Duration,
        /// The guard.
        guard: Duration,
    },
}

impl Hop {
    /// Hops by a key, which is to be random, [`MIN_KEY_BYTES`] at least, better 32, and known to those only who share
    /// the channel. Without it nobody can say where the channel is next.
    pub fn keyed(key: impl AsRef<[u8]>) -> HopBuilder {
        HopBuilder {
            key: Zeroizing::new(key.as_ref().to_vec()),
            lanes: 16,
            slot: Duration::from_secs(1),
            guard: None,
            adaptive: false,
            clock: Clock::Kept,
            clock_error: 0,
        }
    }

    /// Hops by a number instead of a key, on the clocks of the machines. **Predictable**: whoever knows or guesses the
    /// number knows where the channel is. Spreads load and names over the lanes, and hides nothing. The clocks have to
    /// be right up to the guard, as they easily are under NTP with the default of 250 ms.
    pub fn sequence(seed: u64) -> HopBuilder {
        let mut key = b"aether-hop-sequence:".to_vec();
        key.extend(seed.to_be_bytes());
        Self::keyed(key).trust_clock(Duration::ZERO)
    }

    /// The hop of a seed, with default values, which are as they should be.
    pub(super) fn of_seed(seed: u64) -> Self {
        let builder = Self::sequence(seed);
        let guard = builder.slot / 4;
        builder.checked(guard)
    }

    pub(crate) fn id(&self) -> u64 {
        self.shared.id
    }

    pub(super) fn sequence_of(&self) -> &Sequence {
        &self.shared.sequence
    }

    pub(super) fn schedule(&self) -> Schedule {
        self.shared.schedule
    }

    pub(super) fn clock(&self) -> Clock {
        self.shared.clock
    }

    pub(super) fn clock_error(&self) -> i64 {
        self.shared.clock_error
    }

    /// Where a channel is at a time, as long as no lane is left out: for those who have the key and look for its waves at
    /// the broker. Nothing for a time whose keys are forgotten, or before 1970.
    #[must_use]
    pub fn subject_at(&self, channel: &Channel, time: SystemTime) -> Option<Channel> {
        let time = u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
        let slot = self.schedule().slot_at(time);
        let place = self.sequence_of().place(Stream::Waves, channel, slot)?;
        place.on(place.draw.lane(self.lanes())).ok()
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> u8 {
        self.shared.lanes
    }

    /// How long a slot is.
    #[must_use]
    pub fn slot(&self) -> Duration {
        Duration::from_nanos(self.shared.schedule.slot_len())
    }

    /// How much before and after a slot it is heard.
    #[must_use]
    pub fn guard(&self) -> Duration {
        Duration::from_nanos(self.shared.schedule.guard())
    }

    /// Whether lanes on which much is lost are left out.
    #[must_use]
    pub fn is_adaptive(&self) -> bool {
        self.shared.adaptive
    }
}

impl HopBuilder {
    /// Over how many lanes, from 4 to 64. Default: 16. The lane is the second token of the subject, so that lanes can
    /// be given ways of their own: whoever has one of N hears one wave in N.
    pub fn lanes(mut self, lanes: u8) -> Self {
        self.lanes = lanes;
        self
    }

    /// How long a slot is, from 10 ms to an hour. Default: 1 s. Cost: two subscriptions a slot and channel at each
    /// receiver, four with [`HopBuilder::adaptive`].
    pub fn slot(mut self, slot: Duration) -> Self {
        self.slot = slot;
        self
    }

    /// How much before and after a slot it is heard, less than half a slot: clock error and the time on the way
    /// together have to fit. Default: a quarter of a slot.
    pub fn guard(mut self, guard: Duration) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Leaves out lanes on which more than 30 % is lost, down to a quarter of them. Default: no. Cost: a small message
    /// a slot from each sender and each receiver.
    pub fn adaptive(mut self) -> Self {
        self.adaptive = true;
        self
    }

    /// Goes by the clock of this machine, which is known to be right up to `error`, as by NTP. Default for
    /// [`Hop::keyed`]: the offset to whoever [keeps the clock](crate::Aether::keep_clock) is measured over the medium.
    /// In process there is one clock, and this changes nothing.
    pub fn trust_clock(mut self, error: Duration) -> Self {
        self.clock = Clock::Own { error };
        self
    }

    /// For tests: a clock that is wrong by so many nanoseconds, without knowing it.
    #[cfg(any(test, feature = "conformance"))]
    pub fn wrong_by(mut self, nanos: i64) -> Self {
        self.clock_error = nanos;
        self
    }

    /// Checks the values and makes the sequence.
    ///
    /// # Errors
    /// [`HopError`] says which value is wrong and what is allowed.
    pub fn build(self) -> Result<Hop, HopError> {
        let (lanes, slot) = (self.lanes, self.slot);
        if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&self.key.len()) {
            return Err(HopError::Key { bytes: self.key.len() });
        }
        if !LANES.contains(&lanes) {
            return Err(HopError::Lanes { given: lanes });
        }
        if !(SHORTEST_SLOT..=LONGEST_SLOT).contains(&slot) {
            return Err(HopError::Slot { given: slot });
        }
        let guard = self.guard.unwrap_or(slot / 4);
        if guard.is_zero() || guard.saturating_mul(2) >= slot {
            return Err(HopError::Guard { given: guard, slot });
        }
        if let Clock::Own { error } = self.clock
            && error.saturating_mul(2) > guard
        {
            return Err(HopError::ClockError { error, guard });
        }
        Ok(self.checked(guard))
    }

    /// The hop, with a guard that was checked like the rest.
    fn checked(self, guard: Duration) -> Hop {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        // An hour of nanoseconds fits.
        let schedule = Schedule::new(self.slot.as_nanos() as u64, guard.as_nanos() as u64);
        let shared = Shared {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed),
            sequence: Sequence::new(&self.key),
            schedule,
            lanes: self.lanes,
            adaptive: self.adaptive,
            clock: self.clock,
            clock_error: self.clock_error,
        };
        Hop { shared: Arc::new(shared) }
    }
}

impl fmt::Debug for Hop {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hop")
            .field("lanes", &self.lanes())
            .field("slot", &self.slot())
            .field("guard", &self.guard())
            .field("adaptive", &self.is_adaptive())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HopBuilder {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HopBuilder")
            .field("lanes", &self.lanes)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
