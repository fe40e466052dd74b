//! The metrics of a bus over OTLP: its ledgers and the status of its medium, read at each export.

use aether::paths::PathState;
use aether_core::Aether;
use aether_log::DurableLog;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::export_counts;

/// The name of the scope of all metrics.
pub(super) const SCOPE: &str = "aether";

/// Registers the instruments of a bus.
pub(super) fn register(provider: &SdkMeterProvider, aether: &Aether) {
    let meter = provider.meter(SCOPE);
    let ledger = aether.clone();
    meter
        .u64_observable_counter("aether.inbox.waves")
        .with_unit("{wave}")
        .with_description("Waves offered to the inboxes of the process, by what became of them")
        .with_callback(move |to| {
            let ledger = ledger.ledger();
            let outcome = |outcome| [KeyValue::new("aether.outcome", outcome)];
            to.observe(ledger.delivered, &outcome("delivered"));
            to.observe(ledger.lost_upstream, &outcome("lost_upstream"));
            for (reason, waves) in ledger.losses() {
                to.observe(waves, &outcome(reason.as_str()));
            }
        })
        .build();
    let ledger = aether.clone();
    meter
        .u64_observable_gauge("aether.inbox.queued")
        .with_unit("{wave}")
        .with_description("Waves that wait in the inboxes of the process")
        .with_callback(move |to| to.observe(ledger.ledger().queued, &[]))
        .build();
    let status = aether.clone();
    meter
        .u64_observable_counter("aether.outbox.waves")
        .with_unit("{wave}")
        .with_description("Waves given to the medium, by what became of them")
        .with_callback(move |to| {
            let outbox = status.status().outbox;
            let outcome = |outcome| [KeyValue::new("aether.outcome", outcome)];
            to.observe(outbox.delivered, &outcome("delivered"));
            for (reason, waves) in outbox.losses() {
                to.observe(waves, &outcome(reason.as_str()));
            }
        })
        .build();
    let status = aether.clone();
    meter
        .u64_observable_gauge("aether.medium.connected")
        .with_description("1 if the medium is connected")
        .with_callback(move |to| to.observe(status.status().connected.into(), &[]))
        .build();
    let bus = aether.clone();
    meter
        .u64_observable_counter("aether.durable.given_up")
        .with_unit("{wave}")
        .with_description("Waves of the durable log that the process has given up, by consumer")
        .with_callback(move |to| {
            let given_up = DurableLog::of(&bus).map(|log| log.dead().given_up()).unwrap_or_default();
            for (consumer, waves) in given_up {
                to.observe(waves, &[KeyValue::new("aether.consumer", consumer)]);
            }
        })
        .build();
    if !aether::paths::paths(aether).is_empty() {
        let paths = aether.clone();
        meter
            .u64_observable_counter("aether.path.waves")
            .with_unit("{wave}")
            .with_description("Waves that left the process, by path")
            .with_callback(move |to| {
                for path in aether::paths::paths(&paths) {
                    to.observe(path.sent, &[KeyValue::new("aether.path", path.url)]);
                }
            })
            .build();
        let paths = aether.clone();
        meter
            .u64_observable_gauge("aether.path.in_use")
            .with_description("1 for the path by which waves go, 0 for the others")
            .with_callback(move |to| {
                for path in aether::paths::paths(&paths) {
                    let is_in_use = path.state == PathState::InUse;
                    to.observe(is_in_use.into(), &[KeyValue::new("aether.path", path.url)]);
                }
            })
            .build();
    }
    meter
        .u64_observable_counter("aether.telemetry.lost")
        .with_unit("{item}")
        .with_description("Spans and log lines that were not exported")
        .with_callback(|to| {
            for ledger in export_counts::ledgers() {
                to.observe(ledger.lost(), &[KeyValue::new("aether.signal", ledger.signal.as_str())]);
            }
        })
        .build();
}
