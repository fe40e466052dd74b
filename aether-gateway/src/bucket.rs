//! A bound on the rate of one connection.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: a message takes a token, and tokens come back at a constant rate.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    refilled: Instant,
}

impl TokenBucket {
    pub(crate) fn new(burst: u32, per_second: f64, now: Instant) -> Self {
        let capacity = f64::from(burst).max(1.0);
        Self { capacity, per_second, tokens: capacity, refilled: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // Rounded up, so that there is a token when the time has passed.
        let wait = Duration::try_from_secs_f64((1.0 - self.tokens) / self.per_second);
        Err(wait.unwrap_or(Duration::MAX).saturating_add(Duration::from_micros(1)))
    }

    /// Whether there is a token.
    pub(crate) fn has_any(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= 1.0
    }

    /// Takes tokens for what was done already, also more than there are: they are owed then.
    pub(crate) fn charge(&mut self, tokens: u64) {
        self.tokens -= tokens as f64;
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 10.0, start);
        assert_eq!([0; 4].map(|_| bucket.take(start).is_ok()), [true, true, true, false]);
        let wait = bucket.take(start).unwrap_err();
        assert!(wait >= Duration::from_millis(99) && wait < Duration::from_millis(101), "{wait:?}");
        assert!(bucket.take(start + wait).is_ok());
        bucket.charge(20);
        assert!(
            !bucket.has_any(start + Duration::from_secs(2)) && bucket.has_any(start + Duration::from_secs(3))
        );
        let later = start + Duration::from_secs(3600);
        assert_eq!([0; 4].map(|_| bucket.take(later).is_ok()), [true, true, true, false]);
    }
}
