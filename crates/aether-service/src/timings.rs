//! How long waves wait, are handled, and were on their way: histograms by importance.
//!
//! The loops of a service record them if somebody reads them
//! ([`ServiceCounters::timings`](crate::ServiceCounters::timings)): the metrics for Prometheus, and those over OTLP. Plain
//! numbers; no clock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aether_core::Amplitude;
use parking_lot::Mutex;

/// The names of the bands of amplitude, from the strongest on.
pub const BANDS: [&str; 4] = ["0.5-1", "0.25-0.5", "0.125-0.25", "0-0.125"];

/// The number of buckets with a bound; one more is for all that took longer.
pub const BUCKETS: usize = 12;

/// The first bound: 8 us. Each next one is four times as long; the last is 34 s.
const FIRST_BITS: u32 = 3;

/// Durations by bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    buckets: [u64; BUCKETS + 1],
    sum: Duration,
}

/// The histograms of a service, by band of [`BANDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Timings {
    /// In the inbox, until the first attempt began.
    pub wait: [Histogram; BANDS.len()],
    /// In the handler, each attempt.
    pub handling: [Histogram; BANDS.len()],
    /// From the emission to the arrival in this process; nothing for waves of this process.
    pub transit: [Histogram; BANDS.len()],
}

impl Histogram {
    /// The bounds of the buckets, in seconds.
    #[must_use]
    pub fn bounds() -> [f64; BUCKETS] {
        std::array::from_fn(|bucket| (1_u64 << (FIRST_BITS + 2 * bucket as u32)) as f64 / 1e6)
    }

    #[inline]
    fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // A bound belongs to the bucket below it.
        let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
        let bucket = (bits.saturating_sub(FIRST_BITS).div_ceil(2) as usize).min(BUCKETS);
        self.buckets[bucket] += 1;
        self.sum += took;
    }

    /// The counts of the buckets, without the buckets below; the last one counts everything that took longer.
    #[must_use]
    pub const fn buckets(&self) -> &[u64; BUCKETS + 1] {
        &self.buckets
    }

    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }
}

/// One attempt to handle a wave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Nothing for a retry, whose first wait counts already.
    pub(crate) wait: Option<Duration>,
    pub(crate) handling: Duration,
    pub(crate) transit: Duration,
}

impl Timings {
    #[inline]
    fn record(&mut self, amplitude: Amplitude, timing: Timing) {
        // A level is a quarter of an octave.
        let band = (usize::from(amplitude.loss()) / 2048).min(BANDS.len() - 1);
        self.handling[band].record(timing.handling);
        if let Some(wait) = timing.wait {
            self.wait[band].record(wait);
            if !timing.transit.is_zero() {
                self.transit[band].record(timing.transit);
            }
        }
    }

    /// Adds the timings of another service.
    pub fn add(&mut self, other: &Self) {
        let all = |to: &mut [Histogram; BANDS.len()], more: &[Histogram; BANDS.len()]| {
            to.iter_mut().zip(more).for_each(|(to, more)| to.add(more));
        };
        all(&mut self.wait, &other.wait);
        all(&mut self.handling, &other.handling);
        all(&mut self.transit, &other.transit);
    }
}

/// The histograms of one service. Clones share them. Nothing is recorded before somebody reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedTimings(Arc<OnceLock<Mutex<Timings>>>);

impl SharedTimings {
    /// The histograms now. They are recorded from the first call on.
    pub(crate) fn read(&self) -> Timings {
        *self.0.get_or_init(Mutex::default).lock()
    }

    #[inline]
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.get().is_some()
    }

    #[inline]
    pub(crate) fn record(&self, amplitude: Amplitude, timing: Timing) {
        if let Some(timings) = self.0.get() {
            timings.lock().record(amplitude, timing);
        }
    }

    /// Whether this is the last clone, so that nothing more is recorded.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "for exporters"))]
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        let bounds = Histogram::bounds();
        assert_eq!((bounds[0], bounds[1], bounds[11]), (8e-6, 32e-6, 33.554432));
        for micros in [0, 1, 7, 8, 9, 31, 32, 33, 512, 513, 33_554_432, 33_554_433, u64::MAX] {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_micros(micros));
            let expected = bounds.iter().position(|bound| micros as f64 / 1e6 <= *bound).unwrap_or(BUCKETS);
            assert_eq!(histogram.buckets()[expected], 1, "{micros} us");
            assert_eq!((histogram.count(), histogram.sum()), (1, Duration::from_micros(micros)));
        }
    }

    #[test]
    fn an_amplitude_is_in_the_band_of_its_octave() {
        let timing = Timing { wait: None, handling: Duration::ZERO, transit: Duration::ZERO };
        for (amplitude, band) in [(1.0, 0), (0.51, 0), (0.5, 1), (0.3, 1), (0.2, 2), (0.1, 3), (1e-9, 3)] {
            let mut timings = Timings::default();
            timings.record(Amplitude::new(amplitude).unwrap(), timing);
            assert_eq!(timings.handling[band].count(), 1, "{amplitude}");
            assert_eq!(timings.wait[band].count() + timings.transit[band].count(), 0);
        }
    }
}
