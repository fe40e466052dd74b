//! A bound in front of the batches of spans, so that every span that is lost is counted.
//!
//! The batch processor of OpenTelemetry drops what its queue cannot take, and counts it where nobody can read it. The gate
//! lets in no more than its queue holds.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

use super::ledger::Counts;

/// Passes on at most as many spans as have room.
#[derive(Debug)]
pub(super) struct SpanGate {
    pub(super) inner: BatchSpanProcessor,
    pub(super) counts: Arc<Counts>,
    pub(super) most: u64,
}

impl SpanProcessor for SpanGate {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.counts.enter(self.most) {
            self.inner.on_end(span);
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
pub(super) struct CountedSpans<E> {
    pub(super) inner: E,
    pub(super) counts: Arc<Counts>,
}

impl<E: SpanExporter> SpanExporter for CountedSpans<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len() as u64;
        let exported = self.inner.export(batch).await;
        self.counts.leave(number, exported.is_ok());
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
