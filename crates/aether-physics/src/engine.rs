//! The physics engine: all detectors behind three calls, for an observer of the whole bus.
//!
//! [`PhysicsEngine::observe`] takes waves in, [`PhysicsEngine::tick`] returns findings, and [`PhysicsEngine::report`]
//! returns the current state. A [`PhysicsObserver`](crate::PhysicsObserver) feeds it on a running bus. It has no clock
//! and no task of its own: [`PhysicsEngine::next_change`] gives the time of the next tick, and the caller requests
//! reports at will.
//!
//! ```
//! use aether_core::Wave;
//! use aether_physics::PhysicsEngine;
//! use std::time::Instant;
//!
//! let mut engine = PhysicsEngine::default();
//! engine.observe(&Wave::from_bytes("orders.created", "17")?, Instant::now());
//! assert!(engine.tick(Instant::now()).is_none(), "one wave means nothing yet");
//! let report = engine.report();
//! assert_eq!((report.sampling.seen, report.sampling.rate()), (1, 1.0));
//! assert!(report.map.edges.is_empty(), "one wave makes no edge");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod duty_cycle;
mod options;

use std::collections::{BTreeSet, VecDeque};

use super::bounds::{BoundsError, check};
use super::cancellation::Cancellations;
use super::finding::{Finding, StandingWave};
use super::incidents::{Incident, Incidents};
use super::interference::Interference;
use super::polling::Pollings;
use super::resonance::{Edge, Resonance, ResonanceMap, Tier};
use super::retries::RetryStorms;
use super::sampling::Sampling;
use super::standing::StandingWaves;
use aether_core::account::KnownProcess;
use aether_core::clock::Instant;
use aether_core::{Channel, Pattern, Wave};
use duty_cycle::{DutyCycle, Shown};

pub use options::EngineOptions;

/// The maximum number of findings waiting to be fetched. Beyond it, the oldest is dropped and counted.
const MAX_FINDINGS: usize = 1024;

/// All detectors. [`EngineOptions`] has their bounds.
#[derive(Debug)]
pub struct PhysicsEngine {
    resonance: Resonance,
    duty_cycle: DutyCycle,
    standing: StandingWaves,
    pollings: Pollings,
    retries: RetryStorms,
    cancellations: Cancellations,
    claims: Option<Claims>,
    incidents: Incidents,
    /// Since when the observer has no connection.
    disconnected: Option<Instant>,
    known: BTreeSet<(Channel, Channel, Tier)>,
    findings: VecDeque<Finding>,
    findings_lost: u64,
    jumps: u64,
}

/// Claims that are added up.
#[derive(Debug)]
struct Claims {
    pattern: Pattern,
    detector: Interference,
}

/// The observed state of the bus.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PhysicsReport {
    /// The service map.
    pub map: ResonanceMap,
    /// The share of the traffic that was observed.
    pub sampling: Sampling,
    /// The periodic streams, including those that have fallen silent.
    pub standing: Vec<StandingWave>,
    /// The incidents that last, the oldest first.
    pub incidents: Vec<Incident>,
    /// Findings that were dropped because they were not fetched in time.
    pub findings_lost: u64,
    /// Incidents that were dropped because there were too many, or because they were not fetched in time.
    pub incidents_lost: u64,
}

impl EngineOptions {
    /// Makes the engine with these bounds.
    ///
    /// # Errors
    /// [`BoundsError`] names the detector, the option, its value and what is allowed.
    pub fn build(self) -> Result<PhysicsEngine, BoundsError> {
        check(self.waves_a_second > 0, "engine.waves_a_second", self.waves_a_second, "1 or more")?;
        let claims = match self.interference {
            Some((pattern, options)) => Some(Claims { pattern, detector: options.build()? }),
            None => None,
        };
        Ok(PhysicsEngine {
            resonance: self.resonance.build()?,
            duty_cycle: DutyCycle::new(self.waves_a_second),
            standing: StandingWaves::new(self.standing)?,
            pollings: Pollings::new(self.polling)?,
            retries: RetryStorms::new(self.retries)?,
            cancellations: Cancellations::new(self.cancellations)?,
            claims,
            incidents: Incidents::default(),
            disconnected: None,
            known: BTreeSet::new(),
            findings: VecDeque::new(),
            findings_lost: 0,
            jumps: 0,
        })
    }
}

impl Default for PhysicsEngine {
    fn default() -> Self {
        EngineOptions::default().build().expect("the default bounds are allowed: a test makes them")
    }
}

impl PhysicsEngine {
    /// An engine with the default bounds. [`EngineOptions`] has others.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a wave that is received at `now`, and returns the findings that are complete then: [`Self::observe`] and
    /// [`Self::tick`] until nothing is left, for a caller that has a wave at hand. A silence is found only by a tick.
    pub fn detect_patterns(&mut self, wave: &Wave, now: Instant) -> Vec<Finding> {
        self.observe(wave, now);
        std::iter::from_fn(|| self.tick(now)).collect()
    }

    /// Takes in a wave that is received at `now`. Skips the waves of the framework, and all waves while the engine
    /// [pauses](Self::away_until).
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        if wave.channel().is_reserved() {
            return;
        }
        self.look_if_due(now);
        match self.duty_cycle.shows(now) {
            Shown::Yes => {}
            Shown::No => return,
            Shown::PauseBegins => {
                self.find(Finding::Sampling { sampling: self.duty_cycle.sampling() });
                return;
            }
        }
        self.standing.observe(wave, now);
        self.pollings.observe(wave, now);
        self.retries.observe(wave, now);
        self.cancellations.observe(wave, now);
        if let Some(claims) = &mut self.claims
            && claims.pattern.matches(wave.channel())
        {
            claims.detector.observe(wave, now);
        }
        self.resonance.observe(wave, now);
        self.incidents.observe(wave, now);
        let jumps = self.resonance.jumps();
        if jumps > self.jumps {
            self.jumps = jumps;
            self.find(Finding::ClockJumped { times: jumps });
        }
    }

    /// The next finding. Call it until it returns `None`. Missing beats are found by time alone, so call it at
    /// [`PhysicsEngine::next_change`] too.
    pub fn tick(&mut self, now: Instant) -> Option<Finding> {
        self.look_if_due(now);
        let finding = self.find_next(now);
        match &finding {
            Some(finding) => self.incidents.note(finding, now),
            // No service is silent while nothing is observed.
            None if self.duty_cycle.away().is_some() => {}
            None => self.incidents.tick(&self.resonance, now),
        }
        finding
    }

    fn find_next(&mut self, now: Instant) -> Option<Finding> {
        if let Some(finding) = self.findings.pop_front() {
            return Some(finding);
        }
        if self.duty_cycle.away().is_some() || self.disconnected.is_some() {
            // No beat can be missing while nothing is observed.
            return None;
        }
        let fringe = self.claims.as_mut().and_then(|claims| claims.detector.tick(now));
        fringe
            .map(Finding::Fringe)
            .or_else(|| self.pollings.tick())
            .or_else(|| self.retries.tick())
            .or_else(|| self.cancellations.tick())
            .or_else(|| self.standing.tick(now))
    }

    /// The next incident that began or ended. Call it after [`PhysicsEngine::tick`] has returned `None`, until it returns
    /// `None` too. Each incident comes twice, under one number.
    pub fn incident(&mut self) -> Option<Incident> {
        self.incidents.change()
    }

    /// When to tick again if no wave arrives before; `None` if nothing is expected.
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        if let Some((_, until)) = self.duty_cycle.away() {
            return Some(until);
        }
        if self.disconnected.is_some() {
            return self.incidents.next_change();
        }
        let fringe = self.claims.as_ref().and_then(|claims| claims.detector.next_change());
        let incidents = self.incidents.next_change();
        [self.standing.next_change(), fringe, incidents].into_iter().flatten().min()
    }

    /// The end of the current pause, if the engine took in more waves than its budget allows. Waves before then are
    /// counted and skipped. An observer can leave the bus until then, return, and call [`PhysicsEngine::look`]. An
    /// observer that stays need not call it: the first wave or tick after that moment ends the pause.
    #[must_use]
    pub fn away_until(&self) -> Option<Instant> {
        self.duty_cycle.away().map(|(_, until)| until)
    }

    /// Ends the pause, if there is one, early or late.
    pub fn look(&mut self, now: Instant) {
        if let Some(from) = self.duty_cycle.look(now) {
            self.not_seen(from, now);
        }
    }

    /// Records that waves were lost between two moments on their way here. A lost wave is not a missing beat, no average
    /// is computed from an incomplete interval, and no claim fades. Lost waves count against the budget like others, so an
    /// observer that cannot keep up pauses longer.
    pub fn lost(&mut self, waves: u64, from: Instant, now: Instant) {
        self.duty_cycle.charge(waves);
        self.incomplete(from, now);
        if self.duty_cycle.sampling().times_away == 0 {
            self.incidents.lost(waves, now);
        }
    }

    /// Records that the observer has lost its connection to the medium. Until [`PhysicsEngine::connected`], no silence is
    /// evidence.
    pub fn disconnected(&mut self, now: Instant) {
        self.disconnected.get_or_insert(now);
        self.incidents.linked(false, now);
    }

    /// Records what all processes told about themselves. A process that leaves tells a last account; one that tells nothing
    /// any more, while what it hears goes on, was lost.
    pub(crate) fn told(&mut self, processes: &[KnownProcess], now: Instant) {
        self.incidents.told(processes, now);
    }

    /// Whether the next judgement needs a new reading of the accounts.
    pub(crate) fn wants_accounts(&self, now: Instant) -> bool {
        self.incidents.wants_accounts(now)
    }

    /// Records that the observer did not run between two moments.
    pub(crate) fn stalled(&mut self, from: Instant, now: Instant) {
        self.not_seen(from, now);
        self.incidents.stalled(now);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.disconnected.is_none()
    }

    /// Records that the observer is connected again.
    pub fn connected(&mut self, now: Instant) {
        if let Some(from) = self.disconnected.take() {
            self.not_seen(from, now);
            self.incidents.linked(true, now);
        }
    }

    pub(crate) fn not_seen(&mut self, from: Instant, now: Instant) {
        self.incomplete(from, now);
        self.incidents.not_seen(now);
    }

    /// Tells the detectors that waves between two moments may have been missed.
    fn incomplete(&mut self, from: Instant, now: Instant) {
        self.resonance.not_seen(from);
        self.standing.not_seen(from, now);
        self.pollings.not_seen(from, now);
        self.retries.not_seen(from, now);
        // Claims that were repeated then are not seen, so none fades.
        if let Some(claims) = &mut self.claims {
            claims.detector.not_seen(from, now);
        }
    }

    fn look_if_due(&mut self, now: Instant) {
        // Also before the beginning of the pause: a clock that went back would prolong it.
        if self.duty_cycle.away().is_some_and(|(from, until)| now >= until || now < from) {
            self.look(now);
        }
    }

    /// The next waiting finding. Does not end the pause.
    pub(crate) fn waiting(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// Records the patterns of a vibrator; see [`Resonance::tuned`].
    pub fn tuned(&mut self, vibrator: &str, patterns: &[Pattern]) {
        self.resonance.tuned(vibrator, patterns);
    }

    /// The current state. Edges that are new or gone since the last report become findings.
    ///
    /// Cost: see [`Resonance::report`].
    pub fn report(&mut self) -> PhysicsReport {
        let map = self.resonance.report();
        // An edge of another tier is not a new one.
        let holds = |known: &BTreeSet<(Channel, Channel, Tier)>, from: &Channel, to: &Channel| {
            let of = |tier| (from.clone(), to.clone(), tier);
            known.range(of(Tier::Cause)..=of(Tier::Group)).next().is_some()
        };
        for edge in &map.edges {
            if !holds(&self.known, &edge.from, &edge.to) {
                self.find(Finding::Related { edge: Box::new(edge.clone()) });
            }
        }
        let name = |edge: &Edge| (edge.from.clone(), edge.to.clone(), edge.tier);
        let now: BTreeSet<_> = map.edges.iter().map(name).collect();
        for (from, to, tier) in std::mem::take(&mut self.known) {
            if !holds(&now, &from, &to) {
                self.find(Finding::Unrelated { from, to, tier });
            }
        }
        self.known = now;
        PhysicsReport {
            map,
            sampling: self.duty_cycle.sampling(),
            standing: self.standing.standing().collect(),
            incidents: self.incidents.open().collect(),
            findings_lost: self.findings_lost,
            incidents_lost: self.incidents.left_out(),
        }
    }

    /// The service map's detector.
    #[must_use]
    pub fn resonance(&self) -> &Resonance {
        &self.resonance
    }

    /// The share of the traffic that was observed.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.duty_cycle.sampling()
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() == MAX_FINDINGS {
            self.findings.pop_front();
            self.findings_lost += 1;
        }
        self.findings.push_back(finding);
    }
}

#[cfg(test)]
mod tests;
