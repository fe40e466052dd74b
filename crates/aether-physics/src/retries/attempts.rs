//! The attempts on one channel: a sample of the requests, and the intervals in which they are counted.

use std::time::Duration;

use crate::timeline::Moment;

/// The maximum number of requests in the sample of a channel.
const SAMPLE: usize = 128;
/// An interval with fewer requests is prolonged, and so is one that looks like a storm, but not surely.
const FEWEST: u32 = 16;
/// A storm repeats at least this many requests.
const FEWEST_REPEATED: u32 = 4;
/// Of one request and interval, no more repeats than this are evidence of a storm.
const MOST_REPEATS: u32 = 4;
/// A prolonged interval ends after this many times its length.
const LONGEST: u32 = 30;
/// A storm is over when the mean number of attempts is below this share of the threshold.
const CALM: f64 = 0.8;
/// A storm has this many times the usual mean number of attempts.
const MORE: f64 = 1.25;
/// A storm has fewer new requests than the load explains, by this many standard errors.
const SURELY: f64 = 3.0;
/// The share of the former intervals that stays in the usual values with each new one.
const KEPT: f64 = 0.8;

/// One attempt of a request, by hashes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// What is requested.
    pub(super) request: u64,
    /// The wave, which may arrive twice.
    pub(super) wave: u64,
    /// Whether its sender marks it as a later attempt.
    pub(super) resent: bool,
}

/// The attempts on one channel.
#[derive(Debug)]
pub(super) struct Attempts {
    /// In ascending order of the requests' hashes.
    sample: Vec<OpenRequest>,
    /// Requests with greater hashes are not followed.
    greatest: u64,
    interval: Interval,
    usual: Option<Usual>,
    storm: bool,
    report: Option<Storm>,
}

/// A request without a successful answer.
#[derive(Debug)]
struct OpenRequest {
    request: u64,
    /// Its last attempt.
    wave: u64,
    at: Option<Moment>,
    /// The number of the interval in which it was last seen, and what was counted of it there.
    seen: u32,
    firsts: u32,
    repeats: u32,
}

/// The counts since a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    number: u32,
    since: Moment,
    /// When it is judged next: once in each length of an interval.
    due: Option<Moment>,
    /// All attempts, also those outside of the sample: their number, the number when it was judged last, and the most in
    /// one length.
    all: u64,
    before: u64,
    most: u64,
    /// Attempts of the sample: the first ones of a request, and the others.
    firsts: u32,
    repeats: u32,
    /// Requests of the sample, the number of them that were repeated, and their repeats as far as they are evidence.
    requests: u32,
    repeated: u32,
    evidence: u32,
}

/// Intervals without a storm, added up with weights that decay.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    seconds: f64,
    all: f64,
    firsts: f64,
    repeats: f64,
}

/// The verdict on an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// It is over.
    Closed,
    /// It needs more requests.
    Open,
}

/// A storm to report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storm {
    pub(super) mean: f64,
    pub(super) before: f64,
    pub(super) requests: usize,
}

impl Attempts {
    pub(super) fn starting(now: Moment) -> Self {
        Self {
            sample: Vec::new(),
            greatest: u64::MAX,
            interval: Interval { number: 1, since: now, ..Interval::default() },
            usual: None,
            storm: false,
            report: None,
        }
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn start_over(&mut self, now: Moment) {
        let mut sample = std::mem::take(&mut self.sample);
        sample.clear();
        *self = Self { sample, ..Self::starting(now) };
    }

    /// Begins a new interval, with no request open.
    pub(super) fn interrupt(&mut self, now: Moment) {
        self.sample.clear();
        self.interval = self.interval.next(now);
    }

    /// Judges the interval if that is due.
    pub(super) fn close(&mut self, now: Moment, length: Duration, longest_pause: Duration, threshold: f64) {
        let interval = &mut self.interval;
        let due = *interval.due.get_or_insert(interval.since.plus(length));
        if now < due {
            return;
        }
        interval.due = Some(now.plus(length));
        interval.most = interval.most.max(interval.all - interval.before);
        interval.before = interval.all;
        let passed = now.since(interval.since);
        let goes_on = self.judge(passed, length, threshold) == Judgement::Open;
        if goes_on && passed < length * LONGEST {
            return;
        }
        if goes_on {
            let counted = Usual::of(&self.interval, passed);
            self.usual.get_or_insert_default().add(&counted);
        }
        self.interval = self.interval.next(now);
        self.forget_old(now, longest_pause);
        if self.sample.len() < SAMPLE / 4 {
            self.greatest = self.greatest.saturating_mul(2) | 1;
        }
    }

    fn judge(&mut self, passed: Duration, length: Duration, threshold: f64) -> Judgement {
        if self.interval.requests < FEWEST {
            return Judgement::Open;
        }
        let counted = Usual::of(&self.interval, passed);
        let Some(usual) = &mut self.usual else {
            self.usual = Some(counted);
            return Judgement::Closed;
        };
        let (mean, before) = (counted.mean(), usual.mean());
        if mean <= threshold || mean <= MORE * before {
            self.storm &= mean >= CALM * threshold;
            usual.add(&counted);
        } else if !usual.is_exceeded_by(&self.interval, passed, length) {
            return Judgement::Open;
        } else if !std::mem::replace(&mut self.storm, true) {
            self.report = Some(Storm { mean, before, requests: self.interval.requests as usize });
        }
        Judgement::Closed
    }

    /// Counts an attempt.
    pub(super) fn count(&mut self, attempt: Attempt, now: Moment, longest_pause: Duration) {
        self.interval.all += 1;
        if attempt.request > self.greatest {
            return;
        }
        let place = match self.sample.binary_search_by(|open| open.request.cmp(&attempt.request)) {
            Ok(place) if self.sample[place].wave == attempt.wave => {
                self.interval.all -= 1;
                return;
            }
            Ok(place) => place,
            Err(_) => {
                self.make_room(now, longest_pause);
                if attempt.request > self.greatest {
                    return;
                }
                let Attempt { request, wave, .. } = attempt;
                let place = self.sample.partition_point(|open| open.request < request);
                self.sample
                    .insert(place, OpenRequest { request, wave, at: None, seen: 0, firsts: 0, repeats: 0 });
                place
            }
        };
        let (open, interval) = (&mut self.sample[place], &mut self.interval);
        let again = attempt.resent || open.at.is_some_and(|at| now.since(at) <= longest_pause);
        (open.wave, open.at) = (attempt.wave, Some(now));
        if std::mem::replace(&mut open.seen, interval.number) != interval.number {
            interval.requests += 1;
            (open.firsts, open.repeats) = (0, 0);
        }
        if again {
            interval.repeats += 1;
            interval.repeated += u32::from(open.repeats == 0);
            interval.evidence += u32::from(open.repeats < MOST_REPEATS);
            open.repeats = open.repeats.saturating_add(1);
        } else {
            interval.firsts += 1;
            open.firsts = open.firsts.saturating_add(1);
        }
    }

    /// Ends the request that a wave made: the next one for the same thing is a new request.
    pub(super) fn answered(&mut self, wave: u64) {
        if let Some(place) = self.sample.iter().position(|open| open.wave == wave) {
            self.sample.remove(place);
        }
    }

    /// The number of requests that fit into the memory it holds.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.sample.capacity()
    }

    pub(super) fn has_report(&self) -> bool {
        self.report.is_some()
    }

    pub(super) fn report(&mut self) -> Option<Storm> {
        self.report.take()
    }

    /// Makes room for one more request.
    fn make_room(&mut self, now: Moment, longest_pause: Duration) {
        if self.sample.len() == self.sample.capacity() && self.sample.len() < SAMPLE {
            // Doubling would exceed the bound.
            self.sample.reserve_exact(self.sample.len().max(4).min(SAMPLE - self.sample.len()));
        }
        if self.sample.len() == SAMPLE {
            self.forget_old(now, longest_pause);
        }
        while self.sample.len() == SAMPLE {
            self.greatest = (self.greatest / 2).min(self.sample[SAMPLE / 2].request);
            let kept = self.sample.partition_point(|open| open.request <= self.greatest);
            let Self { sample, interval, .. } = self;
            sample.drain(kept..).for_each(|open| interval.discount(&open));
        }
    }

    fn forget_old(&mut self, now: Moment, longest_pause: Duration) {
        self.sample.retain(|open| open.at.is_some_and(|at| now.since(at) <= longest_pause));
    }
}

impl Interval {
    /// Takes back what was counted of a request that is no longer in the sample: its later attempts will not count.
    fn discount(&mut self, open: &OpenRequest) {
        if open.seen == self.number {
            self.requests = self.requests.saturating_sub(1);
            self.firsts = self.firsts.saturating_sub(open.firsts);
            self.repeats = self.repeats.saturating_sub(open.repeats);
            self.repeated = self.repeated.saturating_sub(u32::from(open.repeats > 0));
            self.evidence = self.evidence.saturating_sub(open.repeats.min(MOST_REPEATS));
        }
    }

    fn next(self, now: Moment) -> Self {
        // Number 0 means never.
        Self { number: self.number.checked_add(1).unwrap_or(1), since: now, ..Self::default() }
    }
}

impl Usual {
    fn of(interval: &Interval, passed: Duration) -> Self {
        let Interval { all, firsts, repeats, .. } = *interval;
        Self {
            seconds: passed.as_secs_f64(),
            all: all as f64,
            firsts: firsts.into(),
            repeats: repeats.into(),
        }
    }

    fn add(&mut self, interval: &Self) {
        let add = |usual: &mut f64, interval: f64| *usual = KEPT * *usual + interval;
        add(&mut self.seconds, interval.seconds);
        add(&mut self.all, interval.all);
        add(&mut self.firsts, interval.firsts);
        add(&mut self.repeats, interval.repeats);
    }

    /// The mean number of attempts per request.
    fn mean(&self) -> f64 {
        (self.firsts + self.repeats) / self.firsts.max(1.0)
    }

    /// Whether fewer of the requests are new than at the present load without a storm.
    fn is_exceeded_by(&self, interval: &Interval, passed: Duration, length: Duration) -> bool {
        // Where the load changed within the interval, the greater load explains the repeats.
        let rate =
            (interval.all as f64 / passed.as_secs_f64()).max(interval.most as f64 / length.as_secs_f64());
        let load = (rate / (self.all / self.seconds)).max(1.0);
        // The share of repeats as it may be, two standard errors above what was seen.
        let recurs = (self.repeats + 2.0 * self.repeats.sqrt() + 1.0) / (self.firsts + self.repeats + 1.0);
        let (firsts, repeats) = (f64::from(interval.firsts), f64::from(interval.evidence));
        let expected = (firsts + repeats) * (1.0 - recurs.min(1.0)).powf(load);
        interval.repeated >= FEWEST_REPEATED && expected - firsts > SURELY * expected.sqrt() + 1.0
    }
}
