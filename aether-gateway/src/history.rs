//! An hour of everything together: waves, energy, and losses by reason, in buckets of five seconds.
//!
//! [`Views`](crate::views) ends its buckets; `/api/history` reads it together with the [tracks](crate::track) of the
//! channels. It is bounded by the number of reasons, and starts with the gateway.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::track::{BUCKET_SECONDS, BUCKETS, Moment};

/// The buckets of all channels together.
#[derive(Debug, Default)]
pub(crate) struct History {
    bucket: Moment,
    waves: VecDeque<f32>,
    energy: VecDeque<f32>,
    bytes: VecDeque<f32>,
    lost: BTreeMap<&'static str, VecDeque<f32>>,
}

impl History {
    pub(crate) fn add(&mut self, second: Moment) {
        self.bucket += second;
    }

    /// Ends a bucket, with what was lost in it.
    pub(crate) fn end_bucket(&mut self, losses: &BTreeMap<&'static str, u64>) {
        let bucket = std::mem::take(&mut self.bucket);
        let seconds = BUCKET_SECONDS as f32;
        push(&mut self.waves, bucket.waves as f32 / seconds, BUCKETS);
        push(&mut self.energy, bucket.energy as f32 / seconds, BUCKETS);
        push(&mut self.bytes, bucket.bytes as f32 / seconds, BUCKETS);
        for reason in losses.keys() {
            let buckets = self.waves.len() - 1;
            self.lost.entry(reason).or_insert_with(|| vec![0.0; buckets].into());
        }
        for (reason, lost) in &mut self.lost {
            let waves = losses.get(reason).copied().unwrap_or_default();
            push(lost, waves as f32 / seconds, BUCKETS);
        }
    }

    /// The last buckets.
    pub(crate) fn last(&self, most: usize) -> Past {
        Past {
            bucket_seconds: BUCKET_SECONDS,
            waves: last(&self.waves, most),
            energy: last(&self.energy, most),
            bytes: last(&self.bytes, most),
            lost: self.lost.iter().map(|(reason, all)| (*reason, last(all, most))).collect(),
        }
    }
}

/// Buckets, the oldest first; each number is one a second.
#[derive(Debug, Serialize)]
pub(crate) struct Past {
    bucket_seconds: usize,
    waves: Vec<f64>,
    energy: Vec<f64>,
    bytes: Vec<f64>,
    lost: BTreeMap<&'static str, Vec<f64>>,
}

/// Adds a bucket; the oldest goes if there are as many as are kept.
pub(crate) fn push(buckets: &mut VecDeque<f32>, value: f32, most: usize) {
    if buckets.len() == most {
        buckets.pop_front();
    }
    buckets.push_back(value);
}

/// The last buckets, at most `most`.
pub(crate) fn last(buckets: &VecDeque<f32>, most: usize) -> Vec<f64> {
    let from = buckets.len().saturating_sub(most);
    buckets.iter().skip(from).map(|value| rounded(*value)).collect()
}

/// Two decimals: the rest would only be digits on the network.
pub(crate) fn rounded(value: impl Into<f64>) -> f64 {
    (value.into() * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(full: u64) -> BTreeMap<&'static str, u64> {
        if full == 0 { BTreeMap::new() } else { BTreeMap::from([("full", full)]) }
    }

    #[test]
    fn an_hour_is_the_most_and_what_ends_is_zero() {
        let mut history = History::default();
        history.end_bucket(&losses(0));
        history.add(Moment { waves: 50, bytes: 500, energy: 25.0 });
        history.end_bucket(&losses(10));
        history.end_bucket(&losses(0));
        let past = history.last(usize::MAX);
        assert_eq!(past.lost["full"], [0.0, 2.0, 0.0], "aligned with the others");
        assert_eq!((past.waves, past.energy), (vec![0.0, 10.0, 0.0], vec![0.0, 5.0, 0.0]));

        for _ in 0..BUCKETS {
            history.end_bucket(&losses(0));
        }
        let past = history.last(usize::MAX);
        assert_eq!((past.waves.len(), past.lost["full"].len()), (BUCKETS, BUCKETS));
        assert_eq!(history.last(3).bytes, [0.0; 3]);
    }
}
