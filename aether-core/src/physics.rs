//! The physics: detectors that read the waves of a bus and say what they mean together.
//!
//! Each can be used alone: feed it with waves, ask it for findings, and ask it when it wants to be asked again. All are
//! pure: the time comes in as an argument, nothing reads a clock, waits or does I/O, so the same waves at the same
//! times give the same findings. Their memory is bounded by numbers given when they are made; what does not fit is
//! counted. What each word means, with formula and measurements, is in `PHYSICS.md`.

mod bounds;
mod cancellation;
mod duration;
mod engine;
mod finding;
mod fringes;
mod interference;
mod observer;
mod recent;
mod resonance;
mod retries;
mod standing;
mod timeline;

pub use bounds::BoundsError;
pub use cancellation::{CancellationOptions, Cancellations};
pub use engine::{EngineOptions, PhysicsEngine, PhysicsReport, Sampling};
pub use finding::{Finding, StandingWave};
pub use fringes::{Fringes, InterfereError};
pub use interference::{Claim, Fringe, FringeKind, Interfere, Interference, InterferenceCounts, Resultant};
pub use observer::{ObserveError, PhysicsObserver};
pub use resonance::{
    Edge, Group, Resonance, ResonanceCounts, ResonanceMap, ResonanceOptions, Sighting, Tier,
};
pub use retries::{RetryOptions, RetryStorms};
pub use standing::{StandingCounts, StandingOptions, StandingWaves};
