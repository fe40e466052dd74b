//! An open incident: what is known about it so far.

use smol_str::SmolStr;

use super::activity::Activity;
use super::incident::{Cause, Incident, Severity};
use super::questions::Questions;
use crate::finding::Finding;
use crate::timeline::{Moment, Timeline};
use aether_core::Channel;

/// The maximum number of streams, followers and services that are named.
const MAX_NAMED: usize = 32;
/// The maximum number of findings that are kept.
const MAX_FINDINGS: usize = 16;

#[derive(Debug)]
pub(super) struct OpenIncident {
    pub(super) id: u64,
    pub(super) cause: Cause,
    pub(super) severity: Severity,
    pub(super) since: Moment,
    /// When the service should have been heard again.
    pub(super) due: Moment,
    /// Whether a process of it was lost. Then its next account is a sign of life.
    pub(super) lost_process: bool,
    /// When it was found, or last confirmed.
    pub(super) found: Moment,
    /// When the first of its services came back.
    pub(super) returned: Option<Moment>,
    pub(super) services: Vec<SmolStr>,
    streams: Vec<Channel>,
    followers: Vec<Channel>,
    waiting: Vec<SmolStr>,
    findings: Vec<Finding>,
    unheard: Vec<Channel>,
}

impl OpenIncident {
    pub(super) fn new(cause: Cause, severity: Severity, since: Moment) -> Self {
        Self {
            id: 0,
            cause,
            severity,
            since,
            due: since,
            lost_process: false,
            found: since,
            returned: None,
            services: Vec::new(),
            streams: Vec::new(),
            followers: Vec::new(),
            waiting: Vec::new(),
            findings: Vec::new(),
            unheard: Vec::new(),
        }
    }

    pub(super) fn attach(&mut self, finding: &Finding) {
        if self.findings.len() < MAX_FINDINGS && !self.findings.contains(finding) {
            self.findings.push(finding.clone());
        }
    }

    /// The process of one of its services was lost, while these channels go on.
    pub(super) fn lose_process(&mut self, inputs: &[Channel]) {
        self.lost_process = true;
        for channel in inputs {
            if self.unheard.len() < MAX_NAMED && !self.unheard.contains(channel) {
                self.unheard.push(channel.clone());
            }
        }
    }

    /// Whether it is the same fault. A service has at most one incident of its own.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let shares = self.services.iter().any(|name| other.services.contains(name));
        self.cause == other.cause && (shares || self.services.is_empty())
            || self.is_about_services() && other.is_about_services() && shares
    }

    /// Whether it explains that other services are silent.
    pub(super) fn is_about_services(&self) -> bool {
        matches!(
            self.cause,
            Cause::Stopped
                | Cause::NotAnswering { .. }
                | Cause::Slow { .. }
                | Cause::Disconnected
                | Cause::AllSilent
        )
    }

    /// Whether a cause of one of its services is known.
    pub(super) fn includes(&self, cause: &Cause) -> bool {
        match self.cause {
            Cause::Stopped | Cause::Disconnected | Cause::AllSilent => true,
            Cause::NotAnswering { .. } => matches!(cause, Cause::NotAnswering { .. }),
            _ => false,
        }
    }

    /// Whether this service is at fault.
    pub(super) fn names(&self, service: &str) -> bool {
        self.services.iter().any(|name| name == service)
    }

    /// Looks which streams are silent, which channels of others follow them, and who waits.
    pub(super) fn look_around(&mut self, activity: &Activity, questions: &Questions, now: Moment) {
        for (key, stream) in activity.streams() {
            // It is silent if nothing came since the incident began, although something should have.
            let is_silent = stream.pulse.last <= self.found
                && now.since(stream.pulse.last) > stream.pulse.longest() * 2
                && stream.pulse.longest() > std::time::Duration::ZERO;
            if !is_silent {
                continue;
            }
            let is_own = self.names(&key.service);
            // A stream that was overdue before has another cause.
            let is_in_time = stream.pulse.last.plus(stream.pulse.longest() * 2) >= self.since;
            let follows = is_in_time
                && (stream.causes.iter().any(|cause| self.names(cause))
                    || self.services.iter().any(|name| questions.waits(&key.service, name)));
            if !is_own && !follows {
                continue;
            }
            let named = if is_own { &mut self.streams } else { &mut self.followers };
            if named.len() < MAX_NAMED && !named.contains(&key.channel) {
                named.push(key.channel.clone());
                if let Some(finding) = &stream.missing
                    && self.findings.len() < MAX_FINDINGS
                {
                    self.findings.push(Finding::clone(finding));
                }
            }
        }
        for (_, answers) in questions.channels().filter(|(_, answers)| answers.is_awaited()) {
            if self.services.contains(&answers.by) {
                for asker in &answers.askers {
                    if self.waiting.len() < MAX_NAMED && !self.waiting.contains(asker) {
                        self.waiting.push(asker.clone());
                    }
                }
            }
        }
    }

    pub(super) fn report(&self, timeline: &Timeline, now: Moment, until: Option<Moment>) -> Incident {
        let names = |names: &[SmolStr]| names.iter().map(ToString::to_string).collect();
        let instant = |moment| timeline.instant(moment);
        let at = instant(now).unwrap_or_else(aether_core::clock::now);
        Incident {
            id: self.id,
            cause: self.cause.clone(),
            severity: self.severity,
            since: instant(self.since).unwrap_or(at),
            until: until.and_then(instant),
            lasted: until.unwrap_or(now).since(self.since),
            services: names(&self.services),
            streams: self.streams.clone(),
            followers: self.followers.clone(),
            waiting: names(&self.waiting),
            findings: self.findings.clone(),
            unheard: self.unheard.clone(),
        }
    }
}
