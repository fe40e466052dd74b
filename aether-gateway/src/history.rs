//! An hour of everything together: waves, energy, and losses by reason, in buckets of five seconds.
//!
//! [`Views`](crate::views) ends its buckets; `/api/history` reads it together with the [tracks](crate::track) of the
//! channels. It is bounded by the number of reasons, and starts with the gateway.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::losses::Losses;
use crate::track::{BUCKET_SECONDS, BUCKETS, Moment};

/// The buckets of what is lost lately: processes tell their accounts every five seconds.
const LATELY: usize = 3;

/// The buckets of all channels together.
#[derive(Debug, Default)]
pub(crate) struct History {
    bucket: Moment,
    waves: VecDeque<f32>,
    energy: VecDeque<f32>,
    bytes: VecDeque<f32>,
    lost: BTreeMap<&'static str, VecDeque<f32>>,
    /// The sums at the end of the last bucket. `None` before the first one: what was lost before is in no bucket.
    sums: Option<BTreeMap<&'static str, u64>>,
}

impl History {
    pub(crate) fn add(&mut self, second: Moment) {
        self.bucket += second;
    }

    /// Ends a bucket. `losses` are the sums at this moment.
    pub(crate) fn end_bucket(&mut self, losses: &Losses) {
        let bucket = std::mem::take(&mut self.bucket);
        let seconds = BUCKET_SECONDS as f32;
        push(&mut self.waves, bucket.waves as f32 / seconds);
        push(&mut self.energy, bucket.energy as f32 / seconds);
        push(&mut self.bytes, bucket.bytes as f32 / seconds);
        for reason in losses.by_reason.keys() {
            let buckets = self.waves.len() - 1;
            self.lost.entry(reason).or_insert_with(|| vec![0.0; buckets].into());
        }
        for (reason, lost) in &mut self.lost {
            let now = losses.by_reason.get(reason).copied().unwrap_or_default();
            let before = self.sums.as_ref().map(|sums| sums.get(reason).copied().unwrap_or_default());
            push(lost, now.saturating_sub(before.unwrap_or(now)) as f32 / seconds);
        }
        self.sums = Some(losses.by_reason.clone());
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

    /// What was lost a second in the last buckets, by reason, without reasons for which nothing was.
    pub(crate) fn lost_lately(&self) -> BTreeMap<&'static str, f64> {
        let mean = |all: &VecDeque<f32>| {
            let buckets = all.len().clamp(1, LATELY);
            all.iter().rev().take(LATELY).sum::<f32>() / buckets as f32
        };
        let means = self.lost.iter().map(|(reason, all)| (*reason, rounded(mean(all))));
        means.filter(|(_, per_second)| *per_second > 0.0).collect()
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

fn push(buckets: &mut VecDeque<f32>, value: f32) {
    if buckets.len() == BUCKETS {
        buckets.pop_front();
    }
    buckets.push_back(value);
}

fn last(buckets: &VecDeque<f32>, most: usize) -> Vec<f64> {
    let from = buckets.len().saturating_sub(most);
    buckets.iter().skip(from).map(|value| rounded(*value)).collect()
}

/// Two decimals: the rest would only be digits on the network.
pub(crate) fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(full: u64) -> Losses {
        let by_reason = if full == 0 { BTreeMap::new() } else { BTreeMap::from([("full", full)]) };
        Losses { by_reason, ..Losses::default() }
    }

    #[test]
    fn losses_are_differences_and_an_hour_is_the_most() {
        let mut history = History::default();
        history.end_bucket(&losses(1000)); // lost before the gateway looked
        history.add(Moment { waves: 50, bytes: 500, energy: 25.0 });
        history.end_bucket(&losses(1010));
        history.end_bucket(&losses(1010));
        let past = history.last(usize::MAX);
        assert_eq!(past.lost["full"], [0.0, 2.0, 0.0]);
        assert_eq!((past.waves, past.energy), (vec![0.0, 10.0, 0.0], vec![0.0, 5.0, 0.0]));
        assert_eq!(history.lost_lately(), BTreeMap::from([("full", 0.67)]));

        for _ in 0..BUCKETS {
            history.end_bucket(&losses(1010));
        }
        let past = history.last(usize::MAX);
        assert_eq!((past.waves.len(), past.lost["full"].len()), (BUCKETS, BUCKETS));
        assert_eq!(history.last(3).bytes, [0.0; 3]);
        assert!(history.lost_lately().is_empty(), "nothing is lost any more");
    }

    #[test]
    fn a_reason_that_appears_later_is_aligned_with_the_others() {
        let mut history = History::default();
        history.end_bucket(&losses(0));
        history.end_bucket(&losses(5));
        assert_eq!(history.last(9).lost["full"], [0.0, 1.0]);
    }
}
