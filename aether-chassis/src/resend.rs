//! How what failed is tried again. Physics calls it re-amplification; ordinary term: retry policy.
//!
//! A service runs failed handlers again by it, an [`Asker`](crate::Asker) asks again by it. Three rules keep retries
//! from making an overload worse: a resend is half as strong as the attempt before it (the energy bound, computed by
//! `Wave::resent`), resends are at most a share of first sends (the budget), and the pauses before them grow and are
//! drawn at random (full jitter).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Wave;
use backon::{BackoffBuilder, ExponentialBuilder};
use tower::retry::budget::{Budget as _, TpsBudget};

/// How long a first send counts towards the budget, and how many seconds' worth of the steady part can be saved up.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// How often what failed may be tried again. Ordinary term: retry budget. Clones share one account.
#[derive(Clone)]
pub struct RetryBudget {
    account: Option<Arc<TpsBudget>>,
    share: f32,
    per_second: u32,
}

/// A budget that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a retry budget of {share} resends for each first send is not allowed: use a number from 0 to 10")]
pub struct RetryBudgetError {
    share: f32,
}

impl RetryBudget {
    /// At most `share` resends for each first send of the last 10 s, plus `per_second`, of which up to 10 s' worth can
    /// be used at once. The default is 0.1 and 1.
    ///
    /// # Errors
    /// [`RetryBudgetError`] for a share that is not a number from 0 to 10.
    pub fn new(share: f32, per_second: u32) -> Result<Self, RetryBudgetError> {
        if !(0.0..=10.0).contains(&share) {
            return Err(RetryBudgetError { share });
        }
        // tower keeps its account in whole tokens and refuses nothing below i32::MAX a second.
        let per_second = per_second.min(1 << 20);
        let account = TpsBudget::new(BUDGET_WINDOW, per_second, share);
        Ok(Self { account: Some(Arc::new(account)), share, per_second })
    }

    /// No bound at all. This is here so that a benchmark can show what retries do to a system without one.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { account: None, share: f32::INFINITY, per_second: u32::MAX }
    }

    /// Counts a first send.
    pub(crate) fn deposit(&self) {
        if let Some(account) = &self.account {
            account.deposit();
        }
    }

    /// Whether a resend is covered; if so it is paid for.
    pub(crate) fn withdraw(&self) -> bool {
        self.account.as_ref().is_none_or(|account| account.withdraw())
    }
}

/// 10 % of first sends, and one a second.
impl Default for RetryBudget {
    fn default() -> Self {
        let (share, per_second) = (0.1, 1);
        Self { account: Some(Arc::new(TpsBudget::new(BUDGET_WINDOW, per_second, share))), share, per_second }
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("share", &self.share)
            .field("per_second", &self.per_second)
            .finish_non_exhaustive()
    }
}

/// Pauses that would be none, or would shrink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pauses from {first:?} to {longest:?} are not allowed: use a first one above zero and a longest not below it"
)]
pub struct PausesError {
    first: Duration,
    longest: Duration,
}

/// How what failed is tried again. Clones share one budget.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct Resend {
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) most: u8,
    pub(crate) budget: RetryBudget,
    halves: bool,
}

impl Resend {
    /// The longest first pause; each next one may be twice as long, up to `longest`. What is really waited is drawn
    /// between nothing and that, so that those who failed together do not come back together. Default: 20 ms and 1 s.
    ///
    /// Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 (full jitter).
    ///
    /// # Errors
    /// [`PausesError`] if the first is nothing, or longer than the longest.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Result<Self, PausesError> {
        if first.is_zero() || first > longest {
            return Err(PausesError { first, longest });
        }
        (self.first_pause, self.longest_pause) = (first, longest);
        Ok(self)
    }

    /// How often one wave is sent again at most. Default: 8 times, the last at 1/256 of its strength.
    pub fn most(mut self, resends: u8) -> Self {
        self.most = resends;
        self
    }

    /// How many resends there may be among all waves. Default: 10 % of first sends, and one a second.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Lets resends be as strong as the first attempt. This is here so that a benchmark can show what retries do to a
    /// system without the energy bound.
    pub fn undiminished(mut self) -> Self {
        self.halves = false;
        self
    }

    /// The next attempt of a wave, or nothing if it has had all of its attempts. Asks no budget.
    pub(crate) fn next(&self, wave: &Wave) -> Option<Wave> {
        match wave.attempt() {
            attempt if attempt >= self.most => None,
            _ if self.halves => wave.resent(),
            _ => Some(wave.resent_undiminished()),
        }
    }

    /// The pauses, drawn anew with each call, without end.
    pub(crate) fn drawn_pauses(&self) -> impl Iterator<Item = Duration> + Send + Sync + Unpin + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .without_max_times()
            .build()
            .map(|longest| longest.mul_f64(fastrand::f64()))
    }

    /// The pause before an attempt, which counts from 1.
    pub(crate) fn pause_before(&self, attempt: u8) -> Duration {
        self.drawn_pauses().nth(usize::from(attempt.saturating_sub(1))).unwrap_or(self.longest_pause)
    }
}

impl Default for Resend {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
            most: 8,
            budget: RetryBudget::default(),
            halves: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_first_sends_and_one_a_second_are_covered() {
        let budget = RetryBudget::default();
        let covered = |budget: &RetryBudget| (0..1000).filter(|_| budget.withdraw()).count();
        assert_eq!(covered(&budget), 10, "what a second brings, for the ten of the window");
        assert_eq!(covered(&budget), 0);
        (0..200).for_each(|_| budget.deposit());
        assert_eq!(covered(&budget), 20);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(covered(&budget), 10, "first sends are forgotten, and the steady part is saved up once");
        assert_eq!(covered(&RetryBudget::unlimited()), 1000);
    }

    #[test]
    fn a_share_that_makes_no_sense_is_refused_with_what_is_allowed() {
        for bad in [-0.1, 10.1, f32::NAN, f32::INFINITY] {
            let error = RetryBudget::new(bad, 1).unwrap_err().to_string();
            assert!(error.contains("from 0 to 10"), "{error}");
        }
    }

    #[test]
    fn pauses_of_nothing_and_pauses_that_shrink_are_refused() {
        let ms = Duration::from_millis;
        for (first, longest) in [(0, 0), (0, 10), (11, 10)] {
            let error = Resend::default().pauses(ms(first), ms(longest)).unwrap_err().to_string();
            assert!(error.contains("above zero"), "{error}");
        }
    }

    #[test]
    fn pauses_are_drawn_below_a_bound_that_doubles() {
        let resend = Resend::default().pauses(Duration::from_millis(10), Duration::from_millis(100)).unwrap();
        for _ in 0..100 {
            let drawn = resend.drawn_pauses().take(6).map(|pause| pause.as_millis());
            for (pause, bound) in drawn.zip([10, 20, 40, 80, 100, 100]) {
                assert!(pause <= bound, "{pause} ms is more than {bound} ms");
            }
            assert!(resend.pause_before(1) <= Duration::from_millis(10));
            assert!(resend.pause_before(200) <= Duration::from_millis(100));
        }
    }

    #[test]
    fn a_wave_is_sent_again_so_often_and_weaker_each_time() {
        let attempts = |resend: &Resend| {
            let wave = Wave::builder("a").amplitude(1.0).build().unwrap();
            std::iter::successors(Some(wave), |wave| resend.next(wave))
                .map(|wave| wave.amplitude().as_f32())
                .collect::<Vec<_>>()
        };
        assert_eq!(attempts(&Resend::default().most(3)), [1.0, 0.5, 0.25, 0.125]);
        assert_eq!(attempts(&Resend::default().most(2).undiminished()), [1.0, 1.0, 1.0]);
        assert_eq!(attempts(&Resend::default().most(255)).len(), 32, "fainter than that there is nothing");
    }
}
