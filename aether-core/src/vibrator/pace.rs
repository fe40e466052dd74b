//! How much of its cooperative budget a task spends on waves.
//!
//! tokio gives a task 128 units each time that it is polled; a task without units gives way to others. tokio's own
//! channels charge one unit a message. Emitting or receiving a wave takes a tenth of a microsecond, and giving way after
//! every 128 waves cost a third of the throughput between two tasks. So waves in quick succession are charged an eighth
//! of a unit each, all others a whole one: a task gives way after 128 waves, or after 1024 that took less than a
//! microsecond each.

use std::cell::Cell;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::coop;

use crate::clock::Moment;

/// The number of waves in quick succession that cost one unit.
const FAST_WAVES: u8 = 8;
/// The longest time that this number of waves in quick succession takes.
const FAST: Duration = Duration::from_micros(FAST_WAVES as u64);

/// Decides what to spend on the next wave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    waves: u8,
    is_slow: bool,
    since: Option<Moment>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { waves: 0, is_slow: false, since: None }
    }

    /// Whether a unit is due for the next wave. Reads the clock for one wave in eight.
    #[inline]
    fn is_due(&mut self) -> bool {
        self.waves += 1;
        if self.waves < FAST_WAVES { self.is_slow } else { self.is_due_for_eight() }
    }

    #[inline(never)]
    fn is_due_for_eight(&mut self) -> bool {
        let now = Moment::now();
        self.is_slow = self.since.is_some_and(|since| now.saturating_duration_since(since) > FAST);
        self.since = Some(now);
        self.waves = 0;
        true
    }

    /// Polls for one wave, if the task has any budget left.
    #[inline]
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.is_due() {
            return poll(cx);
        }
        let proceed = ready!(coop::poll_proceed(cx));
        let polled = poll(cx);
        if polled.is_ready() {
            proceed.made_progress();
        }
        polled
    }

    /// Polls for many waves at once, which cost one unit together, if the task has any budget left.
    pub(super) fn poll_many<T>(
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let proceed = ready!(coop::poll_proceed(cx));
        let polled = poll(cx);
        if polled.is_ready() {
            proceed.made_progress();
        }
        polled
    }
}

/// Whether emitting a wave costs a unit of the budget, so that a loop that never waits lets other tasks run.
#[inline]
pub(super) fn is_due_for_emitting() -> bool {
    thread_local! {
        // Of the thread, as an emitter may be used by many tasks at once.
        static PACE: Cell<Pace> = const { Cell::new(Pace::new()) };
    }
    PACE.with(|place| {
        let mut pace = place.get();
        let is_due = pace.is_due();
        place.set(pace);
        is_due
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of waves that cost a unit, if each takes as long as `each`.
    async fn units(pace: &mut Pace, waves: u32, each: Duration) -> u32 {
        let mut units = 0;
        for _ in 0..waves {
            tokio::time::advance(each).await;
            units += u32::from(pace.is_due());
        }
        units
    }

    #[tokio::test(start_paused = true)]
    async fn fast_waves_cost_an_eighth_and_slow_ones_a_whole_unit() {
        let mut pace = Pace::new();
        assert_eq!(units(&mut pace, 800, Duration::from_nanos(900)).await, 100);
        // The first eight turn out to be slow only when they are over.
        assert_eq!(units(&mut pace, 808, Duration::from_micros(2)).await, 801);
        assert_eq!(units(&mut pace, 808, Duration::from_nanos(900)).await, 8 + 100);
    }

    #[tokio::test]
    async fn a_loop_that_never_waits_gives_way_to_others() {
        let others = tokio::spawn(async {});
        for waves in 0.. {
            if others.is_finished() {
                break;
            }
            assert!(waves < 2000);
            if is_due_for_emitting() {
                coop::consume_budget().await;
            }
        }
    }
}
