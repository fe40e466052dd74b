//! A log whose waves are in a stream of JetStream: shared by many processes, and replicated by the servers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aether_core::ConnectError;
use aether_core::wave::ChannelError;
use aether_core::{Aether, AetherBuilder, Durability, Pattern};
use aether_nats::NatsOptions;
use async_nats::jetstream::stream::{Config, Info};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::channels::Channels;
use crate::consumer::{ConsumeError, Consumer, ConsumerOptions, StreamConsumer};
use crate::dead::StreamLetters;
use crate::jetstream::{
    Connection, JetStreamError, JetStreamOptions, LogWarning, Publisher, StreamSchedules, Subjects,
    check_stream, ensure_stream, side_stream, stream,
};
use crate::keeper::Keeper;
use crate::medium::DurableMedium;
use crate::name::is_name;
use crate::schedules::Schedules;

/// The options of a log in JetStream. Made by [`JetStreamLog::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before open()"]
pub struct JetStreamLogBuilder {
    url: String,
    name: String,
    nats: NatsOptions,
    options: JetStreamOptions,
    channels: Vec<(Pattern, Durability)>,
    wait: Duration,
}

impl JetStreamLogBuilder {
    /// Stores the waves of the channels that match a pattern. All channels of a log are in one stream, which has at
    /// least as many replicas as the highest level asks for.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    pub fn channels<P>(self, pattern: P, durability: Durability) -> Result<Self, ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        Ok(self.pattern(pattern.try_into()?, durability))
    }

    /// As [`channels`](Self::channels), with a pattern that was checked.
    pub fn pattern(mut self, pattern: Pattern, durability: Durability) -> Self {
        self.channels.push((pattern, durability));
        self
    }

    /// How the waves are kept.
    pub const fn options(mut self, options: JetStreamOptions) -> Self {
        self.options = options;
        self
    }

    /// The login, the certificates and the keys of the connection. Default: the login of the address, and no keys. With
    /// [keys](NatsOptions::keys), everything that the servers store is sealed; a wave whose key is missing is delivered
    /// again every five seconds until the key is there, and unsealed waves are passed over and counted. The prefix, the
    /// outbox and the name of the client belong to a bus, and are not used here.
    pub fn nats(mut self, options: NatsOptions) -> Self {
        self.nats = options;
        self
    }

    /// How long [`open`](Self::open) waits for a server that does not answer yet. Default: not at all. Programs and
    /// servers may then start in any order, as with `medium.wait` of the configuration.
    pub const fn wait(mut self, longest: Duration) -> Self {
        self.wait = longest;
        self
    }

    /// Connects to the servers, and makes the streams of the log, or checks those that exist. A stream with fewer
    /// replicas, or a shorter [window](JetStreamOptions::duplicate_window), gets those that are wanted. Nothing else that
    /// exists is changed.
    ///
    /// # Errors
    /// [`JetStreamError`]: no server answers, a file of the login or of the keys cannot be used, the server has no
    /// JetStream, there are fewer servers than replicas, a permission is missing, or a stream of this name has other
    /// settings.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the streams may have been made.
    pub async fn open(self) -> Result<JetStreamLog, JetStreamError> {
        if !is_name(&self.name) {
            return Err(JetStreamError::Name { name: self.name });
        }
        let levels = self.channels.iter().map(|(_, level)| *level);
        let replicas = levels.clone().filter_map(|level| match level {
            Durability::Replicated(replicas) => Some(replicas),
            _ => None,
        });
        if let Some(replicas) = replicas.clone().find(|replicas| !(2..=5).contains(replicas)) {
            return Err(JetStreamError::Replicas { replicas });
        }
        let replicas = replicas.max();
        let reached = match replicas {
            Some(replicas) => Durability::Replicated(replicas),
            None if self.options.servers_sync_always => Durability::Synced,
            None => Durability::Stored,
        };
        let subjects = Subjects::new(&self.name);
        let connection = self.connection().await?;
        let replicas = usize::from(replicas.unwrap_or(1));
        let wanted = stream(&subjects, replicas, &self.options);
        ensure_stream(&connection, &wanted).await?;
        ensure_stream(&connection, &side_stream(&subjects, replicas)).await?;
        let mut warnings = Vec::new();
        if levels.clone().any(|level| level == Durability::Synced) && !self.options.servers_sync_always {
            warnings.push(LogWarning::NotSynced { reached });
        }
        warnings.extend(self.options.max_age.map(|max_age| LogWarning::DropsByAge { max_age }));
        for warning in &warnings {
            tracing::warn!(stream = self.name, "{warning}");
        }
        let schedules = StreamSchedules::new(Arc::clone(&connection), subjects.clone(), replicas);
        let publisher = Publisher::new(Arc::clone(&connection), subjects.clone(), schedules, reached);
        let letters = StreamLetters::new(Arc::clone(&connection), subjects.clone());
        // A stream has one level, so only whether a channel is durable is to be looked up.
        let is_durable = |(pattern, level): (Pattern, Durability)| (pattern, level.min(Durability::Stored));
        let channels = Channels::new(self.channels.into_iter().map(is_durable).collect());
        Ok(JetStreamLog {
            shared: Arc::new(Shared {
                connection,
                subjects,
                publisher: Arc::new(publisher),
                letters: Arc::new(letters),
                channels: Arc::new(channels),
                consumers: Mutex::default(),
                options: self.options,
                wanted,
                warnings,
            }),
        })
    }
}

impl JetStreamLogBuilder {
    /// Connects, and tries again for as long as the author waits.
    async fn connection(&self) -> Result<Arc<Connection>, JetStreamError> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let nats = self.nats.clone().client_name("aether-log");
            let opened = Connection::open(&self.url, nats, self.options.patience).await;
            let left = self.wait.saturating_sub(begun.elapsed());
            match opened {
                Err(error) if error.is_transient() && !left.is_zero() => {
                    if pause == FIRST_PAUSE {
                        tracing::info!(stream = self.name, %error, ?left, "the server does not answer; retrying");
                    }
                    sleep(pause.min(left)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                opened => return opened,
            }
        }
    }
}

/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A durable log in JetStream. Cloning it bumps a reference count.
///
/// Its waves are in one stream of its name, on subjects `aether-log.NAME.CHANNEL`; dead letters are in the stream
/// `NAME-dead`. Many processes may use it at once: each stores what it emits, and consumers of one name share the waves.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Durability};
/// use aether_log::{ConsumerOptions, JetStreamLog};
///
/// let servers = "nats://one:4222,nats://two:4222,nats://three:4222";
/// let log = JetStreamLog::builder(servers, "orders");
/// let log = log.channels("orders.>", Durability::Replicated(3))?.open().await?;
/// let aether = log.connect(aether::builder().url(servers)).await?;
/// let receipt = aether.emitter("shop")?.emit_wave("orders.created", &"a lamp").await?;
/// println!("{:?}", receipt.stored);
///
/// let billing = log.consumer("billing", "orders.>", ConsumerOptions::default())?;
/// billing.receive().await?.ack().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct JetStreamLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    subjects: Subjects,
    publisher: Arc<Publisher>,
    letters: Arc<StreamLetters>,
    channels: Arc<Channels>,
    consumers: Mutex<HashMap<String, Weak<StreamConsumer>>>,
    options: JetStreamOptions,
    /// The settings of the stream of the waves.
    wanted: Config,
    warnings: Vec<LogWarning>,
}

/// The log of an [`Aether`].
#[derive(Default)]
struct Attached(Mutex<Option<JetStreamLog>>);

impl JetStreamLog {
    /// A log at NATS servers, several addresses separated by commas, by its name: 1 to 64 letters, digits, `-` and `_`.
    pub fn builder(url: impl Into<String>, name: impl Into<String>) -> JetStreamLogBuilder {
        let (url, name, options) = (url.into(), name.into(), JetStreamOptions::default());
        let (nats, channels, wait) = (NatsOptions::default(), Vec::new(), Duration::ZERO);
        JetStreamLogBuilder { url, name, nats, options, channels, wait }
    }

    /// Connects to a medium, and stores every wave of a durable channel that is emitted there before the medium carries it.
    /// As [`Log::connect`](crate::Log::connect); the receipt names the position in the stream.
    ///
    /// While the servers have no leader, an emit tries again for at most [`JetStreamOptions::patience`]. An error hands
    /// the wave back.
    ///
    /// Consumers of the log check what they read by the [guard](AetherBuilder::guard) of the bus, as it checks what
    /// arrives: waves that others have stored and may not emit are passed over and counted.
    ///
    /// # Errors
    /// [`ConnectError`], as [`AetherBuilder::connect`].
    ///
    /// # Cancel safety
    /// As [`AetherBuilder::connect`].
    pub async fn connect(&self, builder: AetherBuilder) -> Result<Aether, ConnectError> {
        let aether = self.layer(builder).connect().await?;
        self.attach(&aether);
        Ok(aether)
    }

    /// The first half of [`JetStreamLog::connect`], for callers that connect by themselves: a builder whose medium
    /// stores waves. [`JetStreamLog::attach`] is the second half.
    pub fn layer(&self, builder: AetherBuilder) -> AetherBuilder {
        let (publisher, channels) = (Arc::clone(&self.shared.publisher), Arc::clone(&self.shared.channels));
        builder.layer(move |inner| {
            let keeper = Keeper::JetStream(Arc::clone(&publisher));
            Arc::new(DurableMedium::new(inner, keeper, Arc::clone(&channels))) as Arc<_>
        })
    }

    /// Makes this the log that [`JetStreamLog::of`] finds, and its consumers check what they read by the border of the bus.
    pub fn attach(&self, aether: &Aether) {
        *self.shared.connection.border.lock() = aether.guard().cloned();
        *aether.extension::<Attached>().0.lock() = Some(self.clone());
    }

    /// The log that an `Aether` was connected with.
    #[must_use]
    pub fn of(aether: &Aether) -> Option<Self> {
        aether.extension::<Attached>().0.lock().clone()
    }

    /// A consumer of a pattern by its name. All consumers of one name, in all processes, share the waves and the position,
    /// which the server keeps. Options count for the first of a name in a process; the server's settings must be the same.
    ///
    /// A process holds at most 8192 waves ahead, or the [window](ConsumerOptions::window) if that is smaller.
    /// [`ConsumerOptions::max_in_flight`] counts the deliveries of one process.
    ///
    /// # Errors
    /// [`ConsumeError`]: the name is not valid, or belongs to a consumer of another pattern in this process. The server is
    /// asked by [`Consumer::ready`] and [`Consumer::receive`].
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
        let pattern = pattern.try_into().map_err(ChannelError::from)?;
        let mut consumers = self.shared.consumers.lock();
        if let Some(consumer) = consumers.get(name).and_then(Weak::upgrade) {
            consumer.check_pattern(&pattern)?;
            return Ok(Consumer::of_stream(consumer));
        }
        let Shared { connection, subjects, letters, options: of_log, .. } = &*self.shared;
        let consumer = StreamConsumer::new(
            name,
            pattern,
            options,
            of_log.ack_wait,
            Arc::clone(connection),
            subjects.clone(),
            Arc::clone(letters),
        )?;
        let consumer = Arc::new(consumer);
        consumers.insert(name.to_owned(), Arc::downgrade(&consumer));
        Ok(Consumer::of_stream(consumer))
    }

    /// The consumers that are open in this process.
    pub(crate) fn consumers(&self) -> Vec<Consumer> {
        let consumers = self.shared.consumers.lock();
        consumers.values().filter_map(Weak::upgrade).map(Consumer::of_stream).collect()
    }

    /// The name of the log and of its stream.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.subjects.stream()
    }

    /// The waves that are delivered later, or regularly, by their keys. The server does that, up to a quarter of a
    /// second late. They are in the stream `NAME-schedules`, which is made with the first one; the stream of the log gets it
    /// as a source then, and no other of its settings is changed.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        Schedules::of_stream(self.shared.publisher.schedules().clone(), Arc::clone(&self.shared.channels))
    }

    /// The failed waves that consumers have given up.
    #[must_use]
    pub fn dead(&self) -> &StreamLetters {
        &self.shared.letters
    }

    pub(crate) fn shared_dead(&self) -> Arc<StreamLetters> {
        Arc::clone(&self.shared.letters)
    }

    /// The properties that were asked for and are missing. Empty if everything is as asked.
    #[must_use]
    pub fn warnings(&self) -> &[LogWarning] {
        &self.shared.warnings
    }

    /// Why waves cannot be stored now, as far as is known without asking the server: the connection is down, or the
    /// last wave was refused and none was stored since. A refusal counts for as long as the
    /// [patience](JetStreamOptions::patience), so a program that stores nothing meanwhile is ready again.
    #[must_use]
    pub fn trouble(&self) -> Option<JetStreamError> {
        self.shared.connection.trouble()
    }

    /// Whether the stream is there, has a leader that answers, and the settings that it was opened with. A service that
    /// is not ready reports the reason. A stream that was deleted is used again when somebody has made it, for example
    /// by opening the log.
    ///
    /// # Errors
    /// [`JetStreamError`]: why nothing can be stored now, or which setting somebody has changed. It takes as long as
    /// the patience of the log to find out.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn ready(&self) -> Result<(), JetStreamError> {
        let name = self.shared.subjects.stream();
        let info = self.shared.connection.api::<Info>(name, format!("STREAM.INFO.{name}"), &()).await;
        let info = info.map_err(|failure| failure.while_doing("describe the stream", name))?;
        check_stream(&self.shared.wanted, &info.config)
    }
}
