//! What is on its way to a peer: waves that it has not confirmed.

use std::collections::VecDeque;
use std::time::Duration;

use super::lane::Lane;
use super::message::{Place, Sent};
use aether_core::clock::Instant;

/// A peer that has answered nothing for this long, though it was asked, is stuck.
pub(super) const STUCK: Duration = Duration::from_millis(500);

/// The waves that were sent to a peer and that it has not confirmed. It confirms them by answering the ping behind them, and
/// tells how many of those before are missing: a connection that broke takes them along, and the next one carries the
/// answer.
#[derive(Debug)]
pub(super) struct Way {
    sent: Sent,
    /// Behind the last ping.
    unpinged: u64,
    /// The pings, each with the waves in front of it. As many as the window of the peer allows.
    pinged: VecDeque<PingedWaves>,
    /// The number of the last ping, and when a ping was answered last.
    last: u64,
    answered: Option<Instant>,
    /// The waves that the peer misses and that are counted as lost.
    missing: u64,
}

#[derive(Debug)]
struct PingedWaves {
    number: u64,
    waves: u64,
    at: Instant,
}

impl Way {
    /// A new way has a number that no earlier one to the same peer had.
    pub(super) fn new(number: u32) -> Self {
        let sent = Sent { way: number, ..Sent::default() };
        Self { sent, unpinged: 0, pinged: VecDeque::new(), last: 0, answered: None, missing: 0 }
    }

    pub(super) const fn number(&self) -> u32 {
        self.sent.way
    }

    /// Waves are sent in a lane. Returns their place.
    pub(super) fn sent(&mut self, lane: Lane, waves: u64) -> Place {
        let Some(sent) = lane.place().and_then(|place| self.sent.waves.get_mut(place)) else {
            return Place::default();
        };
        let before = *sent;
        *sent += waves;
        self.unpinged += waves;
        Place { way: self.sent.way, before }
    }

    /// A ping is sent. Returns what was sent before it.
    pub(super) fn pinged(&mut self, number: u64, at: Instant) -> Sent {
        let waves = std::mem::take(&mut self.unpinged);
        if waves > 0 {
            self.pinged.push_back(PingedWaves { number, waves, at });
        }
        self.last = number;
        self.sent
    }

    /// A ping is answered, and so are those before it; a number of waves are missing by then. Returns how many of them
    /// were not counted as lost before, or `None` for an answer to no ping of this way.
    pub(super) fn answered(&mut self, number: u64, way: u32, missing: u64, at: Instant) -> Option<u64> {
        if way != self.sent.way || number > self.last {
            return None;
        }
        self.answered = Some(at);
        let mut waves = 0;
        while let Some(pinged) = self.pinged.pop_front_if(|pinged| pinged.number <= number) {
            waves += pinged.waves;
        }
        // Of the others none is missing for sure: waves that overtook the ping may tell of gaps behind it.
        let lost = missing.saturating_sub(self.missing).min(waves);
        self.missing += lost;
        Some(lost)
    }

    /// The peer leaves, or has left, and has received a number of waves of a way. Returns how many of those on the way
    /// are lost.
    pub(super) fn lost_with(&self, way: u32, received: u64) -> u64 {
        if way != self.sent.way {
            return self.waves();
        }
        let lost = self.sent.waves.iter().sum::<u64>().saturating_sub(received);
        lost.saturating_sub(self.missing).min(self.waves())
    }

    /// Whether the peer is stuck: it has not answered a ping behind waves, and no other either.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let is_long_ago = |at: Instant| now.saturating_duration_since(at) >= STUCK;
        self.pinged.front().is_some_and(|pinged| is_long_ago(pinged.at))
            && self.answered.is_none_or(is_long_ago)
    }

    pub(super) fn waves(&self) -> u64 {
        self.unpinged + self.pinged.iter().map(|pinged| pinged.waves).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::clock;

    const LANE: Lane = Lane::LAST;

    #[test]
    fn an_answer_confirms_what_was_sent_before_its_ping_and_nothing_else() {
        let (mut way, now) = (Way::new(1), clock::test_now());
        assert_eq!(way.sent(LANE, 3), Place { way: 1, before: 0 });
        way.pinged(7, now);
        way.pinged(8, now);
        way.sent(LANE, 2);
        assert_eq!(way.sent(LANE, 2), Place { way: 1, before: 5 });
        assert_eq!(way.pinged(9, now).waves, [0, 0, 0, 0, 0, 7]);
        way.sent(LANE, 1);
        assert_eq!((way.waves(), way.pinged.len()), (8, 2));
        for number in [6, 10, u64::MAX] {
            way.answered(number, 1, 0, now);
            assert_eq!(way.waves(), 8, "{number} was no ping");
        }
        assert_eq!(way.answered(9, 2, 0, now), None, "on another way");
        assert_eq!((way.answered(8, 1, 0, now), way.waves()), (Some(0), 5));
        way.answered(9, 1, 0, now);
        way.answered(9, 1, 0, now);
        assert_eq!((way.waves(), way.pinged.len()), (1, 0));
    }

    #[test]
    fn what_an_answer_misses_is_lost_once() {
        let (mut way, now) = (Way::new(1), clock::test_now());
        for number in 1..=4 {
            way.sent(LANE, 10);
            way.pinged(number, now);
        }
        assert_eq!(way.answered(1, 1, 0, now), Some(0));
        // The answer to the second ping was lost.
        assert_eq!(way.answered(3, 1, 12, now), Some(12));
        assert_eq!(way.answered(3, 1, 12, now), Some(0));
        // A gap behind the ping is lost with the ping that follows it.
        assert_eq!(way.answered(4, 1, u64::MAX, now), Some(10));
        assert_eq!(way.waves(), 0);
    }

    #[test]
    fn a_peer_that_leaves_has_lost_what_it_did_not_receive() {
        let (mut way, now) = (Way::new(1), clock::test_now());
        way.sent(LANE, 10);
        way.pinged(1, now);
        assert_eq!(way.answered(1, 1, 4, now), Some(4));
        way.sent(Lane::CONTROL, 0);
        way.sent(LANE, 5);
        assert_eq!((way.lost_with(1, 6 + 5), way.lost_with(1, 6 + 2), way.lost_with(0, 0)), (0, 3, 5));
    }

    #[test]
    fn a_peer_is_stuck_while_it_answers_nothing_that_it_was_asked() {
        let (mut way, start) = (Way::new(1), clock::test_now());
        assert!(!way.is_stuck(start + STUCK), "nothing was sent");
        way.sent(LANE, 1);
        way.pinged(1, start);
        way.sent(LANE, 1);
        way.pinged(2, start);
        assert!(!way.is_stuck(start + STUCK / 2) && way.is_stuck(start + STUCK));
        way.answered(1, 1, 0, start + STUCK);
        assert!(!way.is_stuck(start + STUCK), "it is slow, and not stuck");
        assert!(way.is_stuck(start + 2 * STUCK));
        way.answered(2, 1, 0, start + 2 * STUCK);
        assert!(!way.is_stuck(start + 9 * STUCK));
    }
}
