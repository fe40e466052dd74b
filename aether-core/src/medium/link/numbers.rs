//! The numbers of the waves that leave: what receivers find gaps by.
//!
//! Used by the sending task alone, so a number is given when a wave is really sent: what the outbox sheds makes no gap.
//! It also knows which channels have gone quiet, because a gap at the very end is only noticed when something follows:
//! the sending task then *announces* where it stands, by a frame without waves.

use std::time::Duration;

use lru::LruCache;

use crate::channel::Channel;
use crate::clock::Instant;
use crate::wire::Position;

/// How many channels are numbered at a time. Of one that is used after so many others, a new stream begins.
const MAX_STREAMS: usize = 4096;

/// A channel that has gone quiet is announced so long after its last wave: once for what was lost, and again for those
/// that were away at the time. Four small messages for each time that a channel goes quiet.
const ANNOUNCED_AFTER: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16), Duration::from_secs(64)];

/// How often the quiet channels are looked for. No more often, because that looks at all of them.
const ROUND: Duration = Duration::from_secs(1);

/// The numbers of one sender, by channel. At most 4096 channels.
#[derive(Debug)]
pub struct Numbers {
    streams: LruCache<Channel, SentStream>,
    /// How many streams were begun.
    begun: u64,
    /// When quiet channels are looked for next; `None` if all are announced for good.
    next_round: Option<Instant>,
}

/// The waves sent on one channel.
#[derive(Debug)]
pub struct SentStream {
    number: u64,
    begun: Instant,
    next: u64,
    /// When the last wave left, or when the connection was made anew after it.
    quiet_since: Instant,
    /// How often it was announced since then.
    announced: usize,
}

impl SentStream {
    /// Where a frame that leaves now stands.
    pub fn position(&self, now: Instant) -> Position {
        let age = now.saturating_duration_since(self.begun);
        let age_micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        Position { stream: self.number, first: self.next, age_micros }
    }

    /// Notes that so many waves were sent at the position that [`SentStream::position`] gave.
    pub fn sent(&mut self, waves: usize, now: Instant) {
        self.next += waves as u64;
        (self.quiet_since, self.announced) = (now, 0);
    }

    /// Counts an announcement, and says what to announce.
    fn announce(&mut self, now: Instant) -> Position {
        self.announced += 1;
        self.position(now)
    }

    fn is_due(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.quiet_since);
        ANNOUNCED_AFTER.get(self.announced).is_some_and(|after| quiet >= *after)
    }
}

/// A channel, and where its stream stands: to be sent as a frame without waves.
pub type StreamAnnouncement = (Channel, Position);

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

impl Numbers {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self { streams: LruCache::unbounded(), begun: 0, next_round: None }
    }

    /// The stream of a channel, which begins if there is none. If another one has to be forgotten for it, that one is
    /// handed back to be announced for the last time.
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

    /// The channels that were used since they were last announced.
    pub fn unannounced(&mut self, now: Instant) -> Vec<StreamAnnouncement> {
        self.announce_where(now, |stream| stream.announced == 0)
    }

    /// All channels, after a new connection was made: whatever was on its way may be lost.
    pub fn after_reconnecting(&mut self, now: Instant) -> Vec<StreamAnnouncement> {
        for (_, stream) in &mut self.streams {
            (stream.quiet_since, stream.announced) = (now, 0);
        }
        self.next_round = Some(now + ROUND);
        // Not counted: those who are still away are told in due course.
        self.streams.iter().map(|(channel, stream)| (channel.clone(), stream.position(now))).collect()
    }

    /// When to call [`Numbers::due`] next; `None` if no channel is waiting to be announced.
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

    fn told(announcements: Vec<StreamAnnouncement>) -> Vec<(String, u64)> {
        announcements.into_iter().map(|(channel, at)| (channel.as_str().to_owned(), at.first)).collect()
    }

    #[test]
    fn each_channel_is_numbered_by_itself() {
        let (mut numbers, now) = (Numbers::new(), Instant::now());
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
        let (mut numbers, start) = (Numbers::new(), Instant::now());
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
        assert_eq!(told(numbers.due(start + Duration::from_secs(101))), [("a".to_owned(), 4)]);
    }

    #[test]
    fn what_was_announced_is_not_announced_again_before_it_is_used() {
        let (mut numbers, now) = (Numbers::new(), Instant::now());
        send(&mut numbers, "a", 3, now);
        assert_eq!(told(numbers.unannounced(now)), [("a".to_owned(), 3)]);
        assert_eq!(told(numbers.unannounced(now)), []);
        send(&mut numbers, "a", 2, now);
        assert_eq!(told(numbers.unannounced(now)), [("a".to_owned(), 5)]);
    }

    #[test]
    fn a_new_connection_announces_everything_and_again_in_due_course() {
        let (mut numbers, start) = (Numbers::new(), Instant::now());
        send(&mut numbers, "a", 3, start);
        numbers.unannounced(start);
        let reconnected = start + Duration::from_secs(500);
        assert_eq!(told(numbers.after_reconnecting(reconnected)), [("a".to_owned(), 3)]);
        assert_eq!(told(numbers.due(reconnected + ROUND)), [("a".to_owned(), 3)]);
    }

    #[test]
    fn channels_without_end_do_not_grow_it_and_a_forgotten_one_is_announced_and_begins_anew() {
        let (mut numbers, now) = (Numbers::new(), Instant::now());
        for name in 0..MAX_STREAMS {
            send(&mut numbers, &format!("c{name}"), 2, now);
        }
        let (stream, forgotten) = numbers.stream(&channel("one.more"), now);
        assert_eq!(stream.position(now).stream, MAX_STREAMS as u64);
        assert_eq!(told(forgotten.into_iter().collect()), [("c0".to_owned(), 2)]);
        numbers.unannounced(now);
        let (stream, forgotten) = numbers.stream(&channel("c0"), now);
        assert_eq!((stream.position(now).first, stream.number), (0, MAX_STREAMS as u64 + 1));
        assert_eq!(forgotten, None, "c1 was announced already");
        assert_eq!(numbers.streams.len(), MAX_STREAMS);
    }
}
