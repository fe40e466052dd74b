//! The retry budget: a token bucket that first sends and time fill.
//!
//! [`Resend`](crate::Resend) holds one. tower's `TpsBudget` (0.5.3) is not used: it forgets a withdrawal after 5 to 10
//! s instead of 10, depending on how often it is polled, and so lets up to twice as many resends through.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One resend in the units of the account. The unit is nanoseconds times resends a second, so nothing is rounded.
const RESEND: u64 = 1_000_000_000;

/// The steady part accumulates for at most this long.
const SAVED_UP: Duration = Duration::from_secs(10);

/// The share of first sends accumulates for at most this many sends.
const REMEMBERED: u64 = 1000;

/// A retry budget: how many resends are allowed. Clones share one account.
///
/// Over any interval, the resends are at most what its first sends and its seconds provide, plus the earlier savings:
/// up to 10 s of the steady part and the share of 1000 first sends.
#[derive(Clone)]
pub struct RetryBudget {
    account: Option<Arc<Mutex<Account>>>,
    share: u64,
    per_second: u64,
}

struct Account {
    /// Earned by first sends. The steady part is earned by time.
    earned: u64,
    steady: u64,
    as_of: Instant,
}

impl RetryBudget {
    /// Allows `percent` resends for a hundred first sends, plus `per_second` resends a second. The default is 10 and 1.
    #[must_use]
    pub fn new(percent: u16, per_second: u16) -> Self {
        let (share, per_second) = (u64::from(percent) * RESEND / 100, u64::from(per_second));
        let account = Account { earned: 0, steady: most_steady(per_second), as_of: Instant::now() };
        Self { account: Some(Arc::new(Mutex::new(account))), share, per_second }
    }

    /// No limit. It exists for a benchmark that shows what retries do without a budget.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { account: None, share: 0, per_second: 0 }
    }

    /// Counts a first send.
    pub(crate) fn deposit(&self) {
        if let Some(account) = &self.account {
            let mut account = account.lock();
            account.earned = (account.earned + self.share).min(self.share * REMEMBERED);
        }
    }

    /// Pays for a resend. Returns whether the budget covered it.
    pub(crate) fn withdraw(&self) -> bool {
        let Some(account) = &self.account else { return true };
        let mut account = account.lock();
        let now = Instant::now();
        // The savings are full after this time.
        let passed = now.saturating_duration_since(account.as_of).min(SAVED_UP);
        account.as_of = now;
        let brought = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).saturating_mul(self.per_second);
        account.steady = (account.steady + brought).min(most_steady(self.per_second));
        let Some(left) = (account.earned + account.steady).checked_sub(RESEND) else { return false };
        // Spend the steady part first: time refills it.
        account.earned = account.earned.min(left);
        account.steady = left - account.earned;
        true
    }
}

const fn most_steady(per_second: u64) -> u64 {
    SAVED_UP.as_secs() * per_second * RESEND
}

/// 10 % of first sends, and one a second.
impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(10, 1)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.account.is_none() {
            return f.write_str("RetryBudget(unlimited)");
        }
        f.debug_struct("RetryBudget")
            .field("percent", &(self.share * 100 / RESEND))
            .field("per_second", &self.per_second)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered(budget: &RetryBudget) -> usize {
        (0..1000).filter(|_| budget.withdraw()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_first_sends_and_one_a_second_are_covered() {
        let budget = RetryBudget::default();
        assert_eq!((covered(&budget), covered(&budget)), (10, 0), "saved up in ten seconds");
        (0..200).for_each(|_| budget.deposit());
        assert_eq!(covered(&budget), 20);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(covered(&budget), 3);
        tokio::time::advance(Duration::from_secs(3000)).await;
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!(covered(&budget), 110, "no more is saved up than for ten seconds and a thousand waves");
        assert_eq!(covered(&RetryBudget::unlimited()), 1000);
    }

    proptest! {
        /// No sequence of steps gets more resends than the budget allows.
        #[test]
        fn resends_never_exceed_their_share(
            percent in 0_u16..=1000, per_second in 0_u16..50,
            steps in proptest::collection::vec((0_u8..3, 0_u64..2000), 0..300),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let share = f64::from(percent) / 100.0;
                let budget = RetryBudget::new(percent, per_second);
                let begun = Instant::now();
                let (mut first, mut again) = (0_u32, 0_u32);
                for (step, millis) in steps {
                    match step {
                        0 => { budget.deposit(); first += 1; }
                        1 => again += u32::from(budget.withdraw()),
                        _ => tokio::time::advance(Duration::from_millis(millis)).await,
                    }
                    let time = begun.elapsed().as_secs_f64() + SAVED_UP.as_secs_f64();
                    let most = share * f64::from(first) + f64::from(per_second) * time;
                    prop_assert!(f64::from(again) <= most + 1e-6, "{again} of {most}");
                }
                Ok(())
            })?;
        }
    }
}
