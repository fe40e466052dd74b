//! Logs failed waves: the first of each kind at once with what finds it elsewhere, and then one count for each interval.
//!
//! A kind is a handler and how it failed. Only the log is limited: the report of the service counts every failure, and every
//! asker and source receives its own. The table is bounded by the number of handlers.

use std::collections::BTreeMap;
use std::time::Duration;

use aether_core::{Channel, Pattern, Wave};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::report::Outcome;

/// The time between two counts of one kind of failure. After an interval without a failure the next one is a first one
/// again.
const INTERVAL: Duration = Duration::from_secs(10);

/// The failures of one set of handlers.
#[derive(Debug)]
pub(super) struct FailureLog {
    /// The patterns of the handlers.
    handlers: Vec<Pattern>,
    /// By the number of the handler and the outcome.
    kinds: Mutex<BTreeMap<(usize, Outcome), Interval>>,
    /// A kind has failed for the first time.
    begun: Notify,
}

/// The failures of a kind since the last line about it.
#[derive(Debug)]
struct Interval {
    ends: Instant,
    failures: u64,
}

impl FailureLog {
    pub(super) fn new(handlers: &[Pattern]) -> Self {
        Self { handlers: handlers.to_vec(), kinds: Mutex::default(), begun: Notify::new() }
    }

    /// Logs a failure, or counts it.
    pub(super) fn log(&self, service: &str, wave: &Wave, outcome: Outcome, hint: &str) {
        let (id, root, channel, outcome_text) = (wave.id(), wave.root(), wave.channel(), outcome.as_str());
        // The report of the service counts these, and logs them once.
        if outcome != Outcome::Left && self.is_first(channel, outcome) {
            tracing::warn!(
                service, outcome = outcome_text, %channel, wave = %id, %root, attempt = wave.attempt(), hint,
                "a wave was not handled; more of this kind are counted every {INTERVAL:?}"
            );
        } else {
            tracing::debug!(service, outcome = outcome_text, %channel, wave = %id, %root, hint, "a wave was not handled");
        }
    }

    fn is_first(&self, channel: &Channel, outcome: Outcome) -> bool {
        let handler = self.handlers.iter().position(|pattern| pattern.matches(channel));
        let mut kinds = self.kinds.lock();
        if let Some(interval) = kinds.get_mut(&(handler.unwrap_or(self.handlers.len()), outcome)) {
            interval.failures += 1;
            return false;
        }
        let interval = Interval { ends: Instant::now() + INTERVAL, failures: 0 };
        kinds.insert((handler.unwrap_or(self.handlers.len()), outcome), interval);
        self.begun.notify_one();
        true
    }

    /// Logs the counts at the end of each interval, for ever.
    pub(super) async fn log_counts(&self, service: &str) {
        loop {
            let next = self.kinds.lock().values().map(|interval| interval.ends).min();
            match next {
                Some(end) => sleep_until(end).await,
                None => self.begun.notified().await,
            }
            self.log_until(service, Some(Instant::now()));
        }
    }

    /// Logs what was counted since the last line.
    pub(super) fn log_rest(&self, service: &str) {
        self.log_until(service, None);
    }

    /// Logs the intervals that have ended, and starts new ones; all of them without a time.
    fn log_until(&self, service: &str, now: Option<Instant>) {
        let mut counted = Vec::new();
        self.kinds.lock().retain(|(handler, outcome), interval| {
            if now.is_some_and(|now| interval.ends > now) {
                return true;
            }
            let failures = std::mem::take(&mut interval.failures);
            interval.ends += INTERVAL;
            if failures > 0 {
                counted.push((*handler, *outcome, failures));
            }
            failures > 0
        });
        for (handler, outcome, failures) in counted {
            let handler = self.handlers.get(handler).map_or("-", Pattern::as_str);
            tracing::warn!(
                service,
                handler,
                outcome = outcome.as_str(),
                failures,
                "more waves were not handled"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kind_is_first_once_and_again_after_an_interval_without_a_failure() {
        let pattern = |text| Pattern::new(text).unwrap();
        let channel = |text| Channel::new(text).unwrap();
        let log = FailureLog::new(&[pattern("a.*"), pattern("b")]);
        let first = |name, outcome| log.is_first(&channel(name), outcome);
        assert!(first("a.x", Outcome::Failed));
        assert!(!first("a.y", Outcome::Failed), "the same handler");
        assert!(first("a.x", Outcome::TimedOut) && first("b", Outcome::Failed));
        assert!(first("c", Outcome::Rejected) && !first("c", Outcome::Rejected), "no handler");
        let kinds = || log.kinds.lock().len();
        assert_eq!(kinds(), 4);
        let counting = log.log_counts("service");
        tokio::pin!(counting);
        let pass = |time| tokio::time::timeout(time, std::future::pending::<()>());
        for left in [2, 0] {
            // Kinds without another failure are forgotten.
            tokio::select! {
                () = &mut counting => unreachable!("it does not end"),
                _ = pass(INTERVAL + Duration::from_millis(10)) => {}
            }
            assert_eq!(kinds(), left);
        }
        assert!(first("a.x", Outcome::Failed));
    }
}
