//! The physics engine: all detectors behind three calls, for an observer of the whole bus.
//!
//! [`PhysicsEngine::observe`] takes waves in, [`PhysicsEngine::tick`] hands out findings, and [`PhysicsEngine::report`]
//! says how things stand. The command `aether physics` feeds it. It has no clock and no task of its own: when to tick
//! follows from [`PhysicsEngine::next_change`], when to ask for a report is the caller's choice.
//!
//! ```
//! use aether_core::Wave;
//! use aether_core::physics::PhysicsEngine;
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

mod options;
mod strobe;

use std::collections::{BTreeSet, VecDeque};

use super::cancellation::Cancellations;
use super::finding::{Finding, StandingWave};
use super::interference::Interference;
use super::resonance::{Edge, Resonance, ResonanceMap, Tier};
use super::retries::RetryStorms;
use super::standing::StandingWaves;
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::wave::Wave;
use strobe::{Shown, Strobe};

pub use options::{EngineOptions, EngineOptionsError};
pub use strobe::Sampling;

/// The most findings that wait to be fetched; the oldest goes and is counted.
const MAX_FINDINGS: usize = 1024;

/// All detectors; see [`EngineOptions`] for their bounds.
#[derive(Debug)]
pub struct PhysicsEngine {
    resonance: Resonance,
    strobe: Strobe,
    standing: StandingWaves,
    retries: RetryStorms,
    cancellations: Cancellations,
    interference: Option<(Pattern, Interference)>,
    known: BTreeSet<(Channel, Channel, Tier)>,
    findings: VecDeque<Finding>,
    findings_lost: u64,
    jumps: u64,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PhysicsReport {
    /// Which channels follow which.
    pub map: ResonanceMap,
    /// How many of the waves the map is made of. All other detectors take in every wave.
    pub sampling: Sampling,
    /// The periodic streams, those that have fallen silent included.
    pub standing: Vec<StandingWave>,
    /// Findings that were lost because nobody fetched them.
    pub findings_lost: u64,
}

impl Default for PhysicsEngine {
    fn default() -> Self {
        EngineOptions::default().build().expect("the default bounds are allowed: a test makes them")
    }
}

impl PhysicsEngine {
    /// Takes in a wave that is received at `now`, the observer's present. The framework's own waves are passed over.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        if wave.channel().is_reserved() {
            return;
        }
        self.standing.observe(wave, now);
        self.retries.observe(wave, now);
        self.cancellations.observe(wave, now);
        if let Some((pattern, interference)) = &mut self.interference
            && pattern.matches(wave.channel())
        {
            interference.observe(wave, now);
        }
        match self.strobe.shows(now) {
            Shown::Yes => {}
            Shown::No => return,
            Shown::LooksAway => {
                self.resonance.interrupted();
                self.find(Finding::Sampling { sampling: self.strobe.sampling() });
                return;
            }
        }
        self.resonance.observe(wave, now);
        let jumps = self.resonance.jumps();
        if jumps > self.jumps {
            self.jumps = jumps;
            self.find(Finding::ClockJumped { times: jumps });
        }
    }

    /// What has been found by now, one at a time: call it until it returns `None`. That a beat is missing is found by
    /// time alone, so call it at [`PhysicsEngine::next_change`] too.
    pub fn tick(&mut self, now: Instant) -> Option<Finding> {
        if let Some(finding) = self.findings.pop_front() {
            return Some(finding);
        }
        let fringe = self.interference.as_mut().and_then(|(_, detector)| detector.tick(now));
        fringe
            .map(Finding::Fringe)
            .or_else(|| self.retries.tick())
            .or_else(|| self.cancellations.tick())
            .or_else(|| self.standing.tick(now))
    }

    /// When to tick again if no wave comes before; `None` if nothing is awaited.
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        let fringe = self.interference.as_ref().and_then(|(_, detector)| detector.next_change());
        [self.standing.next_change(), fringe].into_iter().flatten().min()
    }

    /// Says what a vibrator is tuned to; see [`Resonance::tuned`].
    pub fn tuned(&mut self, vibrator: &str, patterns: &[Pattern]) {
        self.resonance.tuned(vibrator, patterns);
    }

    /// How things stand. Edges that are new or gone since the last report become findings.
    ///
    /// Cost: see [`Resonance::report`].
    pub fn report(&mut self) -> PhysicsReport {
        let map = self.resonance.report();
        let name = |edge: &Edge| (edge.from.clone(), edge.to.clone(), edge.tier);
        for edge in &map.edges {
            if !self.known.contains(&name(edge)) {
                self.find(Finding::Related { edge: Box::new(edge.clone()) });
            }
        }
        let now: BTreeSet<_> = map.edges.iter().map(name).collect();
        for (from, to, tier) in std::mem::take(&mut self.known).difference(&now).cloned() {
            self.find(Finding::Unrelated { from, to, tier });
        }
        self.known = now;
        PhysicsReport {
            map,
            sampling: self.strobe.sampling(),
            standing: self.standing.standing().collect(),
            findings_lost: self.findings_lost,
        }
    }

    /// The service map's detector.
    #[must_use]
    pub fn resonance(&self) -> &Resonance {
        &self.resonance
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
