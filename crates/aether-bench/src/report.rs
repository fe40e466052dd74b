//! The report of a run: offered, handled and lost messages by strength, latencies, and the used share of the handler's
//! capacity.
//!
//! Pure arithmetic on a schedule and an outcome.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::nanoseconds;
use crate::losses::{Counts, Loss};
use crate::outcome::Outcome;
use crate::schedule::{Schedule, Strength};

/// An hour. Longer latencies count as an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Latencies of messages. Unit: nanoseconds; precision: three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // The constants are valid, so it cannot fail.
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("valid bounds"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// A quantile in microseconds; `None` without latencies.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1000.0)
    }
}

/// The counts of the messages of one strength. Adds up: `offered = handled + lost`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// Messages of the schedule.
    pub offered: u64,
    /// Handled messages, however late.
    pub delivered: u64,
    /// The others, by reason.
    #[serde(serialize_with = "by_reason")]
    pub lost: Counts,
    /// The median time from when a message was due to the end of its handling, in microseconds.
    pub p50_us: Option<f64>,
    /// The 99th percentile.
    pub p99_us: Option<f64>,
    /// The 99.9th percentile.
    pub p999_us: Option<f64>,
    /// Messages of this strength handled while the schedule lasted, as a share of the handler's capacity, in percent;
    /// `None` where nothing bounds the handler.
    pub goodput_percent: Option<f64>,
}

fn by_reason<S: serde::Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Loss::ALL.map(|loss| (loss.as_str().replace(' ', "_"), counts.of(loss))))
}

impl Account {
    /// The handled share of the offered messages, in percent; 100 without messages.
    #[must_use]
    pub fn delivered_percent(&self) -> f64 {
        if self.offered == 0 { 100.0 } else { 100.0 * self.delivered as f64 / self.offered as f64 }
    }

    /// Whether every message is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.offered == self.delivered + self.lost.sum()
    }
}

/// A run in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The contestant that carried the messages.
    pub contestant: String,
    /// The mean offered rate, in messages a second.
    pub offered_per_second: f64,
    /// The share of messages that the sender itself sent more than 1 ms late, in percent, because the machine delayed
    /// it. No bus can make up for that.
    pub sent_late_percent: f64,
    /// The important messages.
    pub strong: Account,
    /// The others.
    pub weak: Account,
    /// The same for all messages.
    pub goodput_percent: Option<f64>,
}

/// A contradictory outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The number is not in the schedule.
    #[error("message {number} was handled but never sent")]
    NeverSent {
        /// The number.
        number: u32,
    },
    /// The same message was handled twice.
    #[error("message {number} was handled twice")]
    Twice {
        /// The number.
        number: u32,
    },
    /// A message was both handled and counted as lost.
    #[error("{counted} messages were counted as lost, but only {missing} are missing")]
    TooManyLost {
        /// Losses counted by the contestant.
        counted: u64,
        /// Messages offered and not handled.
        missing: u64,
    },
}

impl Report {
    /// The report of one run. `capacity` is the handler's, in messages a second.
    ///
    /// # Errors
    /// [`ReportError`] if the outcome contradicts itself: then the benchmark, or what it measures, is wrong.
    pub fn of(
        contestant: &str,
        schedule: &Schedule,
        outcome: &Outcome,
        capacity: Option<f64>,
    ) -> Result<Self, ReportError> {
        let sent = schedule.arrivals();
        let mut latencies = [Latencies::default(), Latencies::default()];
        let mut delivered = [0_u64; 2];
        let mut offered = [0_u64; 2];
        for arrival in sent {
            offered[arrival.strength as usize] += 1;
        }
        let length = nanoseconds(schedule.length());
        let mut in_time = [0_u64; 2];
        let mut seen = vec![false; sent.len()];
        for handled in &outcome.heard.handled {
            let number = handled.number;
            let Some((arrival, seen)) = sent.get(number as usize).zip(seen.get_mut(number as usize)) else {
                return Err(ReportError::NeverSent { number });
            };
            if std::mem::replace(seen, true) {
                return Err(ReportError::Twice { number });
            }
            let since_start = handled.done.saturating_sub(outcome.start);
            delivered[arrival.strength as usize] += 1;
            latencies[arrival.strength as usize].record(since_start.saturating_sub(arrival.due));
            in_time[arrival.strength as usize] += u64::from(since_start <= length);
        }
        let lost = all_losses(offered, delivered, outcome)?;
        let seconds = Duration::from_nanos(length).as_secs_f64();
        let per_second = |messages: u64| if seconds > 0.0 { messages as f64 / seconds } else { 0.0 };
        let goodput = |in_time: u64| capacity.map(|capacity| 100.0 * per_second(in_time) / capacity);
        let account = |strength: Strength| {
            let index = strength as usize;
            Account {
                offered: offered[index],
                delivered: delivered[index],
                lost: lost[index],
                p50_us: latencies[index].quantile_us(0.5),
                p99_us: latencies[index].quantile_us(0.99),
                p999_us: latencies[index].quantile_us(0.999),
                goodput_percent: goodput(in_time[index]),
            }
        };
        Ok(Self {
            contestant: contestant.to_owned(),
            offered_per_second: per_second(sent.len() as u64),
            sent_late_percent: 100.0 * outcome.paced.late as f64 / outcome.paced.sent.max(1) as f64,
            strong: account(Strength::Strong),
            weak: account(Strength::Weak),
            goodput_percent: goodput(in_time[0] + in_time[1]),
        })
    }

    /// Whether every message of both strengths is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.strong.adds_up() && self.weak.adds_up()
    }

    /// Messages lost silently.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.strong.lost.of(Loss::Silent) + self.weak.lost.of(Loss::Silent)
    }
}

/// The counted losses, and the missing messages beyond them.
fn all_losses(offered: [u64; 2], delivered: [u64; 2], outcome: &Outcome) -> Result<[Counts; 2], ReportError> {
    let mut lost = [0, 1].map(|index| outcome.lost[index].plus(outcome.heard.lost[index]));
    let mut missing = [0; 2];
    for index in [0, 1] {
        let (counted, gone) = (lost[index].sum(), offered[index] - delivered[index]);
        missing[index] =
            gone.checked_sub(counted).ok_or(ReportError::TooManyLost { counted, missing: gone })?;
    }
    // A contestant that reports only a number, for both strengths together, accounts for all missing messages or none.
    let told = outcome.heard.lagged > 0 && outcome.heard.lagged == missing[0] + missing[1];
    for (lost, missing) in lost.iter_mut().zip(missing) {
        lost.add(if told { Loss::Lagged } else { Loss::Silent }, missing);
    }
    Ok(lost)
}

#[cfg(test)]
mod tests;
