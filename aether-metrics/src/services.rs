//! The metrics of services: what became of the waves that their handlers took.
//!
//! Each scrape reads the counters of the services, which can be read after a service has ended.

use std::fmt;
use std::sync::Arc;

use aether_chassis::{ServiceCounters, ServiceReport};
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::families::Families;

/// The counters of services by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services(Arc<RwLock<Vec<(String, ServiceCounters)>>>);

impl Services {
    pub(crate) fn add(&self, name: &str, counters: ServiceCounters) {
        self.0.write().push((name.to_owned(), counters));
    }

    /// The reports by name. Services of one name are added up, because a scrape must not have a line twice.
    fn reports(&self) -> Vec<(String, ServiceReport)> {
        let mut reports: Vec<(String, ServiceReport)> = Vec::new();
        for (name, counters) in &*self.0.read() {
            let report = counters.report();
            match reports.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => add(sum, &report),
                None => reports.push((name.clone(), report)),
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
        let labelled = || reports.iter().map(|(name, report)| (vec![("service", name.as_str())], report));
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
        )
    }
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
