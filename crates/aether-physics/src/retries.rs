//! Retry storms: the same requests are sent again, and more often than usual.
//!
//! [`RetryStorms::observe`] takes in commands, queries and answers, and [`RetryStorms::tick`] returns
//! [`Finding::RetryStorm`]s. A request is sent again if its sender counts attempts (`attempt`), or if a service repeats
//! channel, coherence key and content before it has a successful answer and within [`RetryOptions::longest_pause`]. A
//! key alone is not enough: a customer who orders more is not a storm.
//!
//! For each channel the detector follows a sample of the requests: those with small hashes. The hash of a request does
//! not depend on the number of its attempts, so the sample estimates all. Where the sample overflows, it keeps the
//! smaller half of the hashes. Memory and time per wave do not depend on the number of requests.
//!
//! Requests that recur by themselves, such as `refresh` of the same customer, recur more often under more load. Where a
//! share `q` of the requests are new at the usual load, `q^c` are new at `c` times the load, by chance (Poisson). In a
//! storm significantly fewer are new.
//!
//! Source of the sample: E. Cohen and H. Kaplan, *Summarizing data using bottom-k sketches* (2007).

mod attempts;

use std::time::Duration;

use super::bounds::{BoundsError, check};
use super::finding::Finding;
use super::recent::Recent;
use super::request::{Answer, Request};
use super::timeline::Timeline;
use aether_core::clock::Instant;
use aether_core::{Channel, Kind, Source, Wave};
use attempts::{Attempt, Attempts};

const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
const MOST_CHANNELS: usize = 1 << 16;

/// Options of [`RetryStorms`]: when attempts count as a storm.
#[derive(Debug, Clone)]
#[must_use = "no detector is made before RetryStorms::new()"]
pub struct RetryOptions {
    interval: Duration,
    longest_pause: Duration,
    attempts: f64,
    max_channels: usize,
}

impl Default for RetryOptions {
    fn default() -> Self {
        let (interval, longest_pause) = (Duration::from_secs(10), Duration::from_secs(30));
        Self { interval, longest_pause, attempts: 1.5, max_channels: 256 }
    }
}

impl RetryOptions {
    /// The shortest interval that is judged. Default: 10 s. Where requests are rare, an interval lasts until there are
    /// enough of them, at most thirty times as long.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The longest pause between two attempts of one request. Default: 30 s. Cost: requests are followed for so long, so
    /// on a busy channel a longer pause means a smaller sample.
    pub fn longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// The mean number of attempts per request that makes a storm, if there were fewer before. Default: 1.5.
    pub fn attempts(mut self, per_request: f64) -> Self {
        self.attempts = per_request;
        self
    }

    /// The maximum number of observed channels. Beyond it, the least recently used is forgotten. Default: 256. Cost:
    /// about 6 KiB per channel.
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
}

impl RetryStorms {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn new(options: RetryOptions) -> Result<Self, BoundsError> {
        let RetryOptions { interval, longest_pause, attempts, max_channels } = options;
        let given = format!("{interval:?}");
        check(INTERVALS.contains(&interval), "retries.interval", given, "1 ms to 24 h")?;
        let given = format!("{longest_pause:?}");
        check(INTERVALS.contains(&longest_pause), "retries.longest_pause", given, "1 ms to 24 h")?;
        let attempts_allowed = attempts.is_finite() && attempts > 1.0;
        check(attempts_allowed, "retries.attempts", attempts, "a number above 1")?;
        let channels_allowed = (1..=MOST_CHANNELS).contains(&max_channels);
        check(channels_allowed, "retries.max_channels", max_channels, format!("1 to {MOST_CHANNELS}"))?;
        let (timeline, channels) = (Timeline::default(), Recent::new(max_channels));
        Ok(Self { options, timeline, channels, found: Vec::new(), observed: 0 })
    }

    /// Takes in a wave. Commands and queries are requests; responses end them, unless they report a failure. Others are
    /// skipped.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        match wave.kind() {
            Kind::Command | Kind::Query => self.asked(&Request::of(wave, wave.age_when(now)), now),
            Kind::Response => {
                if let Some(answer) = Answer::of(wave) {
                    self.answered(&answer, now);
                }
            }
            _ => {}
        }
    }

    /// Takes in a request without a wave, such as one of a recording. Only commands and queries count.
    pub fn asked(&mut self, request: &Request<'_>, now: Instant) {
        if !matches!(request.kind, Kind::Command | Kind::Query) {
            return;
        }
        let now = self.timeline.advance(now);
        self.observed += 1;
        let attempt = Attempt {
            request: self.channels.hash_of(request.asks()),
            wave: self.hash_of_wave(request.source, request.sequence),
            resent: request.attempt > 1,
        };
        let channel = request.channel;
        let hash = self.channels.hash_of(channel);
        let slot = self.channels.touch(hash, |held| held == channel).unwrap_or_else(|| {
            self.channels.insert(
                hash,
                || (channel.clone(), Attempts::starting(now)),
                |held, attempts| {
                    held.clone_from(channel);
                    attempts.start_over(now);
                },
            )
        });
        let attempts = self.channels.value_mut(slot);
        let RetryOptions { interval, longest_pause, attempts: most, .. } = self.options;
        attempts.close(now, interval, longest_pause, most);
        attempts.count(attempt, now, longest_pause);
        if attempts.has_report() && !self.found.contains(&slot) {
            self.found.push(slot);
        }
    }

    /// Takes in an answer without a wave. After a successful one, the same request is a new request.
    pub fn answered(&mut self, answer: &Answer<'_>, now: Instant) {
        self.timeline.advance(now);
        if answer.failed {
            return;
        }
        let hash = self.channels.hash_of(answer.channel);
        let wave = self.hash_of_wave(&answer.question.source, answer.question.sequence);
        if let Some(slot) = self.channels.find(hash, |held| held == answer.channel) {
            self.channels.value_mut(slot).answered(wave);
        }
    }

    /// Records that waves between two moments may have been missed. The current interval is not judged, and requests
    /// from before count as new ones: their answers may have been missed.
    pub fn not_seen(&mut self, _from: Instant, now: Instant) {
        let now = self.timeline.advance(now);
        self.channels.values_mut().for_each(|attempts| attempts.interrupt(now));
    }

    /// The next storm. Call it until it returns `None`. The first request after an interval judges it, so there is
    /// nothing to wait for in between.
    pub fn tick(&mut self) -> Option<Finding> {
        while let Some(slot) = self.found.pop() {
            // The report of an evicted channel is dropped with it.
            if let Some(report) = self.channels.value_mut(slot).report() {
                return Some(Finding::RetryStorm {
                    channel: self.channels.key(slot).clone(),
                    attempts_per_key: report.mean,
                    before: report.before,
                    keys: report.requests,
                });
            }
        }
        None
    }

    /// The number of requests.
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

    fn hash_of_wave(&self, source: &Source, sequence: u64) -> u64 {
        self.channels.hash_of((source.instance(), sequence))
    }
}

#[cfg(test)]
mod tests;
