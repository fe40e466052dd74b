//! Phase: whether a wave asserts a claim or retracts it.
//!
//! A number carried by the wave. Only the interference detector reads it.

use std::f32::consts::{PI, TAU};
use std::fmt;

/// The sign of a claim: 0 asserts it, pi retracts it. Radians in [0, 2 pi).
#[derive(Clone, Copy, PartialEq, Default)]
pub struct Phase(f32);

/// A phase that is not a finite number.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("phase {given} is not allowed: it must be a finite number of radians (0 asserts, pi retracts)")]
pub struct PhaseError {
    given: f32,
}

impl Phase {
    /// Asserts a claim: the default phase.
    pub const ASSERT: Self = Self(0.0);
    /// Retracts a claim; its cosine is exactly -1.
    pub const RETRACT: Self = Self(PI);

    /// Makes a phase from radians, normalized to [0, 2 pi).
    ///
    /// # Errors
    /// [`PhaseError`] for NaN and infinities.
    pub fn new(radians: f32) -> Result<Self, PhaseError> {
        if !radians.is_finite() {
            return Err(PhaseError { given: radians });
        }
        let turned = radians.rem_euclid(TAU);
        // rem_euclid of a tiny negative number rounds up to a whole turn.
        Ok(Self(if turned >= TAU { 0.0 } else { turned }))
    }

    /// The phase in radians, in [0, 2 pi).
    #[must_use]
    pub const fn radians(self) -> f32 {
        self.0
    }
}

impl TryFrom<f32> for Phase {
    type Error = PhaseError;
    fn try_from(radians: f32) -> Result<Self, PhaseError> {
        Self::new(radians)
    }
}

impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phase({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_finite_and_within_one_turn() {
        assert!(Phase::new(f32::NAN).is_err() && Phase::new(f32::INFINITY).is_err());
        assert_eq!(Phase::new(PI), Ok(Phase::RETRACT));
        assert_eq!(Phase::new(-PI), Ok(Phase::RETRACT));
        assert_eq!(Phase::new(-1e-12), Ok(Phase::ASSERT));
        assert_eq!(Phase::RETRACT.radians().cos(), -1.0);
    }
}
