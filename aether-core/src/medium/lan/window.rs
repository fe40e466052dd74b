//! How much may be on the way to a peer: as much as its line carries in a few milliseconds.
//!
//! Everything that is on the way is in front of a strong wave that is emitted now: in the queues of Zenoh, of the kernel and of
//! the device. So the window of a slow line has to be small, and that of a fast one large. It follows the round trips of the
//! pings that are sent behind the waves: it doubles in each while they find no queue, and shrinks to what left in time when
//! they find one. Source: the idea of delay-based congestion control (RFC 6817).

use std::time::Duration;

use crate::clock::Instant;

/// As much as on a fast line.
pub(super) const MAX_WINDOW: usize = 512 << 10;
/// A few packets.
const MIN_WINDOW: usize = 4 << 10;
/// Of a line that is not known: 5 ms at 100 Mbit/s, 50 ms at 10 Mbit/s until the first ping is answered.
const FIRST_WINDOW: usize = 64 << 10;
/// A queue that takes longer to leave is too long.
const TARGET: Duration = Duration::from_millis(3);
/// Of a window: so many pings are on the way.
const PINGS: usize = 8;
/// A peer that nothing was sent to for so long does not count.
const RECENT: Duration = Duration::from_secs(1);
/// A ping follows after at least this many bytes.
const MIN_PING_BYTES: usize = 1 << 10;

/// What may be on the way to one peer, in bytes.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    /// The shortest round trip: that of a line without a queue.
    shortest: Duration,
    /// When it was made smaller. What was sent before says nothing about it.
    shrunk: Option<Instant>,
    /// When a ping was answered last.
    used: Option<Instant>,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { bytes: FIRST_WINDOW, shortest: Duration::MAX, shrunk: None, used: None }
    }

    /// What may be on the way.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it counts for what is sent to several peers: one that gets nothing, or has gone, slows down nobody.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        self.used.is_none_or(|used| now.saturating_duration_since(used) < RECENT)
    }

    /// A ping follows after this many bytes.
    pub(super) fn ping_bytes(&self) -> usize {
        (self.bytes / PINGS).max(MIN_PING_BYTES)
    }

    /// A ping that was sent then, behind so many bytes since the one before, is answered. `is_full`: somebody waited for
    /// the window, so that it decides how much is on the way.
    pub(super) fn answered(&mut self, sent: Instant, bytes: usize, now: Instant, is_full: bool) {
        self.used = Some(now);
        let took = now.saturating_duration_since(sent);
        self.shortest = self.shortest.min(took);
        let queue = took.saturating_sub(self.shortest);
        if queue > TARGET {
            if self.shrunk.is_none_or(|shrunk| shrunk <= sent) {
                // What leaves in the time of a round trip with an allowed queue. At most an eighth, as one late answer may
                // have been waiting for a processor.
                let part = (self.shortest + TARGET).as_secs_f64() / took.as_secs_f64();
                self.bytes = ((self.bytes as f64 * part.max(0.125)) as usize).max(MIN_WINDOW);
                self.shrunk = Some(now);
            }
        } else if is_full && queue <= TARGET / 2 {
            self.bytes = (self.bytes + bytes).min(MAX_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Fills the windows of a line with this round trip and rate for some round trips, and returns the window and the time
    /// that the last one took to leave.
    fn on_a_line(window: &mut Window, idle: Duration, bytes_per_second: f64, rounds: usize) -> Duration {
        let mut now = clock::now();
        let mut took = Duration::ZERO;
        for _ in 0..rounds {
            let bytes = window.bytes();
            took = idle.max(Duration::from_secs_f64(bytes as f64 / bytes_per_second));
            window.answered(now, bytes, now + took, true);
            now += took;
        }
        took
    }

    #[test]
    fn a_slow_line_gets_a_small_window_and_a_fast_one_a_large_one() {
        let mut window = Window::new();
        let idle = Duration::from_micros(400);
        window.answered(clock::now(), 0, clock::now() + idle, false);
        let took = on_a_line(&mut window, idle, 1.25e6, 20);
        assert!(took <= Duration::from_millis(7), "{took:?}");
        assert!((MIN_WINDOW..=8 << 10).contains(&window.bytes()), "{window:?}");
        // The same line becomes fast.
        on_a_line(&mut window, idle, 1e9, 20);
        assert_eq!(window.bytes(), MAX_WINDOW);
    }

    #[test]
    fn a_long_way_is_no_queue() {
        let mut window = Window::new();
        on_a_line(&mut window, Duration::from_millis(100), 1e9, 20);
        assert_eq!(window.bytes(), MAX_WINDOW);
    }

    #[test]
    fn one_late_answer_shrinks_it_once_and_an_idle_line_leaves_it_alone() {
        let (mut window, start) = (Window::new(), clock::now());
        window.answered(start, 1000, start + Duration::from_millis(1), false);
        assert_eq!(window.bytes(), FIRST_WINDOW, "nobody waited for it");
        for _ in 0..5 {
            // All were on the way while one processor was busy.
            window.answered(start, 1000, start + Duration::from_secs(1), true);
        }
        assert_eq!(window.bytes(), FIRST_WINDOW / 8);
    }
}
