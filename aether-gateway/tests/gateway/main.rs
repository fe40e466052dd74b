//! The gateway through its public API and real HTTP requests.

mod http;
mod metrics;
mod support;
