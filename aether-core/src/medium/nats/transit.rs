//! How long a frame was on its way, without synchronised clocks.
//!
//! The difference between our clock at arrival and the sender's at departure is transit plus clock offset. Its minimum
//! over some minutes is the offset plus the shortest transit there is; what a frame took longer than that minimum is
//! delay. Source: the base delay of LEDBAT, RFC 6817, section 3.4.2, with its history of ten one-minute minima.
//!
//! Beyond that RFC: a difference that cannot be right with what is known counts only if the next one agrees with it. So one
//! frame with a wrong time, be it damaged or of somebody else, does not age what comes after it.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;
use parking_lot::Mutex;

use crate::wire::Sender;

/// The most senders that are remembered; the one not heard for longest is forgotten first.
const MAX_SENDERS: usize = 1024;
/// RFC 6817: BASE_HISTORY.
const MINUTES: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// In microseconds: nothing comes this much sooner than everything in ten minutes did, and nothing is on its way for so long.
const SOONER: i64 = 1_000_000;
const LATER: i64 = 600_000_000;
/// How far two differences in a row may be apart that agree.
const AGREEMENT: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Transit {
    senders: Mutex<HashMap<u64, History>>,
}

struct History {
    /// The least difference of each of the last minutes, the current one at the back.
    minima: VecDeque<i64>,
    minute_start: Instant,
    heard: Instant,
    /// The last difference, if it cannot be right with those before it.
    surprise: Option<i64>,
}

impl History {
    fn new(difference: i64, now: Instant) -> Self {
        Self { minima: VecDeque::from([difference]), minute_start: now, heard: now, surprise: None }
    }

    fn base(&self) -> i64 {
        self.minima.iter().copied().min().unwrap_or_default()
    }

    /// Whether the difference is to be left out. Where two in a row say the same, a clock was set, or what was known
    /// before was wrong: the history begins anew.
    fn leaves_out(&mut self, difference: i64, now: Instant) -> bool {
        let delay = difference.saturating_sub(self.base());
        let before = self.surprise.take();
        if (-SOONER..LATER).contains(&delay) {
            return false;
        }
        match before {
            Some(before) if before.abs_diff(difference) <= AGREEMENT => {
                *self = Self::new(before.max(difference), now);
                false
            }
            _ => {
                self.surprise = Some(difference);
                true
            }
        }
    }
}

impl Transit {
    /// The delay of a frame above the shortest one of its sender. `received_micros` is our wall clock in microseconds
    /// since 1970.
    pub(super) fn delay(&self, sender: Sender, received_micros: u64, now: Instant) -> Duration {
        // Wrapping: two clocks may differ by anything, and only differences of this difference are used.
        let difference = received_micros.wrapping_sub(sender.sent_micros).cast_signed();
        let mut senders = self.senders.lock();
        if senders.len() >= MAX_SENDERS && !senders.contains_key(&sender.node) {
            let oldest = senders.iter().min_by_key(|(_, history)| history.heard).map(|(node, _)| *node);
            oldest.and_then(|node| senders.remove(&node));
        }
        let history = senders.entry(sender.node).or_insert_with(|| History::new(difference, now));
        history.heard = now;
        if history.leaves_out(difference, now) {
            return Duration::ZERO;
        }
        if now.saturating_duration_since(history.minute_start) >= MINUTE {
            history.minute_start = now;
            history.minima.push_back(difference);
            if history.minima.len() > MINUTES {
                history.minima.pop_front();
            }
        } else if let Some(current) = history.minima.back_mut() {
            *current = difference.min(*current);
        }
        Duration::from_micros(u64::try_from(difference.saturating_sub(history.base())).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: u64 = 3_600_000_000;

    fn delay(transit: &Transit, node: u64, sent: u64, took: u64, now: Instant) -> u64 {
        let sender = Sender { node, sent_micros: sent + OFFSET };
        transit.delay(sender, sent + took, now).as_micros() as u64
    }

    #[test]
    fn an_offset_of_an_hour_cancels() {
        let (transit, now) = (Transit::default(), Instant::now());
        assert_eq!(delay(&transit, 1, 1_000_000, 500, now), 0);
        assert_eq!(delay(&transit, 1, 2_000_000, 800, now), 300);
        assert_eq!(delay(&transit, 1, 3_000_000, 200, now), 0);
        assert_eq!(delay(&transit, 1, 4_000_000, 500, now), 300);
    }

    #[test]
    fn a_clock_that_jumps_is_forgotten_after_ten_minutes() {
        let (transit, start) = (Transit::default(), Instant::now());
        assert_eq!(delay(&transit, 1, 1_000_000, 500, start), 0);
        // The sender's clock jumps back by a second: all its frames seem to take a second longer.
        for minute in 1..10 {
            assert_eq!(delay(&transit, 1, 0, 1_000_500, start + minute * MINUTE), 1_000_000);
        }
        assert_eq!(delay(&transit, 1, 0, 1_000_500, start + 10 * MINUTE), 0);
    }

    #[test]
    fn one_wrong_time_ages_nothing_that_comes_later() {
        let now = Instant::now();
        for wrong in [0, 1 << 40, u64::MAX / 2, u64::MAX - OFFSET] {
            let transit = Transit::default();
            let wrong = |transit: &Transit| {
                transit.delay(Sender { node: 1, sent_micros: wrong }, 2_000_000, now).as_micros()
            };
            assert_eq!(delay(&transit, 1, 1_000_000, 500, now), 0);
            assert_eq!(wrong(&transit), 0);
            for sent in 3..10 {
                assert_eq!(delay(&transit, 1, sent * 1_000_000, 700, now), 200);
            }
            // The first of a sender may be the wrong one.
            let transit = Transit::default();
            assert_eq!(wrong(&transit), 0);
            assert_eq!(delay(&transit, 1, 3_000_000, 500, now), 0);
            assert_eq!(delay(&transit, 1, 4_000_000, 500, now), 0);
            assert_eq!(delay(&transit, 1, 5_000_000, 700, now), 200);
        }
    }

    #[test]
    fn a_clock_that_is_set_by_an_hour_is_believed_at_the_second_frame() {
        let now = Instant::now();
        for jump in [-3_600_000_000_i64, 3_600_000_000] {
            let transit = Transit::default();
            let sent = |sent: u64, took| {
                let at = (sent + OFFSET).checked_add_signed(jump).unwrap();
                transit.delay(Sender { node: 1, sent_micros: at }, sent + took, now).as_micros()
            };
            assert_eq!(delay(&transit, 1, 0, 500, now), 0);
            assert_eq!(
                [sent(5_000_000_000, 400), sent(5_001_000_000, 600), sent(5_002_000_000, 700)],
                [0, 0, 100]
            );
        }
    }

    #[test]
    fn senders_without_end_do_not_grow_the_table() {
        let (transit, now) = (Transit::default(), Instant::now());
        for node in 0..5000 {
            delay(&transit, node, 0, 0, now + Duration::from_micros(node));
        }
        assert_eq!(transit.senders.lock().len(), MAX_SENDERS);
    }
}
