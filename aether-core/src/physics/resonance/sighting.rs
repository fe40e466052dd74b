//! What the service map needs to know of one wave.

use std::time::Duration;

use crate::channel::Channel;
use crate::source::{Source, WaveId};
use crate::wave::Wave;

/// What the service map needs to know of one wave: for recordings, where there is no [`Wave`].
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// Where it was sent.
    pub channel: &'a Channel,
    /// Who emitted it.
    pub source: &'a Source,
    /// The number that its source gave it; 0 if none, and then it can be nobody's cause.
    pub sequence: u64,
    /// The wave that was being handled.
    pub cause: Option<&'a WaveId>,
    /// What it is about.
    pub key: Option<&'a str>,
    /// The present, on a clock of the observer's that counts from any fixed moment.
    pub now: Duration,
    /// How long ago it was emitted.
    pub age: Duration,
}

impl<'a> Sighting<'a> {
    /// What there is to see of a wave.
    #[must_use]
    pub fn of(wave: &'a Wave, now: Duration, age: Duration) -> Self {
        Self {
            channel: wave.channel(),
            source: wave.source(),
            sequence: wave.sequence(),
            cause: wave.cause(),
            key: wave.key(),
            now,
            age,
        }
    }
}
