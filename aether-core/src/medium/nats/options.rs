//! Options for connecting to NATS servers.

use crate::inbox::InboxOptions;
use crate::medium::Wire;

/// Options of the NATS medium, for [`AetherBuilder::options`](crate::AetherBuilder::options).
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, NatsOptions};
///
/// let options = NatsOptions::default().prefix("shop").client_name("orders");
/// let aether = Aether::builder().url("nats://127.0.0.1:4222").options(options).connect().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves: give them to AetherBuilder::options"]
pub struct NatsOptions {
    pub(super) prefix: String,
    pub(super) wire: Wire,
    pub(crate) outbox: InboxOptions,
    pub(super) client_name: Option<String>,
    pub(crate) discovery: bool,
}

impl NatsOptions {
    /// The first tokens of each subject, in front of the channel. Default: `aether`. Systems with different prefixes
    /// are isolated from each other. A prefix may not end in `-ask` or `-seen`, because `PREFIX-ask` and `PREFIX-seen`
    /// are used as well.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The format in which waves are written. Default: [`Wire::Frames`]. All formats can be read.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// The bounds and the discipline of the queue of waves waiting to be sent. All options apply, including a sojourn
    /// cap, a floor and an order. Default: [`InboxOptions::interactive`]. Emitters that wait for room fill the queue
    /// only while the connection is down; otherwise they start to wait once it holds 2048 waves. They give up when no
    /// wave of their strength or weaker has left for their entire patience, and at the latest after twice their
    /// patience.
    pub fn outbox(mut self, options: InboxOptions) -> Self {
        self.outbox = options;
        self
    }

    /// The name under which the server lists the connection. Default: none.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// Whether the vibrators of this process respond to service discovery, so that `nats micro ls` and other NATS tools
    /// list them. Default: yes. Turn it off in a program that is not permitted to subscribe to `$SRV.>`.
    pub fn discovery(mut self, answers: bool) -> Self {
        self.discovery = answers;
        self
    }
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            prefix: "aether".to_owned(),
            wire: Wire::default(),
            outbox: InboxOptions::interactive(),
            client_name: None,
            discovery: true,
        }
    }
}
