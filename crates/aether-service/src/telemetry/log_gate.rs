//! A bound in front of the batches of log lines, as `span_gate.rs` is for spans; and an exporter of metrics that counts.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;

use super::ledger::Counts;

/// Passes on at most as many lines as have room.
#[derive(Debug)]
pub(super) struct LogGate {
    pub(super) inner: BatchLogProcessor,
    pub(super) counts: Arc<Counts>,
    pub(super) most: u64,
}

impl LogProcessor for LogGate {
    fn emit(&self, data: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.counts.enter(self.most) {
            self.inner.emit(data, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter that counts what it exports.
#[derive(Debug)]
pub(super) struct CountedLogs<E> {
    pub(super) inner: E,
    pub(super) counts: Arc<Counts>,
}

impl<E: LogExporter> LogExporter for CountedLogs<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let number = batch.iter().count() as u64;
        let exported = self.inner.export(batch).await;
        self.counts.leave(number, exported.is_ok());
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter of metrics that counts its exports.
pub(super) struct CountedMetrics<E> {
    pub(super) inner: E,
    pub(super) counts: Arc<Counts>,
}

impl<E: PushMetricExporter> PushMetricExporter for CountedMetrics<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        // Exports follow each other, so there is always room.
        self.counts.enter(u64::MAX);
        let exported = self.inner.export(metrics).await;
        self.counts.leave(1, exported.is_ok());
        exported
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
