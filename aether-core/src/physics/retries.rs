//! Retry storms: work that is requested repeatedly, and more often in each interval.
//!
//! [`RetryStorms::observe`] takes in commands and queries with a coherence key, and [`RetryStorms::tick`] returns
//! [`Finding::RetryStorm`]s. For each channel the detector counts the attempts of a sample of keys: those with the
//! smallest hashes (a bottom-k sketch). The hash is independent of the number of attempts, so the mean of the sample
//! estimates that of all keys. A key is in the sample from its first attempt in an interval, or not at all. Memory and
//! time per wave do not depend on the number of keys.
//!
//! Source of the sketch: E. Cohen and H. Kaplan, *Summarizing data using bottom-k sketches* (2007).

use std::time::Duration;

use super::bounds::{BoundsError, check};
use super::finding::Finding;
use super::recent::Recent;
use super::timeline::{Moment, Timeline};
use crate::channel::Channel;
use crate::clock::Instant;
use crate::source::Source;
use crate::wave::{Kind, Wave};

/// The number of keys in the sample of a channel and interval. Their mean has a standard error of an eighth of the
/// standard deviation of one key.
const SAMPLE: usize = 64;
/// An interval with fewer keys is not judged.
const FEWEST_KEYS: usize = 8;
/// A storm is over when the mean is below this share of the threshold.
const CALM: f64 = 0.8;
/// The rise of the mean that makes a storm, in standard errors.
const SURELY: f64 = 2.0;
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
const MOST_CHANNELS: usize = 1 << 16;

/// Options of [`RetryStorms`]: when attempts count as a storm.
#[derive(Debug, Clone)]
#[must_use = "no detector is made before RetryStorms::new()"]
pub struct RetryOptions {
    interval: Duration,
    attempts: f64,
    max_channels: usize,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), attempts: 1.5, max_channels: 256 }
    }
}

impl RetryOptions {
    /// The interval over which attempts are counted. Default: 10 s. Later attempts count in another interval.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The mean number of attempts per key that makes a storm, if there were fewer in the interval before. Default: 1.5.
    pub fn attempts(mut self, per_key: f64) -> Self {
        self.attempts = per_key;
        self
    }

    /// The maximum number of observed channels. Beyond it, the least recently used is forgotten. Default: 256. Cost:
    /// about 2 KiB per channel.
    pub fn max_channels(mut self, most: usize) -> Self {
        self.max_channels = most;
        self
    }
}

/// The detector of retry storms.
#[derive(Debug)]
pub struct RetryStorms {
    options: RetryOptions,
    timeline: Timeline,
    channels: Recent<Channel, Attempts>,
    /// Channels due for a report. At most as many as there are channels.
    found: Vec<u32>,
    observed: u64,
    /// The last incompletely observed interval.
    torn: i64,
}

/// The attempts on one channel.
#[derive(Debug, Default)]
struct Attempts {
    /// The number of the interval that is counted.
    interval: i64,
    /// In ascending order of the hashes.
    sample: Vec<Tried>,
    before: Option<Mean>,
    storm: bool,
    report: Option<(Mean, Mean)>,
}

#[derive(Debug)]
struct Tried {
    key: u64,
    attempts: u32,
    /// The last attempt, so that a repeated wave counts once.
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mean {
    attempts: f64,
    /// The square of its standard error.
    error: f64,
    keys: usize,
}

impl RetryStorms {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn new(options: RetryOptions) -> Result<Self, BoundsError> {
        let RetryOptions { interval, attempts, max_channels } = options;
        let given = format!("{interval:?}");
        check(INTERVALS.contains(&interval), "retries.interval", given, "1 ms to 24 h")?;
        let attempts_allowed = attempts.is_finite() && attempts > 1.0;
        check(attempts_allowed, "retries.attempts", attempts, "a number above 1")?;
        let channels_allowed = (1..=MOST_CHANNELS).contains(&max_channels);
        check(channels_allowed, "retries.max_channels", max_channels, format!("1 to {MOST_CHANNELS}"))?;
        let (timeline, channels) = (Timeline::default(), Recent::new(max_channels));
        Ok(Self { options, timeline, channels, found: Vec::new(), observed: 0, torn: i64::MIN })
    }

    /// Takes in a wave. Only commands and queries with a coherence key are attempts; others are skipped.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        if let (Kind::Command | Kind::Query, Some(key)) = (wave.kind(), wave.key()) {
            self.attempt(wave.channel(), key, wave.source(), wave.sequence(), now);
        }
    }

    /// Takes in an attempt without a wave, such as one of a recording.
    pub fn attempt(&mut self, channel: &Channel, key: &str, source: &Source, sequence: u64, now: Instant) {
        let now = self.timeline.advance(now);
        self.observed += 1;
        let interval = self.interval_of(now);
        if interval <= self.torn {
            return;
        }
        let (key, last) = (self.channels.hash_of(key), self.channels.hash_of((source, sequence)));
        let hash = self.channels.hash_of(channel);
        let slot = self.channels.touch(hash, |held| held == channel).unwrap_or_else(|| {
            let fresh = |sample| Attempts { interval, sample, ..Attempts::default() };
            self.channels.insert(
                hash,
                || (channel.clone(), fresh(Vec::new())),
                |held, attempts| {
                    held.clone_from(channel);
                    attempts.sample.clear();
                    *attempts = fresh(std::mem::take(&mut attempts.sample));
                },
            )
        });
        let attempts = self.channels.value_mut(slot);
        attempts.close(interval, self.options.attempts);
        attempts.count(key, last);
        if attempts.report.is_some() && !self.found.contains(&slot) {
            self.found.push(slot);
        }
    }

    /// Records that attempts between two moments may have been missed. Their intervals are not judged, and neither is
    /// the next one, which has nothing to be compared with.
    pub fn not_seen(&mut self, from: Instant, now: Instant) {
        let away = now.saturating_duration_since(from);
        let now = self.timeline.advance(now);
        let first = self.interval_of(now.minus(away));
        self.torn = self.interval_of(now);
        for attempts in self.channels.values_mut().filter(|attempts| attempts.interval >= first) {
            attempts.sample.clear();
            attempts.before = None;
        }
    }

    /// The next storm. Call it until it returns `None`. The first attempt after an interval judges it, so there is nothing
    /// to wait for in between.
    pub fn tick(&mut self) -> Option<Finding> {
        while let Some(slot) = self.found.pop() {
            // The report of an evicted channel is dropped with it.
            if let Some((now, before)) = self.channels.value_mut(slot).report.take() {
                return Some(Finding::RetryStorm {
                    channel: self.channels.key(slot).clone(),
                    attempts_per_key: now.attempts,
                    before: before.attempts,
                    keys: now.keys,
                });
            }
        }
        None
    }

    /// The number of attempts.
    #[must_use]
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// The number of channels that were forgotten because there were too many.
    #[must_use]
    pub fn channels_evicted(&self) -> u64 {
        self.channels.evicted()
    }

    /// The number of times that the caller's clock went back.
    #[must_use]
    pub fn clock_jumps(&self) -> u64 {
        self.timeline.jumps_back()
    }

    fn interval_of(&self, now: Moment) -> i64 {
        now.nanos().div_euclid(i64::try_from(self.options.interval.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl Attempts {
    /// Judges the interval if it is over.
    fn close(&mut self, interval: i64, threshold: f64) {
        if interval == self.interval {
            return;
        }
        let mean = Mean::of(&self.sample);
        self.sample.clear();
        // After a pause there is nothing to compare with.
        let before = if interval == self.interval + 1 { self.before } else { None };
        self.interval = interval;
        self.before = mean;
        let Some(mean) = mean else { return };
        if mean.attempts < CALM * threshold {
            self.storm = false;
        }
        if let Some(before) = before
            && !self.storm
            && mean.attempts > threshold
            && mean.attempts - before.attempts > SURELY * (mean.error + before.error).sqrt()
        {
            self.storm = true;
            self.report = Some((mean, before));
        }
    }

    fn count(&mut self, key: u64, last: u64) {
        match self.sample.binary_search_by(|tried| tried.key.cmp(&key)) {
            Ok(index) => {
                let tried = &mut self.sample[index];
                if std::mem::replace(&mut tried.last, last) != last {
                    tried.attempts = tried.attempts.saturating_add(1);
                }
            }
            Err(index) if index < SAMPLE => {
                self.sample.truncate(SAMPLE - 1);
                self.sample.reserve_exact(if self.sample.capacity() == 0 { SAMPLE } else { 0 });
                self.sample.insert(index, Tried { key, attempts: 1, last });
            }
            Err(_) => {}
        }
    }
}

impl Mean {
    fn of(sample: &[Tried]) -> Option<Self> {
        if sample.len() < FEWEST_KEYS {
            return None;
        }
        let keys = sample.len() as f64;
        let attempts = sample.iter().map(|tried| f64::from(tried.attempts)).sum::<f64>() / keys;
        let squares = sample.iter().map(|tried| (f64::from(tried.attempts) - attempts).powi(2)).sum::<f64>();
        Some(Self { attempts, error: squares / (keys - 1.0) / keys, keys: sample.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One interval of 10 s with this many orders, each attempted as given; returns the findings.
    fn interval(
        storms: &mut RetryStorms,
        start: Instant,
        number: u32,
        keys: u32,
        tries: impl Fn(u32) -> u32,
    ) -> Vec<Finding> {
        let channel = Channel::new("payment.charge").unwrap();
        let source = Source::with_instance("shop", 1).unwrap();
        let begin = start + 10 * SECOND * number;
        let most = (0..keys).map(&tries).max().unwrap();
        for (attempt, key) in (0..most).flat_map(|attempt| (0..keys).map(move |key| (attempt, key))) {
            if attempt < tries(key) {
                let now = begin + 10 * SECOND * (attempt * keys + key) / (most * keys);
                let sequence = u64::from((number * 10_000 + key) * 100 + attempt);
                // Each wave arrives twice.
                for _ in 0..2 {
                    storms.attempt(&channel, &format!("order-{number}-{key}"), &source, sequence, now);
                }
            }
        }
        std::iter::from_fn(|| storms.tick()).collect()
    }

    #[test]
    fn a_storm_is_reported_once_and_again_after_a_calm() {
        let mut storms = RetryStorms::new(RetryOptions::default()).unwrap();
        let start = crate::clock::now();
        let rounds: Vec<usize> = [1, 1, 3, 4, 4, 1, 1, 3, 1]
            .into_iter()
            .enumerate()
            .map(|(number, tries)| interval(&mut storms, start, number as u32, 500, |_| tries).len())
            .collect();
        // Judged when the next interval has begun.
        assert_eq!(rounds, [0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(storms.clock_jumps(), 0);
    }

    #[test]
    fn a_sample_estimates_the_mean_of_all_keys() {
        let mut storms = RetryStorms::new(RetryOptions::default()).unwrap();
        let start = crate::clock::now();
        interval(&mut storms, start, 0, 5000, |_| 1);
        interval(&mut storms, start, 1, 5000, |key| 1 + key % 4);
        let found = interval(&mut storms, start, 2, 1, |_| 1);
        let [Finding::RetryStorm { attempts_per_key, before, keys, .. }] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((before, keys), (1.0, 64));
        // Within five standard errors of 2.5.
        assert!((attempts_per_key - 2.5).abs() < 0.7, "{attempts_per_key}");
    }

    #[test]
    fn a_high_but_steady_rate_is_not_a_storm() {
        let mut storms = RetryStorms::new(RetryOptions::default()).unwrap();
        let start = crate::clock::now();
        for number in 0..50 {
            assert_eq!(interval(&mut storms, start, number, 500, |_| 2), []);
        }
        // Too few keys are not judged either.
        assert_eq!(interval(&mut storms, start, 50, 5, |_| 50), []);
        assert_eq!(interval(&mut storms, start, 51, 5, |_| 1), []);
    }

    #[test]
    fn an_incompletely_observed_interval_is_not_a_calm() {
        let mut storms = RetryStorms::new(RetryOptions::default()).unwrap();
        let start = crate::clock::now();
        for number in 0..30 {
            // Of every other interval only the first attempts are seen, so the averages go up and down.
            let half = number % 2 == 0;
            assert_eq!(interval(&mut storms, start, number, 500, |_| if half { 1 } else { 3 }), []);
            if half {
                let end = start + 10 * SECOND * (number + 1);
                storms.not_seen(end - 5 * SECOND, end - Duration::from_nanos(1));
            }
        }
        // Once everything is observed again, the storm is found.
        interval(&mut storms, start, 30, 500, |_| 1);
        interval(&mut storms, start, 31, 500, |_| 3);
        assert_eq!(interval(&mut storms, start, 32, 500, |_| 3).len(), 1);
    }

    #[test]
    fn only_commands_and_queries_with_a_key_are_attempts() {
        let mut storms = RetryStorms::new(RetryOptions::default()).unwrap();
        let wave = |kind| Wave::builder("a").kind(kind);
        storms.observe(&wave(Kind::Event).key("k").build().unwrap(), crate::clock::now());
        storms.observe(&wave(Kind::Command).build().unwrap(), crate::clock::now());
        assert_eq!(storms.observed(), 0);
        storms.observe(&wave(Kind::Command).key("k").build().unwrap(), crate::clock::now());
        assert_eq!(storms.observed(), 1);
    }

    #[test]
    fn a_flood_of_channels_and_keys_is_bounded() {
        let mut storms = RetryStorms::new(RetryOptions::default().max_channels(4)).unwrap();
        let (source, now) = (Source::with_instance("shop", 1).unwrap(), crate::clock::now());
        for n in 0..20_000u64 {
            let channel = Channel::new(format!("c{}", n % 32)).unwrap();
            storms.attempt(&channel, &format!("k{n}"), &source, n, now + Duration::from_millis(n));
        }
        assert!(storms.channels.iter().all(|(_, attempts)| attempts.sample.capacity() <= SAMPLE));
        assert_eq!((storms.channels.len(), storms.channels_evicted()), (4, 20_000 - 4));
        assert!(storms.found.len() <= 4);
    }

    #[test]
    fn impossible_options_are_refused() {
        let options = RetryOptions::default;
        let refused = |options| RetryStorms::new(options).unwrap_err().option();
        assert_eq!(refused(options().interval(Duration::ZERO)), "retries.interval");
        for bad in [1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(options().attempts(bad)), "retries.attempts");
        }
        assert_eq!(refused(options().max_channels(0)), "retries.max_channels");
    }
}
