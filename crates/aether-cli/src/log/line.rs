//! A stored wave as a line for people.

use std::fmt::Display;

use aether_log::StoredWave;

use crate::record::Line;

/// The maximum number of payload characters in text output.
const MOST_CHARACTERS: usize = 4096;

/// The position and the wave.
pub(super) fn line(stored: &StoredWave) -> impl Display {
    format!("{:>8} {}", stored.position, Line::of(&stored.wave, MOST_CHARACTERS))
}
