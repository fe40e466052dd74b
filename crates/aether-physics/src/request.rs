//! Requests and answers: the data of a wave that the detectors of polling and of retry storms compare.

use std::hash::Hash;
use std::time::Duration;

use aether_core::{Channel, Kind, Source, Wave, WaveId};

/// Of a longer payload, only the first and last bytes and the length are compared.
const COMPARED: usize = 2048;

/// A request: a command or a question. For recordings and made-up traffic, which have no [`Wave`].
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its channel.
    pub channel: &'a Channel,
    /// Its source.
    pub source: &'a Source,
    /// The sequence number from its source.
    pub sequence: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its coherence key.
    pub key: Option<&'a str>,
    /// Its payload, or something as unique, such as a hash.
    pub content: &'a [u8],
    /// The number of the attempt, from 1, as far as its sender gives it.
    pub attempt: u32,
    /// Whether it names a wave that caused it.
    pub caused: bool,
    /// The time since its emission.
    pub age: Duration,
}

/// An answer to a request.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The channel of the request, and of the answer.
    pub channel: &'a Channel,
    /// The request.
    pub question: &'a WaveId,
    /// Its payload, or something as unique, such as a hash.
    pub content: &'a [u8],
    /// Whether it reports that the request failed.
    pub failed: bool,
}

impl<'a> Request<'a> {
    /// The request that a wave of any kind but a response makes, if it is one.
    pub(super) fn of(wave: &'a Wave, age: Duration) -> Self {
        Self {
            channel: wave.channel(),
            source: wave.source(),
            sequence: wave.sequence(),
            kind: wave.kind(),
            key: wave.key(),
            content: wave.payload(),
            attempt: wave.all_attempts(),
            caused: wave.cause().is_some(),
            age,
        }
    }

    /// The parts that two requests for the same thing share: name of the service, key and content. The instance is left
    /// out, because another process of the service may repeat a request.
    pub(super) fn asks(&self) -> impl Hash {
        (self.source.name(), self.key, sample(self.content))
    }
}

impl<'a> Answer<'a> {
    /// The answer in a wave, if it is one to a known question.
    pub(super) fn of(wave: &'a Wave) -> Option<Self> {
        let question = wave.cause().filter(|_| wave.kind() == Kind::Response)?;
        let failed = wave.failure().is_some();
        Some(Self { channel: wave.channel(), question, content: wave.payload(), failed })
    }
}

/// The part of a payload that is compared.
pub(super) fn sample(payload: &[u8]) -> (usize, &[u8], &[u8]) {
    let first = payload.len().min(COMPARED);
    let last = payload.len().saturating_sub(COMPARED).max(first);
    (payload.len(), &payload[..first], &payload[last..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_compared_at_both_ends() {
        assert_eq!(sample(b""), (0, &b""[..], &b""[..]));
        let payload: Vec<u8> = (0..5000).map(|byte| byte as u8).collect();
        let (bytes, first, last) = sample(&payload);
        assert_eq!((bytes, first, last), (5000, &payload[..2048], &payload[2952..]));
        assert_eq!(sample(&payload[..3000]).2.len(), 952);
    }
}
