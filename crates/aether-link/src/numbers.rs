//! The numbers of outgoing waves, from which receivers detect gaps.
//!
//! Only the sending task uses this table. A number is therefore assigned when a wave is actually sent, and waves shed
//! by the outbox leave no gap. The table also tracks channels that have gone quiet, because a gap at the very end is
//! only noticed when something follows it. The sending task then *announces* its position with a frame without waves.

use std::time::Duration;

use lru::LruCache;

use crate::wire::Position;
use aether_core::clock::Instant;
use aether_core::{Channel, Pattern};

/// The maximum number of channels that are numbered at a time. A channel that is used again after this many others
/// begins a new stream.
const MAX_STREAMS: usize = 4096;

/// A channel that has gone quiet is announced at these intervals after its last wave: first to reveal losses, and then
/// again for receivers that were disconnected at the time. The cost is four small messages each time a channel goes
/// quiet.
const ANNOUNCED_AFTER: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16), Duration::from_secs(64)];

/// The interval between checks for quiet channels. A shorter one would cost more: each check looks at all of them.
const ROUND: Duration = Duration::from_secs(1);

/// The numbers of one sender, by channel. Bounded to 4096 channels.
#[derive(Debug)]
pub struct Numbers {
    streams: LruCache<Channel, SentStream>,
    /// The number of streams begun.
    begun: u64,
    /// The time of the next check for quiet channels; `None` if no further announcements are due.
    next_round: Option<Instant>,
}

/// The waves sent on one channel.
#[derive(Debug)]
pub struct SentStream {
    number: u64,
    begun: Instant,
    next: u64,
    /// The time at which the last wave left or, if later, at which the connection was re-established.
    quiet_since: Instant,
    /// The number of announcements since then.
    announced: usize,
}

impl SentStream {
    /// The position of a frame that leaves now.
    pub fn position(&self, now: Instant) -> Position {
        let age = now.saturating_duration_since(self.begun);
        let age_micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        Position { stream: self.number, first: self.next, age_micros }
    }

    /// Records that this number of waves was sent at the position that [`SentStream::position`] returned.
    pub fn sent(&mut self, waves: usize, now: Instant) {
        self.next += waves as u64;
        (self.quiet_since, self.announced) = (now, 0);
    }

    /// Counts an announcement and returns the position to announce.
    fn announce(&mut self, now: Instant) -> Position {
        self.announced += 1;
        self.position(now)
    }

    fn is_due(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.quiet_since);
        ANNOUNCED_AFTER.get(self.announced).is_some_and(|after| quiet >= *after)
    }
}

/// A channel and the position of its stream, to be sent as a frame without waves.
pub type StreamAnnouncement = (Channel, Position);

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

impl Numbers {
    /// A table for a sender that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { streams: LruCache::unbounded(), begun: 0, next_round: None }
    }

    /// Returns the stream of a channel, and begins one if there is none. If another stream has to be evicted for it,
    /// the evicted stream is returned to be announced for the last time.
    pub fn stream(
        &mut self,
        channel: &Channel,
        now: Instant,
    ) -> (&mut SentStream, Option<StreamAnnouncement>) {
        self.next_round.get_or_insert(now + ROUND);
        let begins = !self.streams.contains(channel);
        let forgotten = (begins && self.streams.len() >= MAX_STREAMS)
            .then(|| self.streams.pop_lru())
            .flatten()
            .filter(|(_, stream)| stream.announced == 0)
            .map(|(channel, stream)| (channel, stream.position(now)));
        let number = self.begun;
        self.begun += u64::from(begins);
        let begin = || SentStream { number, begun: now, next: 0, quiet_since: now, announced: 0 };
        (self.streams.get_or_insert_mut(channel.clone(), begin), forgotten)
    }

    /// The channels that have been used since their last announcement.
    pub fn unannounced(&mut self, now: Instant) -> Vec<StreamAnnouncement> {
        self.announce_where(now, |stream| stream.announced == 0)
    }

    /// All channels, for use after a reconnect: any waves that were in transit may be lost.
    pub fn after_reconnecting(&mut self, now: Instant) -> Vec<StreamAnnouncement> {
        for (_, stream) in &mut self.streams {
            (stream.quiet_since, stream.announced) = (now, 0);
        }
        self.next_round = Some(now + ROUND);
        // This announcement is not counted: receivers that are still disconnected get the scheduled ones.
        self.streams.iter().map(|(channel, stream)| (channel.clone(), stream.position(now))).collect()
    }

    /// The number of the next stream to begin. All later ones have higher numbers.
    #[must_use]
    pub const fn next_stream(&self) -> u64 {
        self.begun
    }

    /// The channels that match a pattern, for whoever has just joined it: the most recently used ones, at most `most`. Other
    /// announcements, and their times, do not change.
    #[must_use]
    pub fn heard_by(&self, pattern: &Pattern, most: usize, now: Instant) -> Vec<StreamAnnouncement> {
        let heard = self.streams.iter().filter(|(channel, _)| pattern.matches(channel)).take(most);
        heard.map(|(channel, stream)| (channel.clone(), stream.position(now))).collect()
    }

    /// The time at which to call [`Numbers::due`] next; `None` if no channel is waiting to be announced.
    #[must_use]
    pub fn next_round(&self) -> Option<Instant> {
        self.next_round
    }

    /// The channels that have gone quiet.
    pub fn due(&mut self, now: Instant) -> Vec<StreamAnnouncement> {
        let due = self.announce_where(now, |stream| stream.is_due(now));
        let is_restless = |stream: &SentStream| stream.announced < ANNOUNCED_AFTER.len();
        self.next_round = self.streams.iter().any(|(_, stream)| is_restless(stream)).then(|| now + ROUND);
        due
    }

    fn announce_where(
        &mut self,
        now: Instant,
        which: impl Fn(&SentStream) -> bool,
    ) -> Vec<StreamAnnouncement> {
        let chosen = self.streams.iter_mut().filter(|(_, stream)| which(stream));
        chosen.map(|(channel, stream)| (channel.clone(), stream.announce(now))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: impl std::fmt::Display) -> Channel {
        Channel::new(name.to_string()).unwrap()
    }

    fn send(numbers: &mut Numbers, name: &str, waves: usize, now: Instant) -> Position {
        let (stream, forgotten) = numbers.stream(&channel(name), now);
        assert_eq!(forgotten, None);
        let position = stream.position(now);
        stream.sent(waves, now);
        position
    }

    fn as_pairs(announcements: Vec<StreamAnnouncement>) -> Vec<(String, u64)> {
        announcements.into_iter().map(|(channel, at)| (channel.as_str().to_owned(), at.first)).collect()
    }

    #[test]
    fn each_channel_is_numbered_by_itself() {
        let (mut numbers, now) = (Numbers::new(), aether_core::clock::test_now());
        let later = now + Duration::from_secs(2);
        assert_eq!(send(&mut numbers, "a", 3, now), Position { stream: 0, first: 0, age_micros: 0 });
        assert_eq!(send(&mut numbers, "b", 1, now), Position { stream: 1, first: 0, age_micros: 0 });
        assert_eq!(
            send(&mut numbers, "a", 1, later),
            Position { stream: 0, first: 3, age_micros: 2_000_000 }
        );
    }

    #[test]
    fn a_quiet_channel_is_announced_a_few_times_and_then_no_more() {
        let (mut numbers, start) = (Numbers::new(), aether_core::clock::test_now());
        assert_eq!(numbers.next_round(), None);
        send(&mut numbers, "a", 3, start);
        let mut announced = Vec::new();
        let mut rounds = 0;
        while let Some(round) = numbers.next_round() {
            rounds += 1;
            if !numbers.due(round).is_empty() {
                announced.push((round - start).as_secs());
            }
        }
        assert_eq!((announced, rounds), (vec![1, 4, 16, 64], 64));
        send(&mut numbers, "a", 1, start + Duration::from_secs(100));
        assert_eq!(as_pairs(numbers.due(start + Duration::from_secs(101))), [("a".to_owned(), 4)]);
    }

    #[test]
    fn what_was_announced_is_not_announced_again_before_it_is_used() {
        let (mut numbers, now) = (Numbers::new(), aether_core::clock::test_now());
        send(&mut numbers, "a", 3, now);
        assert_eq!(as_pairs(numbers.unannounced(now)), [("a".to_owned(), 3)]);
        assert_eq!(as_pairs(numbers.unannounced(now)), []);
        send(&mut numbers, "a", 2, now);
        assert_eq!(as_pairs(numbers.unannounced(now)), [("a".to_owned(), 5)]);
    }

    #[test]
    fn a_new_connection_announces_everything_and_again_in_due_course() {
        let (mut numbers, start) = (Numbers::new(), aether_core::clock::test_now());
        send(&mut numbers, "a", 3, start);
        numbers.unannounced(start);
        let reconnected = start + Duration::from_secs(500);
        assert_eq!(as_pairs(numbers.after_reconnecting(reconnected)), [("a".to_owned(), 3)]);
        assert_eq!(as_pairs(numbers.due(reconnected + ROUND)), [("a".to_owned(), 3)]);
    }

    #[test]
    fn a_join_learns_where_the_channels_of_its_pattern_are_and_which_streams_will_be_new() {
        let (mut numbers, now) = (Numbers::new(), aether_core::clock::test_now());
        assert_eq!(numbers.next_stream(), 0);
        for (name, waves) in [("a.a", 1), ("a.b", 2), ("b.a", 3)] {
            send(&mut numbers, name, waves, now);
        }
        let pattern = Pattern::new("a.*").unwrap();
        let later = now + Duration::from_secs(1);
        let heard = numbers.heard_by(&pattern, 9, later);
        assert!(heard.iter().all(|(_, at)| at.age_micros == 1_000_000), "{heard:?}");
        assert_eq!(as_pairs(heard), [("a.b".to_owned(), 2), ("a.a".to_owned(), 1)]);
        assert_eq!(as_pairs(numbers.heard_by(&pattern, 1, later)), [("a.b".to_owned(), 2)]);
        assert_eq!(numbers.next_stream(), 3);
        assert_eq!(numbers.unannounced(later).len(), 3, "that was no announcement of the schedule");
    }

    #[test]
    fn channels_without_end_do_not_grow_it_and_a_forgotten_one_is_announced_and_begins_anew() {
        let (mut numbers, now) = (Numbers::new(), aether_core::clock::test_now());
        for name in 0..MAX_STREAMS {
            send(&mut numbers, &format!("c{name}"), 2, now);
        }
        let (stream, forgotten) = numbers.stream(&channel("one.more"), now);
        assert_eq!(stream.position(now).stream, MAX_STREAMS as u64);
        assert_eq!(as_pairs(forgotten.into_iter().collect()), [("c0".to_owned(), 2)]);
        numbers.unannounced(now);
        let (stream, forgotten) = numbers.stream(&channel("c0"), now);
        assert_eq!((stream.position(now).first, stream.number), (0, MAX_STREAMS as u64 + 1));
        assert_eq!(forgotten, None, "c1 was announced already");
        assert_eq!(numbers.streams.len(), MAX_STREAMS);
    }
}
