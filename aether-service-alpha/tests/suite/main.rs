//! The order service.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

#[cfg(all(feature = "lan", target_os = "linux"))]
mod lan;
mod orders;
mod over_nats;
mod program;
