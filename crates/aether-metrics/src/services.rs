//! The metrics of services: what became of the waves that their handlers took.
//!
//! Each scrape reads the counters of the services, which can be read after a service has ended.

use std::fmt;
use std::sync::Arc;

use aether_service::{BANDS, Histogram, ServiceCounters, ServiceReport, Timings, telemetry};
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::families::Families;

/// The counters of services by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services(Arc<RwLock<Vec<(String, ServiceCounters)>>>);

impl Services {
    pub(crate) fn add(&self, name: &str, counters: ServiceCounters) {
        self.0.write().push((name.to_owned(), counters));
    }

    /// The reports by name. Services of one name are added up, because a scrape must not have a line twice.
    fn reports(&self) -> Vec<(String, ServiceReport, Timings)> {
        let mut reports: Vec<(String, ServiceReport, Timings)> = Vec::new();
        for (name, counters) in &*self.0.read() {
            let (report, timings) = (counters.report(), counters.timings());
            match reports.iter_mut().find(|(known, ..)| known == name) {
                Some((_, sum, times)) => {
                    add(sum, &report);
                    times.add(&timings);
                }
                None => reports.push((name.clone(), report, timings)),
            }
        }
        reports
    }
}

fn add(sum: &mut ServiceReport, report: &ServiceReport) {
    sum.received += report.received;
    sum.succeeded += report.succeeded;
    sum.retried += report.retried;
    sum.rejected += report.rejected;
    sum.failed += report.failed;
    sum.panicked += report.panicked;
    sum.timed_out += report.timed_out;
    sum.shed_busy += report.shed_busy;
    sum.shed_circuit_open += report.shed_circuit_open;
    sum.left += report.left;
    sum.abandoned += report.abandoned;
    sum.in_flight += report.in_flight;
}

impl Collector for Services {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reports = self.reports();
        let mut to = Families::new(encoder);
        let labelled = || reports.iter().map(|(name, report, _)| (vec![("service", name.as_str())], report));
        let help =
            "Waves that the handlers of a service took out of its inbox; a wave that is retried counts again";
        to.counter(
            "service_received_waves",
            help,
            None,
            labelled().map(|(labels, report)| (labels, report.received)),
        )?;
        let outcomes = labelled().flat_map(|(labels, report)| {
            outcomes(report).map(|(outcome, waves)| {
                let mut labels = labels.clone();
                labels.push(("outcome", outcome));
                (labels, waves)
            })
        });
        let help = "Waves by how their handling ended; with those in hand they are the received ones";
        to.counter("service_waves", help, None, outcomes)?;
        let help = "Waves that are being handled, or wait to be retried";
        to.gauge(
            "service_handling_waves",
            help,
            None,
            labelled().map(|(labels, report)| (labels, report.in_flight)),
        )?;
        let times = |of: fn(&Timings) -> &[Histogram; BANDS.len()]| {
            reports.iter().map(move |(name, _, timings)| (name.as_str(), of(timings)))
        };
        let help = "Time that waves spent in the inbox before they were handled";
        histograms(&mut to, "wave_wait", help, times(|timings| &timings.wait))?;
        let help = "Time that the handlers took, for each attempt";
        histograms(&mut to, "wave_handling", help, times(|timings| &timings.handling))?;
        let help = "Age of waves of other processes when they arrived";
        histograms(&mut to, "wave_transit", help, times(|timings| &timings.transit))?;
        write_telemetry(&mut to)
    }
}

fn histograms<'a>(
    to: &mut Families<'_>,
    name: &str,
    help: &str,
    services: impl Iterator<Item = (&'a str, &'a [Histogram; BANDS.len()])>,
) -> fmt::Result {
    let bounds = Histogram::bounds();
    let mut family = to.other(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (service, bands) in services {
        for (band, histogram) in BANDS.into_iter().zip(bands) {
            let labels = vec![("service", service), ("amplitude", band)];
            let upper = bounds.into_iter().chain([f64::MAX]);
            let buckets: Vec<_> = upper.zip(histogram.buckets().iter().copied()).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                histogram.sum().as_secs_f64(),
                histogram.count(),
                &buckets,
                None,
            )?;
        }
    }
    Ok(())
}

/// The exports over OTLP, and the losses.
fn write_telemetry(to: &mut Families<'_>) -> fmt::Result {
    let ledgers = telemetry::ledgers();
    if ledgers.is_empty() {
        return Ok(());
    }
    let outcomes = ledgers.iter().flat_map(|ledger| {
        let signal = ledger.signal.as_str();
        [("exported", ledger.exported), ("lost_full", ledger.lost_full), ("lost_export", ledger.lost_export)]
            .map(|(outcome, items)| (vec![("signal", signal), ("outcome", outcome)], items))
    });
    let help = "Spans, log lines and exports of metrics given to the collector, by what became of them";
    to.counter("telemetry_items", help, None, outcomes)?;
    let queued = ledgers.iter().map(|ledger| (vec![("signal", ledger.signal.as_str())], ledger.queued));
    to.gauge("telemetry_queued_items", "Items that wait to be exported", None, queued)
}

fn outcomes(report: &ServiceReport) -> [(&'static str, u64); 10] {
    [
        ("succeeded", report.succeeded),
        ("retried", report.retried),
        ("rejected", report.rejected),
        ("failed", report.failed),
        ("panicked", report.panicked),
        ("timed_out", report.timed_out),
        ("shed_busy", report.shed_busy),
        ("shed_circuit_open", report.shed_circuit_open),
        ("left", report.left),
        ("ended_in_the_middle", report.abandoned),
    ]
}
