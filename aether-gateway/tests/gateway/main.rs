//! The gateway through its public API and real HTTP requests.
#![allow(clippy::unwrap_used)] // in helpers too: a failed unwrap is a failed test

mod http;
mod metrics;
mod nats;
mod physics;
mod support;
