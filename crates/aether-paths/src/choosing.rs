//! The choice among paths: a circuit breaker for each, and the first path that may be used.
//!
//! The breaker is open while a path is broken. A path that has reconnected is on trial (half open): nothing is sent by
//! it while another path is connected, because a connection that has broken once often breaks again. Then the breaker is
//! closed.

use std::time::Duration;

use aether_core::clock::Instant;

/// How long a path has to stand before it is used again. It doubles with each break, up to [`LONGEST_TRIAL`].
const TRIAL: Duration = Duration::from_secs(1);
const LONGEST_TRIAL: Duration = Duration::from_secs(60);
/// How long a path that has reconnected waits for others. They try to connect every 0.75 s at the latest, and such an
/// attempt may take a second.
const FRESH: Duration = Duration::from_secs(3);
/// A path that stood for this long has a clean record.
const FORGIVEN: Duration = Duration::from_secs(60);

/// The circuit breaker of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Breaker {
    stands: bool,
    /// Since when it has stood, or not stood.
    since: Instant,
    /// The breaks in a row, without a long time between.
    breaks: u32,
}

impl Breaker {
    pub(super) const fn new(stands: bool, now: Instant) -> Self {
        Self { stands, since: now, breaks: 0 }
    }

    /// Notes whether the path is connected now.
    pub(super) fn note(&mut self, stands: bool, now: Instant) {
        if stands == self.stands {
            return;
        }
        if self.stands {
            let is_forgiven = now.saturating_duration_since(self.since) >= FORGIVEN;
            self.breaks = if is_forgiven { 1 } else { self.breaks.saturating_add(1) };
        }
        (self.stands, self.since) = (stands, now);
    }

    pub(super) const fn stands(&self) -> bool {
        self.stands
    }

    /// Since when it has stood, or not stood.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// When the trial of a connected path ends; `None` if it is broken.
    pub(super) fn trial_end(&self) -> Option<Instant> {
        let trial = match self.breaks {
            0 => Duration::ZERO,
            breaks => TRIAL.saturating_mul(1 << (breaks - 1).min(6)).min(LONGEST_TRIAL),
        };
        self.stands.then(|| self.since + trial)
    }

    pub(super) fn is_on_trial(&self, now: Instant) -> bool {
        self.trial_end().is_some_and(|end| end > now)
    }

    /// Until when a path that has reconnected counts as fresh: others may need a moment more.
    pub(super) fn fresh_end(&self) -> Option<Instant> {
        (self.stands && self.breaks > 0).then(|| self.since + FRESH)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_end().is_some_and(|end| end > now)
    }

    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.stands && !self.is_on_trial(now)
    }
}

/// The path to use: the first one whose breaker is closed and that `is_agreed`. A path on trial, or one that others are
/// cut off from, is better than none, and the current one is kept if nothing is better. After an outage of all, one
/// that has just reconnected is not left because others are not back yet.
pub(super) fn choose(
    breakers: &[Breaker],
    current: usize,
    now: Instant,
    is_agreed: impl Fn(usize) -> bool,
) -> usize {
    let stands = |path: usize| breakers.get(path).is_some_and(Breaker::stands);
    let is_closed = |path: usize| breakers.get(path).is_some_and(|breaker| breaker.is_closed(now));
    let first = |may_use: &dyn Fn(usize) -> bool| (0..breakers.len()).find(|path| may_use(*path));
    let keeps = |may_use: &dyn Fn(usize) -> bool| may_use(current).then_some(current);
    let is_fresh = |path: usize| breakers.get(path).is_some_and(|breaker| breaker.is_fresh(now));
    let agreed = |path: usize| stands(path) && (is_agreed(path) || path == current && is_fresh(path));
    first(&|path| is_closed(path) && is_agreed(path))
        .filter(|path| *path < current || !agreed(current))
        .or_else(|| keeps(&agreed))
        .or_else(|| first(&agreed))
        .or_else(|| keeps(&stands))
        .or_else(|| first(&stands))
        .unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everybody(_: usize) -> bool {
        true
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn the_first_path_is_used_again_after_a_trial() {
        let start = aether_core::clock::test_now();
        let mut paths = [Breaker::new(true, start); 2];
        assert_eq!(choose(&paths, 0, start, everybody), 0);
        paths[0].note(false, start);
        assert_eq!(choose(&paths, 0, start, everybody), 1);
        paths[0].note(true, start + secs(5.0));
        assert!(paths[0].is_on_trial(start + secs(5.9)));
        assert_eq!(choose(&paths, 1, start + secs(5.9), everybody), 1);
        assert_eq!(paths[0].trial_end(), Some(start + secs(6.0)));
        assert_eq!(choose(&paths, 1, start + secs(6.0), everybody), 0);
    }

    #[test]
    fn trials_get_longer_until_a_path_has_stood_for_a_minute() {
        let start = aether_core::clock::test_now();
        let mut path = Breaker::new(true, start);
        let mut now = start;
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            path.note(false, now);
            path.note(true, now);
            assert_eq!(path.trial_end(), Some(now + Duration::from_secs(expected)));
            now += secs(0.1);
        }
        now += FORGIVEN;
        path.note(false, now);
        path.note(true, now);
        assert_eq!(path.trial_end(), Some(now + TRIAL));
    }

    #[test]
    fn a_path_on_trial_is_better_than_none_and_is_not_left_without_need() {
        let start = aether_core::clock::test_now();
        let mut paths = [Breaker::new(true, start); 3];
        for path in &mut paths {
            path.note(false, start);
        }
        assert_eq!(choose(&paths, 1, start, everybody), 1, "nothing is connected");
        paths[2].note(true, start);
        assert_eq!(choose(&paths, 1, start, everybody), 2);
        paths[1].note(true, start + secs(0.5));
        assert_eq!(choose(&paths, 2, start + secs(0.6), everybody), 2, "both are on trial");
        assert_eq!(choose(&paths, 2, start + secs(1.2), everybody), 2, "only the first one's trial is over");
        assert_eq!(choose(&paths, 2, start + secs(1.6), everybody), 1);
    }

    #[test]
    fn a_path_that_is_back_is_kept_for_a_moment_although_others_are_not() {
        let start = aether_core::clock::test_now();
        let mut paths = [Breaker::new(true, start); 2];
        for path in &mut paths {
            path.note(false, start);
            path.note(true, start + secs(1.0));
        }
        assert_eq!(choose(&paths, 0, start + secs(3.9), |path| path == 1), 0);
        assert_eq!(choose(&paths, 0, start + secs(4.0), |path| path == 1), 1);
    }

    #[test]
    fn a_path_that_others_are_cut_off_from_is_the_last_resort() {
        let start = aether_core::clock::test_now();
        let mut paths = [Breaker::new(true, start); 2];
        assert_eq!(choose(&paths, 0, start, |path| path == 1), 1);
        paths[1].note(false, start);
        assert_eq!(choose(&paths, 1, start, |path| path == 1), 0);
        assert_eq!(choose(&paths, 0, start, |_| false), 0);
    }
}
