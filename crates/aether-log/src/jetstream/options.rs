//! How waves are kept in JetStream.

use std::fmt;
use std::time::Duration;

use aether_core::Durability;

/// How a log is kept in JetStream. A stream that exists must have the same limits, and gets at least this
/// [window](Self::duplicate_window).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JetStreamOptions {
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_waves: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) duplicate_window: Duration,
    pub(crate) ack_wait: Duration,
    pub(crate) patience: Duration,
    pub(crate) servers_sync_always: bool,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            max_bytes: None,
            max_waves: None,
            max_age: None,
            duplicate_window: Duration::from_secs(120),
            ack_wait: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            servers_sync_always: false,
        }
    }
}

impl JetStreamOptions {
    /// The size at which the stream refuses waves, in bytes. Default: the limits of the server. Nothing is dropped to make
    /// room.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// The number of waves at which the stream refuses more. Default: none.
    #[must_use]
    pub const fn max_waves(mut self, waves: u64) -> Self {
        self.max_waves = Some(waves);
        self
    }

    /// The age at which the server drops a wave, whether or not it was acknowledged. Default: none.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// For how long a second copy of a wave is recognised and not stored. Default: 2 min. Cost: memory of the server for
    /// each wave of that time. It must be longer than the [patience](Self::patience).
    #[must_use]
    pub const fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = window;
        self
    }

    /// How long the server waits for an acknowledgement before it delivers the wave to another process. Default: 30 s.
    /// A process that is alive extends the time every quarter of it, so handlers may take longer. A wave whose key a
    /// process does not have comes again after this time, or after 5 s if that is less.
    #[must_use]
    pub const fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }

    /// How long an emit, or any other request, tries again while the servers have no leader or cannot be reached.
    /// Default: 30 s.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// States that all servers have `sync_interval: always`, so that receipts may say
    /// [`Synced`](aether_core::Durability::Synced). A client cannot ask for it. Default: no, which means that a power cut
    /// may take the last two minutes of a stream without replicas.
    #[must_use]
    pub const fn servers_sync_always(mut self, always: bool) -> Self {
        self.servers_sync_always = always;
        self
    }
}

/// A property that a log lacks although it was asked for. It is logged as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogWarning {
    /// `Synced` was asked for, and the servers are not known to sync each wave.
    NotSynced {
        /// The level that receipts have instead.
        reached: Durability,
    },
    /// The stream drops waves by their age, also those that no consumer has acknowledged.
    DropsByAge {
        /// The age.
        max_age: Duration,
    },
}

impl fmt::Display for LogWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSynced { reached } => write!(
                f,
                "a channel asks for synced and gets {reached}: a client cannot see the sync_interval of a server. Set \
                 `jetstream {{ sync_interval: always }}` on all servers, and then \
                 JetStreamOptions::servers_sync_always"
            ),
            Self::DropsByAge { max_age } => write!(
                f,
                "the server drops waves that are older than {max_age:?}, also those that were not acknowledged"
            ),
        }
    }
}
