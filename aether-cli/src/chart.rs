//! The service map that `aether up` finds while it runs.
//!
//! Filled by the gateway with each wave, read by the view. The roster says who listens to what, which the map needs for
//! waves that name no cause.

use std::time::Instant;

use aether_core::physics::{Edge, PhysicsEngine};
use aether_core::{Roster, Wave};

/// The engine, and who is there.
#[derive(Debug, Default)]
pub(crate) struct Chart {
    engine: PhysicsEngine,
}

impl Chart {
    pub(crate) fn note(&mut self, wave: &Wave) {
        self.engine.observe(wave, Instant::now());
    }

    /// The edges found by now, in the order of their names.
    pub(crate) fn edges(&mut self, roster: &Roster) -> Vec<Edge> {
        listen_to(&mut self.engine, roster);
        self.engine.report().map.edges
    }
}

/// Tells an engine who listens to what.
pub(crate) fn listen_to(engine: &mut PhysicsEngine, roster: &Roster) {
    for (vibrator, patterns) in roster.heard_by_name() {
        engine.tuned(&vibrator, &patterns);
    }
}
