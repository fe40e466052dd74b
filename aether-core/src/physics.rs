//! The physics: detectors that find structure in the waves that go by.
//!
//! Fed by an observer, each usable alone. They are pure: the time comes in as an argument, there is no clock, no task and
//! no I/O; memory is bounded by numbers given when they are made, and what overflows is counted.

mod engine;
mod resonance;

pub use engine::{EngineOptions, EngineOptionsError, Finding, PhysicsEngine, PhysicsReport, Sampling};
pub use resonance::{
    Edge, Group, Resonance, ResonanceCounts, ResonanceMap, ResonanceOptions, ResonanceOptionsError, Sighting,
    Tier,
};
