//! A sighting: the data of one wave that the service map uses.

use std::time::Duration;

use aether_core::{Channel, Kind, Source, Wave, WaveId};

/// The data of one wave that the service map uses. For recordings, which have no [`Wave`].
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// Its channel.
    pub channel: &'a Channel,
    /// Its kind. The answer to a question has the channel of the question, and is not an edge from it to itself.
    pub kind: Kind,
    /// Its source.
    pub source: &'a Source,
    /// The sequence number from its source. 0 for none; such a wave cannot be a cause.
    pub sequence: u64,
    /// The wave that was being handled when it was emitted.
    pub cause: Option<&'a WaveId>,
    /// Its coherence key.
    pub key: Option<&'a str>,
    /// The current time, on a clock of the observer with any origin.
    pub now: Duration,
    /// The time since its emission.
    pub age: Duration,
}

impl<'a> Sighting<'a> {
    /// The sighting of a wave.
    #[must_use]
    pub fn of(wave: &'a Wave, now: Duration, age: Duration) -> Self {
        Self {
            channel: wave.channel(),
            kind: wave.kind(),
            source: wave.source(),
            sequence: wave.sequence(),
            cause: wave.cause(),
            key: wave.key(),
            now,
            age,
        }
    }
}
