//! Traffic as it is outside of tests: bursts of very different lengths, few busy keys, and short and long pauses.
//!
//! Processes draw from `fastrand`, which the simulator seeds for each of them.

use std::sync::Arc;
use std::time::Duration;

use aether_testing::sim::{Link, Sim};
use parking_lot::Mutex;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// A strong wave, one of normal strength, and a weak one.
pub(crate) const STRENGTHS: [f32; 3] = [1.0, 0.5, 0.2];

/// State that outlives the processes of a simulation: their disk.
pub(crate) type Disk<T> = Arc<Mutex<T>>;

/// The length of a burst, by a Pareto distribution: half of them are shorter than 2, and some as long as is allowed.
pub(crate) fn burst(most: u64) -> u64 {
    (1.0 - fastrand::f64()).powf(-1.0 / 1.2).min(most as f64) as u64
}

/// One of some keys, by Zipf's law: the first one is drawn most.
pub(crate) fn key(keys: u64) -> u64 {
    ((fastrand::f64() * (keys as f64 + 1.0).ln()).exp() as u64).clamp(1, keys) - 1
}

/// A pause with this mean, exponentially distributed.
pub(crate) fn pause(mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - fastrand::f64()).ln())
}

/// Gives all links a latency, and some of them jitter, narrow lines and lost packets: no connection breaks of that.
pub(crate) fn vary_links(sim: &mut Sim) {
    let mut random = fastrand::Rng::with_seed(sim.seed());
    let link = Link {
        latency: Duration::from_millis(random.u64(1..60)),
        jitter: Duration::from_millis(random.u64(0..30)),
        loss: if random.bool() { 0.01 } else { 0.0 },
        bandwidth: random.bool().then(|| random.u64(200_000..10_000_000)),
    };
    sim.link_all(link);
}
