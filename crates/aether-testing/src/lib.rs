//! A kit for authors of services on Aether: a bus for tests, probes, paused time, faults by seed, and [simulations](sim)
//! of several processes.
//!
//! Tests use it as a dev-dependency. The services under test are the real ones, and so is the bus; only the clock and
//! the medium can be changed.
//!
//! ```
//! use aether_service::{Json, Service};
//! use aether_core::{EmitError, Emitter};
//! use aether_testing::TestBus;
//!
//! async fn confirm(Json(order): Json<u32>, emitter: Emitter) -> Result<(), EmitError> {
//!     emitter.emit_wave("orders.confirmed", &order).await.map(drop)
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! // In a test: #[tokio::test(start_paused = true)]
//! let bus = TestBus::start().await;
//! bus.serve(Service::builder("stock").on("orders.created", confirm)).await;
//! let mut probe = bus.probe("orders.*").await;
//!
//! let shop = bus.vibrator("shop").await;
//! shop.emit_wave("orders.created", &17).await.unwrap();
//!
//! let confirmed = probe.wave("orders.confirmed").await;
//! assert_eq!(confirmed.json::<u32>().unwrap(), 17);
//! bus.finish().await; // fails the test if an account does not add up or a dead letter was not looked at
//! # }
//! ```
//!
//! # Paused time
//! From the first use of a [`TestBus`], of [`Faults`] or of a [`Call`] on, all clocks of Aether in the process follow
//! tokio's ([`follow_tokio`]). In a test with `start_paused = true` ages, decay, floors, breakers, retries, sojourn caps,
//! heartbeats and detectors therefore follow virtual time: an hour passes at once as soon as all tasks wait. Let time pass
//! with `tokio::time::sleep`. `tokio::time::advance` jumps over the timers in between and runs them late. Tests over a real
//! network need real time, because tokio advances a paused clock while a message is on its way. [`sim`] has a network in
//! virtual time.
//!
//! A thread without a tokio runtime reads the clock of the machine: emit from tasks and from `spawn_blocking`.
//!
//! # Features
//! - `proptest`: strategies for waves, channels, patterns and histories.
//! - `nats-server`: `NatsServer`, a real server for tests.
//!
//! # Panics
//! Methods of this crate panic where a test has to fail, with a message for people. It names the line of the test.

#![warn(clippy::disallowed_methods)]

mod bus;
mod call;
mod faults;
mod matcher;
mod probe;
mod recording;
mod running;
mod seed;
pub mod sim;
mod situation;
#[cfg(feature = "proptest")]
pub mod strategies;
mod verdict;
mod wave_line;

#[cfg(feature = "nats-server")]
pub use aether_conformance::{NatsServer, ServerError, ServerOptions};
pub use bus::{TestBus, TestBusBuilder};
pub use call::{Call, Called, call, extract};
pub use faults::{Fault, FaultCounts, FaultId, Faults};
pub use matcher::Matcher;
pub use probe::Probe;
pub use recording::Recording;
pub use running::Running;
pub use seed::SEED_VARIABLE;
pub use verdict::Account;

/// Lets all clocks of Aether in this process follow tokio's from now on, so that a test can pause them. [`TestBus`],
/// [`Faults`], [`Call`], [`call`] and [`extract`] do it by themselves: it is for tests with paused time that use none of
/// them, or that emit waves before. There is no way back, and none is needed: where no test has paused tokio's clock, it is
/// the machine's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use aether_core::clock::micros_since_1970;
///
/// aether_testing::follow_tokio();
/// let before = micros_since_1970();
/// tokio::time::sleep(Duration::from_secs(3600)).await;
/// assert_eq!(micros_since_1970() - before, 3_600_000_000);
/// # }
/// ```
pub fn follow_tokio() {
    aether_core::clock::follow_tokio();
}
