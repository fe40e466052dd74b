//! Corroborated alerts for services: adds up claims, and lets one instance of a group report each fringe.
//!
//! [`ServiceBuilder::on_fringe`](crate::ServiceBuilder::on_fringe) makes a [`Corroborator`]; the running service drives
//! it in a task of its own. Every instance of a group hears all claims and finds the same fringes. One of them emits a
//! command on the group's report channel, which one member handles like any other wave. Where nobody else can report,
//! because the service is in no group, this is always the only instance.
//!
//! The reporters are the instances that are *ready*, in the order of their instance numbers. The first reports at once.
//! The next ones hold their fringes back and drop what they hear reported; they report what the first has missed after
//! [`PATIENCE`] each. An instance is ready when it has heard claims for as long as they count. Before that it would
//! report again what the others reported before it came. Readiness is visible to the others as a subscription.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aether::physics::{Fringe, FringeKind, Fringes, Interfere, Interfering};
use aether_core::presence::{Announcement, Roster};
use aether_core::{
    Aether, Amplitude, Channel, CreateError, Emitter, Kind, Pattern, Tuner, Vibrator, Wave,
    wave::ChannelError,
};
use futures_util::StreamExt;
use lru::LruCache;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::error::ServiceError;
use crate::error_chain;

/// How long each instance after the first waits for a report. It has to cover the difference between the arrival of the
/// claims at two instances, and the way of the report.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same among instances that start together, of which each may become ready alone. It has to cover the time in which
/// they learn of each other's reports only.
const FOUNDING: Duration = Duration::from_millis(500);
/// How long an instance that is not ready keeps a fringe. An instance that has crashed is on the roster for 40 s.
const KEPT: Duration = Duration::from_secs(45);
/// Over a network, announcements of the other instances arrive within a roll call, which takes about a second.
const ROLL_CALL: Duration = Duration::from_secs(3);
/// A claim counts for three windows.
const WINDOWS: u32 = 3;
/// The most fringes that are held back. The oldest is reported in spite of its order.
const MOST_HELD: usize = 1024;
/// The most keys whose last report is remembered, for fringes that are found after somebody reported them.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The claims that a handler of fringes wants, and the group that shares them.
#[derive(Debug)]
pub(super) struct Corroboration {
    pub(super) claims: Pattern,
    pub(super) options: Interfere,
    pub(super) group: Option<Arc<str>>,
    pub(super) reports: Channel,
    /// Its subscription shows the others that an instance is ready. Nothing is emitted on it.
    readiness: Channel,
}

/// Finds the fringes of one pattern and reports them.
#[derive(Debug)]
pub(super) struct Corroborator {
    fringes: Fringes,
    emitter: Emitter,
    reports: Channel,
    group: Option<SharedFringes>,
}

/// The part of an instance in its group.
#[derive(Debug)]
struct SharedFringes {
    name: Arc<str>,
    instance: u64,
    roster: Roster,
    /// Hears the reports of all instances.
    observer: Vibrator,
    tuner: Tuner,
    reports: Channel,
    readiness: Channel,
    is_ready: bool,
    /// How long announcements of other instances take to arrive.
    roll_call: Duration,
    settled_at: Instant,
    /// Until then, all instances count as ready.
    founded_until: Instant,
    ready_at: Instant,
    held: VecDeque<Held>,
    /// The last report about a key.
    reported: LruCache<(Channel, Arc<str>), Change>,
}

/// The effect of a fringe on its alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Opens,
    /// It goes on, with this number of keys.
    GoesOn(usize),
    Closes,
}

/// An instance of the group.
#[derive(Debug)]
struct Member {
    instance: u64,
    is_ready: bool,
}

#[derive(Debug)]
struct Held {
    fringe: Fringe,
    since: Instant,
}

impl Corroboration {
    /// The channel is made of the pattern: `probes.*` of the group `pager` is reported on `fringes.pager.probes._any`.
    pub(super) fn new(
        claims: Pattern,
        options: Interfere,
        group: Option<Arc<str>>,
    ) -> Result<Self, ChannelError> {
        let place = reported_on(&claims);
        // Nobody else may hear the reports of a service that shares nothing.
        let scope = group.as_deref().map_or_else(|| format!("{:x}", fastrand::u64(..)), str::to_owned);
        let reports = Channel::new(format!("fringes.{scope}.{place}"))?;
        let readiness = Channel::new(format!("{reports}._ready"))?;
        Ok(Self { claims, options, group, reports, readiness })
    }

    /// Subscribes, under the name of the service. `tuner` belongs to the handlers, which hear the reports.
    pub(super) async fn start(
        self,
        name: &str,
        tuner: Tuner,
        aether: &Aether,
    ) -> Result<Corroborator, ServiceError> {
        let Self { claims, options, group, reports, readiness } = self;
        let window = options.half_life();
        let fringes = Vibrator::create(name, aether).await?.interfere(&claims, options).await;
        let fringes =
            fringes.map_err(|source| ServiceError::Interfere { pattern: claims.clone(), source })?;
        // Not the emitter of the service, which does not hear its own waves.
        let emitter = aether.emitter(name).map_err(CreateError::Name)?;
        let group = match group {
            Some(group) => {
                Some(SharedFringes::join(group, readiness, &reports, window, tuner, aether).await?)
            }
            None => None,
        };
        Ok(Corroborator { fringes, emitter, reports, group })
    }
}

/// The pattern as the end of a channel: wildcards become words.
fn reported_on(claims: &Pattern) -> String {
    let tokens = claims.tokens().map(|token| match token {
        "*" => "_any",
        ">" => "_all",
        other => other,
    });
    tokens.collect::<Vec<_>>().join(".")
}

impl Corroborator {
    /// Reports fringes until the service ends. Fringes that are held back then are left to the other instances.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.report_all() => {}
        }
    }

    async fn report_all(mut self) {
        match self.group.take() {
            None => {
                while let Some(fringe) = self.fringes.next().await {
                    self.report(&fringe).await;
                }
            }
            Some(group) => self.run_in(group).await,
        }
    }

    async fn run_in(mut self, mut group: SharedFringes) {
        let mut wake = Some(group.settled_at);
        loop {
            tokio::select! {
                // Reports first: what others have reported needs no turn.
                biased;
                report = group.observer.receive() => match report {
                    Some(report) => group.hear(&report),
                    None => return,
                },
                found = self.fringes.next() => match found {
                    Some(fringe) => group.hold(fringe),
                    None => return,
                },
                () = group.roster.changed() => {}
                () = reached(wake) => {}
            }
            let (due, next) = group.take_turns().await;
            for fringe in due {
                self.report(&fringe).await;
            }
            wake = next;
        }
    }

    async fn report(&self, fringe: &Fringe) {
        let Fringe { id, key, amplitude, kind, .. } = fringe;
        // The end of an alert is as important as a normal wave, however weak the claims are by then.
        let amplitude = amplitude.max(Amplitude::NORMAL.as_f32());
        let wave = Wave::builder(&self.reports).kind(Kind::Command).amplitude(amplitude).never_decays();
        let mut wave = wave.key(key).cause(id.clone());
        // The report belongs to the request of the claim that made the key rise.
        if let Some(claim) = fringe.claims.iter().find(|claim| claim.wave == *id) {
            wave = wave.root(claim.request().clone());
        }
        let emitted = self.emitter.emit(wave.json(fringe)).await;
        let (service, channel) = (self.emitter.source().name(), &self.reports);
        match emitted {
            Ok(_) => tracing::debug!(service, %channel, %id, key = &**key, ?kind, "reported a fringe"),
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(service, %channel, %id, key = &**key, ?kind, error, "a fringe was not reported");
            }
        }
    }
}

impl SharedFringes {
    async fn join(
        name: Arc<str>,
        readiness: Channel,
        reports: &Channel,
        window: Duration,
        tuner: Tuner,
        aether: &Aether,
    ) -> Result<Self, ServiceError> {
        let observer = Vibrator::builder(tuner.source().name()).observe().create(aether).await?;
        let pattern = Pattern::from(reports);
        let failed = |source| ServiceError::Join { pattern: pattern.clone(), source };
        observer.resonate_on(&pattern).await.map_err(failed)?;
        let roster = aether.roster().await.map_err(failed)?;
        let now = Instant::now();
        let roll_call = if aether.promises().crosses_processes { ROLL_CALL } else { Duration::ZERO };
        Ok(Self {
            reports: reports.clone(),
            readiness,
            name,
            instance: tuner.source().instance(),
            roster,
            observer,
            tuner,
            is_ready: false,
            roll_call,
            settled_at: now + roll_call,
            founded_until: now,
            ready_at: now.checked_add(window * WINDOWS).unwrap_or(now + KEPT),
            held: VecDeque::new(),
            reported: LruCache::new(REMEMBERED),
        })
    }

    /// Keeps a fringe until its turn, unless somebody has reported the same.
    fn hold(&mut self, fringe: Fringe) {
        let (subject, change) = subject_of(&fringe);
        if self.reported.get(&subject) != Some(&change) {
            self.held.push_back(Held { fringe, since: Instant::now() });
        }
    }

    /// Takes note of a report, which may be this instance's own.
    fn hear(&mut self, report: &Wave) {
        let Ok(fringe) = report.json::<Fringe>() else {
            tracing::debug!(id = %report.id(), "a report carries no fringe");
            return;
        };
        let (subject, change) = subject_of(&fringe);
        self.held.retain(|held| subject_of(&held.fringe) != (subject.clone(), change));
        self.reported.put(subject, change);
    }

    /// The fringes that this instance reports now, and when to ask again.
    async fn take_turns(&mut self) -> (Vec<Fringe>, Option<Instant>) {
        if self.is_ready && self.held.is_empty() {
            return (Vec::new(), None);
        }
        let now = Instant::now();
        let members = self.members();
        let nobody_is_ready = !members.iter().any(|member| member.is_ready);
        if !self.is_ready && now >= self.settled_at && (now >= self.ready_at || nobody_is_ready) {
            // Fails if the medium is closed, and then nothing is reported any more.
            self.is_ready = self.tuner.resonate_in_group(&self.readiness, &self.name).await.is_ok();
            if nobody_is_ready {
                self.founded_until = now + self.roll_call;
            }
        }
        let mut wake =
            (!self.is_ready).then_some(if now < self.settled_at { self.settled_at } else { self.ready_at });
        // Instances that start together over a network become ready together, before they see it of each other.
        let all_count = now < self.founded_until;
        let is_before = |member: &&Member| member.instance < self.instance && (all_count || member.is_ready);
        let before = members.iter().filter(is_before).count();
        let (step, from) = match all_count {
            true => (FOUNDING, self.founded_until.checked_sub(self.roll_call).unwrap_or(now)),
            false => (PATIENCE, self.settled_at),
        };
        let patience = step * u32::try_from(before).unwrap_or(u32::MAX);
        let mut due = Vec::new();
        let is_over = self.held.len().saturating_sub(MOST_HELD);
        for (place, held) in std::mem::take(&mut self.held).into_iter().enumerate() {
            let turn = if self.is_ready { held.since.max(from) + patience } else { held.since + KEPT };
            if turn > now && place >= is_over {
                wake = Some(wake.map_or(turn, |wake| wake.min(turn)));
                self.held.push_back(held);
            } else if self.is_ready {
                let (subject, change) = subject_of(&held.fringe);
                self.reported.put(subject, change);
                due.push(held.fringe);
            } else {
                // The instances that are ready have been there all the time.
                let (id, key) = (&held.fringe.id, &*held.fringe.key);
                tracing::debug!(%id, key, "a fringe is left to the instances that were here before");
            }
        }
        (due, wake)
    }

    /// The instances of the group that are on the roster.
    fn members(&self) -> Vec<Member> {
        let hears = |announced: &Announcement, channel: &Channel| {
            let in_group = |group: &Option<Arc<str>>| group.as_deref() == Some(&*self.name);
            let mut heard = announced.heard.iter();
            heard.any(|heard| heard.pattern.as_str() == channel.as_str() && in_group(&heard.group))
        };
        let announced = self.roster.vibrators();
        let members = announced.iter().filter(|one| hears(one, &self.reports));
        members
            .map(|one| Member { instance: one.vibrator.instance(), is_ready: hears(one, &self.readiness) })
            .collect()
    }
}

/// The subject of a fringe, and its effect on the alert about it.
fn subject_of(fringe: &Fringe) -> ((Channel, Arc<str>), Change) {
    let change = match fringe.kind {
        FringeKind::Rise => Change::Opens,
        FringeKind::Changed => Change::GoesOn(fringe.lit),
        _ => Change::Closes,
    };
    ((fringe.channel.clone(), Arc::clone(&fringe.key)), change)
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
