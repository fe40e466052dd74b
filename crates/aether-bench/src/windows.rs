//! Strong messages in consecutive time windows around a step of the load.
//!
//! Unlike a percentile over a whole run, windows show short disturbances.

use std::time::Duration;

use serde::Serialize;

use crate::clock::nanoseconds;
use crate::median::median_by;
use crate::outcome::Outcome;
use crate::report::Latencies;
use crate::schedule::{Schedule, Strength};

/// The strong messages that were due in one window of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Window {
    /// When it begins, in milliseconds from the step; below zero before it.
    pub from_ms: f64,
    /// Strong messages that were due.
    pub offered: u64,
    /// Strong messages of the window that were handled, at any time.
    pub delivered: u64,
    /// The 99th percentile of their time from due to handled, in microseconds.
    pub p99_us: Option<f64>,
}

/// The `before` windows before and the `after` windows after `step`, each of `width`. Windows outside of the schedule
/// are left out.
#[must_use]
pub fn windows(
    schedule: &Schedule,
    outcome: &Outcome,
    step: Duration,
    width: Duration,
    (before, after): (u32, u32),
) -> Vec<Window> {
    let mut done = vec![None; schedule.arrivals().len()];
    for handled in &outcome.heard.handled {
        if let Some(done) = done.get_mut(handled.number as usize) {
            *done = Some(handled.done.saturating_sub(outcome.start));
        }
    }
    let (step, width, end) = (nanoseconds(step), nanoseconds(width), nanoseconds(schedule.length()));
    let first = step.saturating_sub(u64::from(before) * width);
    let windows = (0..before + after).map(|index| first + u64::from(index) * width);
    windows
        .take_while(|from| from + width <= end)
        .map(|from| {
            let mut latencies = Latencies::default();
            let (mut offered, mut delivered) = (0, 0);
            for (arrival, done) in schedule.arrivals().iter().zip(&done) {
                if arrival.strength == Strength::Strong && (from..from + width).contains(&arrival.due) {
                    offered += 1;
                    if let Some(done) = done {
                        delivered += 1;
                        latencies.record(done.saturating_sub(arrival.due));
                    }
                }
            }
            let from_ms = (from as f64 - step as f64) / 1e6;
            Window { from_ms, offered, delivered, p99_us: latencies.quantile_us(0.99) }
        })
        .collect()
}

/// For each window the round with its median p99.
pub(crate) fn middle(rounds: &[Vec<Window>]) -> Vec<Window> {
    let windows = rounds.iter().map(Vec::len).min().unwrap_or(0);
    let of_window = |index: usize| rounds.iter().filter_map(|round| round.get(index).cloned()).collect();
    (0..windows)
        .filter_map(|index| median_by(of_window(index), |window| window.p99_us.unwrap_or(f64::INFINITY)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Handled, Heard};
    use crate::schedule::Phase;

    #[test]
    fn each_strong_message_is_in_the_window_in_which_it_was_due() {
        let second = Duration::from_secs(1);
        let phases = [Phase { rate: 100.0, lasts: second }, Phase { rate: 5000.0, lasts: second }];
        let schedule = Schedule::poisson(&phases, 0.5, 9).unwrap();
        // 1 ms before the step and 3 ms after it; every fifth is lost.
        let handled = (0_u32..)
            .zip(schedule.arrivals())
            .filter(|(number, _)| number % 5 != 0)
            .map(|(number, arrival)| {
                let latency = if arrival.due < 1_000_000_000 { 1_000_000 } else { 3_000_000 };
                Handled { number, done: arrival.due + latency }
            })
            .collect();
        let heard = Heard { handled, ..Heard::default() };
        let outcome = Outcome { start: 0, paced: Default::default(), lost: Default::default(), heard };

        let found = windows(&schedule, &outcome, second, Duration::from_millis(100), (2, 100));
        assert_eq!(found.len(), 12, "two before, and all that the schedule has after");
        assert!((found[0].from_ms + 200.0).abs() < 1e-9 && (found[2].from_ms).abs() < 1e-9);
        assert!(found[..2].iter().all(|window| (window.p99_us.unwrap() - 1000.0).abs() < 2.0));
        for window in &found[2..] {
            assert!((window.p99_us.unwrap() - 3000.0).abs() < 4.0, "{window:?}");
            assert!((150..350).contains(&window.offered), "{window:?}");
            assert!(window.delivered < window.offered && window.delivered > window.offered / 2, "{window:?}");
        }
        let strong = schedule
            .arrivals()
            .iter()
            .filter(|arrival| arrival.strength == Strength::Strong && arrival.due >= 1_000_000_000);
        assert_eq!(found[2..].iter().map(|window| window.offered).sum::<u64>(), strong.count() as u64);
    }
}
