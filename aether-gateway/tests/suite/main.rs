//! The gateway through its public API and real HTTP requests.
#![allow(clippy::unwrap_used)] // in helpers too: a failed unwrap is a failed test

mod accounts;
mod api;
mod archive;
mod attention;
mod black_box;
#[cfg(unix)]
mod certificates;
mod clients;
mod consumers;
mod durable;
mod events;
mod exposed;
mod field;
mod flood;
mod headers;
mod hostile;
mod http;
mod log;
mod losses;
mod metrics;
mod nats;
mod physics;
mod promtool;
#[path = "../../../crates/aether-metrics/tests/metrics/promtool.rs"]
mod promtool_program;
mod queues;
mod reading;
mod refused;
mod schemas;
mod stalled;
mod streams;
mod support;
