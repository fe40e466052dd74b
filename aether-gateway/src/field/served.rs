//! The fields that a gateway serves, and the tasks behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether_field::Field;
use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counts::FieldLine;
use super::hub::Hub;
use super::hubs::Hubs;
use super::limits::SecurityLimits;
use super::routes;
use crate::access::Access;
use crate::gate::Gate;
use crate::origin::Origins;

/// How long connections may take to end with the gateway.
const CLOSING_PATIENCE: Duration = Duration::from_millis(250);

/// The fields that a gateway serves, and who may use them and its waves.
#[derive(Debug, Default)]
pub struct FieldOptions {
    fields: BTreeMap<String, Field>,
    limits: SecurityLimits,
    access: Access,
    origins: Vec<String>,
    root: Option<String>,
}

impl FieldOptions {
    /// Serves a field under a name, which is a part of the path of its URL.
    #[must_use]
    pub fn field(mut self, name: &str, field: Field) -> Self {
        self.fields.insert(name.to_owned(), field);
        self
    }

    /// Serves a field at `/`, too, where the published pages of the sync engine look for it. Nothing is served there without
    /// a field of this name.
    #[must_use]
    pub fn root(mut self, name: &str) -> Self {
        self.root = Some(name.to_owned());
        self
    }

    /// Sets the bounds of each field. Default: [`SecurityLimits::default`].
    #[must_use]
    pub fn limits(mut self, limits: SecurityLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets who may use the fields, and who may hear and emit waves through the gateway. Default: no tokens, so both are
    /// for programs of this machine, and those whose certificate was checked;
    /// [`GatewayOptions::insecure`](crate::GatewayOptions::insecure) opens the fields to all who can connect.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Whether there is any token.
    pub(crate) fn has_tokens(&self) -> bool {
        self.access.has_tokens()
    }

    /// Whether any certificate is listed.
    pub(crate) fn lists_certificates(&self) -> bool {
        self.access.has_certificates()
    }

    /// Whether there are fields that need no token.
    pub(crate) fn is_open(&self) -> bool {
        !self.fields.is_empty() && self.access.is_open()
    }

    /// Lets pages of this origin use the fields and the waves, such as `https://shop.example`; `*` means all. Pages of
    /// the gateway's own address always may, and so may programs other than browsers.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.to_owned());
        self
    }
}

/// The served fields.
#[derive(Debug)]
pub(crate) struct Fields {
    hubs: Arc<BTreeMap<String, Arc<Hub>>>,
    root: Option<String>,
    /// The same protect waves.
    pub(crate) access: Arc<Access>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) limits: SecurityLimits,
}

impl Fields {
    pub(crate) fn new(options: FieldOptions) -> Self {
        let FieldOptions { fields, limits, access, origins, root } = options;
        let (access, origins) = (Arc::new(access), Arc::new(Origins::new(origins)));
        let hub = |(name, field): (String, Field)| {
            let hub =
                Hub::new(name.clone(), field, limits.clone(), Arc::clone(&access), Arc::clone(&origins));
            (name, hub)
        };
        let hubs: Arc<BTreeMap<_, _>> = Arc::new(fields.into_iter().map(hub).collect());
        let root = root.filter(|name| hubs.contains_key(name));
        Self { hubs, root, access, origins, limits }
    }

    pub(crate) fn lines(&self) -> Vec<FieldLine> {
        self.hubs.values().map(|hub| hub.line()).collect()
    }

    /// The routes, and the task that passes changes on until it is stopped.
    pub(crate) fn serve(
        &self,
        gate: Arc<Gate>,
        shutdown: CancellationToken,
    ) -> (Router, impl Future<Output = ()> + Send + use<>) {
        let (hubs, stop) = (Arc::clone(&self.hubs), shutdown.clone());
        let (connections, root, origins) = (TaskTracker::new(), self.root.clone(), Arc::clone(&self.origins));
        let hubs = Hubs { hubs, root, origins, gate, connections: connections.clone(), stop };
        let running = TaskTracker::new();
        let all: Vec<_> = self.hubs.values().cloned().collect();
        let task = async move {
            for hub in all {
                let stop = shutdown.clone();
                running.spawn(async move { hub.run(stop).await });
            }
            shutdown.cancelled().await;
            running.close();
            connections.close();
            let ended = async {
                running.wait().await;
                connections.wait().await;
            };
            // What is left over is a client that does not read its last message.
            let _ = tokio::time::timeout(CLOSING_PATIENCE, ended).await;
        };
        (routes::routes(hubs), task)
    }
}
