//! A stream's moments prepared for analysis, and the observed gaps between them.
//!
//! Used by [`PeriodicStream`](super::stream::PeriodicStream). Beats during a pause of the engine are not seen. A gap
//! that overlaps a pause tells nothing about the period and is not a missing beat. A stream observed in parts also
//! appears more regular than it is, because gaps longer than a part cannot be seen. The lengths of the parts and their
//! silences are therefore recorded.

use std::collections::VecDeque;

use crate::timeline::Moment;

/// The maximum number of lapses. Beyond it, the two oldest are merged, with the time between them.
const MOST_LAPSES: usize = 64;

/// Lapses: periods in which beats may have been missed.
#[derive(Debug, Default)]
pub(super) struct Lapses {
    /// In the order of time, disjoint.
    lapses: VecDeque<(Moment, Moment)>,
}

impl Lapses {
    /// Adds a lapse, which must not end before any other.
    pub(super) fn add(&mut self, mut from: Moment, to: Moment) {
        while let Some(&(before, end)) = self.lapses.back()
            && from <= end
        {
            from = from.min(before);
            self.lapses.pop_back();
        }
        if self.lapses.len() == MOST_LAPSES
            && let Some((from, _)) = self.lapses.pop_front()
            && let Some(oldest) = self.lapses.front_mut()
        {
            oldest.0 = from;
        }
        self.lapses.push_back((from, to));
    }

    /// The end of the last lapse.
    pub(super) fn watched_since(&self) -> Moment {
        self.lapses.back().map_or(Moment::default(), |lapse| lapse.1)
    }
}

/// Moments in seconds after the first, with reusable memory.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// In ascending order.
    pub(super) times: Vec<f64>,
    /// The gap from each moment to the next; infinite if a beat in between may have been missed.
    pub(super) gaps: Vec<f64>,
    /// The longest observed silence in each of those gaps.
    pub(super) silences: Vec<f64>,
    /// The length of the shortest observation with a known gap. Longer gaps could not have been seen in it.
    pub(super) look: f64,
}

impl Series {
    /// Prepares the ascending moments of a stream, as observed until now.
    pub(super) fn fill(&mut self, moments: &VecDeque<Moment>, lapses: &Lapses, now: Moment) {
        self.times.clear();
        self.gaps.clear();
        self.silences.clear();
        self.look = f64::INFINITY;
        let Some(&first) = moments.front() else { return };
        self.times.extend(moments.iter().map(|moment| seconds(*moment, first)));
        let mut lapses = lapses.lapses.iter().peekable();
        // The start of the observation that saw the previous moment, and whether it contains a known gap.
        let (mut began, mut counts) = (Moment::default(), false);
        while let Some((_, to)) = lapses.next_if(|lapse| lapse.1 <= first) {
            began = *to;
        }
        for (&before, &moment) in moments.iter().zip(moments.iter().skip(1)) {
            let (mut since, mut silence, mut is_known) = (before, 0.0, true);
            while let Some(&&(from, to)) = lapses.peek()
                && from < moment
            {
                is_known = false;
                silence = f64::max(silence, seconds(from, since));
                if std::mem::take(&mut counts) {
                    self.look = self.look.min(seconds(from, began));
                }
                (since, began) = (to, to);
                if to > moment {
                    // Emitted during a lapse and received after it: the next gap is unknown as well.
                    break;
                }
                lapses.next();
            }
            if is_known {
                self.gaps.push(seconds(moment, before));
                counts = true;
            } else {
                self.gaps.push(f64::INFINITY);
                self.silences.push(silence.max(seconds(moment, since)));
            }
        }
        if counts {
            let end = lapses.next().map_or(now, |lapse| lapse.0);
            self.look = self.look.min(seconds(end, began));
        }
    }

    /// Moments observed without a lapse.
    #[cfg(test)]
    pub(super) fn whole(times: &[f64]) -> Self {
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Self { times: times.to_vec(), gaps, silences: Vec::new(), look: f64::INFINITY }
    }
}

fn seconds(moment: Moment, since: Moment) -> f64 {
    moment.since(since).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::default().plus(Duration::from_secs(seconds))
    }

    fn series(moments: &[u64], lapses: &[(u64, u64)], now: u64) -> Series {
        let mut all = Lapses::default();
        lapses.iter().for_each(|(from, to)| all.add(at(*from), at(*to)));
        let mut series = Series::default();
        series.fill(&moments.iter().map(|moment| at(*moment)).collect(), &all, at(now));
        series
    }

    #[test]
    fn gaps_with_a_lapse_are_unknown() {
        let seen = series(&[1, 2, 3, 20, 21, 40], &[(4, 17), (24, 30), (31, 32)], 50);
        assert_eq!(seen.times, [0.0, 1.0, 2.0, 19.0, 20.0, 39.0]);
        assert_eq!(seen.gaps, [1.0, 1.0, f64::INFINITY, 1.0, f64::INFINITY]);
        // From 17 to 20 in one observation; from 32 to 40 in the last.
        assert_eq!((seen.silences.as_slice(), seen.look), (&[3.0, 8.0][..], 4.0));
        assert_eq!(series(&[1, 2, 3], &[], 50).look, 50.0);
        assert_eq!(series(&[31, 32], &[(4, 17), (24, 30)], 33).look, 3.0);
    }

    #[test]
    fn a_wave_emitted_in_a_lapse_and_received_later_has_no_known_gap() {
        let seen = series(&[1, 2, 10, 18, 19], &[(4, 17)], 20);
        assert_eq!(seen.gaps, [1.0, f64::INFINITY, f64::INFINITY, 1.0]);
    }

    #[test]
    fn adjacent_lapses_and_old_ones_are_merged() {
        let mut lapses = Lapses::default();
        for number in 0..1000 {
            lapses.add(at(10 * number), at(10 * number + 5));
            lapses.add(at(10 * number + 5), at(10 * number + 6));
        }
        assert_eq!((lapses.lapses.len(), lapses.watched_since()), (MOST_LAPSES, at(9996)));
        assert_eq!(lapses.lapses[0], (at(0), at(9366)));
        assert_eq!(lapses.lapses[1], (at(9370), at(9376)));
        lapses.add(at(9972), at(10_000));
        assert_eq!(lapses.lapses.back(), Some(&(at(9970), at(10_000))));
        assert_eq!(lapses.lapses.len(), MOST_LAPSES - 2);
    }
}
