//! Polling: the same question asked again and again, with the same answer.
//!
//! [`Pollings::observe`] takes waves in, and [`Pollings::tick`] returns [`Finding::Polling`]s. Questions are compared by
//! channel, source, coherence key and content, so different questions with the same answer are not polling. The
//! questions must be even in time, because people and load also repeat questions, and without a cause, because a
//! question that another wave caused is driven by events already. A poller is reported once, with all that it asks, and
//! again only after it has stopped.
//!
//! ```
//! use aether_physics::{Answer, Finding, PollingOptions, Pollings, Request};
//! use aether_core::{Channel, Kind, Source, WaveId};
//! use std::time::{Duration, Instant};
//!
//! let mut pollings = Pollings::new(PollingOptions::default())?;
//! let (channel, source, start) = (Channel::new("stock.level")?, Source::new("shop")?, Instant::now());
//! for sequence in 1..=9 {
//!     let now = start + Duration::from_secs(sequence);
//!     pollings.asked(&Request {
//!         channel: &channel, source: &source, sequence, kind: Kind::Query, key: Some("lamp"), content: b"",
//!         attempt: 1, caused: false, age: Duration::ZERO,
//!     }, now);
//!     let question = WaveId { source: source.clone(), sequence };
//!     pollings.answered(&Answer { channel: &channel, question: &question, content: b"17", failed: false }, now);
//! }
//! let Some(Finding::Polling { period, unchanged: 9, .. }) = pollings.tick() else { panic!("nine equal answers") };
//! assert_eq!(period, Duration::from_secs(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod pace;

use super::bounds::{BoundsError, check};
use super::finding::Finding;
use super::recent::Recent;
use super::request::{Answer, Request, sample};
use super::timeline::{Moment, Timeline};
use aether_core::clock::Instant;
use aether_core::{Channel, Kind, Source, Wave};
use pace::Pace;

const MOST_POLLERS: usize = 1 << 16;
/// The number of different questions remembered for each source and channel.
const QUESTIONS: usize = 16;
/// A question that was not asked for this many of its gaps gives up its place to another one.
const SILENT_GAPS: u32 = 4;
/// A poller that asked nothing for this many of its gaps has stopped.
const ENDED_GAPS: u32 = 10;
/// The number of marks of channels on which questions were answered. Two channels that share one displace each other.
const MARKS: usize = 1024;

/// Options of [`Pollings`]: when questions count as polling.
#[derive(Debug, Clone)]
#[must_use = "no detector is made before Pollings::new()"]
pub struct PollingOptions {
    unchanged: u32,
    max_pollers: usize,
}

impl Default for PollingOptions {
    fn default() -> Self {
        Self { unchanged: 8, max_pollers: 512 }
    }
}

impl PollingOptions {
    /// The number of equal answers in a row that make an even question [`Finding::Polling`]. Default: 8.
    pub fn unchanged(mut self, answers: u32) -> Self {
        self.unchanged = answers;
        self
    }

    /// The maximum number of observed askers, each of one source on one channel. Beyond it, the one that was silent
    /// longest is forgotten. Default: 512. Cost: up to 2 KiB per asker.
    pub fn max_pollers(mut self, most: usize) -> Self {
        self.max_pollers = most;
        self
    }
}

/// The questions and answers that a detector of polling has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PollingCounts {
    /// Questions without a cause.
    pub questions: u64,
    /// Answers to them.
    pub answers: u64,
    /// Answers to questions that are unknown, forgotten, or answered already.
    pub unknown_answers: u64,
    /// Questions that were not remembered, because their asker repeats many others.
    pub crowded: u64,
    /// Askers that were forgotten because there were too many.
    pub pollers_evicted: u64,
    /// The number of times that the caller's clock went back.
    pub clock_jumps: u64,
}

/// The detector of polling.
#[derive(Debug)]
pub struct Pollings {
    options: PollingOptions,
    timeline: Timeline,
    pollers: Recent<Asker, Poller>,
    /// Pollers with something to report. At most as many as there are pollers.
    found: Vec<u32>,
    /// Hashes of channels on which questions were answered, so that events, which are rarely questions, cost little.
    answered: Box<[u64]>,
    /// All questions since then were observed.
    watched: Moment,
    counts: PollingCounts,
}

#[derive(Debug)]
struct Asker {
    channel: Channel,
    source: Source,
}

/// The questions of one source on one channel.
#[derive(Debug, Default)]
struct Poller {
    /// At most [`QUESTIONS`].
    questions: Vec<Question>,
    /// When the reported polling ends, unless a question comes before.
    polls_until: Option<Moment>,
    /// The question to report.
    report: Option<u64>,
    /// Whether it waits for a report, for this poller or for one that had its place before.
    queued: bool,
}

/// A question: a key and a content.
#[derive(Debug)]
struct Question {
    asks: u64,
    /// The number of the wave that asked last, and its emission.
    sequence: u64,
    at: Moment,
    /// Whether that wave was answered.
    answered: bool,
    answer: u64,
    /// The number of equal answers in a row.
    unchanged: u32,
    pace: Pace,
}

impl Pollings {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn new(options: PollingOptions) -> Result<Self, BoundsError> {
        let PollingOptions { unchanged, max_pollers } = options;
        check(unchanged > 0, "polling.unchanged", unchanged, "1 or more")?;
        let pollers_allowed = (1..=MOST_POLLERS).contains(&max_pollers);
        check(pollers_allowed, "polling.max_pollers", max_pollers, format!("1 to {MOST_POLLERS}"))?;
        Ok(Self {
            options,
            timeline: Timeline::default(),
            pollers: Recent::new(max_pollers),
            found: Vec::new(),
            answered: vec![0; MARKS].into(),
            watched: Moment::default(),
            counts: PollingCounts::default(),
        })
    }

    /// Takes in a wave: a query, an answer, or a wave of another kind on a channel where such waves are answered.
    /// Commands are skipped: they change something.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        match wave.kind() {
            Kind::Command => {}
            Kind::Response => {
                if let Some(answer) = Answer::of(wave) {
                    self.answered(&answer, now);
                }
            }
            Kind::Query => self.asked(&Request::of(wave, wave.age_when(now)), now),
            _ => {
                let hash = self.pollers.hash_of(wave.channel());
                if self.answered[hash as usize % MARKS] == hash {
                    self.asked(&Request::of(wave, wave.age_when(now)), now);
                }
            }
        }
    }

    /// Takes in a question without a wave, such as one of a recording. Commands, resends, and questions with a cause
    /// are skipped.
    pub fn asked(&mut self, request: &Request<'_>, now: Instant) {
        let now = self.timeline.advance(now);
        let Request { channel, source, sequence, kind, caused, attempt, age, .. } = *request;
        if caused || attempt > 1 || kind == Kind::Command || source.instance() == 0 {
            return;
        }
        self.counts.questions += 1;
        let asks = self.pollers.hash_of(request.asks());
        let slot = self.slot(channel, source);
        let (watched, at) = (self.watched, now.minus(age));
        let poller = self.pollers.value_mut(slot);
        if poller.polls_until.is_some_and(|until| until < at && watched < until) {
            poller.polls_until = None;
            poller.questions.clear();
        }
        let Some(question) = poller.questions.iter_mut().find(|question| question.asks == asks) else {
            let question = Question {
                asks,
                sequence,
                at,
                answered: false,
                answer: 0,
                unchanged: 0,
                pace: Pace::default(),
            };
            self.counts.crowded += u64::from(!poller.remember(question, at));
            return;
        };
        if at <= question.at || sequence == question.sequence {
            // Late or repeated.
            return;
        }
        if question.at >= watched {
            question.pace.note(at.since(question.at));
        }
        (question.at, question.sequence, question.answered) = (at, sequence, false);
        if let (Some(until), Some(gap)) = (&mut poller.polls_until, question.pace.latest()) {
            *until = at.plus(gap * ENDED_GAPS).max(*until);
        }
    }

    /// Takes in an answer without a wave. Only the first answer to a question counts, as for its asker; one that reports
    /// a failure does not.
    pub fn answered(&mut self, answer: &Answer<'_>, now: Instant) {
        self.timeline.advance(now);
        let Answer { channel, question, content, failed } = *answer;
        let mark = self.pollers.hash_of(channel);
        self.answered[mark as usize % MARKS] = mark;
        let source = &question.source;
        let slot =
            self.pollers.find(self.pollers.hash_of((channel, source)), |asker| asker.is(channel, source));
        let content = self.pollers.hash_of(sample(content));
        let poller = slot.map(|slot| (slot, self.pollers.value_mut(slot)));
        let known = poller.and_then(|(slot, poller)| {
            let asked = |held: &Question| held.sequence == question.sequence && !held.answered;
            let place = poller.questions.iter().position(asked)?;
            Some((slot, poller, place))
        });
        let Some((slot, poller, place)) = known else {
            self.counts.unknown_answers += 1;
            return;
        };
        self.counts.answers += 1;
        let question = &mut poller.questions[place];
        question.answered = true;
        if failed {
            return;
        }
        question.unchanged =
            if question.answer == content { question.unchanged.saturating_add(1) } else { 1 };
        question.answer = content;
        if poller.polls_until.is_none()
            && poller.report.is_none()
            && question.unchanged >= self.options.unchanged
            && question.pace.period().is_some()
        {
            poller.report = Some(question.asks);
            if !std::mem::replace(&mut poller.queued, true) {
                self.found.push(slot);
            }
        }
    }

    /// Records that waves between two moments may have been missed. No gap between questions reaches across that time,
    /// and no polling ends in it.
    pub fn not_seen(&mut self, _from: Instant, now: Instant) {
        self.watched = self.timeline.advance(now);
    }

    /// The next poller. Call it until it returns `None`. Only an answer changes the result, so there is nothing to wait
    /// for.
    pub fn tick(&mut self) -> Option<Finding> {
        while let Some(slot) = self.found.pop() {
            let poller = self.pollers.value_mut(slot);
            poller.queued = false;
            // The report of a forgotten poller is dropped with it.
            let Some(asks) = poller.report.take() else { continue };
            let Some(question) = poller.questions.iter().find(|question| question.asks == asks) else {
                continue;
            };
            let Some(period) = question.pace.period() else { continue };
            let (unchanged, at) = (question.unchanged, question.at);
            poller.polls_until = Some(at.plus(period * ENDED_GAPS));
            let questions =
                poller.questions.iter().filter(|other| other.unchanged > 1 && !other.is_over(at)).count();
            let Asker { channel, source } = self.pollers.key(slot);
            return Some(Finding::Polling {
                channel: channel.clone(),
                source: source.clone(),
                period,
                questions: questions.max(1),
                unchanged,
            });
        }
        None
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> PollingCounts {
        PollingCounts {
            pollers_evicted: self.pollers.evicted(),
            clock_jumps: self.timeline.jumps_back(),
            ..self.counts
        }
    }

    fn slot(&mut self, channel: &Channel, source: &Source) -> u32 {
        let hash = self.pollers.hash_of((channel, source));
        if let Some(slot) = self.pollers.touch(hash, |asker| asker.is(channel, source)) {
            return slot;
        }
        let make = || (Asker { channel: channel.clone(), source: source.clone() }, Poller::default());
        self.pollers.insert(hash, make, |asker, poller| {
            asker.channel.clone_from(channel);
            asker.source.clone_from(source);
            poller.questions.clear();
            (poller.polls_until, poller.report) = (None, None);
        })
    }
}

impl Asker {
    fn is(&self, channel: &Channel, source: &Source) -> bool {
        self.source == *source && self.channel == *channel
    }
}

impl Poller {
    /// Remembers a new question. One that is asked repeatedly keeps its place until it is no longer asked. Of the
    /// others, the hash chooses which one goes: an asker with more questions than places would lose the oldest one
    /// each time before it comes again. Returns whether there was a place.
    fn remember(&mut self, question: Question, now: Moment) -> bool {
        if self.questions.len() < QUESTIONS {
            if self.questions.len() == self.questions.capacity() {
                // Doubling would exceed the bound.
                self.questions
                    .reserve_exact(self.questions.len().max(1).min(QUESTIONS - self.questions.len()));
            }
            self.questions.push(question);
            return true;
        }
        let first = question.asks as usize % QUESTIONS;
        let mut places = (first..QUESTIONS).chain(0..first);
        let Some(place) = places.find(|place| self.questions[*place].is_over(now)) else { return false };
        self.questions[place] = question;
        true
    }
}

impl Question {
    /// Whether it was asked once, or has not been asked for several times its usual gap.
    fn is_over(&self, now: Moment) -> bool {
        self.pace.latest().is_none_or(|gap| now.since(self.at) > gap * SILENT_GAPS)
    }
}

#[cfg(test)]
mod tests;
