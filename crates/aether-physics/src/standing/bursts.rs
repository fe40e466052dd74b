//! Bursts: groups of waves close together, such as batches. The beat of a batch is its first wave.
//!
//! Used by [`PeriodicStream`](super::stream::PeriodicStream). Twelve moments inside of one burst are as regular as a timer,
//! so bursts are recognised while they arrive: a gap is the beginning of a burst if it is at least eight times as long as
//! the typical gap. Gaps are compared by their octave, which costs no logarithm.

use std::collections::VecDeque;

use crate::timeline::Moment;

/// An octave of gaps is this many steps.
const OCTAVE: i32 = 256;
/// A gap begins a burst if it is this many octaves longer than a typical one.
const APART: i32 = 3 * OCTAVE;
/// The typical gap is the mean of about this many octaves.
const MEAN_OF: i32 = 16;
/// A stream comes in bursts after this many beginnings, most of them with this many waves.
const BEGINNINGS: usize = 6;
const FEWEST_EACH: u32 = 3;
/// The beginnings that are kept until then.
const KEPT: usize = 12;
/// A burst that is this many times as large as the others is none: the stream is steady now.
const STEADY: u32 = 32;

/// The recognition of bursts in one stream.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    latest: Option<Moment>,
    /// The mean octave of the gaps.
    typical: i32,
    /// The number of waves so far.
    waves: u32,
    /// The first moments of the latest bursts, and the number of waves before them. Empty once bursts are known.
    beginnings: VecDeque<(Moment, u32)>,
    /// If the stream comes in bursts: the octave at which a gap begins one, and the number of waves in the largest.
    known: Option<(i32, u32)>,
    /// The number of waves before the current burst.
    begun: u32,
}

/// Where a wave is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is a moment of its own.
    Apart,
    /// It belongs to the burst that is under way.
    Inside,
    /// The stream no longer comes in bursts.
    Steady,
}

impl Bursts {
    /// Records a wave.
    pub(super) fn note(&mut self, at: Moment) -> Place {
        let Some(latest) = self.latest else {
            self.latest = Some(at);
            return Place::Apart;
        };
        if at <= latest {
            // Out of order: it belongs to whatever is around it.
            return if self.known.is_some() { Place::Inside } else { Place::Apart };
        }
        self.latest = Some(at);
        self.waves = self.waves.wrapping_add(1);
        let octave = octave(at.nanos().saturating_sub(latest.nanos()));
        if let Some((begins, largest)) = self.known {
            let size = self.waves.wrapping_sub(self.begun);
            if octave >= begins {
                // The largest fades, so that one freak does not count for ever.
                self.known = Some((begins, size.max(largest - largest / 8)));
                self.begun = self.waves;
                return Place::Apart;
            }
            if size > STEADY * largest.max(FEWEST_EACH) {
                *self = Self { latest: Some(at), ..Self::default() };
                return Place::Steady;
            }
            return Place::Inside;
        }
        if self.typical == 0 {
            self.typical = octave;
        }
        if octave >= self.typical + APART {
            if self.beginnings.len() == KEPT {
                self.beginnings.pop_front();
            }
            self.beginnings.push_back((at, self.waves));
        }
        self.typical += (octave - self.typical) / MEAN_OF;
        Place::Apart
    }

    /// If the stream has turned out to come in bursts, the first moments of the latest ones. From then on only the first
    /// wave of a burst is [`Place::Apart`].
    pub(super) fn recognised(&mut self) -> Option<impl Iterator<Item = Moment> + use<>> {
        let (&(_, from), &(begun, to)) = (self.beginnings.front()?, self.beginnings.back()?);
        let bursts = self.beginnings.len();
        let waves = to.wrapping_sub(from);
        // Judged when a burst begins.
        if bursts < BEGINNINGS || self.latest != Some(begun) {
            return None;
        }
        // Beats after a pause are apart too, and each is by itself.
        let sizes = self.beginnings.iter().zip(self.beginnings.iter().skip(1));
        let large = sizes.filter(|(from, to)| to.1.wrapping_sub(from.1) >= FEWEST_EACH).count();
        if 2 * large < bursts - 1 {
            return None;
        }
        self.begun = self.waves;
        self.known = Some((self.typical + APART / 2, waves / (bursts as u32 - 1)));
        Some(std::mem::take(&mut self.beginnings).into_iter().map(|beginning| beginning.0))
    }
}

/// The octave of a gap in nanoseconds.
fn octave(nanos: i64) -> i32 {
    OCTAVE * (64 - nanos.max(1).leading_zeros() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: f64) -> Moment {
        Moment::default().plus(Duration::from_secs_f64(seconds))
    }

    /// Notes waves until bursts are recognised; returns the number of waves it took.
    fn recognised(bursts: &mut Bursts, times: impl IntoIterator<Item = f64>) -> Option<(usize, Vec<Moment>)> {
        times.into_iter().enumerate().find_map(|(wave, time)| {
            bursts.note(at(time));
            bursts.recognised().map(|beginnings| (wave, beginnings.collect()))
        })
    }

    #[test]
    fn batches_of_three_to_five_hundred_are_recognised() {
        for size in [3, 10, 100, 500] {
            let mut bursts = Bursts::default();
            let wave = |wave: u32| 5.0 * f64::from(wave / size) + 0.0001 * f64::from(wave % size);
            let (took, beginnings) = recognised(&mut bursts, (0..20 * size).map(wave)).unwrap();
            assert!(took as u32 <= 8 * size, "{size}: {took}");
            let last = *beginnings.last().unwrap();
            assert!(
                beginnings.len() >= BEGINNINGS
                    && beginnings.iter().all(|at| (last.nanos() - at.nanos()) % 5_000_000_000 == 0)
            );
            // The next burst has one beginning.
            let next: Vec<f64> = (0..size).map(|wave| 1000.0 + 0.0001 * f64::from(wave)).collect();
            let apart = next.iter().filter(|time| bursts.note(at(**time)) == Place::Apart).count();
            assert_eq!(apart, 1, "{size}");
        }
    }

    #[test]
    fn timers_and_moments_by_chance_do_not_come_in_bursts() {
        let mut random = fastrand::Rng::with_seed(5);
        assert_eq!(recognised(&mut Bursts::default(), (0..1000).map(f64::from)), None);
        let skipping = (0..1000).filter(|_| random.f64() > 0.4).map(f64::from).collect::<Vec<_>>();
        assert_eq!(recognised(&mut Bursts::default(), skipping), None);
        let catching_up = (0..1000).map(|beat| {
            if beat % 20 < 3 {
                f64::from(beat - beat % 20) + 2.5 + 1e-4 * f64::from(beat % 20)
            } else {
                f64::from(beat)
            }
        });
        assert_eq!(recognised(&mut Bursts::default(), catching_up), None);
    }

    #[test]
    fn a_stream_that_becomes_steady_is_no_longer_in_bursts() {
        let mut bursts = Bursts::default();
        let wave = |wave: u32| f64::from(wave / 10) + 0.001 * f64::from(wave % 10);
        recognised(&mut bursts, (0..200).map(wave)).unwrap();
        let steady =
            (0..1000).position(|wave| bursts.note(at(1000.0 + 0.001 * f64::from(wave))) == Place::Steady);
        assert!(steady.is_some());
        assert_eq!(bursts.note(at(1002.0)), Place::Apart);
    }
}
