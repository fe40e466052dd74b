//! The gateway through its public API and real HTTP requests.
#![allow(clippy::unwrap_used)] // in helpers too: a failed unwrap is a failed test

mod accounts;
mod api;
mod archive;
mod clients;
mod durable;
mod exposed;
mod hostile;
mod http;
mod log;
mod metrics;
mod nats;
mod physics;
mod promtool;
#[path = "../../../aether-metrics/tests/metrics/promtool.rs"]
mod promtool_program;
mod streams;
mod support;
