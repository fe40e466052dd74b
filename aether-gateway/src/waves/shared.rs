//! The state that all connections for waves share.

use std::sync::Arc;

use aether_core::Emitter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::field::SecurityLimits;
use crate::gate::Gate;
use crate::status::StatusSource;
use crate::taps::Taps;
use crate::trace_url::TraceUrl;
use crate::views::Views;

/// The maximum number of answers to `/waves`, in total and from one source. Each holds a connection of the HTTP server.
const STREAMS: usize = 64;
const STREAMS_OF_SOURCE: usize = 16;

/// The largest body of a request: 1 MiB, or what the medium takes if that is less.
const MAX_BODY: usize = 1 << 20;

/// The shared state of the connections.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) gate: Arc<Gate>,
    pub(super) views: Arc<Views>,
    pub(super) taps: Arc<Taps>,
    pub(super) emitter: Emitter,
    /// The largest body of a request, in bytes.
    pub(super) max_body: usize,
    /// Where pages link traces to.
    pub(super) trace_url: Option<TraceUrl>,
    pub(super) limits: SecurityLimits,
    pub(super) sockets: Arc<Admission>,
    pub(super) streams: Arc<Admission>,
    pub(super) connections: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn new(
        source: &StatusSource,
        gate: Arc<Gate>,
        views: Arc<Views>,
        emitter: Emitter,
        limits: SecurityLimits,
        stop: CancellationToken,
    ) -> Self {
        let sockets = Admission::new(limits.max_connections_total, limits.max_connections_per_source);
        let streams = Admission::new(STREAMS, STREAMS_OF_SOURCE);
        let taps = Arc::clone(source.taps());
        let connections = TaskTracker::new();
        let max_body = source.aether().promises().max_payload.min(MAX_BODY);
        let trace_url = None;
        Self { gate, views, taps, emitter, max_body, trace_url, limits, sockets, streams, connections, stop }
    }

    /// Has pages link traces there.
    pub(crate) fn trace_url(mut self, url: Option<TraceUrl>) -> Arc<Self> {
        self.trace_url = url;
        Arc::new(self)
    }

    /// Waits until the connections have ended, which they do when it is stopped.
    pub(crate) async fn ended(&self) {
        self.stop.cancelled().await;
        self.connections.close();
        self.connections.wait().await;
    }
}
