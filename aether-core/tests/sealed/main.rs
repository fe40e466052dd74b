//! Sealed waves over a real NATS server, with a hostile client that has no key: what it sees, forges, alters, repeats and
//! moves, and what processes with other keys or none do to each other.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]
#![cfg(feature = "seal")]

mod attacks;
mod keys;
mod notices;
#[path = "../proxy/mod.rs"]
mod proxy;
mod scene;
mod signing;
