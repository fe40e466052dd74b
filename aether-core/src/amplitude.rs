//! Amplitude, decay and path loss: the arithmetic of importance, in integers and without a clock.
//!
//! [`Wave`](crate::Wave) carries a [`Signal`]; the router and the inbox compare signals with a [`Floor`]. Nothing here
//! reads the time: an age comes in as a [`Duration`], so every result can be computed again elsewhere.
//!
//! Internally importance is a *loss* in octaves, `loss = -log2(amplitude)`, in fixed point with 2048 steps an octave.
//! Decay, path loss and comparison are then integer additions, and every node gets the same answer to the bit.
//!
//! ```
//! use aether_core::{Amplitude, Floor, HalfLife, wave::Signal};
//! use std::time::Duration;
//!
//! let signal = Signal::new(Amplitude::NORMAL, HalfLife::nearest(Duration::from_secs(8))?);
//! let floor = Floor::at(Amplitude::new(0.25)?);
//! assert!(signal.audible(Duration::from_secs(8), floor)); // one half-life later 0.5 has become 0.25
//! assert!(!signal.audible(Duration::from_secs(9), floor));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::time::Duration;

/// Fixed-point steps in one octave (one halving) of amplitude.
pub const STEPS_PER_OCTAVE: u32 = 2048;

/// Loss of one hop: `-log2(0.95)` octaves, rounded to steps. A hop multiplies the amplitude by 0.95.
pub(crate) const LOSS_PER_HOP: u32 = 152;

/// The number of strength levels distinguished by an inbox, a quarter of an octave each.
pub const LEVELS: usize = 64;

/// How important a message is: a number in (0, 1], 1 being the strongest.
///
/// Stored as a 16-bit loss, 2048 steps an octave, so the value read back differs from the one given by at most
/// 0.02 %. The smallest amplitude is about `2.4e-10`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amplitude(u16);

/// An amplitude outside of (0, 1].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("amplitude {given} is not allowed: it must be a number from 2.4e-10 to 1.0 (0.5 is normal)")]
pub struct AmplitudeError {
    given: f32,
}

impl Amplitude {
    /// 1.0, the strongest there is.
    pub const FULL: Self = Self(0);
    /// 0.5, the default amplitude.
    pub const NORMAL: Self = Self(STEPS_PER_OCTAVE as u16);
    /// The weakest amplitude that can be represented, about `2.4e-10`.
    pub const FAINTEST: Self = Self(u16::MAX);

    /// An amplitude from a number in (0, 1].
    ///
    /// # Errors
    /// [`AmplitudeError`] for NaN, zero, negative numbers, numbers above 1 and numbers below `2.4e-10`.
    pub fn new(amplitude: f32) -> Result<Self, AmplitudeError> {
        let loss = -f64::from(amplitude).log2() * f64::from(STEPS_PER_OCTAVE);
        // NaN fails the comparison too. Below 0.5 steps the loss rounds to none, so 1.0 itself passes.
        if amplitude <= 1.0 && loss.is_finite() && loss.round() <= f64::from(u16::MAX) {
            Ok(Self(loss.round() as u16))
        } else {
            Err(AmplitudeError { given: amplitude })
        }
    }

    /// An amplitude from its loss in steps of 1/2048 octave: 0 is 1.0, 2048 is 0.5, 4096 is 0.25.
    #[must_use]
    pub const fn from_loss(loss: u16) -> Self {
        Self(loss)
    }

    /// The loss in steps of 1/2048 octave.
    #[must_use]
    pub const fn loss(self) -> u16 {
        self.0
    }

    /// The amplitude as a number in (0, 1].
    #[must_use]
    pub fn as_f32(self) -> f32 {
        loss_to_f32(u32::from(self.0))
    }
}

impl Default for Amplitude {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl TryFrom<f32> for Amplitude {
    type Error = AmplitudeError;
    fn try_from(amplitude: f32) -> Result<Self, AmplitudeError> {
        Self::new(amplitude)
    }
}

/// Orders by amplitude: the stronger one is greater, although its loss is smaller.
impl Ord for Amplitude {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Amplitude {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Amplitude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amplitude({:.4})", self.as_f32())
    }
}

impl fmt::Display for Amplitude {
    /// Three significant digits: `0.5`, `0.951`, `0.000123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = f64::from(self.as_f32());
        let digits = (2.0 - value.log10().floor()).clamp(0.0, 12.0) as usize;
        let text = format!("{value:.digits$}");
        f.write_str(if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
    }
}

/// Half-life: the time in which a message's amplitude halves.
///
/// One of a fixed set of classes: a power of two in milliseconds from 1 ms to 2^40 ms (about 35 years), or never. Decay
/// is then a shift, and two waves of one class never change their order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HalfLife(u8);

/// A half-life of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("half-life {given:?} is not allowed: it must be longer than zero, or HalfLife::NEVER for no decay")]
pub struct HalfLifeError {
    given: Duration,
}

impl HalfLife {
    const NEVER_CLASS: u8 = u8::MAX;
    const LAST_CLASS: u8 = 40;
    /// No decay: commands, queries and responses by default.
    pub const NEVER: Self = Self(Self::NEVER_CLASS);
    /// 8.192 s, the class nearest to 8 s: events and broadcasts by default.
    pub const EIGHT_SECONDS: Self = Self(13);

    /// The class nearest to a duration on a logarithmic scale: 8 s gives 8.192 s, 1 s gives 1.024 s.
    ///
    /// Durations below 1 ms give 1 ms, durations above 2^40 ms give 2^40 ms.
    ///
    /// # Errors
    /// [`HalfLifeError`] for a duration of zero.
    pub fn nearest(half_life: Duration) -> Result<Self, HalfLifeError> {
        if half_life.is_zero() {
            return Err(HalfLifeError { given: half_life });
        }
        let class = (half_life.as_secs_f64() * 1000.0).log2().round();
        Ok(Self(class.clamp(0.0, f64::from(Self::LAST_CLASS)) as u8))
    }

    /// The half-life for a class number on the wire: 0 to 40 for 2^c ms, 255 for never; `None` for all others.
    #[must_use]
    pub const fn from_class(class: u8) -> Option<Self> {
        if class <= Self::LAST_CLASS || class == Self::NEVER_CLASS { Some(Self(class)) } else { None }
    }

    /// The class number on the wire: 0 to 40 for 2^c ms, 255 for never.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0
    }

    /// The half-life, or `None` for never.
    #[must_use]
    pub const fn duration(self) -> Option<Duration> {
        if self.0 == Self::NEVER_CLASS { None } else { Some(Duration::from_millis(1 << self.0)) }
    }

    /// The loss added by an age, in steps. Saturates where nothing is audible any more.
    fn loss_after(self, age: Duration) -> u32 {
        if self.0 == Self::NEVER_CLASS {
            return 0;
        }
        let steps = (age.as_micros().saturating_mul(u128::from(STEPS_PER_OCTAVE)) / 1000) >> self.0;
        steps.min(u128::from(Floor::DEEPEST)) as u32
    }
}

impl fmt::Debug for HalfLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HalfLife({self})")
    }
}

impl fmt::Display for HalfLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.duration() {
            Some(duration) => write!(f, "{duration:?}"),
            None => f.write_str("never"),
        }
    }
}

/// An admission threshold: weaker waves are not delivered. Ordinary term: minimum priority.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Floor(u32);

impl Floor {
    /// Sums of losses saturate here, far beyond what [`Floor::OPEN`] can distinguish.
    const DEEPEST: u32 = u32::MAX / 4;
    /// Admits everything, however weak.
    pub const OPEN: Self = Self(u32::MAX);

    /// Admits this amplitude and everything stronger.
    #[must_use]
    pub const fn at(amplitude: Amplitude) -> Self {
        Self(amplitude.0 as u32)
    }

    /// A floor from a number in [0, 1], 0 being [`Floor::OPEN`].
    ///
    /// # Errors
    /// [`AmplitudeError`] for NaN, negative numbers and numbers above 1.
    pub fn new(amplitude: f32) -> Result<Self, AmplitudeError> {
        if amplitude == 0.0 { Ok(Self::OPEN) } else { Amplitude::new(amplitude).map(Self::at) }
    }

    /// The floor as a number, for an atomic.
    pub(crate) const fn to_bits(self) -> u32 {
        self.0
    }

    /// The floor of [`Floor::to_bits`].
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// A floor that admits waves weaker by this many steps; open if no wave can be that weak.
    pub(crate) const fn lowered(self, steps: u32) -> Self {
        let loss = self.0.saturating_add(steps);
        if loss > u16::MAX as u32 { Self::OPEN } else { Self(loss) }
    }

    /// The lowest audible level, at which only the strongest waves pass; `None` if every level passes.
    pub(crate) const fn level(self) -> Option<u32> {
        if self.is_open() { None } else { Some(self.0 / (STEPS_PER_OCTAVE / 4)) }
    }

    /// Whether every wave passes.
    #[must_use]
    pub const fn is_open(self) -> bool {
        self.0 == u32::MAX
    }

    /// The threshold as a number in [0, 1], 0 being open.
    #[must_use]
    pub fn as_f32(self) -> f32 {
        if self.is_open() { 0.0 } else { loss_to_f32(self.0) }
    }
}

impl Default for Floor {
    fn default() -> Self {
        Self::OPEN
    }
}

/// Orders by strictness: a higher floor is greater and admits less.
impl Ord for Floor {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Floor {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_open() { f.write_str("Floor(open)") } else { write!(f, "Floor({:.4})", self.as_f32()) }
    }
}

/// How strong a wave is at each age: amplitude at the source, half-life, and hops passed.
///
/// The amplitude is never rewritten in flight. The wave carries this signal and its age, and each reader computes the
/// amplitude, so decay cannot be applied twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal {
    /// The amplitude at the source.
    pub amplitude: Amplitude,
    /// The time in which the amplitude halves.
    pub half_life: HalfLife,
    /// How many times the wave was relayed between media; each hop multiplies the amplitude by 0.95.
    pub hops: u8,
}

/// How long a signal can be heard above a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Not even when it was new.
    Inaudible,
    /// Up to and including this age, to the microsecond.
    At(Duration),
    /// Forever.
    Never,
}

impl Signal {
    /// A signal that has not been relayed.
    #[must_use]
    pub const fn new(amplitude: Amplitude, half_life: HalfLife) -> Self {
        Self { amplitude, half_life, hops: 0 }
    }

    /// The loss without decay, in steps.
    fn path_loss(self) -> u32 {
        u32::from(self.amplitude.0) + u32::from(self.hops) * LOSS_PER_HOP
    }

    /// The amplitude at an age, in [0, 1].
    #[must_use]
    pub fn amplitude_at(self, age: Duration) -> f32 {
        loss_to_f32(self.path_loss() + self.half_life.loss_after(age))
    }

    /// Whether a receiver with this floor hears the signal at an age.
    #[must_use]
    pub fn audible(self, age: Duration, floor: Floor) -> bool {
        floor.is_open() || self.path_loss() + self.half_life.loss_after(age) <= floor.0
    }

    /// Whether a receiver with this floor would hear the signal if it were new. Needs no age and no clock.
    #[must_use]
    pub(crate) fn reaches(self, floor: Floor) -> bool {
        self.path_loss() <= floor.0
    }

    /// The age up to which a receiver with this floor hears the signal: a time-to-live known in advance.
    #[must_use]
    pub fn expires_at(self, floor: Floor) -> Expiry {
        if floor.is_open() {
            return Expiry::Never;
        }
        let Some(budget) = floor.0.checked_sub(self.path_loss()) else {
            return Expiry::Inaudible;
        };
        if self.half_life == HalfLife::NEVER {
            return Expiry::Never;
        }
        // audible <=> ((age * 2048 / 1000) >> class) <= budget <=> age * 2048 < 1000 * ((budget + 1) << class)
        let bound = 1000_u128 * ((u128::from(budget) + 1) << self.half_life.0);
        let micros = (bound - 1) / u128::from(STEPS_PER_OCTAVE);
        Expiry::At(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// The strength level, 0 the strongest and 63 the weakest: a quarter of an octave each, age left out.
    ///
    /// A wave's level is fixed while it waits, so waves of one amplitude keep their order.
    #[must_use]
    pub fn level(self) -> u8 {
        (self.path_loss() / (STEPS_PER_OCTAVE / 4)).min(LEVELS as u32 - 1) as u8
    }
}

/// The strongest amplitude of a level, as a number in (0, 1].
pub(crate) fn amplitude_of_level(level: u8) -> Amplitude {
    Amplitude(u16::from(level.min(LEVELS as u8 - 1)) * (STEPS_PER_OCTAVE / 4) as u16)
}

fn loss_to_f32(loss: u32) -> f32 {
    (-f64::from(loss) / f64::from(STEPS_PER_OCTAVE)).exp2() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_half_life() -> impl Strategy<Value = HalfLife> {
        prop_oneof![(0..=40u8).prop_map(HalfLife), Just(HalfLife::NEVER)]
    }

    fn any_signal() -> impl Strategy<Value = Signal> {
        (any::<u16>(), any_half_life(), any::<u8>()).prop_map(|(loss, half_life, hops)| Signal {
            amplitude: Amplitude(loss),
            half_life,
            hops,
        })
    }

    fn any_floor() -> impl Strategy<Value = Floor> {
        prop_oneof![any::<u16>().prop_map(|loss| Floor::at(Amplitude(loss))), Just(Floor::OPEN)]
    }

    fn any_age() -> impl Strategy<Value = Duration> {
        prop_oneof![0..10_000_000u64, any::<u64>()].prop_map(Duration::from_micros)
    }

    #[test]
    fn refuses_what_is_not_an_amplitude() {
        for bad in [f32::NAN, 0.0, -0.0, -0.5, 1.000_001, f32::INFINITY, f32::NEG_INFINITY, 1e-11] {
            assert!(Amplitude::new(bad).is_err(), "{bad} was accepted");
        }
        assert!(Floor::new(-0.1).is_err());
        assert!(Floor::new(f32::NAN).is_err());
        assert!(HalfLife::nearest(Duration::ZERO).is_err());
    }

    #[test]
    fn known_values() {
        assert_eq!(Amplitude::new(1.0), Ok(Amplitude::FULL));
        assert_eq!(Amplitude::new(0.5), Ok(Amplitude::NORMAL));
        assert_eq!(Floor::new(0.0), Ok(Floor::OPEN));
        assert_eq!(HalfLife::nearest(Duration::from_secs(8)), Ok(HalfLife::EIGHT_SECONDS));
        assert_eq!(HalfLife::EIGHT_SECONDS.duration(), Some(Duration::from_millis(8192)));
        let relayed = Signal { hops: 1, ..Signal::new(Amplitude::FULL, HalfLife::NEVER) };
        assert!((relayed.amplitude_at(Duration::ZERO) - 0.95).abs() < 0.001);
        assert_eq!(Signal::new(Amplitude::NORMAL, HalfLife::NEVER).level(), 4);
    }

    #[test]
    fn amplitudes_read_well() {
        let shown = |a: f32| Amplitude::new(a).unwrap().to_string();
        assert_eq!((shown(1.0), shown(0.5), shown(0.95)), ("1".into(), "0.5".into(), "0.95".into()));
        assert_eq!(shown(0.001), "0.001");
    }

    proptest! {
        #[test]
        fn an_amplitude_is_read_back_within_two_hundredths_of_a_percent(a in 2.4e-10f32..=1.0) {
            let back = Amplitude::new(a).unwrap().as_f32();
            prop_assert!((f64::from(back) / f64::from(a) - 1.0).abs() < 2e-4, "{a} became {back}");
        }

        #[test]
        fn strength_falls_with_age_and_hops_and_never_exceeds_the_source(
            signal in any_signal(), early in any_age(), late in any_age(),
        ) {
            let (early, late) = (early.min(late), early.max(late));
            prop_assert!(signal.amplitude_at(late) <= signal.amplitude_at(early));
            prop_assert!(signal.amplitude_at(early) <= signal.amplitude.as_f32());
            if let Some(hops) = signal.hops.checked_add(1) {
                let relayed = Signal { hops, ..signal };
                prop_assert!(relayed.amplitude_at(early) <= signal.amplitude_at(early));
            }
        }

        #[test]
        fn audible_exactly_until_it_expires(signal in any_signal(), floor in any_floor(), age in any_age()) {
            let heard = signal.audible(age, floor);
            match signal.expires_at(floor) {
                Expiry::Inaudible => prop_assert!(!heard),
                Expiry::Never => prop_assert!(heard),
                Expiry::At(limit) => {
                    prop_assert_eq!(heard, age <= limit);
                    prop_assert!(signal.audible(limit, floor));
                    if let Some(next) = limit.checked_add(Duration::from_micros(1))
                        && limit < Duration::from_micros(u64::MAX)
                    {
                        prop_assert!(!signal.audible(next, floor));
                    }
                }
            }
        }

        #[test]
        fn waves_of_one_class_never_change_their_order(
            half_life in any_half_life(), a in any::<u16>(), b in any::<u16>(), age in any_age(),
        ) {
            let now = |loss| Signal::new(Amplitude(loss), half_life).path_loss() + half_life.loss_after(age);
            prop_assert_eq!(a.cmp(&b), now(a).cmp(&now(b)));
        }

        #[test]
        fn splitting_a_path_into_hops_adds_up_the_same(signal in any_signal(), first in 0u8..100, second in 0u8..100) {
            let whole = Signal { hops: first + second, ..signal };
            let loss_of = |hops: u8| u32::from(hops) * LOSS_PER_HOP;
            prop_assert_eq!(whole.path_loss(), u32::from(signal.amplitude.0) + loss_of(first) + loss_of(second));
        }

        #[test]
        fn levels_follow_strength(a in any_signal(), b in any_signal()) {
            if a.path_loss() <= b.path_loss() { prop_assert!(a.level() <= b.level()); }
            prop_assert!(usize::from(a.level()) < LEVELS);
        }
    }
}
