//! The logs that a server keeps in JetStream as another process sees them: what they hold, and how their consumers stand.
//!
//! The gateway and `aether log consumers` read them. Nothing is made, changed or acknowledged by itself: the programs
//! that own the logs do not notice. On request, [a consumer is forgotten](JetStreamView::forget_consumer), and [dead
//! letters](JetStreamView::letters) are replayed and dropped. A log of a folder has [`LogView`](crate::LogView).

mod changing;
mod listing;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether_nats::NatsOptions;
use tokio::time::Instant;

use crate::jetstream::{Connection, JetStreamError, Subjects};
pub use standing::{JetStreamStanding, StreamConsumerStanding, StreamStanding};

/// How long a request is tried again while the server has no leader for what it asks about.
const PATIENCE: Duration = Duration::from_secs(2);

/// Limits for the cost of [`JetStreamView::standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEffort {
    max_logs: usize,
    max_consumers: usize,
    time: Duration,
}

impl Default for StreamEffort {
    fn default() -> Self {
        Self { max_logs: 64, max_consumers: 256, time: Duration::from_secs(5) }
    }
}

impl StreamEffort {
    /// How many logs are read, the first ones by their names. Default: 64. Cost: four requests for each.
    #[must_use]
    pub const fn max_logs(mut self, logs: usize) -> Self {
        self.max_logs = logs;
        self
    }

    /// How many consumers of all logs are read. Default: 256. Cost: a request for each 256, and about 1 KB for each.
    #[must_use]
    pub const fn max_consumers(mut self, consumers: usize) -> Self {
        self.max_consumers = consumers;
        self
    }

    /// The time after which no further log is read. Default: 5 s. One that is being read may take a few seconds more.
    #[must_use]
    pub const fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

/// A connection that reads how the logs in JetStream stand. Needs the right to publish to `$JS.API.STREAM.NAMES`,
/// `$JS.API.STREAM.INFO.*` and `$JS.API.CONSUMER.LIST.*`.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_nats::NatsOptions;
/// use aether_log::{JetStreamView, StreamEffort};
///
/// let view = JetStreamView::open("nats://127.0.0.1:4222", NatsOptions::default()).await?;
/// for (name, log) in view.standing(StreamEffort::default()).await?.logs {
///     for consumer in log?.consumers {
///         println!("{name}: {} waves wait for {}", consumer.lag, consumer.name);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct JetStreamView {
    connection: Arc<Connection>,
}

impl JetStreamView {
    /// Connects to NATS servers, several addresses separated by commas. The connection is made again by itself when it
    /// breaks. Of the options, the login, the certificates and the name of the client count.
    ///
    /// # Errors
    /// [`JetStreamError`]: no server answers, a file of the login or of the keys cannot be used, or the server has no
    /// JetStream.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn open(url: &str, nats: NatsOptions) -> Result<Self, JetStreamError> {
        Ok(Self { connection: Connection::open(url, nats, PATIENCE).await? })
    }

    /// How the logs of Aether on this server and their consumers stand now.
    ///
    /// # Errors
    /// [`JetStreamError`]: the server has no JetStream, nobody answers, or the user may not list the streams. An error
    /// about one log only is reported with that log.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn standing(&self, effort: StreamEffort) -> Result<JetStreamStanding, JetStreamError> {
        let ends = Instant::now() + effort.time;
        let connection = &*self.connection;
        // A server that has lost it since answers nothing else.
        connection.has_jetstream().await?;
        let (names, mut more_logs) = listing::names(connection, effort.max_logs).await?;
        let (mut logs, mut left) = (BTreeMap::new(), effort.max_consumers);
        for name in names {
            if Instant::now() >= ends {
                more_logs += 1;
                continue;
            }
            match listing::log(connection, &Subjects::new(&name), left).await {
                // A stream of something else, which takes all subjects.
                Ok(None) => {}
                Ok(Some(log)) => {
                    left -= log.consumers.len().min(left);
                    logs.insert(name, Ok(log));
                }
                Err(error) => drop(logs.insert(name, Err(error))),
            }
        }
        Ok(JetStreamStanding { logs, more_logs })
    }
}
