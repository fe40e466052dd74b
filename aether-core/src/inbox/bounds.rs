//! The bounds of an inbox that are allowed.

use std::fmt;

const MOST_WAVES: usize = u32::MAX as usize - 1;

/// An option that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inbox option {option} = {given} is not allowed: use {allowed}")]
pub struct InboxOptionsError {
    option: &'static str,
    given: String,
    allowed: &'static str,
}

pub(super) fn refused(
    option: &'static str,
    given: &dyn fmt::Debug,
    allowed: &'static str,
) -> InboxOptionsError {
    InboxOptionsError { option, given: format!("{given:?}"), allowed }
}

/// Checks the capacity in waves and in bytes.
pub(super) fn check(max_waves: usize, max_bytes: usize) -> Result<(), InboxOptionsError> {
    if max_waves == 0 || max_waves > MOST_WAVES {
        return Err(refused("max_waves", &max_waves, "1 to 4294967294"));
    }
    if max_bytes == 0 {
        return Err(refused("max_bytes", &max_bytes, "at least 1"));
    }
    Ok(())
}
