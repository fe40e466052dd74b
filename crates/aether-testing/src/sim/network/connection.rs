//! A connection between two processes: what is on its way in one direction, and how long it takes.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// The bytes that wait or are on their way in one direction at most: the queue of the sender and the buffers of both
/// sockets.
const WINDOW: usize = 512 << 10;
/// After this time a lost packet is sent again; the time doubles with each further loss.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A packet is not lost more often in a row than this, so that the time is bounded.
const LOST_AT_MOST: u32 = 4;

/// How messages get from one process to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The time that each message takes at least.
    pub latency: Duration,
    /// The time that a message takes longer at most, drawn for each. Messages do not overtake each other.
    pub jitter: Duration,
    /// The share of packets that get lost, 0 to 1. They are sent again, as TCP does: what is behind them waits.
    pub loss: f64,
    /// Bytes each second. `None`: as many as there are.
    pub bandwidth: Option<u64>,
}

impl Default for Link {
    /// 5 ms, without jitter and loss.
    fn default() -> Self {
        Self { latency: Duration::from_millis(5), jitter: Duration::ZERO, loss: 0.0, bandwidth: None }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { latency, jitter, loss, bandwidth } = self;
        write!(f, "a latency of {latency:?}")?;
        if !jitter.is_zero() {
            write!(f, " and up to {jitter:?} more")?;
        }
        if *loss > 0.0 {
            write!(f, ", {:.0} % of packets lost", loss * 100.0)?;
        }
        match bandwidth {
            Some(bytes) => write!(f, ", {bytes} bytes/s"),
            None => Ok(()),
        }
    }
}

struct Waiting {
    lane: u8,
    since: Duration,
    bytes: Bytes,
}

struct Flying {
    arrives: Duration,
    bytes: Bytes,
}

/// One direction of a connection.
pub(super) struct Way {
    waiting: VecDeque<Waiting>,
    flying: VecDeque<Flying>,
    /// All that the receiver has not read.
    pub(super) unread: usize,
    free_at: Duration,
    last_arrival: Duration,
    random: fastrand::Rng,
}

impl Way {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            flying: VecDeque::new(),
            unread: 0,
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.unread == 0 || self.unread + bytes <= WINDOW
    }

    pub(super) fn put(&mut self, lane: u8, bytes: Bytes, since: Duration) {
        self.unread += bytes.len();
        self.waiting.push_back(Waiting { lane, since, bytes });
    }

    /// Whether all that was put has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_empty()
    }

    /// The number of messages that did not arrive.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.flying.len()
    }

    /// Sends the waiting messages until a time, the most urgent lane first.
    pub(super) fn send(&mut self, link: &Link, now: Duration) {
        while let Some(first) = self.waiting.front() {
            // They wait in the order of their times.
            let start = self.free_at.max(first.since);
            if start >= now {
                return;
            }
            let ready = self.waiting.iter().take_while(|waiting| waiting.since <= start);
            let urgent =
                ready.enumerate().min_by_key(|(_, waiting)| waiting.lane).map_or(0, |(place, _)| place);
            let Some(next) = self.waiting.remove(urgent) else { return };
            let nanos =
                link.bandwidth.map_or(0, |rate| next.bytes.len() as u64 * 1_000_000_000 / rate.max(1));
            self.free_at = start + Duration::from_nanos(nanos);
            let arrives = self.free_at + self.takes(link);
            self.last_arrival = self.last_arrival.max(arrives);
            self.flying.push_back(Flying { arrives: self.last_arrival, bytes: next.bytes });
        }
    }

    fn takes(&mut self, link: &Link) -> Duration {
        let mut takes = link.latency;
        if !link.jitter.is_zero() {
            takes += link.jitter.mul_f64(self.random.f64());
        }
        for lost in 0..LOST_AT_MOST {
            if link.loss <= 0.0 || self.random.f64() >= link.loss {
                break;
            }
            takes += SENT_AGAIN_AFTER * 2_u32.pow(lost);
        }
        takes
    }

    /// The next message that has arrived by a time.
    pub(super) fn arrived(&mut self, now: Duration) -> Option<Bytes> {
        self.flying.front().filter(|flying| flying.arrives <= now)?;
        self.flying.pop_front().map(|flying| flying.bytes)
    }

    /// Drops what has not arrived. Returns the number of messages.
    pub(super) fn reset(&mut self) -> usize {
        let lost = self.len();
        let bytes = self.waiting.iter().map(|waiting| waiting.bytes.len());
        let bytes: usize = bytes.chain(self.flying.iter().map(|flying| flying.bytes.len())).sum();
        self.unread -= bytes;
        self.waiting.clear();
        self.flying.clear();
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When each of some messages arrives, in milliseconds: they are put at 0 with these lanes.
    fn arrivals(link: Link, lanes: &[u8]) -> Vec<(u8, u128)> {
        let mut way = Way::new(7);
        for lane in lanes {
            way.put(*lane, vec![*lane; 1000].into(), Duration::ZERO);
        }
        let mut arrived = Vec::new();
        for now in (0..10_000).map(|now| MS * now) {
            way.send(&link, now);
            while let Some(bytes) = way.arrived(now) {
                arrived.push((bytes[0], now.as_millis()));
            }
        }
        assert!(way.is_empty());
        arrived
    }

    #[test]
    fn a_message_takes_the_latency_of_the_link() {
        assert_eq!(arrivals(Link::default(), &[7, 7]), [(7, 5), (7, 5)]);
    }

    #[test]
    fn a_narrow_link_sends_the_most_urgent_first() {
        let link = Link { bandwidth: Some(100_000), ..Link::default() };
        assert_eq!(arrivals(link, &[7, 5, 1]), [(1, 15), (5, 25), (7, 35)]);
    }

    #[test]
    fn a_lost_packet_holds_up_those_behind_it() {
        let link = Link { loss: 0.5, jitter: 3 * MS, ..Link::default() };
        let arrived = arrivals(link, &[4; 200]);
        assert!(arrived.is_sorted_by_key(|(_, at)| *at));
        let (first, last) = (arrived[0].1, arrived[199].1);
        assert!((5..=8).contains(&first) || first >= 205, "{first}");
        assert!((205..=5 + 3 + 3001).contains(&last), "{last}");
    }

    #[test]
    fn a_full_way_has_room_once_its_messages_are_read() {
        let mut way = Way::new(7);
        assert!(way.has_room_for(2 * WINDOW), "a message that is longer than the window goes alone");
        way.put(4, vec![0; WINDOW].into(), Duration::ZERO);
        assert!(!way.has_room_for(1));
        way.send(&Link::default(), MS);
        assert!(
            way.arrived(6 * MS).is_some() && way.is_empty() && !way.has_room_for(1),
            "nobody has read it"
        );
        way.unread = 0;
        assert!(way.has_room_for(1));
        way.put(4, vec![0; 10].into(), 6 * MS);
        assert_eq!((way.reset(), way.unread), (1, 0));
    }
}
