//! The state of a consumer, read from its files by a process that does not have it open.

use std::path::Path;
use std::time::{Duration, SystemTime};

use aether_core::Pattern;

use crate::consumer::attempts::Attempts;
use crate::consumer::backlog::{Backlog, Of};
use crate::consumer::journal::Journal;
use crate::consumer::positions::Positions;
use crate::matching::Matching;
use crate::store::{Extent, OpenError, Record, Span};
use crate::stored_wave::WAVE;

/// How many waves of a log match a consumer and are not settled. Both numbers are the same where all of the log was counted
/// that may have such waves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Lag {
    /// Those that were counted, in the newest segments first.
    pub at_least: u64,
    /// With all others that could be such waves, by their positions.
    pub at_most: u64,
}

impl Lag {
    /// Whether all of them were counted.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.at_least == self.at_most
    }
}

/// The state of a consumer of a log, read from its files. Anything that its process has not written yet is missing: an
/// acknowledgement counts as soon as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStanding {
    /// Its pattern; `None` if its process ended before it had noted that.
    pub pattern: Option<Pattern>,
    /// Everything up to this position is settled, as far as it was counted.
    pub position: u64,
    /// Waves that were acknowledged.
    pub acknowledged: u64,
    /// Waves that were given up and became dead letters.
    pub dead: u64,
    /// Waves that the log dropped, or that could not be read any more, before they were acknowledged.
    pub expired: u64,
    /// Waves that wait, those that are in flight included.
    pub lag: Lag,
    /// Of these, waves that have failed and are delivered again.
    pub retrying: u64,
    /// Of these, waves whose delivery was begun and has not ended, or has ended with its process.
    pub in_flight: u64,
    /// When the last acknowledgement was written; `None` if there was none yet.
    pub last_acknowledged: Option<SystemTime>,
    /// When the oldest wave that waits was stored; `None` if none waits or not all were counted.
    pub oldest_waiting: Option<SystemTime>,
    /// Damaged places of its journal. Each may cost a redelivery.
    pub damaged: usize,
}

/// The files of a consumer as read, while the waves that wait for it are counted.
#[derive(Debug)]
pub(crate) struct Looking {
    standing: ConsumerStanding,
    settled: Positions,
    /// None without a pattern: nothing is known to wait then.
    matching: Option<Matching>,
    /// The first position that may wait.
    start: u64,
    backlog: Backlog,
}

impl Looking {
    /// Reads the files of the consumer in this folder. Changes nothing.
    pub(crate) fn at(folder: &Path) -> Result<Self, OpenError> {
        // First: an attempt that ends meanwhile is in the journal then.
        let begun = Attempts::last(folder)?;
        let read = Journal::look(folder)?;
        let recovered = read.recovered;
        let is_open = |(position, attempt): &&(u64, u32)| {
            let failed = recovered.failures.get(position).map_or(0, |failures| failures.count);
            *position > recovered.floor && !recovered.settled.contains(*position) && failed < *attempt
        };
        let in_flight = begun.iter().filter(is_open).count() as u64;
        let pattern = read.pattern.and_then(|pattern| Pattern::new(pattern).ok());
        let matching = pattern.as_ref().map(Matching::new);
        let settled = recovered.settled;
        // The journal notes the floor from time to time only.
        let start = settled.first_absent_from(recovered.floor + 1);
        let standing = ConsumerStanding {
            pattern,
            position: recovered.floor,
            acknowledged: recovered.acknowledged,
            dead: recovered.dead,
            expired: recovered.expired,
            lag: Lag::default(),
            retrying: recovered.failures.len() as u64,
            in_flight,
            last_acknowledged: time(read.acknowledged_micros),
            oldest_waiting: None,
            damaged: read.damaged,
        };
        Ok(Self { standing, settled, matching, start, backlog: Backlog::default() })
    }

    /// Goes on with what was counted before.
    pub(crate) fn begin(&mut self, backlog: Backlog, spans: &[Span]) {
        self.backlog = backlog;
        let pattern = self.standing.pattern.as_ref().map_or("", |pattern| pattern.as_str()).to_owned();
        let ConsumerStanding { position: floor, acknowledged, dead, expired, .. } = self.standing;
        let settled = acknowledged + dead + expired;
        self.backlog.begin(Of { pattern, floor, expired, settled }, spans);
    }

    /// Where the records of a segment are to be counted from, if they are.
    pub(crate) fn wanted(&self, span: &Span) -> Option<u64> {
        self.matching.as_ref().and_then(|_| self.backlog.wanted(span, self.start))
    }

    pub(crate) fn open(&mut self, span: &Span, from: u64) {
        self.backlog.open(span, from, &self.settled);
    }

    pub(crate) fn count(&mut self, span: &Span, record: &Record) {
        if self.matches(record) {
            self.backlog.count(span, record, &self.settled);
        }
    }

    pub(crate) fn close(&mut self, span: &Span) {
        self.backlog.close(span, &self.settled);
    }

    pub(crate) fn fail(&mut self, span: &Span) {
        self.backlog.fail(span);
    }

    fn matches(&mut self, record: &Record) -> bool {
        record.kind == WAVE && self.matching.as_mut().is_some_and(|matching| matching.matches(&record.name))
    }

    /// Adds up the counts. If everything was counted and the oldest waiting wave is not known, returns where to look
    /// for it: from this position on in this segment.
    pub(crate) fn sum(&mut self, spans: &[Span]) -> Option<(u64, Span)> {
        self.matching.as_ref()?;
        let sum = self.backlog.sum(spans, self.start, &self.settled);
        self.standing.lag = Lag { at_least: sum.waves, at_most: sum.waves + sum.others };
        let is_known = self.backlog.oldest(self.start, &self.settled).is_some();
        let from = self.backlog.oldest_from(self.start);
        sum.first.filter(|_| sum.others == 0 && !is_known).map(|span| (from.max(span.first), span))
    }

    /// Whether a record is the oldest wave that waits, when the records are looked at in order.
    pub(crate) fn is_oldest(&mut self, record: &Record) -> bool {
        let waits = record.position >= self.start && !self.settled.contains(record.position);
        let is_oldest = waits && self.matches(record);
        if is_oldest {
            self.backlog.found_oldest(Some((record.position, record.micros)));
        }
        is_oldest
    }

    /// The standing in a log that holds this, and what was counted.
    pub(crate) fn end(self, extent: &Extent) -> (ConsumerStanding, Backlog) {
        let Self { mut standing, settled, matching, start, mut backlog } = self;
        let is_counted = matching.is_some() && standing.lag.is_exact();
        let oldest = backlog.oldest(start, &settled).filter(|_| is_counted && standing.lag.at_least > 0);
        if !is_counted || standing.lag.at_least == 0 {
            backlog.found_oldest(None);
        }
        standing.oldest_waiting = oldest.and_then(|(_, micros)| time(micros));
        standing.position = match oldest {
            Some((position, _)) => position - 1,
            None if is_counted && standing.lag.at_least == 0 => extent.last.max(start - 1),
            // At least what follows the floor without a gap.
            None => start - 1,
        };
        (standing, backlog)
    }
}

/// 0 is none.
pub(crate) fn time(micros: u64) -> Option<SystemTime> {
    (micros > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
}
