//! Which paths reach everybody: processes tell each other by all paths which of them they can use.
//!
//! A path that is connected here may be broken elsewhere. If one machine loses its cable, the network of the others goes on,
//! and what they send by it does not reach that machine. So each process sends a beat by each connected path, with
//! the paths that it can use itself: those that stand, and by which it hears everybody whom it hears at all. A path is
//! agreed on while all can use it. A process that was silent on all paths has gone, and counts no more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::choosing::Breaker;
use aether_core::clock::Instant;
use aether_core::wave::ContentType;
use aether_core::{Channel, Wave};

/// The channel of the beats.
pub(super) const PATHS: &str = "_aether.paths";
/// How often a process sends beats; less often among many, so that a process gets at most [`BEATS_PER_SECOND`] by a path.
pub(super) const BEAT: Duration = Duration::from_secs(2);
const BEATS_PER_SECOND: f64 = 50.0;
const SLOWEST_BEAT: Duration = Duration::from_secs(60);
/// After this many beats that did not come, somebody is not there.
const MISSED_BEATS: f64 = 3.5;
/// The processes that are known at most: as many as the beats of [`SLOWEST_BEAT`] allow, in less than 1 MiB.
const MAX_OTHERS: usize = 3000;
pub(super) const MAX_BEAT_BYTES: usize = 1024;

/// The message of a process, by one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// The process.
    node: u64,
    /// The path by which this was sent.
    path: usize,
    /// Whether it can use each of its paths.
    usable: Vec<bool>,
    every_millis: u64,
}

/// Another process.
#[derive(Debug)]
struct Other {
    /// When it was heard last by each path; when it was heard first, by those by which it never was.
    heard: Vec<Instant>,
    /// Whether it can use each path. A path that it lost and has again is on trial here as well, so that a process
    /// whose path comes and goes does not move all others each time.
    usable: Vec<Breaker>,
    every: Duration,
}

impl Other {
    fn silence(&self) -> Duration {
        self.every.mul_f64(MISSED_BEATS)
    }

    fn last_heard(&self) -> Option<Instant> {
        self.heard.iter().max().copied()
    }

    /// Whether it is heard by other paths, and not by this one.
    fn is_missing_on(&self, path: usize) -> bool {
        let (Some(here), Some(last)) = (self.heard.get(path), self.last_heard()) else { return true };
        last.saturating_duration_since(*here) > self.silence()
    }

    fn is_cut_off_from(&self, path: usize, now: Instant) -> bool {
        self.is_missing_on(path) || !self.usable.get(path).is_some_and(|usable| usable.is_closed(now))
    }
}

/// The paths that the others can use.
#[derive(Debug)]
pub(super) struct Agreement {
    node: u64,
    paths: usize,
    others: Mutex<HashMap<u64, Other>>,
    /// A process with another number of paths was reported.
    has_reported: AtomicBool,
}

impl Agreement {
    pub(super) fn new(paths: usize) -> Self {
        Self {
            node: fastrand::u64(..),
            paths,
            others: Mutex::default(),
            has_reported: AtomicBool::new(false),
        }
    }

    /// How often this process sends beats.
    pub(super) fn every(&self) -> Duration {
        let among_many = Duration::from_secs_f64(self.others.lock().len() as f64 / BEATS_PER_SECOND);
        among_many.clamp(BEAT, SLOWEST_BEAT)
    }

    /// The same, shortly after a path has reconnected.
    pub(super) fn every_when_fresh(&self) -> Duration {
        self.every() / 40
    }

    /// The beat of this process, by a path.
    pub(super) fn beat(&self, path: usize, usable: Vec<bool>) -> Option<Wave> {
        let every_millis = self.every().as_millis().try_into().unwrap_or(u64::MAX);
        let beat = Beat { node: self.node, path, usable, every_millis };
        let payload = serde_json::to_vec(&beat).ok()?;
        let channel = Channel::with_reserved(PATHS).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json))
    }

    /// Notes the beat of another process. Returns whether it changed what that process can use.
    pub(super) fn note(&self, beat: Beat, now: Instant) -> bool {
        let Beat { node, path, usable, every_millis } = beat;
        if node == self.node {
            return false;
        }
        if usable.len() != self.paths || path >= self.paths {
            if !self.has_reported.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    paths = self.paths,
                    theirs = usable.len(),
                    "another process has other paths: all should have the same ones, in the same order"
                );
            }
            return false;
        }
        let mut others = self.others.lock();
        if others.len() >= MAX_OTHERS && !others.contains_key(&node) {
            return false;
        }
        let cut_off =
            |other: &Other| (0..self.paths).map(|path| other.is_cut_off_from(path, now)).collect::<Vec<_>>();
        let mut before = vec![false; self.paths];
        let other = match others.entry(node) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                before = cut_off(known);
                known
            }
            // A path that it does not have yet is not a lost one.
            Entry::Vacant(unknown) => unknown.insert(Other {
                heard: vec![now; self.paths],
                usable: usable.iter().map(|usable| Breaker::new(*usable, now)).collect(),
                every: BEAT,
            }),
        };
        if let Some(heard) = other.heard.get_mut(path) {
            *heard = now;
        }
        other.usable.iter_mut().zip(usable).for_each(|(breaker, usable)| breaker.note(usable, now));
        other.every = Duration::from_millis(every_millis).clamp(BEAT, SLOWEST_BEAT);
        cut_off(other) != before
    }

    /// Forgets who was silent on all paths for too long.
    pub(super) fn forget_silent(&self, now: Instant) {
        self.others.lock().retain(|_, other| {
            other.last_heard().is_some_and(|last| now.saturating_duration_since(last) <= other.silence())
        });
    }

    /// The number of processes that do not hear, or are not heard, by a path.
    pub(super) fn cut_off(&self, path: usize, now: Instant) -> usize {
        self.others.lock().values().filter(|other| other.is_cut_off_from(path, now)).count()
    }

    /// When the first trial of a path of another process ends.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let others = self.others.lock();
        let ends = others.values().flat_map(|other| other.usable.iter().filter_map(Breaker::trial_end));
        ends.filter(|end| *end > now).min()
    }

    /// Whether all others are heard by a path.
    pub(super) fn hears_all(&self, path: usize) -> bool {
        !self.others.lock().values().any(|other| other.is_missing_on(path))
    }

    /// Whether all others were heard by a path since then.
    pub(super) fn has_heard_all(&self, path: usize, since: Instant) -> bool {
        let others = self.others.lock();
        others.values().all(|other| other.heard.get(path).is_some_and(|heard| *heard >= since))
    }

    /// Whether all can use each path.
    pub(super) fn agreed(&self, now: Instant) -> Vec<bool> {
        let others = self.others.lock();
        let all_can_use = |path| !others.values().any(|other| other.is_cut_off_from(path, now));
        (0..self.paths).map(all_can_use).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::clock;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn beat(node: u64, path: usize, usable: [bool; 2]) -> Beat {
        Beat { node, path, usable: usable.to_vec(), every_millis: 2000 }
    }

    #[test]
    fn a_path_that_somebody_cannot_use_is_not_agreed_on() {
        let (agreement, now) = (Agreement::new(2), clock::test_now());
        assert_eq!(agreement.agreed(now), [true, true], "nobody else is there");
        assert!(!agreement.note(beat(1, 0, [true, true]), now));
        assert!(agreement.note(beat(1, 1, [false, true]), now));
        assert_eq!((agreement.agreed(now), agreement.cut_off(0, now)), (vec![false, true], 1));
        assert!(agreement.hears_all(0));
        assert!(!agreement.note(beat(1, 1, [true, true]), now), "on trial");
        assert_eq!(agreement.next_change(now), Some(now + secs(1.0)));
        assert_eq!(agreement.agreed(now + secs(1.0)), [true, true]);
        assert!(!agreement.note(beat(agreement.node, 1, [false, true]), now), "its own");
    }

    #[test]
    fn a_path_that_comes_and_goes_for_somebody_is_left_for_longer_each_time() {
        let (agreement, mut now) = (Agreement::new(2), clock::test_now());
        agreement.note(beat(1, 1, [true, true]), now);
        for trial in [1.0, 2.0, 4.0, 8.0] {
            agreement.note(beat(1, 1, [false, true]), now);
            agreement.note(beat(1, 1, [true, true]), now);
            assert_eq!(agreement.agreed(now + secs(trial - 0.1)), [false, true]);
            now += secs(trial);
            assert_eq!(agreement.agreed(now), [true, true]);
        }
    }

    #[test]
    fn a_path_that_a_new_process_does_not_have_yet_is_used_at_once_when_it_has_it() {
        let (agreement, now) = (Agreement::new(2), clock::test_now());
        assert!(agreement.note(beat(1, 1, [false, true]), now));
        assert!(agreement.note(beat(1, 0, [true, true]), now));
        assert_eq!(agreement.agreed(now), [true, true]);
    }

    #[test]
    fn who_is_heard_by_one_path_only_is_cut_off_from_the_other() {
        let (agreement, start) = (Agreement::new(2), clock::test_now());
        for beats in 0..5 {
            let now = start + 2 * BEAT * beats / 2;
            agreement.note(beat(1, 0, [true, true]), now);
            agreement.note(beat(1, 1, [true, true]), now);
            agreement.note(beat(2, 1, [true, true]), now);
        }
        let now = start + secs(8.1);
        assert_eq!((agreement.agreed(now), agreement.hears_all(0)), (vec![false, true], false));
        assert!(agreement.note(beat(2, 0, [true, true]), now), "heard again");
        assert_eq!(agreement.agreed(now), [true, true]);
    }

    #[test]
    fn who_has_gone_counts_no_more_and_makes_no_path_suspect() {
        let (agreement, start) = (Agreement::new(2), clock::test_now());
        agreement.note(beat(1, 0, [true, true]), start);
        agreement.note(beat(1, 1, [true, true]), start + secs(0.2));
        agreement.note(beat(2, 1, [false, true]), start);
        for now in [secs(3.0), secs(6.9)] {
            agreement.note(beat(3, 1, [true, true]), start + now);
        }
        assert_eq!(agreement.agreed(start + secs(6.9)), [false, true], "the second one reports it");
        agreement.forget_silent(start + secs(6.9));
        assert_eq!(agreement.agreed(start + secs(6.9)), [false, true]);
        agreement.note(beat(3, 0, [true, true]), start + secs(7.3));
        agreement.forget_silent(start + secs(7.3));
        assert_eq!(agreement.agreed(start + secs(7.3)), [true, true]);
        assert_eq!(agreement.others.lock().len(), 1);
    }

    #[test]
    fn all_are_heard_again_when_each_has_sent_a_beat_by_the_path() {
        let (agreement, start) = (Agreement::new(2), clock::test_now());
        agreement.note(beat(1, 0, [true, true]), start);
        agreement.note(beat(2, 0, [true, true]), start);
        let back = start + secs(1.0);
        agreement.note(beat(1, 0, [true, true]), back + secs(0.1));
        agreement.note(beat(2, 1, [true, true]), back + secs(0.1));
        assert!(!agreement.has_heard_all(0, back), "the second one came by the other path");
        agreement.note(beat(2, 0, [true, true]), back + secs(0.2));
        assert!(agreement.has_heard_all(0, back));
    }

    #[test]
    fn the_table_is_bounded_and_many_processes_beat_less_often() {
        let (agreement, now) = (Agreement::new(2), clock::test_now());
        for node in 0..2 * MAX_OTHERS as u64 {
            agreement.note(beat(node, 0, [true, true]), now);
        }
        assert_eq!(agreement.others.lock().len(), MAX_OTHERS);
        assert_eq!(agreement.every(), SLOWEST_BEAT);
        assert!(!agreement.note(Beat { usable: vec![true; 9], ..beat(1, 0, [true; 2]) }, now), "other paths");
        assert!(!agreement.note(beat(1, 2, [true; 2]), now), "no such path");
    }
}
