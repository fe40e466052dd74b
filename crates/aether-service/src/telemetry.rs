//! Telemetry: traces, metrics and logs over OTLP, with the feature `otlp`. Off unless `[telemetry] otlp` has an address.
//!
//! [`Configuration::connect_until`](crate::Configuration::connect_until) starts it and [`run`](crate::run) ends it.
//! Programs that do without these call [`start`] before they make emitters, and [`end`] last. A trace begins where a wave is
//! emitted and no trace is under way; each emission, each wait in an inbox and each handling is a span, named and
//! attributed by OpenTelemetry's conventions for messaging. Spans of `tracing` within a handler are children of its
//! span. The context travels with every wave, whether this process records spans or not. Metrics are the ledgers, the
//! connection, and histograms of the services that are built after the start.
//!
//! The export queue is bounded. Anything that does not fit, or that the collector does not take, is lost and counted
//! ([`ledgers`]), logged when it begins and at the end, and never delays a wave.
//!
//! The standard variables of OpenTelemetry are obeyed: `OTEL_TRACES_SAMPLER`, `OTEL_BSP_MAX_QUEUE_SIZE`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SDK_DISABLED`, and so on. The variables of the
//! endpoint, the protocol and the compression are not: the setting has the address, and nothing is compressed.

/// Whether `OTEL_SDK_DISABLED` switches telemetry off.
pub(crate) fn is_disabled() -> bool {
    std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(feature = "otlp")]
mod convert;
#[cfg(feature = "otlp")]
mod emissions;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod export_counts;
#[cfg(feature = "otlp")]
mod handling;
#[cfg(feature = "otlp")]
mod histograms;
#[cfg(feature = "otlp")]
mod http_client;
mod ledger;
#[cfg(feature = "otlp")]
mod log_gate;
#[cfg(feature = "otlp")]
mod meters;
#[cfg(feature = "otlp")]
mod span_gate;
#[cfg(not(feature = "otlp"))]
mod without;

#[cfg(feature = "otlp")]
pub(crate) use convert::current;
#[cfg(feature = "otlp")]
pub(crate) use export::{LateLayer, end_with_process, late_layer};
#[cfg(feature = "otlp")]
pub use export::{check, end, observe, start};
#[cfg(feature = "otlp")]
pub use export_counts::ledgers;
#[cfg(feature = "otlp")]
pub(crate) use handling::{HandlingTrace, RetryPause, joined};
#[cfg(feature = "otlp")]
pub(crate) use histograms::record;
pub use ledger::{ExportLedger, Signal, TelemetryError};
#[cfg(not(feature = "otlp"))]
pub(crate) use without::{HandlingTrace, RetryPause, current, end_with_process, joined, record};
#[cfg(not(feature = "otlp"))]
pub use without::{check, end, ledgers, observe, start};
