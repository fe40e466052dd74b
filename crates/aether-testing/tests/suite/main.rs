//! The kit, used as a service would use it.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod bus;
mod calls;
mod conformance;
mod faults;
#[cfg(feature = "nats-server")]
mod over_nats;
mod seed;
#[cfg(feature = "proptest")]
mod strategies;
mod time;
