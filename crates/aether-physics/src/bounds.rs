//! The bounds of detector options.

use std::fmt::Display;

/// A detector option that is outside of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} = {given} is not allowed: use {allowed}")]
pub struct BoundsError {
    option: &'static str,
    given: String,
    allowed: String,
}

impl BoundsError {
    /// The detector and the option, such as `resonance.channels`.
    #[must_use]
    pub const fn option(&self) -> &'static str {
        self.option
    }
}

/// Refuses an option unless it is within its bounds.
pub(super) fn check(
    is_allowed: bool,
    option: &'static str,
    given: impl Display,
    allowed: impl Into<String>,
) -> Result<(), BoundsError> {
    if is_allowed {
        return Ok(());
    }
    Err(BoundsError { option, given: given.to_string(), allowed: allowed.into() })
}
