//! Echoes: streams that are regular because another stream is.
//!
//! Causes tell it exactly: most waves of an echo name a cause. Without causes, an echo follows each beat of the other stream
//! after a lag that varies much less than its own gaps.

use std::collections::VecDeque;

use crate::timeline::Moment;
use aether_core::Source;

/// Each wave counts one eighth in the share of waves with a cause, which is at most this.
const ALL: u8 = 255;
const MOST: u8 = ALL / 2;
/// The latest moments whose lags are compared, and the fewest that suffice.
const COMPARED: usize = 24;
const FEWEST: usize = 20;
/// Three quarters of the lags of an echo vary by less than this share of the median variation of its gaps. Lags that have
/// nothing to do with each other do so with a probability of 1e-11.
const LOCKED: f64 = 0.25;
/// The streams that beat last, as candidates.
const RECENT: usize = 16;

/// The stream or cause that the waves of a stream follow.
#[derive(Debug, Default)]
pub(super) struct Origin {
    caused: u8,
    /// The source of the latest cause.
    source: Option<Source>,
    /// The stream that this one follows by timing.
    pub(super) follows: Option<u32>,
}

impl Origin {
    /// Records the source of a wave's cause.
    pub(super) fn note(&mut self, cause: Option<&Source>) {
        let Some(cause) = cause else {
            self.caused -= self.caused.div_ceil(8);
            return;
        };
        self.caused += (ALL - self.caused).div_ceil(8);
        if self.source.as_ref() != Some(cause) {
            self.source = Some(cause.clone());
        }
    }

    /// Whether most of the latest waves had a cause.
    pub(super) fn is_caused(&self) -> bool {
        self.caused > MOST
    }

    /// The source of the causes, if most of the latest waves had one.
    pub(super) fn cause(&self) -> Option<&Source> {
        self.source.as_ref().filter(|_| self.is_caused())
    }
}

/// The streams that beat last.
#[derive(Debug)]
pub(super) struct LatestBeats {
    slots: [u32; RECENT],
    next: usize,
}

impl Default for LatestBeats {
    fn default() -> Self {
        Self { slots: [u32::MAX; RECENT], next: 0 }
    }
}

impl LatestBeats {
    pub(super) fn note(&mut self, slot: u32) {
        self.slots[self.next % RECENT] = slot;
        self.next = self.next.wrapping_add(1);
    }

    /// The streams other than `slot`, in no particular order.
    pub(super) fn others(&self, slot: u32) -> impl Iterator<Item = u32> + use<> {
        self.slots.into_iter().filter(move |other| *other != slot && *other != u32::MAX)
    }
}

/// Whether each of the latest moments of a stream follows one of the other after the same lag, which is shorter than half
/// of their period in seconds.
pub(super) fn follows(echo: &VecDeque<Moment>, other: &VecDeque<Moment>, period: f64) -> bool {
    let (mut lags, mut offs) = ([0.0; COMPARED], [0.0; COMPARED]);
    let (mut compared, mut later) = (0, None::<Moment>);
    let mut others = other.iter().rev().peekable();
    for at in echo.iter().rev().take(COMPARED) {
        while others.next_if(|other| *other > at).is_some() {}
        let Some(other) = others.peek() else { break };
        lags[compared] = at.since(**other).as_secs_f64();
        offs[compared] = later.map_or(0.0, |later| later.since(*at).as_secs_f64() - period);
        (later, compared) = (Some(*at), compared + 1);
    }
    if compared < FEWEST {
        return false;
    }
    let (lags, offs) = (&mut lags[..compared], &mut offs[1..compared]);
    let lag = quantile(lags, 0.5);
    lags.iter_mut().for_each(|other| *other = (*other - lag).abs());
    offs.iter_mut().for_each(|off| *off = off.abs());
    lag < period / 2.0 && quantile(lags, 0.75) < LOCKED * quantile(offs, 0.5)
}

fn quantile(numbers: &mut [f64], part: f64) -> f64 {
    let at = (numbers.len() as f64 * part) as usize;
    *numbers.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn moments(times: impl IntoIterator<Item = f64>) -> VecDeque<Moment> {
        times.into_iter().map(|time| Moment::default().plus(Duration::from_secs_f64(time))).collect()
    }

    #[test]
    fn a_stream_with_a_fixed_lag_follows_and_one_with_a_clock_of_its_own_does_not() {
        let mut random = fastrand::Rng::with_seed(3);
        let first: Vec<f64> = (1..60).map(|beat| f64::from(beat) + 0.05 * random.f64()).collect();
        let echo = moments(first.iter().map(|time| time + 0.1 + 0.005 * random.f64()));
        let own = moments((1..60).map(|beat| f64::from(beat) + 0.1 + 0.05 * random.f64()));
        let first = moments(first);
        assert!(follows(&echo, &first, 1.0));
        assert!(!follows(&first, &echo, 1.0), "the lag of the first after its echo is almost a period");
        assert!(!follows(&own, &first, 1.0) && !follows(&first, &own, 1.0));
        let exact = moments((1..60).map(f64::from));
        assert!(!follows(&exact, &exact, 1.0), "exact timers show no relation");
    }

    #[test]
    fn a_stream_is_caused_if_most_of_its_waves_are() {
        let cause = Source::with_instance("alpha", 1).unwrap();
        let mut origin = Origin::default();
        for wave in 0..100 {
            origin.note((wave % 4 > 0).then_some(&cause));
        }
        assert_eq!(origin.cause(), Some(&cause));
        for wave in 0..100 {
            origin.note((wave % 4 == 0).then_some(&cause));
        }
        assert!(!origin.is_caused() && origin.cause().is_none());
        (0..1000).for_each(|_| origin.note(None));
        (0..1000).for_each(|_| origin.note(Some(&cause)));
    }
}
