//! Estimates how long a frame was in transit, without synchronised clocks.
//!
//! The difference between our clock at arrival and the sender's clock at departure is the transit time plus the clock
//! offset. Its minimum over some minutes is the offset plus the shortest transit time. The time that a frame took
//! beyond that minimum is its delay. Source: the base delay of LEDBAT, RFC 6817, section 3.4.2, with its history of ten
//! one-minute minima.
//!
//! This module goes beyond that RFC, because a time may be wrong and anyone may send in another sender's name. A frame
//! that disagrees with the history counts only if other frames agree with it for ten seconds and none agree with the
//! history. A frame disagrees
//!
//! - if it arrived more than a second sooner than everything before the current minute, or took ten minutes;
//! - if its delay has grown by more than the time since the previous frame. The frames of a sender arrive in order, so
//!   this is impossible.
//!
//! Until then the delay of such a frame is unknown and counts as zero. As long as the sender itself is heard, forged
//! frames age nothing by more than a second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::remembered::Remembered;
use aether_core::clock::Instant;
use aether_core::medium::NodeId;

/// The maximum number of remembered senders. The one silent for longest is evicted first.
const MAX_SENDERS: usize = 1024;
/// Twice the length of the history. After this time, nothing that is known about a sender still counts.
const KEPT: Duration = Duration::from_secs(1200);
/// RFC 6817: BASE_HISTORY.
const MINUTES: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// In microseconds. No frame arrives this much sooner than every frame of the last ten minutes, and no frame is in
/// transit this long.
const SOONER: i64 = 1_000_000;
const LATER: i64 = 600_000_000;
/// How much more a delay may grow than time has passed: the tasks that read messages may be this far apart.
const DOUBT: i64 = 1_000_000;
/// The maximum distance between differences that agree.
const AGREEMENT: u64 = 1_000_000;
/// How long other frames have to agree with a frame that disagrees with the history.
const PERSISTENCE: Duration = Duration::from_secs(10);

/// The transit time history of each sender. Bounded to 1024 senders.
#[derive(Debug)]
pub struct Transit {
    senders: Mutex<Remembered<u64, History>>,
    implausible: AtomicU64,
}

#[derive(Debug)]
struct History {
    /// The minimum difference of each of the last minutes, with the current minute at the back.
    minima: VecDeque<i64>,
    minute_start: Instant,
    /// The minimum before the current minute.
    base_before: i64,
    /// The delay of the previous frame, and the time of its arrival.
    delay: i64,
    heard: Instant,
    rival: Option<Rival>,
}

/// Frames that agree with each other but not with the history.
#[derive(Debug)]
struct Rival {
    least: i64,
    since: Instant,
    frames: u64,
}

impl Rival {
    const fn agrees(&self, difference: i64) -> bool {
        self.least.abs_diff(difference) <= AGREEMENT
    }
}

impl History {
    fn new(difference: i64, now: Instant) -> Self {
        Self {
            minima: VecDeque::from([difference]),
            minute_start: now,
            base_before: difference,
            delay: 0,
            heard: now,
            rival: None,
        }
    }

    fn base(&self) -> i64 {
        self.minima.iter().copied().min().unwrap_or_default()
    }

    fn agrees(&self, difference: i64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.heard).as_micros();
        let grown =
            self.delay.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)).saturating_add(DOUBT);
        let delay = difference.saturating_sub(self.base());
        // Given enough time, such a delay would be possible. But it was already seen when it was impossible, so it is
        // not a delay.
        let is_rival = self.rival.as_ref().is_some_and(|rival| rival.agrees(difference)) && delay > DOUBT;
        difference >= self.base_before.saturating_sub(SOONER) && delay <= grown.min(LATER) && !is_rival
    }

    /// Records a frame that disagrees, and returns whether it is trusted from now on.
    fn is_outdone(&mut self, difference: i64, now: Instant) -> bool {
        match &mut self.rival {
            Some(rival) if rival.agrees(difference) => {
                rival.least = rival.least.min(difference);
                rival.frames += 1;
                now.saturating_duration_since(rival.since) >= PERSISTENCE
            }
            rival => {
                *rival = Some(Rival { least: difference, since: now, frames: 1 });
                false
            }
        }
    }

    /// Records a frame that agrees, and computes its delay.
    fn take(&mut self, difference: i64, now: Instant) -> i64 {
        if now.saturating_duration_since(self.minute_start) >= MINUTE {
            self.base_before = self.base();
            self.minute_start = now;
            self.minima.push_back(difference);
            if self.minima.len() > MINUTES {
                self.minima.pop_front();
            }
        } else if let Some(current) = self.minima.back_mut() {
            *current = difference.min(*current);
        }
        self.heard = now;
        self.delay = difference.saturating_sub(self.base()).max(0);
        self.delay
    }
}

impl Default for Transit {
    fn default() -> Self {
        Self { senders: Mutex::new(Remembered::new(MAX_SENDERS, KEPT)), implausible: AtomicU64::new(0) }
    }
}

impl Transit {
    /// The delay of a frame beyond the shortest one of its sender. `sent_micros` is its wall clock and
    /// `received_micros` ours, in microseconds since 1970.
    pub fn delay(&self, node: NodeId, sent_micros: u64, received_micros: u64, now: Instant) -> Duration {
        // Wrapping: two clocks may differ by any amount, and only changes in this difference are used.
        let difference = received_micros.wrapping_sub(sent_micros).cast_signed();
        let mut senders = self.senders.lock();
        let Some(history) = senders.hear(node.principal, &node.number, now) else {
            senders.add(node.principal, node.number, History::new(difference, now), now);
            return Duration::ZERO;
        };
        if history.agrees(difference, now) {
            if let Some(rival) = history.rival.take() {
                self.implausible.fetch_add(rival.frames, Ordering::Relaxed);
            }
            return Duration::from_micros(u64::try_from(history.take(difference, now)).unwrap_or(0));
        }
        if history.is_outdone(difference, now) {
            *history = History::new(difference, now);
        }
        Duration::ZERO
    }

    /// The number of frames with a time that later frames of their sender contradicted.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.implausible.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
