//! An hour of everything together: waves, energy, and losses by reason, in buckets of five seconds.
//!
//! [`Views`](crate::views) ends its buckets; `/api/history` reads it together with the [tracks](crate::track) of the
//! channels. It is bounded by the number of reasons, and starts with the gateway.

use std::collections::{BTreeMap, VecDeque};

use crate::losses::Losses;
use crate::track::{BUCKET_SECONDS, BUCKETS, Moment};

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

    /// The last buckets as JSON, the oldest first; each number is one a second.
    pub(crate) fn to_json(&self, most: usize) -> serde_json::Value {
        let lost: BTreeMap<_, _> = self.lost.iter().map(|(reason, all)| (*reason, last(all, most))).collect();
        serde_json::json!({
            "bucket_seconds": BUCKET_SECONDS,
            "waves": last(&self.waves, most),
            "energy": last(&self.energy, most),
            "bytes": last(&self.bytes, most),
            "lost": lost,
        })
    }
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
        let json = history.to_json(usize::MAX);
        assert_eq!(json["lost"]["full"], serde_json::json!([0.0, 2.0, 0.0]));
        assert_eq!(json["waves"], serde_json::json!([0.0, 10.0, 0.0]));
        assert_eq!(json["energy"], serde_json::json!([0.0, 5.0, 0.0]));

        for _ in 0..BUCKETS {
            history.end_bucket(&losses(1010));
        }
        let json = history.to_json(usize::MAX);
        assert_eq!(json["waves"].as_array().unwrap().len(), BUCKETS);
        assert_eq!(json["lost"]["full"].as_array().unwrap().len(), BUCKETS);
        assert_eq!(history.to_json(3)["bytes"], serde_json::json!([0.0, 0.0, 0.0]));
    }

    #[test]
    fn a_reason_that_appears_later_is_aligned_with_the_others() {
        let mut history = History::default();
        history.end_bucket(&losses(0));
        history.end_bucket(&losses(5));
        assert_eq!(history.to_json(9)["lost"]["full"], serde_json::json!([0.0, 1.0]));
    }
}
