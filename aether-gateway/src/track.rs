//! The recent past of one channel: the last second, a smoothed rate, and an hour in buckets.
//!
//! [`Observed`](crate::Observed) has one for each channel. Pure: the caller says when a second and a bucket end. A bucket
//! takes five bytes, so the hour of a channel takes 3.6 KB: the number of waves and their mean amplitude are kept apart,
//! and room is made for a few minutes at a time.

use std::collections::VecDeque;
use std::ops::AddAssign;

use aether_core::Amplitude;

/// The length of a bucket in seconds.
pub(crate) const BUCKET_SECONDS: usize = 5;
/// The number of buckets: an hour.
pub(crate) const BUCKETS: usize = 720;
/// How many buckets there is room for beyond those in use.
const ROOM: usize = 60;
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

/// What one channel carried lately.
#[derive(Debug, Default)]
pub(crate) struct Track {
    second: Moment,
    bucket: Moment,
    rate: Smooth,
    energy: Smooth,
    /// The waves of each bucket.
    waves: VecDeque<f32>,
    /// Their mean amplitude in 255ths.
    amplitudes: VecDeque<u8>,
}

/// A rate that follows the last three seconds or so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Smooth(f64);

impl Smooth {
    pub(crate) fn end_second(&mut self, of_second: f64) {
        self.0 += NEWEST * (of_second - self.0);
    }

    pub(crate) fn per_second(self) -> f64 {
        self.0
    }
}

impl Track {
    pub(crate) fn note(&mut self, bytes: u64, amplitude: Amplitude) {
        self.second += Moment { waves: 1, bytes, energy: f64::from(amplitude.as_f32()) };
    }

    /// Ends a second, and a bucket if that is over, too. Returns the second.
    pub(crate) fn end_second(&mut self, ends_bucket: bool) -> Moment {
        let second = std::mem::take(&mut self.second);
        self.bucket += second;
        self.rate.end_second(second.waves as f64);
        self.energy.end_second(second.energy);
        if ends_bucket {
            let bucket = std::mem::take(&mut self.bucket);
            let mean = if bucket.waves == 0 { 0.0 } else { bucket.energy / bucket.waves as f64 };
            push(&mut self.waves, bucket.waves as f32);
            push(&mut self.amplitudes, (mean.clamp(0.0, 1.0) * 255.0).round() as u8);
        }
        second
    }

    /// Waves a second, over the last three seconds or so.
    pub(crate) fn per_second(&self) -> f64 {
        self.rate.per_second()
    }

    /// The sum of amplitudes a second, over the last three seconds or so.
    pub(crate) fn energy(&self) -> f64 {
        self.energy.per_second()
    }

    /// The last buckets, the oldest first: waves a second and mean amplitude of each.
    pub(crate) fn last(&self, most: usize) -> impl Iterator<Item = (f32, f32)> + '_ {
        let from = self.waves.len().saturating_sub(most);
        let buckets = self.waves.iter().zip(&self.amplitudes).skip(from);
        buckets.map(|(waves, amplitude)| (waves / BUCKET_SECONDS as f32, f32::from(*amplitude) / 255.0))
    }
}

fn push<T>(buckets: &mut VecDeque<T>, value: T) {
    if buckets.len() == BUCKETS {
        buckets.pop_front();
    } else if buckets.len() == buckets.capacity() {
        // Doubling would leave a third of it empty.
        buckets.reserve_exact(ROOM.min(BUCKETS - buckets.len()));
    }
    buckets.push_back(value);
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
        let bytes = track.waves.capacity() * size_of::<f32>() + track.amplitudes.capacity();
        assert!(bytes <= 5 * BUCKETS, "{bytes}");
        assert!(track.per_second() > 0.3 && track.per_second() < 2.0);
    }
}
