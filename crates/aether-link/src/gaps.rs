//! Detects gaps between the received frames: waves that were sent to a subscription and lost on the way.
//!
//! Each server subscription that brings all waves of its pattern has one table. The task that drains the subscription
//! owns the table. A sender numbers its waves on each channel ([`Position`]). A skipped number is a wave that was sent
//! to this subscription, or should have been, and that no receiver here will get. Duplicates and late waves are not
//! losses. Group members have no table, because waves missing at one member have gone to another.
//!
//! A stream that a receiver has never heard may have begun before it joined. Then nothing is lost before its first
//! wave. The times of two processes cannot be compared exactly, but numbers of streams can: each new stream of a sender
//! has a higher number than all before. So a receiver that has joined asks the senders for the number of their next
//! stream. That one and all later ones began after the join ([`Beginnings`]).
//!
//! Frames are not signed, so any of them may be forged. Three rules bound the effect of forged frames:
//!
//! - The number of missing waves never exceeds what senders could have sent in the time since ([`MOST_A_SECOND`]).
//! - Two streams per sender are tracked on each channel. A forged stream hides nothing of the real one.
//! - Tables are bounded, and memory is released ([`Remembered`]).

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::remembered::Remembered;
use crate::wire::Position;
use aether_core::Channel;
use aether_core::clock::Instant;
use aether_core::medium::NodeId;

/// The maximum number of sender channels that a subscription tracks. Each takes less than 600 bytes with the longest
/// name: 2.4 MB in total.
const MAX_STREAMS: usize = 4096;

/// The maximum number of senders whose answers to joins are remembered. The one silent for longest is evicted first.
const MAX_SENDERS: usize = 4096;

/// The joins that are distinguished for a sender: the last ones between which it began streams.
const MAX_JOINS: usize = 8;

/// How long a silent sender, or its channel, is tracked: far longer than it announces a channel.
const KEPT: Duration = Duration::from_secs(3600);

/// The margin for deciding whether a stream began before a subscription, where its sender has not told ([`Beginnings`]). The
/// decision compares the ages of both, but the shortest possible transit time lies in between and is unknown. In case of
/// doubt, the stream began before.
const DOUBT: Duration = Duration::from_secs(1);

/// The maximum rate of a sender in waves per second. The highest measured rate over NATS was 3.5 million.
const MOST_A_SECOND: u64 = 10_000_000;

/// The last received frame may have arrived this late, because a process was stopped or a network was down.
const LATE: Duration = Duration::from_secs(60);

/// A subscription misses no more waves at once than could have been sent in this time. The allowance is restored after
/// the same time. It bounds the losses that all forged frames together can add.
const AT_ONCE: Duration = Duration::from_secs(600);

/// A frame that is further behind than this is neither late nor a duplicate. The distance is one second at the highest
/// measured rate.
const BEHIND: u64 = 1 << 22;

/// After this much silence, the silent one of two streams is replaced by another.
const SILENT: Duration = Duration::from_secs(60);

/// Waves that were lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The number of lost waves.
    pub waves: u64,
    /// Subscriptions that were in force at that time should have received all of them.
    pub since: Instant,
}

/// A received frame: the contents of its header and how it arrived.
#[derive(Debug, Clone, Copy)]
pub struct HeardFrame {
    /// The sending process. The number alone, [made into one](NodeId::from), where nothing is proven.
    pub node: NodeId,
    /// The position of the frame in its stream.
    pub position: Position,
    /// The number of waves in the frame.
    pub waves: usize,
    /// How much longer the frame was in transit than the fastest frames of its node; see [`Transit`](super::Transit).
    pub delay: Duration,
    /// The time of its arrival.
    pub now: Instant,
}

/// The waves before a frame, as far as it reveals them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GapReport {
    /// The waves lost before it.
    pub gap: Option<Gap>,
    /// Whether another sender channel was evicted for it.
    pub forgets: bool,
    /// Whether its position is impossible. No loss is counted for such a frame.
    pub is_implausible: bool,
}

/// The streams that one subscription hears, and their gaps. Bounded to 4096 sender channels, 2.4 MB. Where it is proven who
/// sends, principals share them: see [`Remembered`].
#[derive(Debug)]
pub struct Gaps {
    /// The time from which the server is certain to have the subscription.
    in_force: Arc<OnceLock<Instant>>,
    beginnings: Arc<Beginnings>,
    senders: Remembered<(u64, Channel), Streams>,
    /// How much may still be missing from each principal, so that none uses up what is missing from another.
    credits: Remembered<(), Credit>,
}

/// The streams of one sender on one channel: the current stream, and either the one before it or a forged one.
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

/// The number of waves that may still be missing. It grows with time, as senders send.
#[derive(Debug)]
struct Credit {
    left: Duration,
    at: Option<Instant>,
}

/// The minimum time in which this number of waves can be sent.
const fn time_for(waves: u64) -> Duration {
    Duration::from_micros(waves / (MOST_A_SECOND / 1_000_000))
}

impl Credit {
    /// Whether this number of waves can be missing. If so, they are deducted from the allowance.
    fn spend(&mut self, waves: u64, now: Instant) -> bool {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let left = self.left.saturating_add(passed).min(AT_ONCE);
        let Some(rest) = left.checked_sub(time_for(waves)) else { return false };
        (self.left, self.at) = (rest, Some(now));
        true
    }
}

/// Spends the credit of a principal.
fn spend(credits: &mut Remembered<(), Credit>, principal: u64, waves: u64, now: Instant) -> bool {
    if let Some(credit) = credits.hear(principal, &(), now) {
        return credit.spend(waves, now);
    }
    let mut credit = Credit { left: AT_ONCE, at: None };
    let is_spent = credit.spend(waves, now);
    credits.add(principal, (), credit, now);
    is_spent
}

impl ReceivedStream {
    /// Whether a frame can be the next one of this stream, a late one or a duplicate.
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

    /// Replaces a stream that was silent for long, or otherwise the one with fewer received frames. A forged stream
    /// therefore cannot displace a stream that is heard all the time.
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
    /// Creates an empty table. `in_force` is set when the subscription is known to be in force. If a stream began
    /// before that, its beginning does not count as missed.
    #[must_use]
    pub fn new(in_force: Arc<OnceLock<Instant>>) -> Self {
        Self::with_beginnings(in_force, Arc::default())
    }

    /// The same, for a medium whose senders answer joins. Without their answers, streams that began less than a second
    /// after the subscription count as older.
    #[must_use]
    pub fn with_beginnings(in_force: Arc<OnceLock<Instant>>, beginnings: Arc<Beginnings>) -> Self {
        let senders = Remembered::new(MAX_STREAMS, KEPT);
        // A credit that was not used for this long is whole again, as for a principal that is not in the table.
        Self { in_force, beginnings, senders, credits: Remembered::new(MAX_STREAMS, AT_ONCE) }
    }

    /// Records a frame and returns the gap before it. Duplicates and late frames are not losses.
    pub fn note(&mut self, channel: &Channel, heard: HeardFrame) -> GapReport {
        let HeardFrame { node, position, waves, delay, now } = heard;
        let Position { stream: number, first, age_micros } = position;
        let expected = first.saturating_add(waves as u64);
        let new = ReceivedStream { number, expected, heard: now, frames: 1 };
        let (principal, key) = (node.principal, (node.number, channel.clone()));
        let began =
            now.checked_sub(Duration::from_micros(age_micros).saturating_add(delay).saturating_add(DOUBT));
        // The beginning of a stream was missed if it should have been received.
        let (in_force, beginnings) = (self.in_force.get(), &self.beginnings);
        let missed_since = || {
            let began = began.max(beginnings.since(node, number, now));
            began.filter(|began| in_force.is_some_and(|in_force| in_force <= began))
        };
        let (missing, since, forgets) = match self.senders.hear(principal, &key, now) {
            Some(streams) => {
                let mut known = streams.all().filter(|stream| stream.number == number).peekable();
                let is_known = known.peek().is_some();
                if let Some(stream) = known.find(|stream| stream.continues_with(first, now)) {
                    let missing = first.saturating_sub(stream.expected);
                    if missing > 0 && !spend(&mut self.credits, principal, missing, now) {
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
                // No sender begins this many streams or sends this many waves.
                if time_for(ahead) > now.saturating_duration_since(since) + LATE || is_known && !is_behind {
                    return GapReport { is_implausible: true, ..GapReport::default() };
                }
                streams.add(new);
                // All waves of a later stream were sent after the other stream was heard. How the other one ended is no
                // longer known.
                (first, missed_since().max((ahead > 0).then_some(since)), false)
            }
            None => {
                let forgets = self.senders.add(principal, key, Streams { first: new, second: None }, now);
                // It may be one of the evicted entries.
                let forgotten = self.senders.forgotten(principal);
                let since =
                    missed_since().filter(|began| forgotten.is_none_or(|forgotten| forgotten < *began));
                (first, since, forgets)
            }
        };
        let missed = since.filter(|_| missing > 0);
        let allowed = |since: &Instant| {
            time_for(missing) <= now.saturating_duration_since(*since) + LATE
                && spend(&mut self.credits, principal, missing, now)
        };
        let gap = missed.filter(allowed).map(|since| Gap { waves: missing, since });
        GapReport { gap, forgets, is_implausible: missed.is_some() && gap.is_none() }
    }
}

/// The answers of senders to joins. Each connection has one table, of at most 4096 senders and 1.5 MB.
#[derive(Debug)]
pub struct Beginnings(Mutex<Remembered<u64, VecDeque<Beginning>>>);

/// Streams from this number on began after this time, on our clock.
#[derive(Debug)]
struct Beginning {
    stream: u64,
    since: Instant,
}

impl Beginning {
    fn implies(&self, other: &Self) -> bool {
        self.stream <= other.stream && self.since >= other.since
    }
}

impl Default for Beginnings {
    fn default() -> Self {
        Self(Mutex::new(Remembered::new(MAX_SENDERS, KEPT)))
    }
}

impl Beginnings {
    /// Records the answer of a sender: it begins the stream of this number later than `since`, the time at which it was
    /// asked.
    pub fn note(&self, node: NodeId, stream: u64, since: Instant, now: Instant) {
        let mut senders = self.0.lock();
        let new = Beginning { stream, since };
        let Some(known) = senders.hear(node.principal, &node.number, now) else {
            senders.add(node.principal, node.number, VecDeque::from([new]), now);
            return;
        };
        // Answers may overtake one another.
        if known.iter().any(|known| known.implies(&new)) {
            return;
        }
        known.retain(|known| !new.implies(known));
        let place = known.partition_point(|known| known.stream < stream);
        known.insert(place, new);
        if known.len() > MAX_JOINS {
            known.pop_front();
        }
    }

    /// The latest time of which it is known that a stream began after it.
    pub fn since(&self, node: NodeId, stream: u64, now: Instant) -> Option<Instant> {
        let mut senders = self.0.lock();
        let known = senders.hear(node.principal, &node.number, now)?;
        known.iter().rev().find(|known| known.stream <= stream).map(|known| known.since)
    }
}

#[cfg(test)]
mod tests;
