//! What is missing between the frames that came: waves that were sent to a subscription and lost on the way.
//!
//! Each subscription of the server that brings all waves of its pattern has one table, kept by the task that drains
//! it. A sender numbers its waves on each channel ([`Position`]); a number that is left out is a wave that this
//! subscription was sent, or should have been sent, and that nobody here will get. What comes twice or late is no loss.
//! Members of a group have no table: what is missing at one of them has gone to another.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lru::LruCache;

use crate::channel::Channel;
use crate::clock::Instant;
use crate::wire::Position;

/// How many streams a subscription follows. About 150 bytes each.
const MAX_STREAMS: usize = 4096;

/// Whether a stream began before or after a subscription is told by how long ago both were, and the shortest transit
/// there is, which nobody knows, is in between: in case of doubt it began before.
const DOUBT: Duration = Duration::from_secs(1);

/// No gap is wider: at a million waves a second that is twelve days of a stream, missed while it was heard. A frame that
/// says so was made up, and would spoil every account that it is added to.
const WIDEST: u64 = 1 << 40;

/// Waves that were lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) waves: u64,
    /// Who was subscribed at that time should have got them all.
    pub(super) since: Instant,
}

/// A frame that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) node: u64,
    pub(super) position: Position,
    pub(super) waves: usize,
    /// How much longer than the quickest frames of its node it was on its way.
    pub(super) delay: Duration,
    pub(super) now: Instant,
}

pub(super) struct Gaps {
    /// Since when the server knows of the subscription for sure.
    in_force: Arc<OnceLock<Instant>>,
    streams: LruCache<(u64, Channel), Stream>,
    /// When the stream that was forgotten last had last been heard. Of older ones nobody knows whether they were.
    forgotten: Option<Instant>,
}

struct Stream {
    number: u64,
    expected: u64,
    heard: Instant,
}

impl Gaps {
    pub(super) fn new(in_force: Arc<OnceLock<Instant>>) -> Self {
        Self { in_force, streams: LruCache::unbounded(), forgotten: None }
    }

    /// Notes a frame, and says what is missing before it. Also says whether another stream was forgotten for it.
    pub(super) fn note(&mut self, channel: &Channel, heard: Heard) -> (Option<Gap>, bool) {
        let Heard { node, position, waves, delay, now } = heard;
        let after = position.first.saturating_add(waves as u64);
        let key = (node, channel.clone());
        let new = Stream { number: position.stream, expected: after, heard: now };
        let mut forgets = false;
        let (expected, since) = match self.streams.get_mut(&key) {
            // Overtaken by the stream that replaced it.
            Some(stream) if position.stream < stream.number => return (None, false),
            Some(stream) if position.stream == stream.number => {
                if position.first.saturating_sub(stream.expected) > WIDEST {
                    return (None, false);
                }
                let (expected, heard) = (stream.expected, stream.heard);
                (stream.expected, stream.heard) = (expected.max(after), now);
                (expected, Some(heard))
            }
            // All of the new one was sent after the old one was heard. How the old one ended is not known any more.
            Some(stream) => (0, Some(std::mem::replace(stream, new).heard)),
            None => {
                if self.streams.len() >= MAX_STREAMS {
                    forgets = true;
                    self.forgotten = self.streams.pop_lru().map(|(_, stream)| stream.heard);
                }
                self.streams.push(key, new);
                let age = Duration::from_micros(position.age_micros);
                let began = now.checked_sub(age.saturating_add(delay).saturating_add(DOUBT));
                // Its beginning was missed if it should have been heard, and was not forgotten.
                let is_missed = |began: &Instant| {
                    self.in_force.get().is_some_and(|in_force| in_force <= began)
                        && self.forgotten.is_none_or(|forgotten| forgotten < *began)
                };
                (0, began.filter(is_missed))
            }
        };
        let missing = position.first.saturating_sub(expected);
        let gap =
            since.filter(|_| (1..=WIDEST).contains(&missing)).map(|since| Gap { waves: missing, since });
        (gap, forgets)
    }
}

#[cfg(test)]
mod tests;
