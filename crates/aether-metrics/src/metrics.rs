//! The registry of a program: the metrics of its bus and its services, and the author's own.

use std::fmt;

use aether_core::Aether;
use aether_service::health::Health;
use aether_service::{Service, ServiceCounters};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::registry::{Metric, Registry};

use crate::bus::BusCollector;
use crate::process::ProcessCollector;
use crate::services::Services;

/// The prefix of the names of Aether's own metrics.
const PREFIX: &str = "aether";

/// All metrics of a program, in one registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    services: Services,
    aether: Aether,
}

impl Metrics {
    /// The metrics of a bus: the ledgers of its inboxes and its outbox, the status of its medium, and the failures; and
    /// the metrics of the process. They keep the `Aether` alive.
    #[must_use]
    pub fn of(aether: &Aether) -> Self {
        let mut metrics =
            Self { registry: Registry::default(), services: Services::default(), aether: aether.clone() };
        metrics.collect(BusCollector::new(aether));
        metrics.collect(metrics.services.clone());
        metrics.registry.register_collector(Box::new(ProcessCollector));
        metrics
    }

    /// Adds a service: what became of the waves that its handlers took, under the name of the service. Services of one
    /// name are added up.
    #[must_use]
    pub fn service(self, service: &Service) -> Self {
        self.counters(service.emitter().source().name(), service.counters())
    }

    /// The same for the counters of a service that runs already.
    #[must_use]
    pub fn counters(self, name: &str, counters: ServiceCounters) -> Self {
        // From now on they are recorded.
        let _ = counters.timings();
        self.services.add(name, counters);
        self
    }

    /// Adds a metric of one's own: a counter, gauge, histogram or family of `prometheus-client`, which is a handle to
    /// be cloned. The name must be unique and follow the rules of Prometheus; a scrape adds `_total` to the name of a
    /// counter.
    #[must_use]
    pub fn metric(mut self, name: &str, help: &str, metric: impl Metric) -> Self {
        self.registry.register(name, help, metric);
        self
    }

    /// Adds a collector whose names get the prefix `aether_`, for metrics of the framework.
    pub fn collect(&mut self, collector: impl Collector) {
        self.registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(collector));
    }

    /// The registry, for prefixes, units, labels and collectors of one's own.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Whether the bus can carry waves now.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.aether)
    }

    /// Writes all metrics as OpenMetrics 1.0. [`Exposition::write`](crate::Exposition::write) converts the text for
    /// clients that do not read it.
    ///
    /// # Errors
    /// As a collector in the registry.
    pub fn write(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
