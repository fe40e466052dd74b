//! The physics engine: all detectors behind one pair of calls, for an observer of the whole bus.
//!
//! [`PhysicsEngine::observe`] takes waves in, [`PhysicsEngine::report`] says what they mean together, and
//! [`PhysicsEngine::findings`] hands out what changed since. The command `aether physics` and the gateway feed it. It has
//! no clock and no task of its own: when to ask for a report is the caller's choice.
//!
//! ```
//! use aether_core::Wave;
//! use aether_core::physics::PhysicsEngine;
//! use std::time::Instant;
//!
//! let mut engine = PhysicsEngine::default();
//! engine.observe(&Wave::from_bytes("orders.created", "17")?, Instant::now());
//! let report = engine.report();
//! assert_eq!((report.sampling.seen, report.sampling.rate()), (1, 1.0));
//! assert!(report.map.edges.is_empty(), "one wave makes no edge");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod finding;
mod strobe;

use std::collections::{BTreeSet, VecDeque};

use super::resonance::{Edge, Resonance, ResonanceMap, ResonanceOptions, ResonanceOptionsError, Tier};
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::wave::Wave;
use strobe::{Shown, Strobe};

pub use finding::Finding;
pub use strobe::Sampling;

/// The most findings that wait to be fetched; the oldest goes and is counted.
const MAX_FINDINGS: usize = 1024;

/// All detectors; see the [module](self).
#[derive(Debug)]
pub struct PhysicsEngine {
    resonance: Resonance,
    strobe: Strobe,
    known: BTreeSet<(Channel, Channel, Tier)>,
    findings: VecDeque<Finding>,
    findings_lost: u64,
    jumps: u64,
}

/// What the engine's detectors say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PhysicsReport {
    /// Which channels follow which.
    pub map: ResonanceMap,
    /// How many of the waves the map is made of.
    pub sampling: Sampling,
    /// Findings that were lost because nobody fetched them.
    pub findings_lost: u64,
}

/// The bounds of a [`PhysicsEngine`].
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    resonance: ResonanceOptions,
    waves_a_second: u32,
}

/// Bounds that an engine cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineOptionsError {
    /// Those of the service map.
    #[error("the service map cannot be made")]
    Resonance(#[from] ResonanceOptionsError),
    /// No waves at all.
    #[error("engine option waves_a_second = 0 is not allowed: use 1 or more")]
    WavesASecond,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { resonance: ResonanceOptions::default(), waves_a_second: 50_000 }
    }
}

impl EngineOptions {
    /// The bounds of the service map.
    #[must_use]
    pub fn resonance(mut self, options: ResonanceOptions) -> Self {
        self.resonance = options;
        self
    }

    /// How many waves a second the service map takes in on average, at least 1. Default: 50,000, which costs a few
    /// percent of one processor. If there are more, it looks for eight seconds and then away until the average is kept.
    #[must_use]
    pub fn waves_a_second(mut self, waves: u32) -> Self {
        self.waves_a_second = waves;
        self
    }

    /// The engine with these bounds.
    ///
    /// # Errors
    /// [`EngineOptionsError`] names the option, what was given and what is allowed.
    pub fn build(self) -> Result<PhysicsEngine, EngineOptionsError> {
        if self.waves_a_second == 0 {
            return Err(EngineOptionsError::WavesASecond);
        }
        Ok(PhysicsEngine::with(self.resonance.build()?, self.waves_a_second))
    }
}

impl Default for PhysicsEngine {
    fn default() -> Self {
        Self::with(Resonance::default(), EngineOptions::default().waves_a_second)
    }
}

impl PhysicsEngine {
    fn with(resonance: Resonance, waves_a_second: u32) -> Self {
        Self {
            resonance,
            strobe: Strobe::new(waves_a_second),
            known: BTreeSet::new(),
            findings: VecDeque::new(),
            findings_lost: 0,
            jumps: 0,
        }
    }

    /// Takes in a wave that is received at `now`, the observer's present.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
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

    /// Says what a vibrator is tuned to; see [`Resonance::tuned`].
    pub fn tuned(&mut self, vibrator: &str, patterns: &[Pattern]) {
        self.resonance.tuned(vibrator, patterns);
    }

    /// What the detectors say now. Edges that are new or gone since the last report become findings.
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
        PhysicsReport { map, sampling: self.strobe.sampling(), findings_lost: self.findings_lost }
    }

    /// What was found since it was asked last, the oldest first.
    pub fn findings(&mut self) -> impl Iterator<Item = Finding> + '_ {
        self.findings.drain(..)
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
