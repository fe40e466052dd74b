//! Starts and ends the exporters of a process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aether_core::Aether;
use aether_core::clock::micros_since_1970;
use aether_core::medium::without_secrets;
use aether_core::vibrator::set_emit_tracer;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatches, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder as SpanBatches, BatchSpanProcessor, SdkTracerProvider};
use opentelemetry_semantic_conventions::attribute::SERVICE_INSTANCE_ID;
use parking_lot::Mutex;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::{Registry, reload};

use super::emissions::Emissions;
use super::export_counts::{self, ledgers};
use super::handling::TRACER;
use super::histograms::{self, WithHistograms};
use super::http_client::{Client, without_login};
use super::ledger::{Signal, TelemetryError};
use super::log_gate::{CountedLogs, CountedMetrics, LogGate};
use super::meters;
use super::span_gate::{CountedSpans, SpanGate};

/// How many spans, and how many log lines, wait at most: 2048, the default of OpenTelemetry. A span takes about 1 KB.
const QUEUED: usize = 2048;
/// The variables that change it.
const SPANS_QUEUED: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const LOGS_QUEUED: &str = "OTEL_BLRP_MAX_QUEUE_SIZE";
/// How long the end of a process waits for the collector, for each signal.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The exporters of this process.
struct Exporting {
    spans: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

static EXPORTING: Mutex<Option<Exporting>> = Mutex::new(None);

pub(crate) type LateLayer = Option<Box<dyn Layer<Registry> + Send + Sync>>;

static LAYER: OnceLock<reload::Handle<LateLayer, Registry>> = OnceLock::new();

/// A layer for the subscriber, which does nothing before telemetry starts: the configuration is read when logging runs.
pub(crate) fn late_layer() -> reload::Layer<LateLayer, Registry> {
    let (layer, handle) = reload::Layer::new(None);
    // Only one subscriber is ever installed.
    let _ = LAYER.set(handle);
    layer
}

/// Starts telemetry. The collector is an address without the paths of the signals, such as `http://127.0.0.1:4318`. The name
/// of the program is the service name, unless `OTEL_SERVICE_NAME` has another. Emitters that are made before are not
/// followed.
///
/// # Errors
/// [`TelemetryError`] if it was started before, or the address and the variables do not fit.
pub fn start(collector: &str, program: &str) -> Result<(), TelemetryError> {
    let mut exporting = EXPORTING.lock();
    let [span_counts, log_counts, metric_counts] = export_counts::begin().ok_or(TelemetryError::Started)?;
    let shown = without_secrets(collector);
    let (collector, authorization) = without_login(collector);
    let client: Arc<dyn HttpClient> = Arc::new(Client::new(authorization));
    let resource = resource(program);

    let to = |path: &str| format!("{}{path}", collector.trim_end_matches('/'));
    let failed = |signal| move |error| TelemetryError::Exporter { signal, source: Box::new(error) };
    let inner = SpanExporter::builder()
        .with_http()
        .with_shared_http_client(Arc::clone(&client))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(to("/v1/traces"))
        .build()
        .map_err(failed(Signal::Spans))?;
    let (most, room) = bound(SPANS_QUEUED);
    let batches = BatchSpanProcessor::builder(CountedSpans { inner, counts: Arc::clone(&span_counts) })
        .with_batch_config(SpanBatches::default().with_max_queue_size(room).build())
        .build();
    let spans = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_processor(SpanGate { inner: batches, counts: span_counts, most })
        .build();

    let inner = LogExporter::builder()
        .with_http()
        .with_shared_http_client(Arc::clone(&client))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(to("/v1/logs"))
        .build()
        .map_err(failed(Signal::Logs))?;
    let (most, room) = bound(LOGS_QUEUED);
    let batches = BatchLogProcessor::builder(CountedLogs { inner, counts: Arc::clone(&log_counts) })
        .with_batch_config(LogBatches::default().with_max_queue_size(room).build())
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(LogGate { inner: batches, counts: log_counts, most })
        .build();

    let inner = MetricExporter::builder()
        .with_http()
        .with_shared_http_client(Arc::new(WithHistograms(client)))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(to("/v1/metrics"))
        .build()
        .map_err(failed(Signal::Metrics))?;
    let reader = PeriodicReader::builder(CountedMetrics { inner, counts: metric_counts }).build();
    let metrics = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();

    let tracer = spans.tracer("aether");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer.clone());
    let layer = layer.and_then(OpenTelemetryTracingBridge::new(&logs));
    // A subscriber of the author's has no such layer; it gets the spans of waves only.
    if let Some(handle) = LAYER.get() {
        let _ = handle.reload(Some(layer.boxed()));
    }
    histograms::begin();
    // Neither was set before, because this is the first start.
    let _ = TRACER.set(tracer.clone());
    let _ = set_emit_tracer(Box::new(Emissions(tracer)));
    *exporting = Some(Exporting { spans, logs, metrics });
    tracing::info!(collector = shown, "traces, metrics and logs are exported");
    Ok(())
}

/// Sends a collector an empty batch of spans, to learn whether it takes them. It blocks for at most five seconds.
///
/// # Errors
/// [`TelemetryError`] if the collector does not answer, or refuses.
pub fn check(collector: &str) -> Result<(), TelemetryError> {
    let (address, authorization) = without_login(collector);
    let endpoint = format!("{}/v1/traces", address.trim_end_matches('/'));
    match Client::new(authorization).answer_to(&endpoint) {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(TelemetryError::Refused { status: status.as_u16() }),
        Err(source) => Err(TelemetryError::Unreachable { source }),
    }
}

/// Exports the ledgers and the status of a bus as metrics, from now on. They keep the `Aether` alive until [`end`].
pub fn observe(aether: &Aether) {
    if let Some(exporting) = &*EXPORTING.lock() {
        meters::register(&exporting.metrics, aether);
    }
}

/// Exports what waits, for at most 6 s, and ends telemetry. What is lost is logged. It blocks; call it last.
pub fn end() {
    let Some(Exporting { spans, logs, metrics }) = EXPORTING.lock().take() else { return };
    // Logged to stderr only from here on.
    let _ = spans.shutdown_with_timeout(END_PATIENCE);
    let _ = metrics.shutdown_with_timeout(END_PATIENCE);
    if let Some(handle) = LAYER.get() {
        let _ = handle.reload(None);
    }
    let _ = logs.shutdown_with_timeout(END_PATIENCE);
    for ledger in ledgers() {
        if ledger.lost() + ledger.queued > 0 {
            tracing::warn!("telemetry was lost: {ledger}");
        } else {
            tracing::debug!("telemetry: {ledger}");
        }
    }
}

/// Ends telemetry at the end of the main function.
pub(crate) fn end_with_process() {
    end();
}

/// The attributes of this process: the standard variables, then a name for this instance.
fn resource(program: &str) -> Resource {
    let is_named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let instance = format!("{}-{:x}", std::process::id(), micros_since_1970());
    let resource = Resource::builder().with_attribute(KeyValue::new(SERVICE_INSTANCE_ID, instance));
    let has_name = is_named("OTEL_SERVICE_NAME")
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|given| names_service(&given));
    if has_name { resource.build() } else { resource.with_service_name(program.to_owned()).build() }
}

/// Whether attributes such as `a=b,service.name=shop` have the name of the service.
fn names_service(attributes: &str) -> bool {
    attributes
        .split(',')
        .any(|pair| pair.split_once('=').is_some_and(|(name, _)| name.trim() == "service.name"))
}

/// How many may wait, and the room of the queue behind the gate. The queue is larger, so it never drops by itself.
fn bound(variable: &str) -> (u64, usize) {
    let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let most = given.filter(|most| *most > 0).unwrap_or(QUEUED);
    (most as u64, most.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_peer_is_not_that_of_the_service() {
        assert!(names_service("a=b, service.name=shop"));
        assert!(!names_service("peer.service.name=foo,a=service.name"));
    }
}
