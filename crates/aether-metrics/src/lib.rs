//! Metrics of a service: the ledgers and the status of its bus, the tallies of its handlers, and the author's own, in one
//! registry and at one endpoint.
//!
//! A program makes [`Metrics`] once and serves them beside its services. Nothing is counted twice: each scrape copies the
//! accounts that the bus and the services keep anyway, so a scrape adds up exactly as they do. The gateway serves the
//! same metrics, and the metrics of all traffic that it observes.
//!
//! ```
//! use aether_service::Service;
//! use aether_core::Aether;
//! use aether_metrics::{Counter, Metrics};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let refused = Counter::<u64>::default(); // of the crate `prometheus-client`; clones share the count
//! let service = Service::builder("stock").state(refused.clone()).on("stock.reserve", async || {}).build(&aether).await?;
//!
//! let metrics = Metrics::of(&aether).service(&service).metric("orders_refused", "Orders without stock", refused);
//! let endpoint = metrics.serve(([127, 0, 0, 1], 0).into()).await?; // port 0: any free port
//! println!("http://{}/metrics", endpoint.address());
//! # Ok(()) }
//! ```
//!
//! # Metrics
//! All names of this crate begin with `aether_`. An author's own metrics have the name that they were given.
//!
//! - `aether_offered_waves_total`, `aether_delivered_waves_total`, `aether_shed_waves_total`,
//!   `aether_lost_upstream_waves_total` and `aether_queued_waves`: the ledger of all inboxes, which adds up. With
//!   `inbox_` before them the same for each vibrator, with `outbox_` for the outbox.
//! - `aether_medium_…`: the status of the medium.
//! - `aether_reflected_waves_total`, `aether_dead_letters`: failed commands and queries.
//! - `aether_durable_given_up_waves_total`: waves that each `consumer` of the process's durable log has given up.
//! - `aether_service_waves_total`: the waves that a service has taken, by outcome; `aether_service_handling_waves`: those
//!   that it handles now.
//! - `aether_wave_wait_seconds`, `aether_wave_handling_seconds` and `aether_wave_transit_seconds`: histograms of the waves
//!   that a service has taken, by `service` and by `amplitude`, one of four bands. The transit is the age on arrival, and
//!   nothing for waves of the same process.
//! - `aether_telemetry_…`: what was exported over OTLP and what was lost, while that is on.
//! - `process_…`: memory, CPU time, file descriptors, threads and start time, by the conventions of Prometheus; on
//!   Linux. Of the resident memory, `process_anonymous_memory_bytes` is what the allocator and the stacks hold.

mod bus;
mod client;
mod configured;
mod endpoint;
mod exposition;
mod families;
mod host;
mod metrics;
mod process;
mod proxies;
mod server;
mod services;
mod slots;
mod streaming;
mod tls;
mod vibrators;
mod written;

pub use bus::BusCollector;
pub use client::{ClientAddress, ClientCertificate};
pub use endpoint::{Endpoint, ServeError};
pub use exposition::Exposition;
pub use families::{Families, Labels};
pub use host::is_address;
pub use metrics::Metrics;
pub use prometheus_client;
pub use prometheus_client::metrics::counter::Counter;
pub use proxies::{TrustedProxies, TrustedProxy, TrustedProxyError};
pub use server::{serve, serve_with};
pub use slots::{Connections, Slots};
pub use streaming::Streaming;
pub use tls::{Tls, TlsError};
pub use vibrators::{OTHER, VibratorAccount, VibratorAccounts};
pub use written::Written;
