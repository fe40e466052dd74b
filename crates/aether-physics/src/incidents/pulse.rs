//! The pulse of a service or stream: when it was heard last, and how long it usually pauses.
//!
//! The judgement needs no model of the traffic. It rests on the longest pauses of the recent history: a silence is
//! improbable if it is several times as long as pauses that occurred many times.

use std::time::Duration;

use crate::timeline::Moment;

/// The number of longest pauses that are kept.
const KEPT: usize = 8;
/// A silence is improbable if it is this many times as long as the longest pause. Of random gaps (Poisson), the longest
/// of 64 is about 4.7 mean gaps, so four times as much is exceeded by one gap in 10^8.
const TIMES: u32 = 3;
/// More, divided by the number of pauses that are nearly as long: of few pauses the longest means little.
const TIMES_FEW: u32 = 8;
/// Pauses of at least this part of the longest are nearly as long.
const NEARLY: u32 = 4;
/// A history of fewer pauses is not judged.
const FEWEST: u32 = 64;
/// If pauses hardly vary, this number is enough.
const FEWEST_EVEN: u32 = 12;
/// Nor is a shorter history.
const SHORTEST: Duration = Duration::from_secs(20);
/// The history consists of two epochs. An epoch has at least this length and at least [`FEWEST`] pauses.
const EPOCH: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pulse {
    pub(super) first: Moment,
    pub(super) last: Moment,
    now: Epoch,
    before: Epoch,
}

#[derive(Debug, Clone, Copy, Default)]
struct Epoch {
    began: Moment,
    gaps: u32,
    /// The longest pauses, the longest first.
    longest: [Duration; KEPT],
}

impl Pulse {
    pub(super) fn new(now: Moment) -> Self {
        let epoch = Epoch { began: now, ..Epoch::default() };
        Self { first: now, last: now, now: epoch, before: Epoch::default() }
    }

    /// Records a sign of life. A pause that began before `watched` was not fully observed and does not count.
    pub(super) fn beat(&mut self, now: Moment, watched: Moment) {
        if self.last >= watched {
            self.now.add(now.since(self.last));
        }
        self.last = now;
        if self.now.gaps >= FEWEST && now.since(self.now.began) >= EPOCH {
            self.before = self.now;
            self.now = Epoch { began: now, ..Epoch::default() };
        }
    }

    /// The longest pause.
    pub(super) fn longest(&self) -> Duration {
        self.now.longest[0].max(self.before.longest[0])
    }

    /// The silence so far, as far as it was observed.
    pub(super) fn silence(&self, now: Moment, watched: Moment) -> Duration {
        now.since(self.last.max(watched))
    }

    /// The silence from which on it is improbable that the source lives; `None` if the history is too short.
    pub(super) fn patience(&self) -> Option<Duration> {
        let gaps = self.now.gaps.saturating_add(self.before.gaps);
        let longest = self.longest();
        let count = |least: Duration| {
            let kept = self.now.longest.iter().chain(&self.before.longest);
            kept.filter(|pause| **pause >= least && !pause.is_zero()).count().clamp(1, KEPT) as u32
        };
        let is_even = count(longest * 3 / 4) as usize == KEPT;
        let is_known = gaps >= FEWEST || gaps >= FEWEST_EVEN && is_even;
        let patience = longest * TIMES + longest * TIMES_FEW / count(longest / NEARLY);
        (is_known && self.last.since(self.first) >= SHORTEST).then_some(patience)
    }
}

impl Epoch {
    fn add(&mut self, gap: Duration) {
        self.gaps = self.gaps.saturating_add(1);
        if gap > self.longest[KEPT - 1] {
            let place = self.longest.partition_point(|longer| *longer >= gap);
            self.longest[place..].rotate_right(1);
            self.longest[place] = gap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn pulse(gaps: impl IntoIterator<Item = Duration>) -> Pulse {
        let mut now = Moment::default();
        let mut pulse = Pulse::new(now);
        for gap in gaps {
            now = now.plus(gap);
            pulse.beat(now, Moment::default());
        }
        pulse
    }

    #[test]
    fn an_even_pulse_is_known_soon_and_missed_after_four_gaps() {
        assert_eq!(pulse(vec![2000 * MILLI; 11]).patience(), None);
        assert_eq!(pulse(vec![2000 * MILLI; 12]).patience(), Some(8000 * MILLI));
        assert_eq!(pulse(vec![100 * MILLI; 100]).patience(), None, "ten seconds are too short");
    }

    #[test]
    fn bursts_are_missed_after_several_pauses_between_them() {
        let bursts = (0..400).map(|wave| if wave % 10 == 0 { 5000 * MILLI } else { MILLI });
        assert_eq!(pulse(bursts).patience(), Some(20_000 * MILLI));
    }

    #[test]
    fn one_stall_says_little_so_a_silence_must_be_much_longer() {
        let stalled = (0..1000).map(|wave| if wave == 500 { 3000 * MILLI } else { 50 * MILLI });
        assert_eq!(pulse(stalled).patience(), Some(33_000 * MILLI));
    }

    #[test]
    fn random_gaps_are_hardly_ever_improbable() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut now, mut false_alarms) = (Moment::default(), 0);
        let mut pulse = Pulse::new(now);
        for _ in 0..300_000 {
            let gap = Duration::from_secs_f64(-libm::log(1.0 - random.f64()));
            false_alarms += u32::from(pulse.patience().is_some_and(|patience| gap > patience));
            now = now.plus(gap);
            pulse.beat(now, Moment::default());
        }
        assert!(false_alarms <= 1, "{false_alarms}");
    }

    #[test]
    fn what_was_not_watched_is_no_pause() {
        let mut pulse = pulse(vec![1000 * MILLI; 30]);
        let later = pulse.last.plus(100_000 * MILLI);
        assert_eq!(pulse.silence(later, later), Duration::ZERO);
        pulse.beat(later, later);
        assert_eq!(pulse.longest(), 1000 * MILLI);
    }
}
