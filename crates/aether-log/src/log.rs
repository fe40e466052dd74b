//! A durable log joined to a bus: which channels it stores, and who reads it.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use aether_core::ConnectError;
use aether_core::wave::ChannelError;
use aether_core::{Aether, AetherBuilder, Pattern};
use parking_lot::Mutex;

use crate::channels::Channels;
use crate::consumer::{ConsumeError, Consumer, ConsumerOptions, ConsumerShared};
use crate::dead::DeadStore;
use crate::keeper::Keeper;
pub use crate::log_builder::LogBuilder;
use crate::log_builder::{CONSUMERS, Opened};
use crate::maintenance::{self, Maintenance};
use crate::medium::DurableMedium;
use crate::name::is_name;
use crate::reading::LogReader;
use crate::schedules::Schedules;
use crate::sealing::Sealing;
use crate::snapshots::{self, Snapshot, SnapshotError};
use crate::store::{AppendError, Extent, OpenError, ReadError, Rewritten, Store, Verified};
use crate::timers::Timers;
use crate::verify;

/// Why a consumer was not forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// A program reads with it.
    #[error("the consumer {name} is in use: stop the part of the program that reads with it first")]
    InUse {
        /// The name.
        name: String,
    },
    /// Its files cannot be removed.
    #[error("the files of the consumer {name} cannot be removed")]
    Files {
        /// The name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

impl LogBuilder {
    /// Opens the log, or makes one. Blocks while it reads one segment, 64 MiB by default.
    ///
    /// # Errors
    /// [`OpenError`]: another process has the log open, the folder holds files of something else, it cannot be read or
    /// written, or a channel is to be replicated.
    pub fn open(self) -> Result<Log, OpenError> {
        let Opened { store, sealing, dead, channels, consumers, maintenance } = self.open_parts()?;
        let (dead, channels) = (Arc::new(dead), Arc::new(channels));
        let shared = Shared {
            _maintenance: maintenance,
            timers: Arc::new(Timers::new(&store, Arc::clone(&sealing))),
            sealing,
            store,
            dead,
            channels,
            options: consumers,
            consumers: Mutex::default(),
            snapshots: Mutex::default(),
        };
        Ok(Log { shared: Arc::new(shared) })
    }
}

/// A durable log. Cloning it bumps a reference count; it is closed when the last clone, and every `Aether` and consumer that
/// uses it, is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Durability, Wave};
/// use aether_log::{ConsumerOptions, Log};
///
/// # let folder = tempfile::tempdir()?; let folder = folder.path();
/// let log = Log::builder(folder).channels("orders.>", Durability::Synced)?.open()?;
/// let aether = log.connect(aether_core::AetherBuilder::new().url("local:")).await?;
/// let shop = aether.emitter("shop")?;
/// let receipt = shop.emit(Wave::builder("orders.created").text("a lamp").build()?).await?;
/// let stored = receipt.stored.expect("the channel is durable");
/// assert_eq!((stored.position.get(), stored.durability), (1, Durability::Synced));
///
/// let billing = log.consumer("billing", "orders.>", ConsumerOptions::default())?;
/// let delivery = billing.receive().await?;
/// assert_eq!(delivery.wave().text()?, "a lamp");
/// delivery.ack().await?;
/// assert_eq!(billing.ledger().acknowledged, 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// First, so that it ends before the store is closed.
    _maintenance: Option<Maintenance>,
    timers: Arc<Timers>,
    sealing: Arc<Sealing>,
    store: Arc<Store>,
    dead: Arc<DeadStore>,
    channels: Arc<Channels>,
    /// The options of consumers that are made without any.
    options: ConsumerOptions,
    consumers: Mutex<HashMap<String, Weak<ConsumerShared>>>,
    /// Held while a snapshot is written.
    snapshots: Mutex<()>,
}

/// The log of an [`Aether`].
#[derive(Default)]
struct Attached(Mutex<Option<Log>>);

impl Log {
    /// A log in a folder of its own.
    pub fn builder(folder: impl Into<PathBuf>) -> LogBuilder {
        LogBuilder::new(folder.into())
    }

    /// Connects to a medium, and stores every wave of a durable channel that is emitted there before the medium carries it.
    ///
    /// [`Emitter::emit`](aether_core::Emitter::emit) then waits until the wave has reached the level of its channel, and
    /// [`Receipt::stored`](aether_core::Receipt) names its position. `try_emit` on a durable channel is refused, because it
    /// never waits. `emit_all` stores up to 4096 waves with one write and one sync, and
    /// [`BatchReceipt::stored`](aether_core::vibrator::BatchReceipt) names the first and the last position. Questions
    /// are not stored.
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

    /// The first half of [`Log::connect`], for callers that connect by themselves: a builder whose medium stores waves.
    /// [`Log::attach`] is the second half.
    pub fn layer(&self, builder: AetherBuilder) -> AetherBuilder {
        let (store, channels) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.channels));
        let (timers, sealing) = (Arc::clone(&self.shared.timers), Arc::clone(&self.shared.sealing));
        // The log may have been opened outside of a runtime.
        timers.resume();
        builder.layer(move |inner| {
            let keeper = Keeper::Folder(Arc::clone(&store), Arc::clone(&timers), Arc::clone(&sealing));
            Arc::new(DurableMedium::new(inner, keeper, Arc::clone(&channels))) as Arc<_>
        })
    }

    /// Makes this the log that [`Log::of`] finds.
    pub fn attach(&self, aether: &Aether) {
        *aether.extension::<Attached>().0.lock() = Some(self.clone());
    }

    /// The log that an `Aether` was connected with.
    #[must_use]
    pub fn of(aether: &Aether) -> Option<Self> {
        aether.extension::<Attached>().0.lock().clone()
    }

    /// A consumer of a pattern by its name. All consumers of one name share the waves and their position, which is kept in
    /// the log. Options count for the first of a name in a process.
    ///
    /// It blocks when it is the first of its name in the process: it reads the journal, syncs the disk for a new
    /// consumer, and starts a thread. Make consumers before a service takes waves, or with
    /// `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    /// [`ConsumeError`]: the name is not valid or belongs to a consumer of another pattern, or its folder cannot be used.
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
        if let Some(shared) = consumers.get(name).and_then(Weak::upgrade) {
            shared.check_pattern(&pattern)?;
            return Ok(Consumer::new(shared));
        }
        let (store, dead) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.dead));
        let folder = self.shared.store.folder().join(CONSUMERS).join(name);
        let shared = Arc::new(ConsumerShared::open(&folder, name, pattern, options, store, dead)?);
        self.shared.store.holds().follow(name, shared.settled());
        consumers.insert(name.to_owned(), Arc::downgrade(&shared));
        Ok(Consumer::new(shared))
    }

    /// The consumers that are open in this process.
    pub(crate) fn consumers(&self) -> Vec<Consumer> {
        let consumers = self.shared.consumers.lock();
        consumers.values().filter_map(Weak::upgrade).map(Consumer::new).collect()
    }

    /// Forgets a consumer for good: its position and its failures. A program that uses the name again starts over. Its
    /// dead letters stay. Returns whether there was one. Blocks while it removes files.
    ///
    /// # Errors
    /// [`ForgetError`]: it is used in this process, or its files cannot be removed.
    pub fn forget_consumer(&self, name: &str) -> Result<bool, ForgetError> {
        if !is_name(name) {
            return Ok(false);
        }
        // Held, so that nobody opens it meanwhile.
        let mut consumers = self.shared.consumers.lock();
        if consumers.get(name).is_some_and(|shared| shared.strong_count() > 0) {
            return Err(ForgetError::InUse { name: name.to_owned() });
        }
        consumers.remove(name);
        match std::fs::remove_dir_all(self.shared.store.folder().join(CONSUMERS).join(name)) {
            Ok(()) => {
                self.shared.store.holds().forget(name);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ForgetError::Files { name: name.to_owned(), source }),
        }
    }

    /// The options of consumers that are made without.
    pub(crate) fn consumer_options(&self) -> ConsumerOptions {
        self.shared.options
    }

    /// Keeps a state made of all waves up to a position, so that [`Log::recover`] needs only the later waves. It
    /// replaces the snapshot of the same name in one step, and is synced. Blocks while it writes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_log::Log;
    ///
    /// # let folder = tempfile::tempdir()?; let folder = folder.path();
    /// let log = Log::builder(folder).open()?;
    /// log.snapshot("stock", log.extent().last, b"lamps: 25")?;
    /// let (snapshot, mut since) = log.recover("stock")?;
    /// assert_eq!(snapshot.expect("it was kept").bytes, b"lamps: 25");
    /// assert!(since.next_item()?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SnapshotError`]: the name is not valid, the position is beyond the end of the log, or it was not written. The
    /// snapshot before stays.
    pub fn snapshot(&self, name: &str, position: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let last = self.extent().last;
        if position > last {
            return Err(SnapshotError::Ahead { name: name.to_owned(), position, last });
        }
        let _one_at_a_time = self.shared.snapshots.lock();
        let Shared { store, sealing, .. } = &*self.shared;
        snapshots::write((&**store.disk(), sealing), store.folder(), name, position, bytes)
    }

    /// The last snapshot of a name, if there is one, and a reader of everything behind it: at first what is in the log, then
    /// what is stored since. A wave is in the snapshot or comes from the reader, and never both or neither. If the last
    /// snapshot is damaged, it is the one before it.
    ///
    /// # Errors
    /// [`SnapshotError`]: the name is not valid, both snapshots are damaged, another version wrote them, they cannot be
    /// read, or the log has dropped later waves by its retention. Waves removed by channel or by key leave no gap: the rules
    /// of the log want that.
    pub fn recover(&self, name: &str) -> Result<(Option<Snapshot>, LogReader), SnapshotError> {
        let snapshot = snapshots::read(self.folder(), name, &self.shared.sealing)?;
        let position = snapshot.as_ref().map_or(0, |snapshot| snapshot.position);
        let first = self.extent().first;
        if first > position + 1 {
            return Err(SnapshotError::Gap { name: name.to_owned(), position, first });
        }
        // What is dropped from now on before it was read is an error of the reader.
        let since = self.shared.store.cursor(position + 1).gapless();
        Ok((snapshot, LogReader::opening(since, Arc::clone(&self.shared.sealing))))
    }

    /// Reads the log in order, from a position on.
    #[must_use]
    pub fn read_from(&self, position: u64) -> LogReader {
        LogReader::opening(self.shared.store.cursor(position), Arc::clone(&self.shared.sealing))
    }

    /// The extent of the log.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.shared.store.extent()
    }

    /// The folder of the log.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.shared.store.folder()
    }

    /// The position of the last record, which changes whenever the log grows.
    #[must_use]
    pub fn last_position(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.store.last_position()
    }

    /// The waves that are delivered later, or regularly, by their keys. A log that was opened outside of a tokio runtime
    /// delivers them from [`Log::connect`] or the first change on.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        Schedules::of_folder(Arc::clone(&self.shared.timers), Arc::clone(&self.shared.channels))
    }

    /// The failed waves that consumers have given up.
    #[must_use]
    pub fn dead(&self) -> &DeadStore {
        &self.shared.dead
    }

    pub(crate) fn shared_dead(&self) -> Arc<DeadStore> {
        Arc::clone(&self.shared.dead)
    }

    /// Whether waves can be stored. A service that is not ready reports the reason. Returns at once: after the disk has
    /// refused a wave, the log finds out by itself whether there is room again, and a later call returns Ok.
    ///
    /// # Errors
    /// Why waves cannot be stored now, or not any more.
    pub fn ready(&self) -> Result<(), AppendError> {
        self.shared.store.trouble().or_else(|| self.shared.timers.failure()).map_or(Ok(()), Err)
    }

    /// Drops what the retention does not keep, in whole segments. Returns how many. It also runs by itself when a segment is
    /// full or too old.
    pub fn retain(&self) -> usize {
        self.shared.store.retain()
    }

    /// Removes the waves of these channels that are older than an instant from all full segments. Blocks.
    ///
    /// # Errors
    /// [`ReadError`]; nothing else is changed.
    pub fn expire(&self, pattern: &Pattern, before: SystemTime) -> Result<Rewritten, ReadError> {
        let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let before = u64::try_from(before).unwrap_or(u64::MAX);
        maintenance::expire(&self.shared.store, pattern, before, || false)
    }

    /// Keeps of these channels only the last wave of each [key](aether_core::Wave::key), in all full segments. Waves without
    /// a key stay. Blocks, and takes memory for each key.
    ///
    /// # Errors
    /// [`ReadError`]; nothing else is changed.
    pub fn compact(&self, pattern: &Pattern) -> Result<Rewritten, ReadError> {
        maintenance::compact(&self.shared.store, &self.shared.sealing, pattern, || false)
    }

    /// Reads everything and lists the damage, including consumers, dead letters, waves for later and snapshots. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] if a file cannot be read.
    pub fn verify(&self) -> Result<Verified, OpenError> {
        let mut verified = self.shared.store.verify()?;
        verified.damaged.extend(verify::beside(self.folder())?);
        Ok(verified)
    }
}
