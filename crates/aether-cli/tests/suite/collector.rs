//! A collector of OpenTelemetry: takes OTLP over HTTP and keeps what it gets.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

/// A span, with the process that it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    /// Empty at the beginning of a trace.
    pub(crate) parent: Vec<u8>,
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) nanos: (u64, u64),
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A histogram of one export, with the process that it comes from.
#[derive(Debug, Clone)]
pub(crate) struct SeenHistogram {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) bounds: Vec<f64>,
    pub(crate) buckets: Vec<u64>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) nanos: (u64, u64),
}

/// The received signals.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Seen>,
    /// The texts, with the names of their services.
    pub(crate) logs: Vec<(String, String)>,
    /// The names of metrics, with the names of their services.
    pub(crate) metrics: Vec<(String, String)>,
    /// All exports, one after the other.
    pub(crate) histograms: Vec<SeenHistogram>,
}

/// A collector on a free port.
pub(crate) struct Collector {
    address: String,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::<Mutex<Received>>::default();
        let into = Arc::clone(&received);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let into = Arc::clone(&into);
                std::thread::spawn(move || while take(&connection, &into).is_some() {});
            }
        });
        Self { address, received }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn received(&self) -> Received {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes one request; `None` when the connection ends.
fn take(connection: &TcpStream, into: &Mutex<Received>) -> Option<()> {
    let mut from = BufReader::new(connection);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length:")).unwrap();
    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
    let mut body = vec![0; length.trim().parse().unwrap()];
    from.read_exact(&mut body).ok()?;
    let path = head[0].split(' ').nth(1).unwrap();
    {
        let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
        match path {
            "/v1/traces" => traces(&ExportTraceServiceRequest::decode(&body[..]).unwrap(), &mut into),
            "/v1/logs" => logs(&ExportLogsServiceRequest::decode(&body[..]).unwrap(), &mut into),
            "/v1/metrics" => metrics(&ExportMetricsServiceRequest::decode(&body[..]).unwrap(), &mut into),
            other => panic!("{other} is not a path of OTLP"),
        }
    }
    let mut to = connection;
    to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
}

fn traces(request: &ExportTraceServiceRequest, into: &mut Received) {
    for of in &request.resource_spans {
        let attributes = resource(of.resource.as_ref());
        for span in of.scope_spans.iter().flat_map(|scope| &scope.spans) {
            into.spans.push(Seen {
                service: attributes["service.name"].clone(),
                instance: attributes["service.instance.id"].clone(),
                trace: span.trace_id.clone(),
                id: span.span_id.clone(),
                parent: span.parent_span_id.clone(),
                name: span.name.clone(),
                kind: span.kind,
                nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
                attributes: texts(&span.attributes),
            });
        }
    }
}

fn logs(request: &ExportLogsServiceRequest, into: &mut Received) {
    for of in &request.resource_logs {
        let service = &resource(of.resource.as_ref())["service.name"];
        for record in of.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            into.logs.push((service.clone(), record.body.as_ref().map(text).unwrap_or_default()));
        }
    }
}

fn metrics(request: &ExportMetricsServiceRequest, into: &mut Received) {
    for of in &request.resource_metrics {
        let service = &resource(of.resource.as_ref())["service.name"];
        for metric in of.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            into.metrics.push((service.clone(), metric.name.clone()));
            let Some(Data::Histogram(histogram)) = &metric.data else { continue };
            assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
            into.histograms.extend(histogram.data_points.iter().map(|point| SeenHistogram {
                service: service.clone(),
                name: metric.name.clone(),
                unit: metric.unit.clone(),
                attributes: texts(&point.attributes),
                bounds: point.explicit_bounds.clone(),
                buckets: point.bucket_counts.clone(),
                count: point.count,
                sum: point.sum.unwrap(),
                nanos: (point.start_time_unix_nano, point.time_unix_nano),
            }));
        }
    }
}

fn resource(resource: Option<&Resource>) -> BTreeMap<String, String> {
    texts(&resource.unwrap().attributes)
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |one: &KeyValue| (one.key.clone(), one.value.as_ref().map(text).unwrap_or_default());
    attributes.iter().map(text).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
