//! A log, wherever it keeps its waves: for code that runs on both.

use aether_core::ConnectError;
use aether_core::wave::ChannelError;
use aether_core::{Aether, AetherBuilder, Pattern};

use crate::consumer::{ConsumeError, Consumer, ConsumerOptions};
use crate::dead_letters::DeadLetters;
#[cfg(feature = "jetstream")]
use crate::jetstream::JetStreamError;
#[cfg(feature = "jetstream")]
use crate::jetstream_log::JetStreamLog;
use crate::log::Log;
use crate::schedules::Schedules;
use crate::store::AppendError;

/// A log in a folder, or in JetStream. Cloning it bumps a reference count.
///
/// ```
/// use aether_core::{Aether, Durability, Wave};
/// use aether_log::{ConsumerOptions, DurableLog, Log};
///
/// /// Runs on either.
/// async fn bill(log: &DurableLog) -> Result<(), Box<dyn std::error::Error>> {
///     let aether = log.connect(aether_core::AetherBuilder::new().url("local:")).await?;
///     aether.emitter("shop")?.emit(Wave::builder("orders.created").text("a lamp").build()?).await?;
///     let billing = log.consumer("billing", "orders.>", ConsumerOptions::default())?;
///     billing.receive().await?.ack().await?;
///     assert_eq!(billing.account().await?.acknowledged, 1);
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?; let folder = folder.path();
/// let log = Log::builder(folder).channels("orders.>", Durability::Stored)?.open()?;
/// bill(&log.into()).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DurableLog {
    /// In a folder.
    Folder(Log),
    /// In JetStream.
    #[cfg(feature = "jetstream")]
    JetStream(JetStreamLog),
}

impl From<Log> for DurableLog {
    fn from(log: Log) -> Self {
        Self::Folder(log)
    }
}

#[cfg(feature = "jetstream")]
impl From<JetStreamLog> for DurableLog {
    fn from(log: JetStreamLog) -> Self {
        Self::JetStream(log)
    }
}

/// Why a log takes no waves now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The folder cannot be written.
    #[error(transparent)]
    Folder(#[from] AppendError),
    /// The server refuses or does not answer.
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

impl DurableLog {
    /// The log that an `Aether` was connected with.
    #[must_use]
    pub fn of(aether: &Aether) -> Option<Self> {
        #[cfg(feature = "jetstream")]
        if let Some(log) = JetStreamLog::of(aether) {
            return Some(Self::JetStream(log));
        }
        Log::of(aether).map(Self::Folder)
    }

    /// As [`Log::connect`].
    ///
    /// # Errors
    /// [`ConnectError`], as [`AetherBuilder::connect`].
    ///
    /// # Cancel safety
    /// As [`AetherBuilder::connect`].
    pub async fn connect(&self, builder: AetherBuilder) -> Result<Aether, ConnectError> {
        match self {
            Self::Folder(log) => log.connect(builder).await,
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.connect(builder).await,
        }
    }

    /// The first half of [`connect`](Self::connect), for callers that connect by themselves; [`attach`](Self::attach)
    /// is the second half.
    pub fn layer(&self, builder: AetherBuilder) -> AetherBuilder {
        match self {
            Self::Folder(log) => log.layer(builder),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.layer(builder),
        }
    }

    /// Makes this the log that [`DurableLog::of`] finds.
    pub fn attach(&self, aether: &Aether) {
        match self {
            Self::Folder(log) => log.attach(aether),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.attach(aether),
        }
    }

    /// Why waves cannot be stored now, as far as is known without asking: for callers that must not wait, such as the
    /// readiness check of a program.
    #[must_use]
    pub fn trouble(&self) -> Option<NotReady> {
        match self {
            Self::Folder(log) => log.ready().err().map(NotReady::from),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.trouble().map(NotReady::from),
        }
    }

    /// A consumer of a pattern by its name. As [`Log::consumer`].
    ///
    /// # Errors
    /// [`ConsumeError`]: the name is not valid, belongs to a consumer of another pattern, or the consumer cannot be opened.
    /// In JetStream some of these come from [`Consumer::ready`] and [`Consumer::receive`], because only the server knows.
    pub fn consumer<P>(
        &self,
        name: &str,
        pattern: P,
        options: ConsumerOptions,
    ) -> Result<Consumer, ConsumeError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        match self {
            Self::Folder(log) => log.consumer(name, pattern, options),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.consumer(name, pattern, options),
        }
    }

    /// The consumers that are open in this process, in the order of their names.
    #[must_use]
    pub fn consumers(&self) -> Vec<Consumer> {
        let mut consumers = match self {
            Self::Folder(log) => log.consumers(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.consumers(),
        };
        consumers.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        consumers
    }

    /// The options of consumers that are made without.
    pub(crate) fn consumer_options(&self) -> ConsumerOptions {
        match self {
            Self::Folder(log) => log.consumer_options(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(_) => ConsumerOptions::default(),
        }
    }

    /// The waves that are delivered later, or regularly, by their keys.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        match self {
            Self::Folder(log) => log.schedules(),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => log.schedules(),
        }
    }

    /// The failed waves that consumers have given up.
    #[must_use]
    pub fn dead(&self) -> DeadLetters {
        match self {
            Self::Folder(log) => DeadLetters::Folder(log.shared_dead()),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => DeadLetters::JetStream(log.shared_dead()),
        }
    }

    /// Whether waves can be stored. A service that is not ready reports the reason.
    ///
    /// # Errors
    /// [`NotReady`]: why nothing can be stored now.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn ready(&self) -> Result<(), NotReady> {
        match self {
            Self::Folder(log) => Ok(log.ready()?),
            #[cfg(feature = "jetstream")]
            Self::JetStream(log) => Ok(log.ready().await?),
        }
    }
}
