//! How much may be on the way to a peer: as much as its line carries in a few milliseconds.
//!
//! Everything that is on the way is in front of a strong wave that is emitted now: in the queues of Zenoh, of the
//! kernel and of the device. So the window of a slow line has to be small, and the window of a fast one large. It
//! follows the round trips of the pings that are sent behind the waves: it doubles in each while they find no queue,
//! and shrinks to what left in time when some in a row find one. Source: the idea of delay-based congestion control
//! (RFC 6817), with its filter of the current delay and its base delay of the last minutes.

use std::time::Duration;

use aether_core::clock::Instant;

/// As much as on a fast line.
pub(super) const MAX_WINDOW: usize = 2 << 20;
/// A few packets.
const MIN_WINDOW: usize = 4 << 10;
/// Of a line that is not known: 13 ms at 10 Mbit/s. On a fast one it doubles with each round trip.
const FIRST_WINDOW: usize = 16 << 10;
/// A queue that takes longer to leave is too long.
const TARGET: Duration = Duration::from_millis(3);
/// This number of pings in a row have to find a queue that is too long. One alone may have waited for a processor.
const LATE: u32 = 3;
/// Of a window: this number of pings are on the way.
const PINGS: usize = 8;
/// The way to a peer may become longer for good. So the shortest round trip of the last one to two periods counts.
const PERIOD: Duration = Duration::from_secs(60);
/// A peer for whose window nobody waited for so long does not count.
const RECENT: Duration = Duration::from_secs(10);
/// A ping follows after at least this many bytes.
const MIN_PING_BYTES: usize = 1 << 10;

/// The bytes that may be on the way to one peer.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    base: Base,
    /// The pings that found a queue that is too long, in a row.
    late: u32,
    /// When it was made smaller. Answers to earlier pings mean nothing for it.
    shrunk: Option<Instant>,
    /// Whether a ping was ever answered.
    is_known: bool,
    /// When a ping was answered last for which somebody had waited.
    full: Option<Instant>,
}

/// The shortest round trip: a line without a queue.
#[derive(Debug)]
struct Base {
    /// Of this period and of the one before.
    shortest: [Duration; 2],
    since: Option<Instant>,
}

impl Base {
    fn note(&mut self, took: Duration, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PERIOD {
            self.shortest = [Duration::MAX, self.shortest[0]];
            self.since = Some(now);
        }
        self.shortest[0] = self.shortest[0].min(took);
    }

    fn shortest(&self) -> Duration {
        self.shortest[0].min(self.shortest[1])
    }
}

impl Window {
    pub(super) const fn new() -> Self {
        let base = Base { shortest: [Duration::MAX; 2], since: None };
        Self { bytes: FIRST_WINDOW, base, late: 0, shrunk: None, is_known: false, full: None }
    }

    /// The bytes that may be on the way.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it counts for what is sent to several peers: one that gets little, or has gone, slows down nobody.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        !self.is_known || self.full.is_some_and(|full| now.saturating_duration_since(full) < RECENT)
    }

    /// A ping follows after this many bytes.
    pub(super) fn ping_bytes(&self) -> usize {
        (self.bytes / PINGS).max(MIN_PING_BYTES)
    }

    /// A ping that was sent then, behind a number of bytes since the one before, is answered. `is_full`: somebody waited for
    /// the window, so that it decides how much is on the way. Otherwise a late answer means nothing for it.
    pub(super) fn answered(&mut self, sent: Instant, bytes: usize, now: Instant, is_full: bool) {
        let took = now.saturating_duration_since(sent);
        self.is_known = true;
        self.base.note(took, now);
        if !is_full {
            return;
        }
        self.full = Some(now);
        let queue = took.saturating_sub(self.base.shortest());
        if queue <= TARGET {
            self.late = 0;
            if queue <= TARGET / 2 {
                self.bytes = (self.bytes + bytes).min(MAX_WINDOW);
            }
        } else if self.shrunk.is_none_or(|shrunk| shrunk <= sent) {
            self.late += 1;
            if self.late == LATE {
                // The part that leaves in the time of a round trip with an allowed queue, and at least an eighth.
                let part = (self.base.shortest() + TARGET).as_secs_f64() / took.as_secs_f64();
                self.bytes = ((self.bytes as f64 * part.max(0.125)) as usize).max(MIN_WINDOW);
                self.shrunk = Some(now);
                self.late = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::clock;

    /// Fills the windows of a line with this round trip and rate for some round trips, with all pings of a window, and
    /// returns the time that the last one took to leave.
    fn on_a_line(window: &mut Window, idle: Duration, bytes_per_second: f64, rounds: usize) -> Duration {
        let mut now = clock::test_now();
        let mut took = Duration::ZERO;
        for _ in 0..rounds {
            let (bytes, sent) = (window.bytes(), now);
            took = idle.max(Duration::from_secs_f64(bytes as f64 / bytes_per_second));
            for _ in 0..PINGS {
                now += took / PINGS as u32;
                window.answered(sent, bytes / PINGS, sent + took, true);
            }
        }
        took
    }

    #[test]
    fn a_slow_line_gets_a_small_window_and_a_fast_one_a_large_one() {
        let mut window = Window::new();
        let idle = Duration::from_micros(400);
        let start = clock::test_now();
        window.answered(start, 0, start + idle, false);
        let took = on_a_line(&mut window, idle, 1.25e6, 20);
        assert!(took <= Duration::from_millis(7), "{took:?}");
        assert!((MIN_WINDOW..=8 << 10).contains(&window.bytes()), "{window:?}");
        // The same line becomes fast.
        on_a_line(&mut window, idle, 1e10, 20);
        assert_eq!(window.bytes(), MAX_WINDOW);
    }

    #[test]
    fn a_long_way_is_no_queue_also_if_it_was_short_before() {
        let mut window = Window::new();
        on_a_line(&mut window, Duration::from_millis(1), 1e10, 20);
        assert_eq!(window.bytes(), MAX_WINDOW);
        // Two minutes, of which the first takes it for a queue.
        on_a_line(&mut window, Duration::from_millis(100), 1e10, 1300);
        assert_eq!(window.bytes(), MAX_WINDOW);
    }

    #[test]
    fn late_answers_shrink_it_once_if_somebody_waited_and_there_are_some_in_a_row() {
        let (mut window, start) = (Window::new(), clock::test_now());
        let (soon, late) = (start + Duration::from_millis(1), start + Duration::from_secs(1));
        window.answered(start, 1000, soon, false);
        for _ in 0..10 {
            window.answered(start, 1000, late, false);
        }
        assert_eq!(window.bytes(), FIRST_WINDOW, "nobody waited for it");
        assert!(!window.is_recent(late), "and it slows down nobody");
        for _ in 0..LATE - 1 {
            window.answered(start, 1000, late, true);
        }
        assert_eq!(window.bytes(), FIRST_WINDOW, "they may have waited for a processor");
        for _ in 0..5 {
            // All were on the way at the same time.
            window.answered(start, 1000, late, true);
        }
        assert_eq!(window.bytes(), MIN_WINDOW.max(FIRST_WINDOW / 8));
        assert!(window.is_recent(late + RECENT / 2) && !window.is_recent(late + RECENT));
    }
}
