//! Incidents: what an operator would be woken for, folded from everything that is observed.
//!
//! [`PhysicsEngine`](super::PhysicsEngine) feeds this stage with the waves, the findings of the detectors, and what was not
//! observed. It names one fault once, with all that follows from it: a stopped service, instead of each of its streams and
//! of those that wait for it. Single findings never make an incident by themselves, except claims that the user asked for.
//!
//! A service is judged by four kinds of evidence: its streams are silent for longer than its own history explains, a
//! regular stream has missed a beat while nothing else comes from it, questions to it stay unanswered, or its process tells
//! no accounts any more while what it hears goes on. Nothing counts
//! as evidence that falls into a time that was not observed. There is no clock here: time is an argument, and
//! [`Incidents::next_change`] gives the time of the next judgement.

mod activity;
mod incident;
mod judge;
mod open;
mod processes;
mod pulse;
mod questions;

use std::collections::VecDeque;
use std::time::Duration;

use super::finding::Finding;
use super::interference::FringeKind;
use super::resonance::Resonance;
use super::timeline::{Moment, Timeline};
use activity::Activity;
use aether_core::Wave;
use aether_core::account::KnownProcess;
use aether_core::clock::Instant;
use open::OpenIncident;
use processes::{Processes, RETURN};
use questions::Questions;

pub use incident::{Cause, Incident, Severity};

/// The maximum number of open incidents. Beyond it, further ones are counted only.
const MAX_OPEN: usize = 32;
/// The maximum number of changes that wait to be fetched. Beyond it, the oldest is dropped and counted.
const MAX_CHANGES: usize = 256;
/// A service is judged after this silence at the earliest. Processes of a busy machine were seen to stall for 3.2 s.
const QUIET: Duration = Duration::from_secs(5);
/// A judgement that comes later than this shows that the observer did not run in between.
const LATE: Duration = Duration::from_secs(2);
/// The interval of judgements while an incident is open.
const EVERY: Duration = Duration::from_secs(1);
/// Repeated requests within this time after an incident are its consequence.
const AFTERMATH: Duration = Duration::from_secs(60);
/// A retry storm is an incident if each request is repeated this often on average; a weaker one is a finding only.
const STORM: f64 = 3.0;
/// A storm waits for this time, because a stopped service makes one before its own silence is proof.
const STORM_WAITS: Duration = Duration::from_secs(10);
/// The maximum number of storms that wait.
const MAX_STORMS: usize = 16;
/// Losses are an incident when they have lasted for this time without a break of the same length.
const LOSSES: Duration = Duration::from_secs(20);
/// The smallest number of lost waves that makes an incident.
const MOST_LOST: u64 = 100;

/// The stage that folds observations into incidents.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    timeline: Timeline,
    /// Silences before this moment are no evidence.
    watched: Moment,
    activity: Activity,
    questions: Questions,
    processes: Processes,
    open: Vec<OpenIncident>,
    changes: VecDeque<Incident>,
    /// Incidents that did not fit, and changes that were not fetched in time.
    lost: u64,
    check_at: Option<Moment>,
    disconnected: Option<Moment>,
    opened: u64,
    /// The end of the last incident of a service or of the medium.
    ended: Option<Moment>,
    losses: Losses,
    /// Storms that may turn out to be consequences.
    storms: Vec<(Moment, Finding)>,
}

/// The losses of the observer without a long break.
#[derive(Debug, Default)]
struct Losses {
    since: Moment,
    last: Option<Moment>,
    waves: u64,
}

impl Incidents {
    /// Takes in a wave.
    pub(super) fn observe(&mut self, wave: &Wave, now: Instant) {
        let now = self.timeline.advance(now);
        self.notice_pause(now);
        if wave.source().instance() == 0 {
            return;
        }
        self.activity.observe(wave, now, self.watched);
        self.questions.observe(wave, now);
        if self.check_at.is_none_or(|at| at > now.plus(QUIET)) {
            self.check_at = Some(now.plus(QUIET));
        }
    }

    /// Takes in a finding of a detector.
    pub(super) fn note(&mut self, finding: &Finding, now: Instant) {
        let now = self.timeline.advance(now);
        match finding {
            Finding::MissingBeat { stream, .. } => {
                self.activity.missed(&stream.channel, stream.source.name(), finding);
                self.check_at = Some(self.check_at.map_or(now, |at| at.min(now)));
            }
            Finding::RetryStorm { attempts_per_key, .. } if *attempts_per_key >= STORM => {
                if self.storms.len() < MAX_STORMS {
                    self.storms.push((now, finding.clone()));
                }
                self.check_at.get_or_insert(now.plus(STORM_WAITS));
            }
            Finding::Fringe(fringe) => {
                let cause = Cause::Claim { channel: fringe.channel.clone(), key: fringe.key.to_string() };
                match fringe.kind {
                    FringeKind::Rise => {
                        let mut open = OpenIncident::new(cause, Severity::Warning, now);
                        open.attach(finding);
                        self.begin(open, now);
                    }
                    // The incident goes on.
                    FringeKind::Changed => {}
                    FringeKind::Fall | FringeKind::Forgotten => self.end(now, |open| open.cause == cause),
                }
            }
            _ => {}
        }
    }

    /// The next change: an incident that began or ended.
    pub(super) fn change(&mut self) -> Option<Incident> {
        self.changes.pop_front()
    }

    /// Takes in a reading of the accounts of all processes.
    pub(super) fn told(&mut self, processes: &[KnownProcess], now: Instant) {
        let now = self.timeline.advance(now);
        self.notice_pause(now);
        self.processes.tell(processes, now);
        if let Some(at) = self.processes.deadline(now) {
            self.check_at = Some(self.check_at.map_or(at, |check| check.min(at)));
        }
    }

    /// Whether the accounts have to be read before the next judgement.
    pub(super) fn wants_accounts(&self, now: Instant) -> bool {
        self.processes.is_due(self.timeline.peek(now))
    }

    /// Judges what is due. `heard` knows which vibrators hear what.
    pub(super) fn tick(&mut self, heard: &Resonance, now: Instant) {
        let now = self.timeline.advance(now);
        self.notice_pause(now);
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = self.judge(heard, now);
        }
    }

    /// The time of the next judgement if no wave arrives before.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.timeline.instant(self.check_at?)
    }

    /// The open incidents.
    pub(super) fn open(&self) -> impl Iterator<Item = Incident> {
        let now = self.timeline.latest();
        self.open.iter().map(move |open| open.report(&self.timeline, now, None))
    }

    /// Incidents that did not fit, and changes that were not fetched in time.
    pub(super) fn left_out(&self) -> u64 {
        self.lost
    }

    /// Records that waves before `now` may have been missed.
    pub(super) fn not_seen(&mut self, now: Instant) {
        let now = self.timeline.advance(now);
        self.watch_from(now);
    }

    /// Records that the observer did not run until `now`: what was told meanwhile may still wait.
    pub(super) fn stalled(&mut self, now: Instant) {
        let now = self.timeline.advance(now);
        self.processes.watch_from(now);
    }

    /// Records that the observer lost waves.
    pub(super) fn lost(&mut self, waves: u64, now: Instant) {
        let now = self.timeline.advance(now);
        let losses = &mut self.losses;
        if losses.last.is_none_or(|last| now.since(last) > LOSSES) {
            (losses.since, losses.waves) = (now, 0);
        }
        losses.last = Some(now);
        losses.waves += waves;
        if now.since(losses.since) >= LOSSES && losses.waves >= MOST_LOST {
            self.begin(OpenIncident::new(Cause::Losses, Severity::Warning, self.losses.since), now);
        }
    }

    /// Records that the observer lost its connection, or has it again.
    pub(super) fn linked(&mut self, connected: bool, now: Instant) {
        let now = self.timeline.advance(now);
        match (connected, self.disconnected) {
            (false, None) => {
                self.disconnected = Some(now);
                self.watch_from(now);
                self.processes.watch_from(now);
                self.check_at = Some(now.plus(EVERY));
            }
            (true, Some(_)) => {
                self.disconnected = None;
                self.end(now, |open| open.cause == Cause::Disconnected);
                self.watch_from(now.plus(RETURN));
                self.processes.watch_from(now.plus(RETURN));
            }
            _ => {}
        }
    }

    /// Silences begin again.
    fn watch_from(&mut self, now: Moment) {
        self.watched = self.watched.max(now);
        self.questions.forget_open();
    }

    /// A judgement that was due long ago shows that the observer did not run.
    fn notice_pause(&mut self, now: Moment) {
        if self.check_at.is_some_and(|at| now.since(at) > LATE) {
            self.watch_from(now);
            self.processes.watch_from(now);
            self.check_at = Some(now.plus(QUIET));
        }
    }

    /// Opens an incident, unless one of the same cause is open.
    fn begin(&mut self, mut open: OpenIncident, now: Moment) {
        if self.open.iter().any(|known| known.is_same(&open)) {
            return;
        }
        if self.open.len() == MAX_OPEN {
            self.lost += 1;
            return;
        }
        self.opened += 1;
        open.id = self.opened;
        open.found = now;
        self.announce(open.report(&self.timeline, now, None));
        self.open.push(open);
        self.check_at = Some(self.check_at.map_or(now.plus(EVERY), |at| at.min(now.plus(EVERY))));
    }

    /// Ends the incidents that fulfil a condition.
    fn end(&mut self, now: Moment, is_over: impl Fn(&OpenIncident) -> bool) {
        let mut at = 0;
        while let Some(open) = self.open.get(at) {
            if is_over(open) {
                let open = self.open.remove(at);
                self.announce(open.report(&self.timeline, now, Some(now)));
                if open.is_about_services() {
                    self.ended = Some(now);
                }
            } else {
                at += 1;
            }
        }
    }

    fn announce(&mut self, incident: Incident) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
            self.lost += 1;
        }
        self.changes.push_back(incident);
    }

    /// A retry storm is the consequence of an incident, or one by itself.
    fn judge_storms(&mut self, now: Moment) {
        for (found, finding) in std::mem::take(&mut self.storms) {
            let Finding::RetryStorm { channel, .. } = &finding else { continue };
            if let Some(open) = self.open.iter_mut().find(|open| open.is_about_services()) {
                open.attach(&finding);
                continue;
            }
            if self.ended.is_some_and(|ended| now.since(ended) < AFTERMATH) || self.disconnected.is_some() {
                continue;
            }
            if now.since(found) < STORM_WAITS {
                self.storms.push((found, finding));
                continue;
            }
            let cause = Cause::RetryStorm { channel: channel.clone() };
            if let Some(open) = self.open.iter_mut().find(|open| open.cause == cause) {
                open.found = now;
                continue;
            }
            let mut open = OpenIncident::new(cause, Severity::Warning, found);
            open.services.extend(self.questions.channel(channel).map(|answers| answers.by.clone()));
            open.attach(&finding);
            self.begin(open, now);
        }
    }
}

#[cfg(test)]
mod tests;
