//! A durable log joined to a bus: which channels it stores, and who reads it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use aether_core::medium::ConnectError;
use aether_core::wave::ChannelError;
use aether_core::{Aether, AetherBuilder, Durability, Pattern};
use parking_lot::Mutex;

use crate::channels::Channels;
use crate::consumer::{ConsumeError, Consumer, ConsumerOptions, ConsumerShared};
use crate::dead::DeadStore;
use crate::matching::Matching;
use crate::medium::DurableMedium;
use crate::reading::LogReader;
use crate::store::{Extent, OpenError, ReadError, Rewritten, Store, StoreOptions, Verified};
use crate::stored_wave::{WAVE, read};

/// What a log stores, and how. Made by [`Log::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before open()"]
pub struct LogBuilder {
    folder: PathBuf,
    options: StoreOptions,
    channels: Vec<(Pattern, Durability)>,
}

impl LogBuilder {
    /// Stores the waves of the channels that match a pattern. Of several patterns that match, the highest level counts.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    pub fn channels<P>(mut self, pattern: P, durability: Durability) -> Result<Self, ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.channels.push((pattern.try_into()?, durability));
        Ok(self)
    }

    /// How the waves are kept.
    pub fn options(mut self, options: StoreOptions) -> Self {
        self.options = options;
        self
    }

    /// Opens the log, or makes one. Blocks while it reads one segment, 64 MiB by default.
    ///
    /// # Errors
    /// [`OpenError`]: another process has the log open, the folder holds files of something else, or it cannot be read or
    /// written.
    pub fn open(self) -> Result<Log, OpenError> {
        let dead = DeadStore::open(&self.folder.join("dead"))?;
        let store = Arc::new(Store::open(&self.folder, self.options, noted_position(&self.folder)?)?);
        if let Some(torn) = store.torn() {
            let (path, bytes) = (torn.path.display(), torn.bytes);
            tracing::warn!(%path, bytes, "the last record was not written to its end and is cut off");
        }
        for damage in store.damaged() {
            tracing::error!(%damage, "the log is damaged; what is before and behind is kept");
        }
        let channels = Arc::new(Channels::new(self.channels));
        let consumers = Mutex::default();
        Ok(Log { shared: Arc::new(Shared { store, dead: Arc::new(dead), channels, consumers }) })
    }
}

/// The folder of the consumers, below that of the log.
const CONSUMERS: &str = "consumers";

/// The smallest position that a new record may get. After a power cut consumers may know positions that the log has lost;
/// a new wave there would count as acknowledged.
fn noted_position(folder: &Path) -> Result<u64, OpenError> {
    let mut noted = 0;
    let folder = folder.join(CONSUMERS);
    if !folder.is_dir() {
        return Ok(noted);
    }
    let listed = std::fs::read_dir(&folder);
    for consumer in listed.map_err(|source| OpenError::io(&folder, "list", source))? {
        let path = consumer.map_err(|source| OpenError::io(&folder, "list", source))?.path();
        if path.is_dir() {
            noted = noted.max(ConsumerShared::last_settled(&path)?);
        }
    }
    Ok(noted + 1)
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
/// let aether = log.connect(Aether::builder().url("local:")).await?;
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
    store: Arc<Store>,
    dead: Arc<DeadStore>,
    channels: Arc<Channels>,
    consumers: Mutex<HashMap<String, Weak<ConsumerShared>>>,
}

/// The log of an [`Aether`].
#[derive(Default)]
struct Attached(Mutex<Option<Log>>);

impl Log {
    /// A log in a folder of its own.
    pub fn builder(folder: impl Into<PathBuf>) -> LogBuilder {
        LogBuilder { folder: folder.into(), options: StoreOptions::default(), channels: Vec::new() }
    }

    /// Connects to a medium, and stores every wave of a durable channel that is emitted there before the medium carries it.
    ///
    /// [`Emitter::emit`](aether_core::Emitter::emit) then waits until the wave has reached the level of its channel, and
    /// [`Receipt::stored`](aether_core::Receipt) names its position. `try_emit` on a durable channel is refused, because it
    /// never waits. `emit_all` stores one wave after the other. Questions are not stored.
    ///
    /// # Errors
    /// [`ConnectError`], as [`AetherBuilder::connect`].
    ///
    /// # Cancel safety
    /// As [`AetherBuilder::connect`].
    pub async fn connect(&self, builder: AetherBuilder) -> Result<Aether, ConnectError> {
        let (store, channels) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.channels));
        let layer = move |inner| {
            Arc::new(DurableMedium::new(inner, Arc::clone(&store), Arc::clone(&channels))) as Arc<_>
        };
        let aether = builder.layer(layer).connect().await?;
        *aether.extension::<Attached>().0.lock() = Some(self.clone());
        Ok(aether)
    }

    /// The log that an `Aether` was connected with.
    #[must_use]
    pub fn of(aether: &Aether) -> Option<Self> {
        aether.extension::<Attached>().0.lock().clone()
    }

    /// A consumer of a pattern by its name. All consumers of one name share the waves and their position, which is kept in
    /// the log. Options count for the first of a name in a process.
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
        consumers.insert(name.to_owned(), Arc::downgrade(&shared));
        Ok(Consumer::new(shared))
    }

    /// Reads the log in order, from a position on.
    #[must_use]
    pub fn read_from(&self, position: u64) -> LogReader {
        LogReader::new(self.shared.store.cursor(position))
    }

    /// What the log holds.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.shared.store.extent()
    }

    /// The position of the last record, which changes whenever the log grows.
    #[must_use]
    pub fn last_position(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.store.last_position()
    }

    /// The failed waves that consumers have given up.
    #[must_use]
    pub fn dead(&self) -> &DeadStore {
        &self.shared.dead
    }

    /// Whether waves can be stored. A service that is not ready reports the reason.
    ///
    /// # Errors
    /// Why nothing can be stored any more.
    pub fn ready(&self) -> Result<(), crate::store::AppendError> {
        self.shared.store.failure().map_or(Ok(()), Err)
    }

    /// Drops what the retention does not keep, in whole segments. Returns how many. It also runs by itself when a segment is
    /// full.
    pub fn retain(&self) -> usize {
        self.shared.store.retain()
    }

    /// Removes the waves of these channels that are older than an instant from all full segments. Blocks.
    ///
    /// # Errors
    /// [`ReadError`]; nothing else is changed.
    pub fn expire(&self, pattern: &Pattern, before: SystemTime) -> Result<Rewritten, ReadError> {
        let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let mut matching = Matching::new(pattern);
        self.shared.store.rewrite(|record| {
            record.kind != WAVE || u128::from(record.micros) >= before || !matching.matches(&record.name)
        })
    }

    /// Keeps of these channels only the last wave of each [key](aether_core::Wave::key), in all full segments. Waves without
    /// a key stay. Blocks, and takes memory for each key.
    ///
    /// # Errors
    /// [`ReadError`]; nothing else is changed.
    pub fn compact(&self, pattern: &Pattern) -> Result<Rewritten, ReadError> {
        let mut matching = Matching::new(pattern);
        let mut last: HashMap<(Vec<u8>, String), u64> = HashMap::new();
        let key = |record: &crate::store::Record| {
            let wave = read(record)?.ok()?.wave;
            Some((record.name.to_vec(), wave.key()?.to_owned()))
        };
        let mut cursor = self.shared.store.cursor(0);
        while let Some(item) = cursor.next_item()? {
            if let crate::store::Item::Record(record) = item
                && matching.matches(&record.name)
                && let Some(key) = key(&record)
            {
                last.insert(key, record.position);
            }
        }
        self.shared.store.rewrite(|record| {
            !matching.matches(&record.name)
                || key(record).and_then(|key| last.get(&key)).is_none_or(|last| record.position >= *last)
        })
    }

    /// Reads everything and lists the damage. Blocks.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        self.shared.store.verify()
    }
}
