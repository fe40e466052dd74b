//! Paces waves to a rate.

use std::time::Duration;

use tokio::time::Instant;

use crate::values::Rate;

/// The due times of a steady stream. They count from the first wave, so the rate does not drift and late timers are
/// caught up with.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Rate>,
    first: Option<Instant>,
    waves: u64,
}

impl Pace {
    /// Without a rate every wave is due at once.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self { rate, first: None, waves: 0 }
    }

    /// Waits until the next wave is due.
    ///
    /// Cancel safety: cancelled before completion, the next call waits for the same wave.
    pub(crate) async fn next(&mut self) {
        let Some(Rate(rate)) = self.rate else { return };
        let first = *self.first.get_or_insert_with(Instant::now);
        // The minimum rate keeps the period within a Duration. A due time beyond the clock is never reached.
        let offset = Duration::try_from_secs_f64(self.waves as f64 / rate).unwrap_or(Duration::MAX);
        match first.checked_add(offset) {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        self.waves += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hundred_waves_at_forty_a_second_take_two_and_a_half_seconds() {
        let mut pace = Pace::new(Some(Rate(40.0)));
        let start = Instant::now();
        for _ in 0..101 {
            pace.next().await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(2500) && took <= Duration::from_millis(2502), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_above_the_timer_resolution_is_kept_on_average() {
        let mut pace = Pace::new(Some(Rate(100_000.0)));
        let start = Instant::now();
        for _ in 0..100_001 {
            pace.next().await;
        }
        assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() <= Duration::from_millis(1002));
    }
}
