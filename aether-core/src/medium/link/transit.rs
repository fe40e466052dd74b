//! How long a frame was on its way, without synchronised clocks.
//!
//! The difference between our clock at arrival and the sender's at departure is transit plus clock offset. Its minimum
//! over some minutes is the offset plus the shortest transit there is; what a frame took longer than that minimum is
//! delay. Source: the base delay of LEDBAT, RFC 6817, section 3.4.2, with its history of ten one-minute minima.
//!
//! Beyond that RFC, because a time may be wrong, and anybody may send in another's name: a frame that disagrees with what
//! is known counts only if others agree with it for ten seconds, and none with what was known. It disagrees
//!
//! - if it came more than a second sooner than anything before the current minute, or took ten minutes;
//! - if its delay has grown by more than the time since the frame before it. The frames of a sender come in their order, so
//!   that cannot be.
//!
//! Until then the delay of such a frame is unknown and counts as none: what is made up ages nothing by more than a second
//! as long as the sender itself is heard.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::remembered::Remembered;
use crate::clock::Instant;
use crate::wire::Sender;

/// The most senders that are remembered; the one not heard for longest is forgotten first.
const MAX_SENDERS: usize = 1024;
/// Twice the length of the history: of what is known after that nothing is left that counts.
const KEPT: Duration = Duration::from_secs(1200);
/// RFC 6817: BASE_HISTORY.
const MINUTES: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// In microseconds: nothing comes this much sooner than everything in ten minutes did, and nothing is on its way for so long.
const SOONER: i64 = 1_000_000;
const LATER: i64 = 600_000_000;
/// How much more a delay may have grown than the time has passed: the tasks that read messages may be so far apart.
const DOUBT: i64 = 1_000_000;
/// How far differences may be apart that agree.
const AGREEMENT: u64 = 1_000_000;
/// For how long others have to agree with a frame that disagrees with what is known.
const PERSISTENCE: Duration = Duration::from_secs(10);

/// What is known of the transit times of each sender. At most 1024 senders.
#[derive(Debug)]
pub struct Transit {
    senders: Mutex<Remembered<u64, History>>,
    implausible: AtomicU64,
}

#[derive(Debug)]
struct History {
    /// The least difference of each of the last minutes, the current one at the back.
    minima: VecDeque<i64>,
    minute_start: Instant,
    /// The least before the current minute.
    base_before: i64,
    /// That of the frame before, and when it came.
    delay: i64,
    heard: Instant,
    rival: Option<Rival>,
}

/// Frames that agree with each other and not with what is known.
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
        // With time such a delay would be possible. But it was seen when it was not, so it is none.
        let is_rival = self.rival.as_ref().is_some_and(|rival| rival.agrees(difference)) && delay > DOUBT;
        difference >= self.base_before.saturating_sub(SOONER) && delay <= grown.min(LATER) && !is_rival
    }

    /// Notes a frame that disagrees, and says whether it is to be believed from now on.
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

    /// Takes in a frame that agrees, and works out its delay.
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
    /// The delay of a frame above the shortest one of its sender. `received_micros` is our wall clock in microseconds
    /// since 1970.
    pub fn delay(&self, sender: Sender, received_micros: u64, now: Instant) -> Duration {
        // Wrapping: two clocks may differ by anything, and only differences of this difference are used.
        let difference = received_micros.wrapping_sub(sender.sent_micros).cast_signed();
        let mut senders = self.senders.lock();
        let Some(history) = senders.hear(&sender.node, now) else {
            senders.add(sender.node, History::new(difference, now), now);
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

    /// How many frames had a time that was contradicted by what their sender sent after them.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.implausible.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
