//! The recent past of one channel: the last second, a smoothed rate, and an hour in buckets.
//!
//! [`Observed`](crate::Observed) has one for each channel. Pure: the caller says when a second and a bucket end. A bucket
//! takes five bytes, so the hour of a channel takes 3.6 KB.

use std::collections::VecDeque;
use std::ops::AddAssign;

use aether_core::Amplitude;

/// The length of a bucket in seconds.
pub(crate) const BUCKET_SECONDS: usize = 5;
/// The number of buckets: an hour.
pub(crate) const BUCKETS: usize = 720;
/// The weight of the last second in the smoothed rate.
const NEWEST: f64 = 0.3;

/// The waves of a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Moment {
    pub(crate) waves: u64,
    pub(crate) bytes: u64,
    /// The sum of their amplitudes.
    pub(crate) energy: f64,
}

impl AddAssign for Moment {
    fn add_assign(&mut self, other: Self) {
        self.waves += other.waves;
        self.bytes += other.bytes;
        self.energy += other.energy;
    }
}

/// The waves of one bucket, and their mean amplitude in 255ths.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    waves: f32,
    amplitude: u8,
}

/// What one channel carried lately.
#[derive(Debug, Default)]
pub(crate) struct Track {
    second: Moment,
    bucket: Moment,
    smooth: f64,
    smooth_energy: f64,
    buckets: VecDeque<Bucket>,
}

impl Track {
    pub(crate) fn note(&mut self, bytes: u64, amplitude: Amplitude) {
        self.second += Moment { waves: 1, bytes, energy: f64::from(amplitude.as_f32()) };
    }

    /// Ends a second, and a bucket if that is over, too. Returns the second.
    pub(crate) fn end_second(&mut self, ends_bucket: bool) -> Moment {
        let second = std::mem::take(&mut self.second);
        self.bucket += second;
        self.smooth += NEWEST * (second.waves as f64 - self.smooth);
        self.smooth_energy += NEWEST * (second.energy - self.smooth_energy);
        if ends_bucket {
            let bucket = std::mem::take(&mut self.bucket);
            if self.buckets.len() == BUCKETS {
                self.buckets.pop_front();
            }
            let mean = if bucket.waves == 0 { 0.0 } else { bucket.energy / bucket.waves as f64 };
            self.buckets.push_back(Bucket {
                waves: bucket.waves as f32,
                amplitude: (mean.clamp(0.0, 1.0) * 255.0).round() as u8,
            });
        }
        second
    }

    /// Waves a second, over the last three seconds or so.
    pub(crate) fn per_second(&self) -> f64 {
        self.smooth
    }

    /// The sum of amplitudes a second, over the last three seconds or so.
    pub(crate) fn energy(&self) -> f64 {
        self.smooth_energy
    }

    /// The last buckets, the oldest first: waves a second and mean amplitude of each.
    pub(crate) fn last(&self, most: usize) -> impl Iterator<Item = (f32, f32)> + '_ {
        let from = self.buckets.len().saturating_sub(most);
        let per_second =
            |bucket: &Bucket| (bucket.waves / BUCKET_SECONDS as f32, f32::from(bucket.amplitude) / 255.0);
        self.buckets.iter().skip(from).map(per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_in_buckets_and_the_rest_forgotten() {
        let mut track = Track::default();
        let normal = Amplitude::NORMAL;
        for second in 0..(BUCKETS + 10) * BUCKET_SECONDS {
            for _ in 0..second % 3 {
                track.note(10, normal);
            }
            let ended = track.end_second(second % BUCKET_SECONDS == BUCKET_SECONDS - 1);
            assert_eq!((ended.waves, ended.bytes), (second as u64 % 3, 10 * (second as u64 % 3)));
        }
        let kept: Vec<_> = track.last(usize::MAX).collect();
        assert_eq!(kept.len(), BUCKETS);
        // Three buckets together have 15 s with one wave a second on average.
        let waves: f32 = kept[..3].iter().map(|(per_second, _)| per_second).sum();
        assert!((waves - 3.0).abs() < 1e-3, "{waves}");
        assert!(kept.iter().all(|(_, amplitude)| (amplitude - normal.as_f32()).abs() < 0.01));
        assert_eq!(track.last(2).count(), 2);
        assert!(track.per_second() > 0.3 && track.per_second() < 2.0);
    }
}
