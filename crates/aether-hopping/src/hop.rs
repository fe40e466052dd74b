//! The key, the lanes and the slots of hopping channels, validated when built.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_core::Channel;
use zeroize::Zeroizing;

use crate::lanes::LANES;
use crate::schedule::Schedule;
use crate::sequence::{Sequence, Traffic};

/// The minimum length of a key in bytes: 128 bits. Source: NIST SP 800-107r1, 5.3.4.
pub const MIN_KEY_BYTES: usize = 16;
/// The maximum length of a key in bytes. Longer keys are no harder to guess.
const MAX_KEY_BYTES: usize = 1024;
/// In place of a key, for hops that have none. `docs/protocol/README.md` has it, too.
const UNKEYED: &[u8] = b"aether-hop-timed";
/// The ids of such hops begin with this bit, and are made of their options.
const TIMED: u64 = 1 << 63;
const SHORTEST_SLOT: Duration = Duration::from_millis(10);
const LONGEST_SLOT: Duration = Duration::from_secs(3600);

/// The key and the schedule of hopping channels. Ordinary term: a schedule of rotating subject names. Cloning
/// increments a reference count.
///
/// All senders and receivers of a channel must use the same key and the same options. One hop serves any number of
/// channels; each has its own sequence. The key is overwritten in memory when the last clone is dropped.
///
/// ```
/// use aether_hopping::Hop;
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
/// # Ok::<(), aether_hopping::HopError>(())
/// ```
#[derive(Clone)]
pub struct Hop {
    inner: Arc<HopInner>,
}

struct HopInner {
    id: u64,
    sequence: Sequence,
    schedule: Schedule,
    lanes: u8,
    adaptive: bool,
    clock: ClockSource,
    /// The error of the clock in nanoseconds, for tests.
    clock_error: i64,
}

/// The clock that defines the slots on a medium that crosses processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockSource {
    /// The clock of the keeper of this key, to which the offset is measured.
    Kept,
    /// The clock of this machine, with this maximum error.
    Own { error: Duration },
}

/// Options for building a [`Hop`].
#[derive(Clone)]
#[must_use = "has no effect until build() is called"]
pub struct HopBuilder {
    key: Zeroizing<Vec<u8>>,
    lanes: u8,
    slot: Duration,
    guard: Option<Duration>,
    adaptive: bool,
    clock: ClockSource,
    clock_error: i64,
    is_timed: bool,
}

/// Error when building a [`Hop`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HopError {
    /// The key is too short to be secret, or longer than is useful.
    #[error(
        "the key has {bytes} bytes: use {MIN_KEY_BYTES} to {MAX_KEY_BYTES} unpredictable bytes, such as 32 random ones"
    )]
    Key {
        /// The length of the key in bytes.
        bytes: usize,
    },
    /// The number of lanes is outside of the allowed range.
    #[error("{given} lanes are not allowed: use {} to {}", LANES.start(), LANES.end())]
    Lanes {
        /// The number of lanes.
        given: u8,
    },
    /// The slot is shorter than timers are precise, or longer than is useful.
    #[error("a slot of {given:?} is not allowed: use {SHORTEST_SLOT:?} to {LONGEST_SLOT:?}")]
    Slot {
        /// The length of a slot.
        given: Duration,
    },
    /// The guard is zero, or so long that three slots would overlap.
    #[error(
        "a guard of {given:?} is not allowed with slots of {slot:?}: use more than zero and less than half a slot"
    )]
    Guard {
        /// The guard.
        given: Duration,
        /// The length of the slots.
        slot: Duration,
    },
    /// The error of the clock is too large for this guard.
    #[error(
        "a clock error of {error:?} is too much for a guard of {guard:?}: the guard must be at least twice the error"
    )]
    ClockError {
        /// The maximum error of the clock.
        error: Duration,
        /// The guard.
        guard: Duration,
    },
}

impl Hop {
    /// Hops by a secret key of random bytes: at least [`MIN_KEY_BYTES`], preferably 32. Without the key, the next lane
    /// and name of a channel cannot be predicted.
    pub fn keyed(key: impl AsRef<[u8]>) -> HopBuilder {
        HopBuilder {
            key: Zeroizing::new(key.as_ref().to_vec()),
            lanes: 16,
            slot: Duration::from_secs(1),
            guard: None,
            adaptive: false,
            clock: ClockSource::Kept,
            clock_error: 0,
            is_timed: false,
        }
    }

    /// Hops over this many lanes, one in each interval, without a key and by the clock of each machine. The lanes and the
    /// names are derived from the name of the channel. Ordinary term: time-based partitioning.
    ///
    /// **It hides nothing**: everybody who knows the name of a channel can compute its subjects, now and in the future.
    /// It spreads load and names over the lanes. The clocks must be accurate within a quarter of the interval. Equal
    /// arguments give the same hop.
    ///
    /// ```
    /// use aether_hopping::Hop;
    /// use std::time::Duration;
    ///
    /// let hop = Hop::timed(4, Duration::from_millis(200))?;
    /// assert_eq!((hop.lanes(), hop.guard()), (4, Duration::from_millis(50)));
    /// # Ok::<(), aether_hopping::HopError>(())
    /// ```
    ///
    /// # Errors
    /// [`HopError`] if the number of lanes or the interval is outside of the range that [`HopBuilder::lanes`] and
    /// [`HopBuilder::slot`] allow.
    pub fn timed(lanes: u8, interval: Duration) -> Result<Self, HopError> {
        let builder = Self::keyed(UNKEYED).lanes(lanes).slot(interval).trust_clock(Duration::ZERO);
        HopBuilder { is_timed: true, ..builder }.build()
    }

    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn sequence_of(&self) -> &Sequence {
        &self.inner.sequence
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.inner.schedule
    }

    pub(crate) fn clock(&self) -> ClockSource {
        self.inner.clock
    }

    pub(crate) fn clock_error(&self) -> i64 {
        self.inner.clock_error
    }

    /// The subject of a channel at a time, if no lane is left out. Useful for finding its waves at the broker. `None`
    /// for times whose keys were deleted, and for times before 1970.
    #[must_use]
    pub fn subject_at(&self, channel: &Channel, time: SystemTime) -> Option<Channel> {
        let time = u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
        let slot = self.schedule().slot_at(time);
        let place = self.sequence_of().place(Traffic::Waves, channel, slot)?;
        place.on(place.draw.lane(self.lanes())).ok()
    }

    /// The number of lanes.
    #[must_use]
    pub fn lanes(&self) -> u8 {
        self.inner.lanes
    }

    /// The length of a slot.
    #[must_use]
    pub fn slot(&self) -> Duration {
        Duration::from_nanos(self.inner.schedule.slot_len())
    }

    /// The time before and after a slot during which receivers still listen for it.
    #[must_use]
    pub fn guard(&self) -> Duration {
        Duration::from_nanos(self.inner.schedule.guard())
    }

    /// Whether lanes that lose many waves are left out.
    #[must_use]
    pub fn is_adaptive(&self) -> bool {
        self.inner.adaptive
    }
}

impl HopBuilder {
    /// Sets the number of lanes, from 4 to 64. Default: 16. The lane is the second token of the subject, so each lane
    /// can have its own route: an eavesdropper on one of N lanes sees one wave in N.
    pub fn lanes(mut self, lanes: u8) -> Self {
        self.lanes = lanes;
        self
    }

    /// Sets the length of a slot, from 10 ms to one hour. Default: 1 s. Cost: two subscriptions per slot and channel at
    /// each receiver, four with [`HopBuilder::adaptive`].
    pub fn slot(mut self, slot: Duration) -> Self {
        self.slot = slot;
        self
    }

    /// Sets the time before and after a slot during which receivers still listen for it. Must be less than half a slot,
    /// and at least the sum of clock error and transit time. Default: a quarter of a slot.
    pub fn guard(mut self, guard: Duration) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Leaves out lanes that lose more than 30 % of their waves. At least a quarter of the lanes stay in use. Default:
    /// no. Cost: one small message per slot from each sender and each receiver.
    pub fn adaptive(mut self) -> Self {
        self.adaptive = true;
        self
    }

    /// Uses the clock of this machine, whose error must be at most `error`, for example because NTP corrects it. By
    /// default, [`Hop::keyed`] measures the offset to the [clock keeper](crate::ClockKeeper) over the medium.
    /// Has no effect on a medium within one process, where there is only one clock.
    pub fn trust_clock(mut self, error: Duration) -> Self {
        self.clock = ClockSource::Own { error };
        self
    }

    /// Gives the clock an undetected error of this many nanoseconds, for tests.
    #[cfg(any(test, feature = "test-util"))]
    pub fn wrong_by(mut self, nanos: i64) -> Self {
        self.clock_error = nanos;
        self
    }

    /// Validates the options and makes the hop.
    ///
    /// # Errors
    /// [`HopError`] names the invalid option and the allowed range.
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
        if let ClockSource::Own { error } = self.clock
            && error.saturating_mul(2) > guard
        {
            return Err(HopError::ClockError { error, guard });
        }
        Ok(self.checked(guard))
    }

    /// Makes the hop from validated options.
    fn checked(self, guard: Duration) -> Hop {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        // Cannot truncate: both are at most one hour.
        let schedule = Schedule::new(self.slot.as_nanos() as u64, guard.as_nanos() as u64);
        let id = match self.is_timed {
            // An hour of nanoseconds has 42 bits.
            true => TIMED | u64::from(self.lanes) << 48 | schedule.slot_len(),
            false => LAST_ID.fetch_add(1, Ordering::Relaxed),
        };
        let inner = HopInner {
            id,
            sequence: Sequence::new(&self.key),
            schedule,
            lanes: self.lanes,
            adaptive: self.adaptive,
            clock: self.clock,
            clock_error: self.clock_error,
        };
        Hop { inner: Arc::new(inner) }
    }
}

impl fmt::Debug for Hop {
    /// Omits the key.
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
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HopBuilder")
            .field("lanes", &self.lanes)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
