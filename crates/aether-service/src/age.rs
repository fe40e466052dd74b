//! Times in answers: milliseconds, for people and for programs of other clocks.

use std::time::{Duration, SystemTime};

/// The time since then. A clock that was set back makes it zero.
#[expect(
    clippy::disallowed_methods,
    reason = "an age is shown to people, and a paused clock only makes it zero"
)]
pub(crate) fn age_ms(at: SystemTime) -> u64 {
    at.elapsed().map_or(0, millis)
}

/// At most what fits.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
