//! The recent past of one channel: the last second, a smoothed rate, and an hour in buckets.
//!
//! [`Observed`](crate::Observed) has one for each channel. Pure: the caller ends the seconds and the buckets. A bucket
//! takes five bytes, so the hour of a channel takes 3.6 KB: the number of waves and their mean amplitude are kept apart,
//! and room is made for a few minutes at a time.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::time::{SystemTime, UNIX_EPOCH};

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

/// The recent traffic of one channel.
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

    /// A copy of the last buckets.
    pub(crate) fn last(&self, most: usize) -> Buckets {
        let from = self.waves.len().saturating_sub(most);
        Buckets {
            waves: self.waves.range(from..).copied().collect(),
            amplitudes: self.amplitudes.range(from..).copied().collect(),
        }
    }
}

/// Buckets of a channel, the oldest first, as small as they are kept.
#[derive(Debug)]
pub(crate) struct Buckets {
    waves: Vec<f32>,
    amplitudes: Vec<u8>,
}

impl Buckets {
    pub(crate) fn waves_per_second(&self) -> impl ExactSizeIterator<Item = f32> + Clone + '_ {
        self.waves.iter().map(|waves| waves / BUCKET_SECONDS as f32)
    }

    /// The mean amplitude of each.
    pub(crate) fn amplitudes(&self) -> impl ExactSizeIterator<Item = f32> + Clone + '_ {
        self.amplitudes.iter().map(|amplitude| f32::from(*amplitude) / 255.0)
    }
}

/// The time of the day. A clock before 1970 is shown as 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
        let kept = track.last(usize::MAX);
        assert_eq!((kept.waves_per_second().len(), kept.amplitudes().len()), (BUCKETS, BUCKETS));
        // Three buckets together have 15 s with one wave a second on average.
        let waves: f32 = kept.waves_per_second().take(3).sum();
        assert!((waves - 3.0).abs() < 1e-3, "{waves}");
        assert!(kept.amplitudes().all(|amplitude| (amplitude - normal.as_f32()).abs() < 0.01));
        assert_eq!(track.last(2).waves.len(), 2);
        let bytes = track.waves.capacity() * size_of::<f32>() + track.amplitudes.capacity();
        assert!(bytes <= 5 * BUCKETS, "{bytes}");
        assert!(track.per_second() > 0.3 && track.per_second() < 2.0);
    }
}
