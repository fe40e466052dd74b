//! The histograms of services over OTLP: how long waves wait, are handled and were on their way, by importance.
//!
//! Services count them as they do for Prometheus (`timings.rs`), which costs a wave less than an instrument of
//! OpenTelemetry. Its SDK takes no histograms that are counted already, so the client through which metrics leave adds
//! them to the message.

use std::sync::{Arc, Once, OnceLock};

use aether_core::clock::micros_since_1970;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram as HistogramData, HistogramDataPoint, Metric, ScopeMetrics,
};
use parking_lot::Mutex;
use prost::Message as _;

use super::meters::SCOPE;
use crate::timings::{BANDS, Histogram, SharedTimings, Timings};

/// When telemetry started, in nanoseconds since 1970.
static STARTED: OnceLock<u64> = OnceLock::new();
static SERVICES: Mutex<Vec<ServiceTimings>> = Mutex::new(Vec::new());

/// All services of one name.
struct ServiceTimings {
    service: String,
    /// The sum of those that are gone, as no count may fall.
    gone: Timings,
    there: Vec<SharedTimings>,
}

/// Services that are built from now on are recorded.
pub(super) fn begin() {
    let _ = STARTED.set(nanos_since_1970());
}

/// Records the timings of a service, if telemetry has started.
pub(crate) fn record(service: &str, timings: &SharedTimings) {
    if STARTED.get().is_none() {
        return;
    }
    // The first reading switches them on.
    let _ = timings.read();
    let mut services = SERVICES.lock();
    let timings = timings.clone();
    match services.iter_mut().find(|known| known.service == service) {
        Some(known) => {
            known.settle();
            known.there.push(timings);
        }
        None => services.push(ServiceTimings {
            service: service.to_owned(),
            gone: Timings::default(),
            there: vec![timings],
        }),
    }
}

impl ServiceTimings {
    /// Folds the timings of services that are gone into one sum.
    fn settle(&mut self) {
        let Self { gone, there, .. } = self;
        there.retain(|timings| {
            let is_gone = timings.is_last();
            if is_gone {
                gone.add(&timings.read());
            }
            !is_gone
        });
    }

    fn sum(&mut self) -> Timings {
        self.settle();
        let mut sum = self.gone;
        self.there.iter().for_each(|timings| sum.add(&timings.read()));
        sum
    }
}

/// A client that adds the histograms to the metrics that it sends.
#[derive(Debug)]
pub(super) struct WithHistograms(pub(super) Arc<dyn HttpClient>);

#[async_trait]
impl HttpClient for WithHistograms {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, mut body) = request.into_parts();
        if parts.headers.contains_key(CONTENT_ENCODING) {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::warn!(
                    "the histograms of waves are not exported, because the metrics are compressed"
                );
            });
        } else {
            let mut message = ExportMetricsServiceRequest::decode(body)?;
            add(&mut message);
            body = message.encode_to_vec().into();
            parts.headers.remove(CONTENT_LENGTH);
        }
        self.0.send_bytes(Request::from_parts(parts, body)).await
    }
}

/// Adds the histograms of all services to a message.
fn add(message: &mut ExportMetricsServiceRequest) {
    let Some(of_process) = message.resource_metrics.first_mut() else { return };
    let sums: Vec<_> =
        SERVICES.lock().iter_mut().map(|service| (service.service.clone(), service.sum())).collect();
    let metrics = metrics(&sums);
    if metrics.is_empty() {
        return;
    }
    let has_name = |scope: &ScopeMetrics| scope.scope.as_ref().is_some_and(|scope| scope.name == SCOPE);
    match of_process.scope_metrics.iter_mut().find(|scope| has_name(scope)) {
        Some(scope) => scope.metrics.extend(metrics),
        None => {
            let scope = InstrumentationScope { name: SCOPE.to_owned(), ..Default::default() };
            of_process.scope_metrics.push(ScopeMetrics { scope: Some(scope), metrics, ..Default::default() });
        }
    }
}

/// The histograms that have counted anything.
fn metrics(services: &[(String, Timings)]) -> Vec<Metric> {
    let now = nanos_since_1970();
    let start = STARTED.get().copied().unwrap_or(now);
    type Of = fn(&Timings) -> &[Histogram; BANDS.len()];
    let families: [(&str, &str, Of); 3] = [
        ("aether.wave.wait", "Time that waves spent in the inbox before they were handled", |of| &of.wait),
        ("aether.wave.handling", "Time that the handlers took, for each attempt", |of| &of.handling),
        ("aether.wave.transit", "Age of waves of other processes when they arrived", |of| &of.transit),
    ];
    let points = |of: Of| {
        let bands = services.iter().flat_map(move |(service, timings)| {
            BANDS.iter().zip(of(timings)).map(move |(band, histogram)| (service, *band, histogram))
        });
        let counted = bands.filter(|(.., histogram)| histogram.count() > 0);
        counted.map(|(service, band, histogram)| point(service, band, histogram, (start, now))).collect()
    };
    let family = |(name, description, of): (&str, &str, Of)| {
        let data_points: Vec<_> = points(of);
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        (!data_points.is_empty()).then(|| Metric {
            name: name.to_owned(),
            description: description.to_owned(),
            unit: "s".to_owned(),
            data: Some(Data::Histogram(HistogramData { data_points, aggregation_temporality })),
            ..Default::default()
        })
    };
    families.into_iter().filter_map(family).collect()
}

fn point(
    service: &str,
    band: &'static str,
    histogram: &Histogram,
    (start, now): (u64, u64),
) -> HistogramDataPoint {
    let attributes =
        [KeyValue::new("aether.service", service.to_owned()), KeyValue::new("aether.amplitude", band)];
    HistogramDataPoint {
        attributes: attributes.iter().map(Into::into).collect(),
        start_time_unix_nano: start,
        time_unix_nano: now,
        count: histogram.count(),
        sum: Some(histogram.sum().as_secs_f64()),
        bucket_counts: histogram.buckets().to_vec(),
        explicit_bounds: Histogram::bounds().to_vec(),
        ..Default::default()
    }
}

fn nanos_since_1970() -> u64 {
    micros_since_1970().saturating_mul(1000)
}
