//! The judgement: which services are at fault, and which only follow.

use std::time::Duration;

use smol_str::SmolStr;

use super::activity::Service;
use super::incident::{Cause, Severity};
use super::open::OpenIncident;
use super::processes::{Lost, RETURN};
use super::{AFTERMATH, EVERY, Incidents, LOSSES, QUIET, STORM_WAITS};
use crate::resonance::Resonance;
use crate::timeline::Moment;
use aether_core::Channel;

/// Without a missing beat or an unanswered question, a service is judged after this silence at the earliest.
const LONG_QUIET: Duration = Duration::from_secs(8);
/// A silence is unusual if it is longer than the longest pause by this factor, and at least this long.
const UNUSUAL: u32 = 2;
const UNUSUAL_AT_LEAST: Duration = Duration::from_millis(1500);
/// Services that fell silent within this time of each other, apart from their own pauses, have one cause.
const TOGETHER: Duration = Duration::from_secs(1);
/// For this long, a service that falls silent can still join an incident.
const JOINS: Duration = Duration::from_secs(15);
/// A service that is silent for this long, and for which nobody waits, is gone for good.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// The connection is an incident after this time.
const DISCONNECTED: Duration = Duration::from_secs(2);

/// A service that may be at fault.
#[derive(Debug)]
struct Suspect {
    name: SmolStr,
    cause: Cause,
    severity: Severity,
    /// Its last sign of life, or the first unanswered question.
    since: Moment,
    /// When it should have been heard again.
    due: Moment,
    /// If its process was lost: the channels that go on and reach it no more.
    unheard: Option<Vec<Channel>>,
}

impl Incidents {
    /// Judges everything, and returns the time of the next judgement.
    pub(super) fn judge(&mut self, heard: &Resonance, now: Moment) -> Option<Moment> {
        if let Some(since) = self.disconnected {
            if now.since(since) >= DISCONNECTED {
                self.begin(OpenIncident::new(Cause::Disconnected, Severity::Critical, since), now);
            }
            return Some(now.plus(EVERY));
        }
        self.processes.look(&self.activity, heard, now);
        self.look_for_recovery(now);
        let is_silent_bus = self.open.iter().any(|open| open.cause == Cause::AllSilent);
        if !is_silent_bus {
            let suspects = self.suspects(heard, now);
            self.accuse(suspects, now);
            self.look_for_slow_services(now);
            self.look_for_stopped_streams(now);
        }
        self.judge_storms(now);
        let Self { open, activity, questions, .. } = self;
        for open in open.iter_mut().filter(|open| open.is_about_services()) {
            open.look_around(activity, questions, now);
        }
        if self.open.is_empty() { self.next_deadline(now) } else { Some(now.plus(EVERY)) }
    }

    /// The services with evidence against them.
    fn suspects(&self, heard: &Resonance, now: Moment) -> Vec<Suspect> {
        let mut suspects: Vec<Suspect> = Vec::new();
        for (channel, answers) in self.questions.channels() {
            let Some(since) = answers.unanswered(now, self.watched) else { continue };
            let lives = self
                .activity
                .service(&answers.by)
                .is_some_and(|service| service.life.last > since.plus(EVERY));
            let cause = if lives { Cause::NotAnswering { channel: channel.clone() } } else { Cause::Stopped };
            if !suspects.iter().any(|known| known.name == answers.by) {
                let name = answers.by.clone();
                let severity = Severity::Critical;
                suspects.push(Suspect { name, cause, severity, since, due: since, unheard: None });
            }
        }
        for Lost { service: name, heard, due, inputs } in self.processes.lost(&self.activity, heard, now) {
            let since = self.activity.service(&name).map_or(heard, |service| service.life.last.max(heard));
            let (severity, unheard) = (Severity::Critical, Some(inputs));
            suspects.retain(|known| known.name != name);
            suspects.push(Suspect {
                name,
                cause: Cause::Stopped,
                severity,
                since,
                due: due.max(since),
                unheard,
            });
        }
        for (name, service) in self.activity.services() {
            let Some((since, severity)) = self.silent(name, service, now) else { continue };
            let due = since.plus(service.own.unwrap_or(service.life).longest());
            let known = suspects.iter_mut().find(|known| known.name == *name);
            match known {
                Some(known) if known.cause == Cause::Stopped => known.since = known.since.min(since),
                Some(_) => {}
                None => {
                    let (name, cause) = (name.clone(), Cause::Stopped);
                    suspects.push(Suspect { name, cause, severity, since, due, unheard: None });
                }
            }
        }
        suspects
    }

    /// The last sign of life of a service whose silence is improbable.
    fn silent(&self, name: &str, service: &Service, now: Moment) -> Option<(Moment, Severity)> {
        let silence = service.life.silence(now, self.watched);
        if silence < QUIET.max(service.life.longest() * UNUSUAL) {
            return None;
        }
        let missed =
            |(_, stream): (_, &super::activity::Stream)| stream.missing.is_some() && !stream.follows();
        if self.activity.streams_of(name).any(missed) {
            return Some((service.life.last, Severity::Critical));
        }
        let own = service.own.filter(|_| service.has_own())?;
        let patience = own.patience()?.max(LONG_QUIET);
        (own.silence(now, self.watched) >= patience).then_some((service.life.last, Severity::Warning))
    }

    /// Opens incidents for those suspects that are not explained by others.
    fn accuse(&mut self, mut suspects: Vec<Suspect>, now: Moment) {
        for suspect in &suspects {
            if let Some(inputs) = &suspect.unheard
                && let Some(open) = self
                    .open
                    .iter_mut()
                    .find(|open| open.cause == Cause::Stopped && open.names(&suspect.name))
            {
                open.lose_process(inputs);
            }
        }
        suspects.retain(|suspect| {
            !self.open.iter().any(|open| open.names(&suspect.name) && open.includes(&suspect.cause))
        });
        suspects.sort_by_key(|suspect| suspect.since);
        let explained: Vec<bool> = (0..suspects.len()).map(|at| self.is_explained(&suspects, at)).collect();
        let mut explained = explained.into_iter();
        suspects.retain(|_| !explained.next().unwrap_or_default());
        if suspects.is_empty() {
            return;
        }
        // The pause of a service that comes back is not a habit of it.
        self.watched = self.watched.max(now);
        if self.is_all_silent(&suspects, now) {
            let mut open = OpenIncident::new(Cause::AllSilent, Severity::Critical, self.activity.last);
            open.services.extend(suspects.into_iter().map(|suspect| suspect.name));
            self.end(now, |open| matches!(open.cause, Cause::Stopped));
            self.begin(open, now);
            return;
        }
        for suspect in suspects {
            let joins = |open: &&mut OpenIncident| {
                open.cause == Cause::Stopped
                    && suspect.cause == Cause::Stopped
                    && now.since(open.found) <= JOINS
                    && suspect.since <= open.due.plus(TOGETHER)
                    && open.since <= suspect.due.plus(TOGETHER)
            };
            if let Some(open) = self.open.iter_mut().find(joins) {
                open.services.push(suspect.name);
                open.severity = open.severity.max(suspect.severity);
                suspect.unheard.iter().for_each(|inputs| open.lose_process(inputs));
                continue;
            }
            // A service that was slow and has stopped now is no longer slow.
            self.end(now, |open| open.is_about_services() && open.names(&suspect.name));
            let mut open = OpenIncident::new(suspect.cause, suspect.severity, suspect.since);
            open.services.push(suspect.name);
            if let Some(inputs) = &suspect.unheard {
                open.lose_process(inputs);
                open.due = suspect.due;
            }
            open.found = now;
            open.look_around(&self.activity, &self.questions, now);
            self.begin(open, now);
        }
    }

    /// Whether a suspect waits for another one or only reacts to it. A silence that was overdue before the other one
    /// has another cause, and so has the loss of a process.
    fn is_explained(&self, suspects: &[Suspect], at: usize) -> bool {
        let suspect = &suspects[at];
        if suspect.cause != Cause::Stopped || suspect.unheard.is_some() {
            return false;
        }
        let is_in_time = |since: Moment| since <= suspect.due.plus(TOGETHER);
        let follows = |follower: &str, leader: &str| {
            follower != leader
                && (self.questions.waits(follower, leader)
                    || self.activity.streams_of(follower).all(|(_, stream)| {
                        stream.follows() && stream.causes.iter().any(|cause| cause == leader)
                    }))
        };
        let by_open = self.open.iter().filter(|open| open.is_about_services() && is_in_time(open.since));
        by_open.flat_map(|open| &open.services).any(|name| follows(&suspect.name, name))
            || suspects.iter().enumerate().any(|(other, leader)| {
                is_in_time(leader.since)
                    && follows(&suspect.name, &leader.name)
                    && (other < at || !follows(&leader.name, &suspect.name))
            })
    }

    /// Whether nothing at all was heard since the suspects were due, and several services are silent.
    fn is_all_silent(&self, suspects: &[Suspect], now: Moment) -> bool {
        let is_unusual = |service: &Service| {
            let silence = now.since(service.life.last);
            silence >= UNUSUAL_AT_LEAST.max(service.life.longest() * UNUSUAL)
        };
        let silent = self.activity.services().filter(|(_, service)| service.has_own() && is_unusual(service));
        let lately = silent.filter(|(_, service)| self.activity.last.since(service.life.last) < JOINS);
        lately.count() >= 2
            && now.since(self.activity.last) >= UNUSUAL_AT_LEAST
            && suspects.iter().all(|suspect| self.activity.last <= suspect.due.plus(TOGETHER))
    }

    fn look_for_recovery(&mut self, now: Moment) {
        let Self { open, activity, questions, losses, processes, .. } = &mut *self;
        let is_back = |open: &OpenIncident, name: &SmolStr| {
            activity.service(name).is_some_and(|service| service.life.last > open.found)
                || open.lost_process && processes.has_told(name, open.found)
        };
        let mut over = Vec::new();
        for open in open.iter_mut() {
            let back = open.services.iter().filter(|name| is_back(open, name)).count();
            if back > 0 {
                open.returned.get_or_insert(now);
            }
            let is_over = match &open.cause {
                Cause::Stopped => {
                    let is_awaited = questions
                        .channels()
                        .any(|(_, answers)| open.names(&answers.by) && answers.is_awaited());
                    let answers = questions.channels().all(|(_, answers)| {
                        !open.names(&answers.by) || answers.unanswered(now, Moment::default()).is_none()
                    });
                    back == open.services.len() && answers || now.since(open.since) >= GIVEN_UP && !is_awaited
                }
                Cause::NotAnswering { channel } => questions
                    .channel(channel)
                    .is_none_or(|answers| answers.unanswered(now, Moment::default()).is_none()),
                Cause::Slow { .. } => !questions
                    .channels()
                    .any(|(_, answers)| open.names(&answers.by) && answers.slow(now).is_some()),
                Cause::StreamStopped { channel } => {
                    let lives = |name| {
                        activity.stream(channel, name).is_none_or(|stream| stream.pulse.last > open.found)
                    };
                    open.services.iter().all(|name| lives(name)) || now.since(open.since) >= GIVEN_UP
                }
                Cause::AllSilent => {
                    back > 0
                        && (back == open.services.len()
                            || open.returned.is_some_and(|returned| now.since(returned) >= RETURN))
                }
                Cause::RetryStorm { .. } => now.since(open.found) >= AFTERMATH,
                Cause::Losses => losses.last.is_none_or(|last| now.since(last) > LOSSES),
                Cause::Disconnected | Cause::Claim { .. } => false,
            };
            if is_over {
                over.push((open.id, open.cause == Cause::AllSilent, open.is_about_services()));
            }
        }
        for (id, was_medium, was_service) in over {
            self.end(now, |open| open.id == id);
            if was_medium {
                self.watch_from(now.plus(RETURN));
                self.processes.watch_from(now.plus(RETURN));
            } else if was_service {
                self.watch_from(now);
            }
        }
    }

    fn look_for_slow_services(&mut self, now: Moment) {
        let mut slow = Vec::new();
        for (channel, answers) in self.questions.channels() {
            if let Some((takes, before)) = answers.slow(now) {
                let cause = Cause::Slow { channel: channel.clone(), takes, before };
                let mut open = OpenIncident::new(cause, Severity::Warning, now);
                open.services.push(answers.by.clone());
                slow.push(open);
            }
        }
        for open in slow {
            self.begin(open, now);
        }
    }

    /// A regular stream that stopped while its service lives, and waits for nobody at fault.
    fn look_for_stopped_streams(&mut self, now: Moment) {
        let mut stopped = Vec::new();
        for (key, stream) in self.activity.streams() {
            let Some(finding) = stream.missing.as_ref().filter(|_| !stream.follows()) else { continue };
            let Some(patience) = stream.pulse.patience() else { continue };
            let lives = self.activity.service(&key.service).is_some_and(|service| {
                service.life.silence(now, self.watched) < QUIET
                    && service.life.last > stream.pulse.last.plus(QUIET)
            });
            let is_silent = stream.pulse.silence(now, self.watched) >= patience.max(LONG_QUIET);
            let waits = self
                .questions
                .channels()
                .any(|(_, answers)| answers.is_awaited() && answers.askers.contains(&key.service));
            let is_named = self.open.iter().any(|open| open.is_about_services());
            if lives && is_silent && !waits && !is_named {
                let cause = Cause::StreamStopped { channel: key.channel.clone() };
                let mut open = OpenIncident::new(cause, Severity::Warning, stream.pulse.last);
                open.services.push(key.service.clone());
                open.attach(finding);
                stopped.push(open);
            }
        }
        for open in stopped {
            self.begin(open, now);
        }
    }

    /// The next moment at which a judgement may differ, if no wave arrives before.
    fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let services = self.activity.services().flat_map(|(_, service)| {
            let quiet = service.life.last.max(self.watched);
            let own = service.own.filter(|_| service.has_own());
            let patience =
                own.and_then(|own| Some(own.last.max(self.watched).plus(own.patience()?.max(LONG_QUIET))));
            [Some(quiet.plus(QUIET.max(service.life.longest() * UNUSUAL))), patience]
        });
        let streams = self.activity.streams().filter(|(_, stream)| stream.missing.is_some());
        let streams = streams.map(|(_, stream)| {
            let patience = stream.pulse.patience()?.max(LONG_QUIET);
            Some(stream.pulse.last.max(self.watched).plus(patience))
        });
        let questions = self.questions.channels().map(|(_, answers)| answers.deadline(now, self.watched));
        let storms = self.storms.iter().map(|(found, _)| Some(found.plus(STORM_WAITS)));
        let processes = [self.processes.deadline(now)];
        let all = services.chain(streams).chain(questions).chain(storms).chain(processes).flatten();
        all.filter(|deadline| *deadline > now).min()
    }
}
