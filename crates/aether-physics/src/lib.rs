//! Physics: detectors of patterns in the traffic of a bus. Ordinary term: traffic analysis.
//!
//! Each detector can be used alone: it takes waves in, returns findings, and reports when it should be asked again. All
//! detectors are pure: the time is an argument, and nothing reads a clock, waits or does I/O, so the same waves at the
//! same times give the same findings. Their options bound their memory, and what does not fit is counted.
//! [`PhysicsObserver`] runs all of them on a bus. [`PhysicsEngine::incident`] folds what they find into [`Incident`]s, which
//! are what an operator should know. A [`RecordingWriter`] records traffic, and a [`RecordingPlayer`] plays it to them
//! again. `docs/internals/physics.md` defines each term, with its formula and measurements.

mod bounds;
mod cancellation;
mod duration;
mod engine;
mod finding;
mod fringes;
mod incidents;
mod interference;
mod observer;
mod polling;
mod recent;
mod recording;
mod request;
mod resonance;
mod retries;
mod sampling;
mod standing;
mod timeline;

pub use bounds::BoundsError;
pub use cancellation::{CancellationOptions, Cancellations};
pub use engine::{EngineOptions, PhysicsEngine, PhysicsReport};
pub use finding::{Finding, StandingWave};
pub use fringes::{Fringes, InterfereError, Interfering};
pub use incidents::{Cause, Incident, Severity};
pub use interference::{
    Claim, Fringe, FringeClaim, FringeKind, Interfere, Interference, InterferenceCounts, Resultant,
    interference,
};
pub use observer::{ObserveError, PhysicsObserver};
pub use polling::{PollingCounts, PollingOptions, Pollings};
pub use recording::{
    Fault, Played, RecordedEntry, RecordingError, RecordingPlayer, RecordingReader, RecordingWriter,
};
pub use request::{Answer, Request};
pub use resonance::{
    Edge, Group, Resonance, ResonanceCounts, ResonanceMap, ResonanceOptions, Sighting, Tier,
};
pub use retries::{RetryOptions, RetryStorms};
pub use sampling::Sampling;
pub use standing::{StandingCounts, StandingOptions, StandingWaves};
