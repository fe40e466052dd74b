//! What is missing between the frames that came: waves that were sent to a subscription and lost on the way.
//!
//! Each subscription of the server that brings all waves of its pattern has one table, kept by the task that drains
//! it. A sender numbers its waves on each channel ([`Position`]); a number that is left out is a wave that this
//! subscription was sent, or should have been sent, and that nobody here will get. What comes twice or late is no loss.
//! Members of a group have no table: what is missing at one of them has gone to another.
//!
//! HeardFrame are not signed, so any of them may be made up. Three rules bound what that does:
//!
//! - No more is missing than senders could have sent in the time since ([`MOST_A_SECOND`]).
//! - Two streams of a sender are followed on each channel. A made-up stream hides nothing of the real one.
//! - Tables are bounded, and memory is given back ([`Remembered`]).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::remembered::Remembered;
use crate::channel::Channel;
use crate::clock::Instant;
use crate::wire::Position;

/// How many senders' channels a subscription follows. Less than 600 bytes each with the longest name: 2.4 MB in all.
const MAX_STREAMS: usize = 4096;

/// For how long one that is silent is followed: far longer than its sender announces it for.
const KEPT: Duration = Duration::from_secs(3600);

/// Whether a stream began before or after a subscription is told by how long ago both were, and the shortest transit
/// there is, which nobody knows, is in between: in case of doubt it began before.
const DOUBT: Duration = Duration::from_secs(1);

/// Nobody sends more waves in a second than this. A sender was measured to send 3.5 million over NATS.
const MOST_A_SECOND: u64 = 10_000_000;

/// What was heard last may have come so late: a process was stopped, or a network away.
const LATE: Duration = Duration::from_secs(60);

/// A subscription misses no more at once than could have been sent in this time. It has it again after as long: what all
/// made-up frames together can add.
const AT_ONCE: Duration = Duration::from_secs(600);

/// What is further behind than this is neither late nor a duplicate: the second at the highest rate measured.
const BEHIND: u64 = 1 << 22;

/// Of two streams the one that was not heard for so long makes way for another.
const SILENT: Duration = Duration::from_secs(60);

/// Waves that were lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub waves: u64,
    /// Subscriptions that were in force at that time should have got all of them.
    pub since: Instant,
}

/// A frame that came: what its header says, and how it came.
#[derive(Debug, Clone, Copy)]
pub struct HeardFrame {
    /// The number of the sending process.
    pub node: u64,
    /// Where the frame stands in its stream.
    pub position: Position,
    /// How many waves it holds.
    pub waves: usize,
    /// How much longer than the quickest frames of its node it was under way, see [`Transit`](super::Transit).
    pub delay: Duration,
    /// When it came.
    pub now: Instant,
}

/// What a frame shows about the waves before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GapReport {
    /// Waves that were lost before it.
    pub gap: Option<Gap>,
    /// Whether another sender's channel was forgotten for it.
    pub forgets: bool,
    /// Whether its position cannot be true. No loss is counted for it.
    pub is_implausible: bool,
}

/// The streams that one subscription hears, and what is missing in them. At most 4096 senders' channels, 2.4 MB.
#[derive(Debug)]
pub struct Gaps {
    /// Since when the server knows of the subscription for sure.
    in_force: Arc<OnceLock<Instant>>,
    senders: Remembered<(u64, Channel), Streams>,
    credit: Credit,
}

/// What one sender sends on one channel: its stream, and the one before it or one that somebody made up.
#[derive(Debug)]
struct Streams {
    first: ReceivedStream,
    second: Option<ReceivedStream>,
}

#[derive(Debug)]
struct ReceivedStream {
    number: u64,
    expected: u64,
    heard: Instant,
    frames: u64,
}

/// How many waves may still be missing: grows with time, as senders send.
#[derive(Debug)]
struct Credit {
    left: Duration,
    at: Option<Instant>,
}

/// The least time in which so many waves are sent.
const fn time_for(waves: u64) -> Duration {
    Duration::from_micros(waves / (MOST_A_SECOND / 1_000_000))
}

impl Credit {
    /// Whether so many waves can be missing. If so, they are.
    fn spend(&mut self, waves: u64, now: Instant) -> bool {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let left = self.left.saturating_add(passed).min(AT_ONCE);
        let Some(rest) = left.checked_sub(time_for(waves)) else { return false };
        (self.left, self.at) = (rest, Some(now));
        true
    }
}

impl ReceivedStream {
    /// Whether a frame can be the next of this stream, late, or a duplicate.
    fn continues_with(&self, first: u64, now: Instant) -> bool {
        let ahead = time_for(first.saturating_sub(self.expected));
        self.expected.saturating_sub(first) <= BEHIND && ahead <= self.silence(now) + LATE
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }
}

impl Streams {
    fn all(&mut self) -> impl Iterator<Item = &mut ReceivedStream> {
        [Some(&mut self.first), self.second.as_mut()].into_iter().flatten()
    }

    /// The latest stream of the sender.
    fn latest(&self) -> &ReceivedStream {
        self.second.as_ref().filter(|second| second.number > self.first.number).unwrap_or(&self.first)
    }

    /// In the place of one that was silent for long, else of the one of which fewer frames came: what somebody made up
    /// does not drive out what is heard all the time.
    fn add(&mut self, new: ReceivedStream) {
        let now = new.heard;
        let makes_way = |a: &ReceivedStream, b: &ReceivedStream| {
            (a.silence(now) >= SILENT, b.frames) > (b.silence(now) >= SILENT, a.frames)
        };
        match &mut self.second {
            Some(second) if makes_way(&self.first, second) => self.first = new,
            second => *second = Some(new),
        }
    }
}

impl Gaps {
    /// A table that has heard nothing. `in_force` is set when the subscription is known to be in force: the beginning of
    /// a stream that began before counts as missed by nobody.
    #[must_use]
    pub fn new(in_force: Arc<OnceLock<Instant>>) -> Self {
        let credit = Credit { left: AT_ONCE, at: None };
        Self { in_force, senders: Remembered::new(MAX_STREAMS, KEPT), credit }
    }

    /// Notes a frame, and says what is missing before it. A duplicate or a late frame is no loss.
    pub fn note(&mut self, channel: &Channel, heard: HeardFrame) -> GapReport {
        let HeardFrame { node, position, waves, delay, now } = heard;
        let Position { stream: number, first, age_micros } = position;
        let expected = first.saturating_add(waves as u64);
        let new = ReceivedStream { number, expected, heard: now, frames: 1 };
        let key = (node, channel.clone());
        let began =
            now.checked_sub(Duration::from_micros(age_micros).saturating_add(delay).saturating_add(DOUBT));
        // The beginning of a stream was missed if it should have been heard.
        let in_force = self.in_force.get();
        let missed_since = began.filter(|began| in_force.is_some_and(|in_force| in_force <= began));
        let (missing, since, forgets) = match self.senders.hear(&key, now) {
            Some(streams) => {
                let mut known = streams.all().filter(|stream| stream.number == number).peekable();
                let is_known = known.peek().is_some();
                if let Some(stream) = known.find(|stream| stream.continues_with(first, now)) {
                    let missing = first.saturating_sub(stream.expected);
                    if missing > 0 && !self.credit.spend(missing, now) {
                        return GapReport { is_implausible: true, ..GapReport::default() };
                    }
                    let since = std::mem::replace(&mut stream.heard, now);
                    stream.expected = stream.expected.max(expected);
                    stream.frames += 1;
                    let gap = (missing > 0).then_some(Gap { waves: missing, since });
                    return GapReport { gap, ..GapReport::default() };
                }
                drop(known);
                let latest = streams.latest();
                let (ahead, since) = (number.saturating_sub(latest.number), latest.heard);
                let is_behind =
                    streams.all().any(|stream| stream.number == number && first < stream.expected);
                // Neither begins a sender so many streams, nor does it send so much.
                if time_for(ahead) > now.saturating_duration_since(since) + LATE || is_known && !is_behind {
                    return GapReport { is_implausible: true, ..GapReport::default() };
                }
                streams.add(new);
                // All of a later one was sent after the other was heard. How that ended is not known any more.
                (first, if ahead > 0 { Some(since) } else { missed_since }, false)
            }
            None => {
                let forgets = self.senders.add(key, Streams { first: new, second: None }, now);
                // It may be among the forgotten.
                let forgotten = self.senders.forgotten();
                let since = missed_since.filter(|began| forgotten.is_none_or(|forgotten| forgotten < *began));
                (first, since, forgets)
            }
        };
        let missed = since.filter(|_| missing > 0);
        let allowed = |since: &Instant| {
            time_for(missing) <= now.saturating_duration_since(*since) + LATE
                && self.credit.spend(missing, now)
        };
        let gap = missed.filter(allowed).map(|since| Gap { waves: missing, since });
        GapReport { gap, forgets, is_implausible: missed.is_some() && gap.is_none() }
    }
}

#[cfg(test)]
mod tests;
