//! The pace of one question: its latest gaps, and whether they are even.

use std::time::Duration;

/// The number of gaps that are kept.
const GAPS: usize = 16;
/// The number of gaps that a timer shows, and their greatest deviation from the median. Gaps by chance (Poisson) stay
/// within it with a probability of 5e-8 (simulated).
const STRICT: (usize, f32) = (8, 0.12);
/// Of [`GAPS`] gaps, this number stays within the other deviation: by chance, with a probability of 1e-7.
const LENIENT: (usize, f32) = (14, 0.30);

/// The latest gaps between two questions, in seconds.
#[derive(Debug, Default)]
pub(super) struct Pace {
    gaps: [f32; GAPS],
    noted: u32,
}

impl Pace {
    pub(super) fn note(&mut self, gap: Duration) {
        self.gaps[self.noted as usize % GAPS] = gap.as_secs_f32();
        // Wraps by whole rounds, so that the place of the next gap stays right.
        self.noted = self.noted.checked_add(1).unwrap_or(2 * GAPS as u32);
    }

    /// The latest gap.
    pub(super) fn latest(&self) -> Option<Duration> {
        let latest = self.noted.checked_sub(1)?;
        Duration::try_from_secs_f32(self.gaps[latest as usize % GAPS]).ok()
    }

    /// The median gap, if the gaps are even.
    pub(super) fn period(&self) -> Option<Duration> {
        let latest = |most: usize| {
            let noted = self.noted as usize;
            (noted.saturating_sub(most)..noted).map(|place| self.gaps[place % GAPS])
        };
        let even = |gaps: usize, needed: usize, deviation: f32| {
            if (self.noted as usize) < gaps {
                return None;
            }
            let mut sorted = [0.0; GAPS];
            sorted.iter_mut().zip(latest(gaps)).for_each(|(place, gap)| *place = gap);
            let sorted = &mut sorted[..gaps];
            sorted.sort_unstable_by(f32::total_cmp);
            let median = f32::midpoint(sorted[(gaps - 1) / 2], sorted[gaps / 2]);
            let within = sorted.iter().filter(|gap| (**gap - median).abs() <= deviation * median).count();
            (within >= needed && median > 0.0).then_some(median)
        };
        let median = even(STRICT.0, STRICT.0, STRICT.1).or_else(|| even(GAPS, LENIENT.0, LENIENT.1))?;
        Duration::try_from_secs_f32(median).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(gaps: impl IntoIterator<Item = f32>) -> Pace {
        let mut pace = Pace::default();
        gaps.into_iter().for_each(|gap| pace.note(Duration::from_secs_f32(gap)));
        pace
    }

    #[test]
    fn eight_even_gaps_are_a_pace_and_seven_are_not() {
        assert_eq!(pace([2.0; 7]).period(), None);
        assert_eq!(pace([2.0; 8]).period(), Some(Duration::from_secs(2)));
        // The ring is full several times over.
        assert_eq!(
            pace((0..100).map(|gap| if gap < 90 { 5.0 } else { 1.0 })).period(),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn a_loose_pace_needs_more_gaps_and_may_have_outliers() {
        let loose = |gap: usize| if gap % 9 == 8 { 9.0 } else { [0.8, 1.0, 1.2][gap % 3] };
        assert_eq!(pace((0..15).map(loose)).period(), None);
        let found = pace((0..18).map(loose)).period().unwrap().as_secs_f32();
        assert!((0.8..=1.2).contains(&found), "{found}");
    }

    #[test]
    fn gaps_by_chance_are_no_pace() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut pace = Pace::default();
        for _ in 0..100_000 {
            pace.note(Duration::from_secs_f32(-(1.0 - random.f32()).ln()));
            assert_eq!(pace.period(), None, "{pace:?}");
        }
    }
}
